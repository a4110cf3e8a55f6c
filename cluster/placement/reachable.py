"""Whether a Ray cluster answers at an address, found out in seconds: Ray itself tries for minutes."""

import os
import socket

import ray

from cluster.config.errors import ConfigError

SECONDS = 10.0  # for the head node to accept a connection, and again to say that it speaks HTTP/2
DEFAULT_PORTS = {"ray://": 10001, "": 6379}
# What a client of HTTP/2, over which Ray's services talk, sends first: the preface and an empty frame of settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
SETTINGS_FRAME = 4  # the type of a server's first frame


def check_reachable(address: str) -> None:
    """Raises ConfigError unless something that may be Ray's head node answers at `cluster.address` or RAY_ADDRESS."""
    if address in ("auto", "local"):
        return
    if address.startswith(("http://", "https://")):
        raise ConfigError(
            f"{address!r} (cluster.address or RAY_ADDRESS) is the address of Ray's dashboard, for `ray job submit`: a "
            "run wants the HOST:PORT of the head node, 6379 unless it was started with another port"
        )
    if problem := unreachable(address):
        raise ConfigError(
            f"no Ray cluster answers at {address!r} (cluster.address or RAY_ADDRESS): {problem}. Start one there, name "
            "another, or unset both to start Ray on this machine"
        )


def unreachable(address: str) -> str:
    """Why nothing that may be Ray's head node answers at this address; "" where something does."""
    scheme = "ray://" if address.startswith("ray://") else ""
    host, colon, port = address.removeprefix(scheme).split("/")[0].rpartition(":")
    if not colon or not port.isdecimal():
        host, port = address.removeprefix(scheme), str(DEFAULT_PORTS[scheme])
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS) as line:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return ""
            line.settimeout(SECONDS)
            line.sendall(PREFACE)
            first = line.recv(9)
    except TimeoutError:
        return f"nothing came back within {SECONDS:g} s"
    except (OSError, ValueError, OverflowError) as failure:
        return str(getattr(failure, "strerror", None) or failure)
    return "" if first[3:4] == bytes([SETTINGS_FRAME]) else "what listens there is not Ray"


def ended() -> str:
    """Why the head node of the cluster that this process is connected with does not answer; "" where it does."""
    return unreachable(str(ray.get_runtime_context().gcs_address))
