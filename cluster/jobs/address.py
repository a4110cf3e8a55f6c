"""Where jobs are sent: the address of Ray's dashboard, and whether what answers there wants a token.

Imports no Ray, which reads whether to use a token when it is imported: `reach` decides that before.
"""

import http.client
import json
import os
import shlex
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cluster.config.errors import ConfigError
from cluster.placement.token import MODE, RAYS_FILE, TOKEN, TOKEN_FILE

VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # in Ray's own order
PORT = 8265  # of the dashboard, unless Ray was started with another one
HERE = f"http://127.0.0.1:{PORT}"
SECONDS = 15.0  # for the dashboard to answer
ASKS, REFUSES = 401, 403  # what Ray answers to a request without a token, and with a wrong one


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """Where jobs are sent."""

    url: str  # begins with http:// or https://, without a slash at its end
    source: str  # who named it, for messages
    option: str  # how a command that a person is told to type names it: " --address ...", or "" where it need not


def named_dashboard(address: str) -> Dashboard:
    """The dashboard that a person names.

    Args:
        address: of --address, "" where there is none.

    Raises:
        ConfigError: it is the address of something else.
    """
    source, given = "--address", address
    for variable in VARIABLES:
        if not given:
            source, given = variable, os.environ.get(variable, "")
    if given in ("", "auto"):
        source, given = "the default", HERE
    scheme, there, host = given.rpartition("://")
    if there and scheme not in ("http", "https"):
        instead = f"http://{host.split('/')[0].rpartition(':')[0] or host}:{PORT}"
        raise ConfigError(
            f"jobs go to Ray's dashboard, and {given!r} ({source}) is another kind of address: name the dashboard, "
            f"such as --address {instead}"
        )
    url = given if there else f"http://{given}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as problem:
        raise ConfigError(f"{given!r} ({source}) is no address: {problem}. Name one such as {HERE}") from problem
    if not parts.hostname:
        raise ConfigError(f"{given!r} ({source}) names no host: name an address such as {HERE}")
    if not there and port is None:
        url = f"{url}:{PORT}"
    return Dashboard(url=url.rstrip("/"), source=source, option=f" --address {shlex.quote(address)}" if address else "")


def reach(dashboard: Dashboard) -> None:
    """Finds out that Ray's dashboard answers, and has Ray's client use a token where the dashboard asks for one.

    Raises:
        ConfigError: nothing answers there, or something else does, or no token is at hand for it.
    """
    try:
        with urllib.request.urlopen(f"{dashboard.url}/api/version", timeout=SECONDS) as answer:
            is_ray = "ray_version" in json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        if refusal.code == ASKS:
            _use_token(dashboard)
            return
        raise ConfigError(_not_ray(dashboard, f"it answers with status {refusal.code}")) from refusal
    except (http.client.HTTPException, ConnectionResetError) as failure:
        raise ConfigError(_not_ray(dashboard, "it does not speak HTTP")) from failure
    except ValueError:
        is_ray = False
    except OSError as failure:
        reason = getattr(failure, "reason", failure)
        if isinstance(reason, http.client.HTTPException | ConnectionResetError):
            raise ConfigError(_not_ray(dashboard, "it does not speak HTTP")) from failure
        said = getattr(reason, "strerror", None) or str(reason)
        raise ConfigError(
            f"no Ray cluster answers at {dashboard.url} ({dashboard.source}): {said}. Name the dashboard of a cluster "
            f"with --address http://HOST:{PORT}; it listens only on its own machine unless Ray was started with "
            "--dashboard-host=0.0.0.0 or an address of the node"
        ) from failure
    if not is_ray:
        raise ConfigError(_not_ray(dashboard, "it answers as something else"))


def refused_token() -> str:
    """Why a token that was sent was not taken, and what to do: the end of a sentence."""
    return (
        f"the token of {_token_at_hand() or 'this user'} is not that of the cluster. Set {TOKEN} to the cluster's, or "
        f"put that into {RAYS_FILE}; whoever started the cluster knows it (`ray get-auth-token` on its head node)"
    )


def _use_token(dashboard: Dashboard) -> None:
    asks = f"the Ray cluster at {dashboard.url} asks for a token"
    if os.environ.get(MODE, "token") != "token":
        raise ConfigError(f"{asks}, and {MODE}={os.environ[MODE]} has none sent: unset it, or set it to token")
    if not _token_at_hand():
        raise ConfigError(
            f"{asks}, and there is none here: set {TOKEN}, or put it into {RAYS_FILE}; whoever started the "
            "cluster knows it (`ray get-auth-token` on its head node)"
        )
    os.environ[MODE] = "token"


def _token_at_hand() -> str:
    """Where Ray finds the token of this user, in its order; "" where there is none."""
    if os.environ.get(TOKEN):
        return TOKEN
    if os.environ.get(TOKEN_FILE):
        return f"the file of {TOKEN_FILE}"
    return RAYS_FILE if Path(RAYS_FILE).expanduser().is_file() else ""


def _not_ray(dashboard: Dashboard, why: str) -> str:
    host = urlsplit(dashboard.url).hostname
    return (
        f"what listens at {dashboard.url} ({dashboard.source}) is not Ray's dashboard: {why}. If it is the head node's "
        f"own port (6379), that is for cluster.address; jobs go to the dashboard, http://{host}:{PORT} unless Ray was "
        "started with another --dashboard-port"
    )
