"""What tells the address of a file or folder in a store, such as s3://bucket/key, from a path."""

import re

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_address(path: str) -> bool:
    """Whether a path is an address, of whatever kind."""
    return ADDRESS.match(path) is not None
