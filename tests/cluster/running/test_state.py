"""What a run remembers is saved by its owners and goes on in others."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from actors.arrow import packed
from actors.data.chooser import Chooser
from actors.data.source import PromptSource
from actors.data.stored import StoredGroups
from actors.filtering.client import FilterClient
from actors.filtering.filter import Filter, FilterSpec
from actors.filtering.rules import drop_both
from actors.types import RolloutRequest
from cluster.running.state import SCORES_KEPT, Counters, RunInputs, ScoreHistory, StateOwners
from learner.types import LearnerState
from tests.builders import group, prompt, summary_of
from tests.doubles import InProcess

CHECKPOINT = Path("checkpoints/step-1")
INPUTS = RunInputs(prompts=7, prompts_digest="a", stored=5, stored_digest="b", ranks=1, zero_stage=2, dtype="float32")
PROMPTS = [prompt(str(number)) for number in range(7)]
GROUPS = [group([1.0, -1.0], id=number) for number in range(5)]


class RememberingLearner:
    """The learner as far as it remembers."""

    def __init__(self, mean: float = 0.0) -> None:
        self.state = LearnerState(baseline_mean=mean, baseline_count=0, steps_since_reference=0)
        self.folder = Path()

    async def save(self) -> LearnerState:
        return self.state

    async def restore(self, state: LearnerState, folder: Path) -> None:
        self.state, self.folder = state, folder


async def owners(folder: Path) -> StateOwners:
    """Of a run that has begun: two groups a step, one version of staleness."""
    filter = FilterClient(lambda: InProcess(Filter()), put=lambda buffer: buffer)
    spec = FilterSpec(drop=drop_both, groups_per_step=2, max_staleness=1, patience=9, trajectories=folder)
    await filter.begin(spec)
    return StateOwners(
        progress=SimpleNamespace(counters=Counters()),
        inputs=INPUTS,
        scores=ScoreHistory(),
        prompts=PromptSource(PROMPTS, 0, chooser=Chooser(group_size=2)),
        stored=StoredGroups(GROUPS, 0),
        filter=filter,
        learner=RememberingLearner(),
    )


async def worked(run: StateOwners) -> list[str]:
    """Dispatches all that may be, has all groups but the last graded, trains a step; the ids of the dealt prompts."""
    ids = await run.filter.admit()
    dealt = run.prompts.take(len(ids))
    for number, (each, visit) in zip(ids, dealt, strict=True):
        run.filter.dispatched(RolloutRequest(group=number, prompt=each, visit=visit))
    for number, (each, _) in list(zip(ids, dealt, strict=True))[:-1]:
        graded = replace(group([1.0, -1.0], id=number), prompt=each)
        await run.filter.offer(summary_of(graded), packed(graded))
        run.prompts.graded(summary_of(graded))
    await run.filter.take()
    await run.filter.trained()
    await run.filter.publish(1)
    run.stored.next()
    run.scores.add(np.array([1.0, -1.0]))
    run.scores.add_roles({"first": np.array([1.0])})
    run.scores.trained()
    run.scores.add_roles({"first": np.array([1.0])})  # of a batch that comes again
    run.progress.counters = Counters(step=1, updates=2, tokens=30)
    return [each.id for each, _ in dealt]


async def test_a_restored_run_remembers_all_and_goes_on_as_the_saved_one(tmp_path: Path) -> None:
    first = await owners(tmp_path / "first")
    first.learner.state = LearnerState(baseline_mean=0.25, baseline_count=8, steps_since_reference=3)
    dealt = await worked(first)
    state = await first.save()
    second = await owners(tmp_path / "second")
    await second.restore(state, CHECKPOINT)

    again = await second.save()
    assert again.counters == state.counters == Counters(step=1, updates=2, tokens=30)
    assert again.scores.tolist() == [1.0, -1.0]
    assert again.roles == pytest.approx({"first": 0.05})
    assert again.learner == state.learner
    assert again.inputs == state.inputs == INPUTS
    assert again.filter.graded == state.filter.graded != ()
    assert second.learner.folder == CHECKPOINT
    assert again.stored == state.stored
    assert [each.group.to_pybytes() for each in again.filter.waiting] == [
        each.group.to_pybytes() for each in state.filter.waiting
    ]
    assert second.stored.next().id == first.stored.next().id

    # The group in flight is dealt again, with its visit, before any other prompt; then the order is that of the first.
    (interrupted,) = state.filter.interrupted
    assert interrupted.prompt_id == dealt[-1]
    following = second.prompts.take(3)
    assert following[0][0].id == dealt[-1]
    assert [each.id for each, _ in following[1:]] == [each.id for each, _ in first.prompts.take(2)]


async def test_every_group_of_a_restored_run_is_still_in_exactly_one_place(tmp_path: Path) -> None:
    first = await owners(tmp_path / "first")
    await worked(first)
    second = await owners(tmp_path / "second")
    await second.restore(await first.save(), CHECKPOINT)
    counts = (await second.filter.report(1)).counts
    ends = ("trained", "all_correct", "all_wrong", "failed", "dropped", "in_flight", "buffered")
    assert counts["groups_dispatched"] == sum(counts[f"groups_{end}"] for end in ends)
    assert counts["groups_in_flight"] == 0
    assert counts["groups_buffered"] == 1


@pytest.mark.parametrize("more", [0, 5])
def test_only_the_newest_scores_are_kept(more: int) -> None:
    history = ScoreHistory()
    history.add(np.arange(SCORES_KEPT + more, dtype=float))
    history.trained()
    saved, _ = history.save()
    assert saved[0] == more
    history.add(np.ones(1))
    history.trained()
    assert saved.size == SCORES_KEPT
    assert saved[-1] == SCORES_KEPT + more - 1


def test_scores_of_a_batch_that_was_not_trained_on_are_added_when_it_comes_again() -> None:
    history = ScoreHistory()
    history.add(np.array([1.0]))
    history.trained()
    history.add(np.array([2.0]))  # of a batch that was taken ahead
    assert history.scores.tolist() == [1.0, 2.0]
    assert history.save()[0].tolist() == [1.0]
    again = ScoreHistory()
    again.restore(*history.save())
    again.add(np.array([2.0]))
    again.trained()
    assert again.save()[0].tolist() == [1.0, 2.0]
