"""Several Ray nodes on this machine, so that one of them can die and another one come."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

STORE_MIB = 100  # object store of each node, small enough to be filled
HOARD_SECONDS = 8.0
TRIES = 5  # to start a node


class Nodes:
    """A head node and two others, each with one CPU. Import Ray only after it is built: it reads the environment."""

    def __init__(self, environment: Mapping[str, str], others: int = 2) -> None:
        """`environment` is what the processes of all actors have."""
        os.environ.update(environment)
        from ray.cluster_utils import Cluster

        self._folder = tempfile.mkdtemp(prefix="faults-", dir="/tmp")  # Ray's sockets want a short path
        head: dict[str, Any] = {
            "num_cpus": 1,
            "object_store_memory": STORE_MIB * 2**20,
            "temp_dir": self._folder,
            "include_dashboard": False,
        }
        self._cluster = Cluster(initialize_head=False)
        _patiently(lambda: self._cluster.add_node(**head))
        self._others: list[Any] = [self._another() for _ in range(others)]

    @property
    def address(self) -> str:
        """Of the cluster."""
        return str(self._cluster.address)

    def raylets(self) -> list[int]:
        """The process of each node that starts its actors."""
        return [_raylet(node) for node in [self._cluster.head_node, *self._others]]

    def lose_one(self, draw: random.Random) -> None:
        """Kills a node that is not the head, with whatever is on it."""
        node = self._others.pop(draw.randrange(len(self._others)))
        os.kill(_raylet(node), signal.SIGKILL)
        time.sleep(1)
        self._cluster.remove_node(node, allow_graceful=False)

    def replace_lost(self) -> int:
        """Another node comes; its raylet."""
        self._others.append(self._another())
        return _raylet(self._others[-1])

    def fill_stores(self) -> None:
        """Puts more into the object store than there is room for, and holds it for a while."""
        command = [sys.executable, "-W", "ignore", "-m", "tests.faults.cluster", self.address]
        subprocess.run(command, check=False, capture_output=True, timeout=20 * HOARD_SECONDS)

    def end(self) -> None:
        """Ends all nodes."""
        self._cluster.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _another(self) -> Any:
        return _patiently(lambda: self._cluster.add_node(num_cpus=1, object_store_memory=STORE_MIB * 2**20))


def _patiently(start: Callable[[], Any]) -> Any:
    """Starts a node; tries again where Ray, which waits for half a minute, finds that it takes too long."""
    for _ in range(TRIES - 1):
        try:
            return start()
        except Exception:
            print("a node of Ray did not start in time; another try", file=sys.stderr, flush=True)
    return start()


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def hoard(address: str) -> None:
    """What `fill_stores` does, in a process of its own."""
    import numpy as np
    import ray

    ray.init(address=address, log_to_driver=False)
    held, until = list[Any](), time.monotonic() + HOARD_SECONDS
    while time.monotonic() < until:
        if len(held) < 2 * STORE_MIB:
            held.append(ray.put(np.ones(2**20, np.uint8)))
        else:
            time.sleep(0.1)


if __name__ == "__main__":
    hoard(sys.argv[1])
