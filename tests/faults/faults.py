"""The faults: what each does to a run, and when it can be done."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import inside
from tests.faults.cluster import HOARD_SECONDS, Nodes
from tests.faults.disk import Disk
from tests.faults.driver import Driver, until
from tests.faults.processes import send

MARKER = "complete"  # file that a checkpoint holds when it is whole
SAVE_SECONDS = 60.0  # for the next save to begin
FULL_SECONDS = 4.0  # that a disk stays full


@dataclass(slots=True, kw_only=True)
class Scene:
    """What a fault may touch."""

    driver: Driver
    disk: Disk
    draw: random.Random
    cluster: Nodes | None = None
    save_seconds: float = 0.5  # of a save, as it was measured
    cuts: int = 0  # saves that have been cut so far
    begun_from: str = ""  # the newest checkpoint when a learner rank was hit last


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One kind of fault."""

    about: str  # in the table
    inject: Callable[[Scene], None]
    can_be: Callable[[Scene], bool] = lambda scene: True  # on this machine and in this run
    ready: Callable[[Scene], bool] = lambda scene: True  # now
    seconds: float = 300.0  # within which the run must go on by itself: generous, as other work may share the machine
    ends_driver: bool = False  # then `--resume` goes on


def whole(scene: Scene) -> bool:
    """Every part is there: one more engine may go."""
    return scene.driver.is_whole()


def got_on(scene: Scene) -> bool:
    """There is a newer checkpoint than the one that the learner began from last: it may be hit again. A learner that is
    lost from the same checkpoint too often ends the run, as it should."""
    return newest(scene) not in ("", scene.begun_from)


def newest(scene: Scene) -> str:
    """The newest checkpoint that is complete, as "step-5"; "" without one."""
    whole = [marker.parent.name for marker in scene.driver.folder.glob(f"checkpoints/step-*/{MARKER}")]
    return max(whole, key=lambda name: int(name.partition("-")[2]), default="")


