"""``waymark openapi``: the description of the API, by itself."""

from __future__ import annotations

from waymark.commands.asking import ask, print_answer
from waymark.commands.options import DEFAULT_DATA_DIR, DataDirOption, Place, UrlOption


def openapi(url: UrlOption = None, data_dir: DataDirOption = DEFAULT_DATA_DIR) -> None:
    """Print the API's OpenAPI document."""
    print_answer(ask(Place(url, data_dir), "GET", "/openapi.json"))
