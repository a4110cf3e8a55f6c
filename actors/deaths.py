"""What a person reads when an actor dies or one of its methods raises: which one, where, why, and what it printed last.

Ray's own words list what may have happened and show frames of its own; here is only what is known of this one.
"""

import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    ActorPlacementGroupRemoved,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.rollouts.last_lines import last_lines_of

# Ray's errors of a call whose actor is gone: its process died, or Ray ended it as memory ran out, or its node went.
GONE = (RayActorError, WorkerCrashedError, OutOfMemoryError, NodeDiedError, ActorPlacementGroupRemoved)
LAST_LINES = ". The last lines that it printed:"  # ends the first line of what is said of an actor that printed some
ASK_SECONDS = 10.0  # for the log of an actor on another node
_FIELD = re.compile(r"^\t(\w+): (.*)$", re.M)  # of Ray's message on an actor that died
_FRAME = re.compile(r'^  File "(.*)", line (\d+), in (\S+)', re.M)
_SIGNAL = re.compile(r"^\*\*\* (SIG[A-Z]+) received", re.M)  # Ray's handler writes it before the process ends
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def oom_kills() -> int:
    """How many processes the kernel of this machine, or of this container, has killed for want of memory."""
    for file in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        with suppress(OSError):
            if found := re.search(r"^oom_kill (\d+)$", file.read_text(encoding="ascii"), re.M):
                return int(found[1])
    return 0


OOM_KILLS = oom_kills()  # until this process began


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an actor was, as far as Ray tells."""

    name: str
    pid: str = ""  # "" where it is not known
    ip: str = ""

    @property
    def here(self) -> bool:
        """Whether that is the node of this process."""
        return self.ip == ray.util.get_node_ip_address()

    def __str__(self) -> str:
        known = [f"process {self.pid}"] if self.pid else []
        known += [f"node {self._node()}"] if self.ip else []
        return self.name + (f" ({', '.join(known)})" if known else "")

    def log(self) -> str:
        """The last lines that the actor printed; "" where they are out of reach."""
        if not (self.pid and self.ip and ray.is_initialized()):
            return ""
        if self.here:
            return printed_by(self.pid)
        nodes = [each["NodeID"] for each in ray.nodes() if each["Alive"] and each["NodeManagerAddress"] == self.ip]
        asked = [
            ray.remote(printed_by)
            .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
            .remote(self.pid)
            for node in nodes
        ]
        try:
            return "".join(ray.get(asked, timeout=ASK_SECONDS))
        except RayError:  # such as that the node does not answer in time
            return ""

    def _node(self) -> str:
        nodes = ray.nodes() if ray.is_initialized() else []
        names = {node["NodeManagerAddress"]: node["NodeManagerHostname"] for node in nodes}
        return f"{names[self.ip]}, {self.ip}" if names.get(self.ip) else self.ip


def printed_by(pid: str) -> str:
    """The last lines that an actor of this node printed, from the files into which Ray leads them."""
    node: Any = ray._private.worker._global_node
    folder = Path(node.get_logs_dir_path())
    return last_lines_of(sorted(folder.glob(f"worker-*-{pid}.*"), reverse=True))


def told(failure: RayError, part: str, *, lines: bool = True) -> str:
    """What there is to say of a call that failed.

    Args:
        failure: Ray's.
        part: how the caller calls the actor, where Ray does not name it.
        lines: whether the last lines of an actor that died are wanted, which takes up to seconds.
    """
    return _death(failure, part, lines=lines) if isinstance(failure, GONE) else _failed(failure, part)


def _death(failure: RayError, part: str, *, lines: bool) -> str:
    """An actor whose process is gone: which, where, why, and its last lines."""
    said = str(failure)
    fields = dict(_FIELD.findall(said))
    name = fields.get("name", part).rpartition("/")[2]  # without the run's, which stands before it in Ray
    place = Place(name=name, pid=fields.get("pid", ""), ip=fields.get("ip", ""))
    if "creation task" in said:
        return f"{place} did not start: {_last_exception(said)}"
    log = place.log() if lines else ""
    sentence = f"{place} has died: {_cause(said, log, place)}"
    return f"{sentence}{LAST_LINES}\n{log}" if log else sentence


def _failed(failure: RayError, part: str) -> str:
    """An actor whose method raised: which, what, and where in its code."""
    said = _COLOUR.sub("", str(failure))
    where = re.search(r"\(pid=(\d+), ip=([^,)]+)", said)
    place = Place(name=part, pid=where[1], ip=where[2]) if where else Place(name=part)
    frames = _FRAME.findall(said)
    at = f" (in {frames[-1][2]}, {frames[-1][0]}:{frames[-1][1]})" if frames else ""
    return f"{place} failed: {_last_exception(said)}{at}"


def _last_exception(said: str) -> str:
    """The exception at the end of a traceback with all lines of its message, or the text where it is none."""
    lines = _COLOUR.sub("", said).rstrip().splitlines()
    indented = [number for number, line in enumerate(lines) if line.startswith("  ")]
    return "\n".join(lines[indented[-1] + 1 :] if indented else lines).strip() or said


def _cause(said: str, log: str, place: Place) -> str:
    """Why an actor's process ended, from Ray's message and from what it printed last."""
    if "running low on memory" in said or "OUT_OF_MEMORY" in said:
        used = re.search(r"was ([\d.]+ ?GB / [\d.]+ ?GB)", said)
        amount = f" ({used[1]})" if used else ""
        return f"Ray killed it because the memory of its node was nearly used up{amount}. {LESS_MEMORY}"
    if "node has died" in said or "node was terminated" in said or "NODE_DIED" in said:
        return "its node is gone"
    if "ray.kill" in said:
        return "it was killed by ray.kill, as winnow does with an actor that hangs"
    if code := re.search(r"exit code (-?\d+)", said):
        return f"its process ended with exit code {_named(int(code[1]))}"
    if crashed := _SIGNAL.search(log):
        return f"its process crashed with {crashed[1]}"
    if place.here and oom_kills() > OOM_KILLS:
        return f"the kernel of its node killed it, or another process since, for want of memory. {LESS_MEMORY}"
    if "connection error" in said or "worker process has died" in said:
        return (
            "its process ended without a word, as when it is killed (SIGKILL) by a person, a batch system or, for want "
            "of memory, by the kernel of its node, whose `dmesg` names it then"
        )
    return " ".join(_FIELD.sub("", said).split())


LESS_MEMORY = (
    "Ask for less there: fewer actors on the node, a smaller learner.micro_batch_tokens or generator.cpu_cache_gib, "
    "learner.zero_stage = 3 over more ranks; `winnow train CONFIG.toml --plan` counts it"
)


def _named(code: int) -> str:
    """An exit code, with the signal that a shell means by it."""
    number = -code if code < 0 else code - 128
    with suppress(ValueError):
        return f"{code} ({signal.Signals(number).name})" if number > 0 else str(code)
    return str(code)
