"""A run whose learner is lost goes on with a new one; which losses are worth that, from where, and how often."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ObjectLostError, RayTaskError

from actors.errors import ActorDied, BrokenPart, NoAnswer
from actors.pool import GeneratorPool
from cluster.config.reading import config_of
from cluster.running import attempts, restarts
from cluster.running.restarts import Restarts, what_was_lost
from cluster.running.state_file import RUN
from learner.types import MARKER, STATE

DEATH = "learner-rank-1 (process 7) has died: it was killed (SIGKILL). The last lines that it printed:\nstep 3"


class AcceleratorError(RuntimeError):
    """Has the name of torch's for a GPU that failed."""


class DistError(RuntimeError):
    """As torch's."""


class DistBackendError(DistError):
    """As torch's."""


class FakeLearner:
    """Ranks of which some are silent, and what is done to them."""

    def __init__(self, silent: Sequence[str] = ()) -> None:
        self._silent = list(silent)
        self.done: list[str] = []

    async def silent(self, seconds: float) -> list[str]:
        return self._silent

    def kill(self) -> None:
        self.done.append("killed")

    def renew(self) -> None:
        self.done.append("renewed")


def raised(cause: Exception) -> BrokenPart:
    """What a client makes of an exception in a rank."""
    try:
        raise BrokenPart(f"learner-rank-0 failed: {cause}") from RayTaskError("train", "traceback", cause)
    except BrokenPart as failure:
        return failure


@pytest.mark.parametrize(
    ("failure", "silent", "lost"),
    [
        (ActorDied(DEATH), ["rank 1"], "rank 1 of the learner is gone"),
        (BrokenPart("generator-0 failed"), ["rank 0", "rank 1"], "rank 0 and rank 1 of the learner are gone"),
        (raised(RuntimeError("Connection closed by peer")), ["rank 1"], "rank 1 of the learner is gone"),
        (NoAnswer("learner: no answer within 9 s (to train)"), [], "the learner hangs"),
        (raised(AcceleratorError("CUDA error")), [], "a rank of the learner failed: its device failed"),
        (raised(DistBackendError("NCCL")), [], "a rank of the learner failed: its link to the other ranks failed"),
        (raised(RuntimeError("[gloo/transport/tcp/pair.cc:1] Connection reset")), [], "a rank of the learner failed: "),
        (raised(ObjectLostError("00", None, "")), [], "a rank of the learner failed: groups that it was to train on"),
    ],
)
async def test_what_a_new_process_may_bring_back_is_worth_a_new_learner(
    failure: BrokenPart, silent: list[str], lost: str
) -> None:
    assert (await what_was_lost(failure, FakeLearner(silent))).startswith(lost)


@pytest.mark.parametrize(
    "failure",
    [
        raised(ValueError("the loss is not finite")),
        raised(RuntimeError("shapes do not match")),
        BrokenPart("generator-0 holds other weights than the learner"),
        NoAnswer("filter: no answer within 300 s"),
        ActorDied("no generator is left"),
    ],
)
async def test_what_would_come_again_is_not(failure: BrokenPart) -> None:
    assert await what_was_lost(failure, FakeLearner()) == ""


def test_pauses_grow_and_end_unless_there_is_a_newer_checkpoint() -> None:
    count = Restarts(3)
    assert [count.pause(4) for _ in range(4)] == [5.0, 10.0, 20.0, None]
    assert [count.pause(6) for _ in range(2)] == [5.0, 10.0]
    assert count.pause(8) == 5.0
    assert count.total == 6
    assert max(Restarts(50).pause(0) or 0.0 for _ in range(3)) <= restarts.LONGEST_PAUSE
    assert Restarts(0).pause(0) is None