def hitting(inject: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """The fault, from which the learner has to begin again; see `got_on`."""

    def injecting(scene: Scene) -> None:
        scene.begun_from = newest(scene)
        inject(scene)

    return injecting


def mounted(scene: Scene) -> bool:
    """The run's folder can be full."""
    return scene.disk.mounted


def on_a_cluster(scene: Scene) -> bool:
    """There is a node beside the head."""
    return scene.cluster is not None


def signals(part: str, number: signal.Signals) -> Callable[[Scene], None]:
    """A signal to one process of a part, whichever."""

    def inject(scene: Scene) -> None:
        if pids := scene.driver.family.parts()[part]:
            send(scene.draw.choice(pids), number)

    return inject


def armed(fault: str, seconds: float = 20.0) -> Callable[[Scene], None]:
    """A fault inside a process of the run, and the time that it takes until it has hit."""

    def inject(scene: Scene) -> None:
        path = scene.driver.armed / fault
        path.touch()
        until(lambda: not path.exists() or scene.driver.status is not None, seconds)

    return inject


def kill_driver(scene: Scene) -> None:
    send(scene.driver.pid, signal.SIGKILL)


def kill_ranks(scene: Scene) -> None:
    for pid in scene.driver.family.parts()["rank"]:
        send(pid, signal.SIGKILL)


def cut_save(kill: Callable[[Scene], None], points: int = 20) -> Callable[[Scene], None]:
    """Kills at one of so many points of a save, each time at another one."""

    def inject(scene: Scene) -> None:
        before = unfinished(scene)
        until(lambda: bool(unfinished(scene) - before) or scene.driver.status is not None, SAVE_SECONDS, pause=0.002)
        scene.cuts += 1
        time.sleep(scene.save_seconds * (scene.cuts % points + scene.draw.random()) / points)
        kill(scene)

    return inject


def unfinished(scene: Scene) -> set[str]:
    """The checkpoints that are being written."""
    folders = scene.driver.folder.glob("checkpoints/*")
    return {folder.name for folder in folders if folder.is_dir() and not (folder / MARKER).exists()}


def kill_all(scene: Scene) -> None:
    """As when the power fails."""
    send(scene.driver.pid, signal.SIGKILL)
    scene.driver.family.kill()


def fill_disk_at_a_save(scene: Scene) -> None:
    before = unfinished(scene)
    until(lambda: bool(unfinished(scene) - before) or scene.driver.status is not None, SAVE_SECONDS, pause=0.002)
    fill_disk(scene)


def fill_disk(scene: Scene) -> None:
    scene.disk.fill()
    until(lambda: scene.driver.status is not None, FULL_SECONDS)
    scene.disk.free()


def lose_node(scene: Scene) -> None:
    assert scene.cluster is not None
    scene.cluster.lose_one(scene.draw)
    scene.driver.family.add(scene.cluster.replace_lost())


def fill_stores(scene: Scene) -> None:
    assert scene.cluster is not None
    scene.cluster.fill_stores()


FAULTS = {
    "generator killed": Fault(
        about="SIGKILL of a generator's actor", inject=signals("generator", signal.SIGKILL), ready=whole
    ),
    "generator stopped": Fault(
        about="SIGSTOP of a generator's actor", inject=signals("generator", signal.SIGSTOP), ready=whole
    ),
    "engine killed": Fault(about="SIGKILL of vLLM's process", inject=signals("engine", signal.SIGKILL), ready=whole),
    "engine stopped": Fault(about="SIGSTOP of vLLM's process", inject=signals("engine", signal.SIGSTOP), ready=whole),
    "verifier killed": Fault(about="SIGKILL of a verifier", inject=signals("verifier", signal.SIGKILL)),
    "verifier hangs": Fault(about="a verifier that never answers", inject=armed(inside.VERIFIER_HANGS)),
    "filter killed": Fault(about="SIGKILL of the filter", inject=signals("filter", signal.SIGKILL)),
    "rank killed": Fault(
        about="SIGKILL of a learner rank", inject=hitting(signals("rank", signal.SIGKILL)), ready=got_on
    ),
    "rank stopped": Fault(
        about="SIGSTOP of a learner rank", inject=hitting(signals("rank", signal.SIGSTOP)), ready=got_on
    ),
    "sync: error": Fault(
        about="an engine raises with half of the new weights", inject=armed(inside.SYNC_ERROR), ready=whole
    ),
    "sync: engine killed": Fault(
        about="SIGKILL of an engine with half of the new weights", inject=armed(inside.SYNC_KILL), ready=whole
    ),
    "sync: engine stopped": Fault(
        about="SIGSTOP of an engine with half of the new weights", inject=armed(inside.SYNC_STOP), ready=whole
    ),
    "sync: sender's error": Fault(
        about="a learner rank raises when it has sent half of the weights",
        inject=armed(inside.SEND_ERROR),
        ends_driver=True,
    ),
    "endless response": Fault(about="a response that never ends", inject=armed(inside.ENDLESS)),
    "driver killed": Fault(about="SIGKILL of the driver", inject=kill_driver, ends_driver=True),
    "save cut: ranks": Fault(
        about="SIGKILL of all learner ranks in the middle of a save", inject=hitting(cut_save(kill_ranks)), ready=got_on
    ),
    "save cut: everything": Fault(
        about="SIGKILL of every process in the middle of a save", inject=cut_save(kill_all), ends_driver=True
    ),
    "disk full: save": Fault(about="no room for a checkpoint", inject=fill_disk_at_a_save, can_be=mounted),
    "disk full: trajectories": Fault(about="no room for trajectories", inject=fill_disk, can_be=mounted),
    "node killed": Fault(
        about="SIGKILL of a node's raylet, and a new node",
        inject=hitting(lose_node),
        can_be=on_a_cluster,
        ready=lambda scene: whole(scene) and got_on(scene),
    ),
    "object store full": Fault(
        about=f"{HOARD_SECONDS:g} s in which another driver fills the object store",
        inject=fill_stores,
        can_be=on_a_cluster,
    ),
}
