"""Secrets are in no setting: settings stand in config.toml, in Ray's metadata and in loggers. What looks like one is
refused where settings are read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from actors.secrets import FORM, IN_ADDRESS, names_secret


def secret_settings(tree: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting of a tree that holds what looks like a secret; it does not hold the secret."""
    return [
        f"{'.'.join(path)} looks like a secret ({why}), and settings are written into config.toml, Ray's metadata and "
        f"loggers. Take it out; {_instead(path)}"
        for path, value in _leaves(tree)
        if (why := _why_secret(path, value))
    ]


def _why_secret(path: Sequence[str], value: str) -> str:
    if len(path) > 2 and path[:2] == ("cluster", "env") and value and names_secret(path[2]):
        return "its name says so"
    if FORM.search(value):
        return "it has the form of one"
    if IN_ADDRESS.search(value):
        return "the address holds a password"
    if "://" in value and any(names_secret(name) for name, _ in parse_qsl(_query(value))):
        return "the address holds a key"
    return ""


def _query(address: str) -> str:
    try:
        return urlsplit(address).query
    except ValueError:
        return ""


def _instead(path: Sequence[str]) -> str:
    if path[:2] == ("cluster", "env"):
        return (
            f"set {path[-1]} in the environment of the command that starts Ray: winnow itself, or `ray start` on the "
            "nodes of a cluster"
        )
    return "what needs it reads it from the environment: OPENAI_API_KEY, AWS_ACCESS_KEY_ID, HF_TOKEN and so on"


def _leaves(tree: Mapping[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts of a tree with the path to each. A name may be an address too: those of the table data.path."""
    for key, value in tree.items():
        path = (*before, str(key))
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        for text in (value,) if isinstance(value, str) else value if isinstance(value, list | tuple) else ():
            if isinstance(text, str):
                yield path, text
        if "://" in path[-1]:
            yield before, path[-1]
