"""Secrets are in no setting: settings stand in config.toml, in Ray's metadata and in loggers. What looks like one is
refused where settings are read, and hidden in all that is said, wherever it came from."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

HIDDEN = "<hidden>"
SHORTEST = 8  # letters of the value of a variable that is hidden; shorter ones would hide words
_WORDS = "(?:API_?KEYS?|KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|PASSPHRASE|CREDENTIALS?|SIGNATURE)"
NAME = re.compile(rf"(?:.*[^a-z0-9])?{_WORDS}(?:[^a-z0-9].*)?", re.IGNORECASE)
PLACE = re.compile(r".*_(?:FILE|PATH|DIR|URL|ID)|GOOGLE_APPLICATION_CREDENTIALS|SSH_AUTH_SOCK", re.IGNORECASE)
# Secrets that show by their form: keys of OpenAI and Anthropic, tokens of Hugging Face, GitHub, GitLab and Slack, keys
# of AWS and Google, JSON web tokens, private keys.
FORM = re.compile(
    r"\b(?:sk-(?=[\w-]*\d)(?=[\w-]*[A-Z])[\w-]{16,}|hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}"
    r"|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+)|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
IN_ADDRESS = re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)")


def secret_settings(tree: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting of a tree that holds what looks like a secret; it does not hold the secret."""
    return [
        f"{'.'.join(path)} looks like a secret ({why}), and settings are written into config.toml, Ray's metadata and "
        f"loggers. Take it out; {_instead(path)}"
        for path, value in _leaves(tree)
        if (why := _why_secret(path, value))
    ]


def hidden(text: str) -> str:
    """A text with what looks like a secret, or is one in this process's environment, replaced by HIDDEN."""
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and value in text and names_secret(name):
            text = text.replace(value, HIDDEN)
    return IN_ADDRESS.sub(HIDDEN, FORM.sub(HIDDEN, text))


def names_secret(name: str) -> bool:
    """Whether a variable or parameter of this name holds a secret, and not the place of one."""
    return bool(NAME.fullmatch(name)) and not PLACE.fullmatch(name)


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
