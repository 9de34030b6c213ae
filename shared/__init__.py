"""WHAT WE AGREED ON: the contract between the services. It imports nothing of ours."""
