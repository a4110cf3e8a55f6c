"""A cluster that is described and not there, so that a run can be laid out and checked before anybody rents it."""

import re
from dataclasses import dataclass

from cluster.config.errors import ConfigError
from cluster.placement.node import Node, Nodes
from cluster.preparing.memory import GPU, Memory, beside_the_store
from cluster.reporting.words import counted

FORM = re.compile(
    r"(?:(?P<nodes>\d+)x)?(?P<gpus>\d+)x(?P<gib>\d+(?:\.\d+)?)(?:,cpus=(?P<cpus>\d+))?(?:,ram=(?P<ram>\d+))?"
)
CPUS_EACH = 16  # for each GPU, where nobody says how many a node has


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaginedCluster:
    """Nodes that are all alike.

    Example: "8x8x80,cpus=192" is 8 nodes with 8 GPUs of 80 GiB and 192 CPUs each, "8x80" one node with 8 GPUs of 80 GiB
    and 128 CPUs; ",ram=1024" behind it is the memory of a node for the CPU, in GiB.
    """

    nodes: int
    gpus: int  # of a node
    gib: float  # memory of a GPU
    cpus: int  # of a node
    ram: int = 0  # GiB of a node's memory for the CPU; 0 is unknown

    @classmethod
    def of(cls, text: str) -> "ImaginedCluster":
        """The cluster that a text describes.

        Raises:
            ConfigError: it describes none.
        """
        found = FORM.fullmatch(text.replace(" ", ""))
        if found is None or "0" in (found["nodes"], found["gpus"], found["gib"], found["cpus"], found["ram"]):
            raise ConfigError(
                f"--on takes NODESxGPUSxGIB, such as 8x8x80 for 8 nodes with 8 GPUs of 80 GiB each, GPUSxGIB for one "
                f"node, and behind that ,cpus=N for the CPUs of a node and ,ram=GIB for its memory, got {text!r}"
            )
        gpus = int(found["gpus"])
        return cls(
            nodes=int(found["nodes"] or 1),
            gpus=gpus,
            gib=float(found["gib"]),
            cpus=int(found["cpus"] or CPUS_EACH * gpus),
            ram=int(found["ram"] or 0),
        )

    @property
    def resources(self) -> Nodes:
        """In the words in which layouts are made; "memory" as Ray has it, beside its object store."""
        memory = float(beside_the_store(self.ram * 2**30))
        node = {"CPU": float(self.cpus), "GPU": float(self.gpus), "memory": memory}
        return {f"node {number}": Node.unused(node) for number in range(self.nodes)}

    @property
    def memory(self) -> Memory:
        """Of each GPU."""
        return Memory(where=GPU, size=int(self.gib * 2**30))

    def __str__(self) -> str:
        nodes = f"{self.nodes} nodes, each" if self.nodes > 1 else "a node"
        ram = f" and {self.ram} GiB of memory" if self.ram else ""
        return f"{nodes} with {counted(self.gpus, 'GPU')} of {self.gib:g} GiB and {counted(self.cpus, 'CPU')}{ram}"