class Attempts:
    """Stands in for `Run`: each attempt fails as it is told, and leaves what a run leaves."""

    def __init__(self, folder: Path, ends: Sequence[Callable[[], None]]) -> None:
        self.folder, self._ends = folder, iter(ends)
        self.begun: list[tuple[str, int]] = []  # checkpoint that each went on from, and the restarts before it

    def __call__(self, *parts: Any, checkpoint: Path | None, restarts: int) -> Any:
        self.begun.append((checkpoint.name if checkpoint else "", restarts))
        return SimpleNamespace(go=self._go)

    async def _go(self) -> None:
        next(self._ends, lambda: None)()

    def reaches(self, step: int, failure: Exception, saved: bool = False) -> Callable[[], None]:
        def end() -> None:
            (self.folder / f"trajectories/step-{step}").mkdir(parents=True, exist_ok=True)
            if saved:
                state = self.folder / f"checkpoints/step-{step}" / STATE
                state.mkdir(parents=True)
                (state / RUN).touch()
                (state.parent / MARKER).touch()
            raise failure

        return end


class OneNode:
    """The places of a run on a node that has all files."""

    async def furnish(self) -> None:
        pass


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(restarts, "FIRST_PAUSE", 0.0)
    return


async def course(
    tried: Attempts, monkeypatch: pytest.MonkeyPatch, most: int = 3, silent: Sequence[str] = ("rank 1",)
) -> tuple[FakeLearner, list[str]]:
    """Runs to the end; what was done to the learner, and what the person read."""
    monkeypatch.setattr(attempts, "Run", tried)
    learner, said = FakeLearner(silent), list[str]()
    prepared: Any = SimpleNamespace(
        config=config_of({"world": {"name": "addition"}, "run": {"restarts": most}}), stored=None
    )
    pools = {"generators": GeneratorPool([]), "evaluators": GeneratorPool([])}
    actors: Any = SimpleNamespace(learner=learner, places=OneNode(), **pools)
    display: Any = SimpleNamespace(say=said.append)
    await attempts.run_to_end(prepared, actors, tried.folder, display)
    return learner, said


@pytest.mark.usefixtures("quick")
async def test_a_run_goes_on_from_its_newest_checkpoint_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = Attempts(tmp_path, [])
    tried._ends = iter([tried.reaches(2, ActorDied(DEATH), saved=True), tried.reaches(3, ActorDied(DEATH))])
    learner, said = await course(tried, monkeypatch)
    assert tried.begun == [("", 0), ("step-2", 1), ("step-2", 2)]
    assert learner.done == ["killed", "renewed"] * 2
    assert (tmp_path / "trajectories/step-2").is_dir()
    assert (tmp_path / "undone/1/trajectories/step-3").is_dir()
    assert said[0] == (
        "rank 1 of the learner is gone (learner-rank-1 (process 7) has died: it was killed (SIGKILL)). A new learner "
        f"starts in 0 s and goes on from {tmp_path}/checkpoints/step-2: restart 1 of at most 3 without a newer "
        "checkpoint (run.restarts)"
    )


@pytest.mark.usefixtures("quick")
async def test_without_a_checkpoint_it_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Attempts(tmp_path, [])
    tried._ends = iter([tried.reaches(1, ActorDied(DEATH))])
    _, said = await course(tried, monkeypatch)
    assert tried.begun == [("", 0), ("", 1)]
    assert "goes on from the start, as no checkpoint is complete yet" in said[0]
    assert (tmp_path / "undone/1/trajectories/step-1").is_dir()


@pytest.mark.usefixtures("quick")
async def test_a_failure_that_always_comes_back_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Attempts(tmp_path, [])
    tried._ends = iter([tried.reaches(2, ActorDied(DEATH), saved=True), *[tried.reaches(7, ActorDied(DEATH))] * 9])
    with pytest.raises(ActorDied) as end:
        await course(tried, monkeypatch, most=2)
    assert [checkpoint for checkpoint, _ in tried.begun] == ["", "step-2", "step-2"]
    assert "ended 2 times before (run.restarts)" in end.value.__notes__[0]


async def test_a_mistake_in_a_rank_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = Attempts(tmp_path, [])
    tried._ends = iter([tried.reaches(2, raised(ValueError("the loss is not finite")), saved=True)])
    with pytest.raises(BrokenPart, match="not finite"):
        await course(tried, monkeypatch, silent=())
    assert tried.begun == [("", 0)]
