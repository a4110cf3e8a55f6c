"""Where processes meet: torch's TCPStore, listening on one address of the node and on no other.

TCPStore asks nobody for a credential and lists its keys to whoever connects (`list_keys`), so a secret prefix hides
nothing. What can be done is to decide who can connect: on a single machine only its own processes, over the loopback
address; in a cluster those that reach the node's address in Ray's network, which SECURITY.md asks to keep apart.
"""

import socket
from datetime import timedelta

from torch.distributed import TCPStore  # type: ignore[attr-defined]

LOOPBACK = "127.0.0.1"


def meeting_address() -> str:
    """The address of this node at which the other processes of the cluster can reach it."""
    import ray  # here alone: who gives an address needs no cluster, and the learner's engine none of its packages

    nodes = [node for node in ray.nodes() if node["Alive"]]
    return LOOPBACK if len(nodes) == 1 else ray.util.get_node_ip_address()


def listen(address: str) -> socket.socket:
    """A socket that listens on a free port of this address alone; `open_store` takes it over."""
    return socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)


def port_of(door: socket.socket) -> int:
    """The port that a socket listens on."""
    return int(door.getsockname()[1])


def open_store(
    address: str, port: int, world_size: int, timeout_seconds: float, door: socket.socket | None = None
) -> TCPStore:
    """The store at an address. Its server is where the door is, a socket of `listen`, and lives as long as it."""
    wait = timedelta(seconds=timeout_seconds)
    if door is None:
        return TCPStore(address, port, world_size, False, wait)
    return TCPStore(address, port, world_size, True, wait, wait_for_workers=False, master_listen_fd=door.detach())
