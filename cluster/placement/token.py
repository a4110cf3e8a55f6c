"""The token that a Ray cluster of our own asks for. Imports no Ray: it reads its settings when it is imported."""

import json
import os
import secrets
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.reporting.logs import LOGGER

MODE = "RAY_AUTH_MODE"
TOKEN, TOKEN_FILE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"  # the token, and a file of it: before Ray's own file
RAYS_FILE = "~/.ray/auth_token"
ASK_SECONDS = 5.0  # for the dashboard to say what the cluster asks for


def demand_token(address: str) -> None:
    """Has the cluster that is about to be started here refuse whoever does not know its token: RAY_AUTH_TOKEN where it
    is set, else the one in Ray's file of this user. RAY_AUTH_MODE in the environment goes before.

    Call it before Ray is imported; after that, Ray's own default holds, which `check_token` checks.

    Args:
        address: of a cluster that is joined instead, which says itself what it asks for; "" for none.
    """
    if not address and not os.environ.get("RAY_ADDRESS") and "ray" not in sys.modules:
        os.environ.setdefault(MODE, "token")
        if os.environ[MODE] == "token" and not os.environ.get(TOKEN) and not os.environ.get(TOKEN_FILE):
            keep_token(Path(RAYS_FILE).expanduser())


def keep_token(file: Path) -> None:
    """Makes Ray's file of the token, where there is none, and has nobody but its owner read it: Ray itself makes one
    that all users of the machine can read. A home that cannot be written is left to Ray, which says so."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            made = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            file.chmod(0o600)
        else:
            with open(made, "w", encoding="ascii") as out:
                out.write(secrets.token_hex(32))


def check_token() -> None:
    """Raises ConfigError where a cluster was started that asks nobody for a token although nobody wanted that."""
    if not os.environ.get(MODE):
        raise ConfigError(f"Ray has started a cluster that asks nobody for a token: set {MODE}=token before the run")


def warn_without_token(dashboard: str) -> None:
    """Warns where a cluster that was joined asks nobody for a token; a dashboard that does not answer says nothing.

    Args:
        dashboard: HOST:PORT of the cluster's dashboard.
    """
    try:
        with urllib.request.urlopen(f"http://{dashboard}/api/authentication_mode", timeout=ASK_SECONDS) as answer:
            mode = json.load(answer)["authentication_mode"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if mode == "disabled":
        LOGGER.warning(
            "the cluster asks nobody for a token: whoever reaches its ports can run programs as the user who started "
            "it. Start its nodes with %s=token, or keep them in a network of their own (SECURITY.md)",
            MODE,
        )
