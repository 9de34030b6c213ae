"""WHAT A PERSON TYPES: command line, embedded servers, supervisor, HTTP client."""
