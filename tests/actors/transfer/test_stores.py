"""Who can connect to the stores at which learner ranks and generators meet."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.transfer.stores import listen, open_store, port_of
from tests.tables import each


def others() -> list[str]:
    """Addresses of this machine other than 127.0.0.1: of the loopback interface, and of the network's where there is
    one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only chooses the interface
            own = [probe.getsockname()[0]]
        except OSError:
            own = []
    return ["127.0.0.2", *(address for address in own if address != "127.0.0.1")]


def test_members_meet_in_a_store_on_one_address() -> None:
    door = listen("127.0.0.1")
    port = port_of(door)
    with ThreadPoolExecutor(1) as side:
        member = side.submit(open_store, "127.0.0.1", port, 2, 20.0)
        server = open_store("127.0.0.1", port, 2, 20.0, door)
        member.result().set("key", "value")
    assert server.get("key") == b"value"
    assert server.port == port


@each("address", others())
def test_a_store_is_not_there_at_the_other_addresses_of_the_machine(address: str) -> None:
    door = listen("127.0.0.1")
    port = port_of(door)
    server = open_store("127.0.0.1", port, 1, 20.0, door)
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address, port), timeout=5).close()
    assert server.port == port
