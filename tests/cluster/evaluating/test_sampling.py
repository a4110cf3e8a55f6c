"""The loop of an evaluation around generators of paper, with the real recorder and the real graders."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from actors.arrow import packed
from actors.errors import BrokenPart, RolloutFailed
from actors.filtering.recorder import Recorder
from actors.grading.queue import VerifierQueue
from actors.types import Finish, Group, Prompt, RolloutRequest, Summary, Times, Trajectory
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.evaluating.answers import Answered, Vote, recorded_groups
from cluster.evaluating.progress import Told
from cluster.evaluating.sampling import Work, answer_prompts, look_again
from cluster.running.evaluate import requests_for
from rewards import Case, ChatMessage, Outcome, Question, Verdict

SAYS = {"easy": ["4", "4", "4"], "split": ["4", "5", "5.0"], "hard": ["1", "2", "3"], "tie": ["4", "7", "?"]}
VOTES = {"easy": (3, ()), "split": (1, (2,)), "hard": (0, (1, 1, 1)), "tie": (1, (1,))}


def config(**sections: Any) -> RunConfig:
    tree = {"model": {"path": "m"}, "data": {"path": "d"}, "reward": {"name": "math"}, "eval": {"samples": 3}}
    return config_of(tree | sections).on_device(False)


TOLD = (ChatMessage("system", "s"), ChatMessage("user", "q"))


def graded(request: RolloutRequest) -> Group:
    """What a generator of paper makes of a request."""
    trajectories, verdicts = [], []
    for text in SAYS[request.prompt.text]:
        new = np.array([1, 2], np.int32)
        trajectories.append(
            Trajectory(
                tokens=np.concatenate([request.prompt.tokens, new]),
                sampled=np.array([False, True, True]),
                logprobs=np.zeros(3, np.float32),
                versions=np.full(3, -1, np.int32),
                finish=Finish.STOP,
                text="" if text == "?" else rf"\boxed{{{text}}}",
            )
        )
        outcome = {"4": Outcome.CORRECT, "?": Outcome.UNPARSABLE}.get(text, Outcome.WRONG)
        verdicts.append(Verdict(outcome=outcome, score=1.0 if text == "4" else -1.0, why=f"said {text}"))
    return Group(id=request.group, prompt=request.prompt, trajectories=tuple(trajectories), verdicts=tuple(verdicts))


class Pool:
    """Brings every group but those of the prompts that are `lost`; breaks at the group of number `breaks_at`."""

    def __init__(self, lost: Sequence[str] = (), breaks_at: int | None = None) -> None:
        self._lost, self._breaks_at = lost, breaks_at
        self.asked: list[int] = []

    async def rollout(self, request: RolloutRequest) -> tuple[Summary, Any]:
        self.asked.append(request.group)
        await asyncio.sleep(0)
        if request.group == self._breaks_at:
            await asyncio.sleep(0.2)
            raise BrokenPart("no generator is left")
        if request.prompt.text in self._lost:
            raise RolloutFailed("timeout", "group failed twice: too slow")
        group, buffer = graded(request), asyncio.get_running_loop().create_future()
        buffer.set_result(packed(group))
        return Summary.of(group, Times()), buffer


class Likes:
    """A verifier whose model likes what begins with a 5."""

    def __init__(self) -> None:
        self.cases = list[Case]()

    async def grade(self, questions: list[Question]) -> list[Verdict]:
        self.cases += [question.case for question in questions]
        liked = [r"\boxed{5" in question.case.response for question in questions]
        outcomes = [Outcome.CORRECT if each else Outcome.WRONG for each in liked]
        return [
            Verdict(outcome=o, score=1.0 if o is Outcome.CORRECT else -0.5, why=question.reward)
            for question, o in zip(questions, outcomes, strict=True)
        ]

    async def grade_group(self, questions: list[Question]) -> list[Verdict]:
        raise AssertionError("nobody compares siblings")

    async def alive(self) -> None:
        raise AssertionError("it never fails")


class Shown:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def status(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, what: str, done: int, total: int, note: str = "") -> None:
        self.lines.append(f"{what}: {done} of {total}, {note}")


def prompts() -> list[Prompt]:
    return [
        Prompt(
            id=f"eval/{text}", tokens=np.array([1], np.int32), text=text, reward="math", reference="4", messages=TOLD
        )
        for text in SAYS
    ]


def work(folder: Path, found: dict[int, Answered], earlier: Sequence[Group] = ()) -> Work:
    known = {group.id for group in earlier}
    return Work(
        requests=[request for request in requests_for(prompts(), 3) if request.group not in known],
        earlier=earlier,
        recorder=Recorder(folder, step=7, takes_over=bool(earlier)),
        done=lambda each: found.__setitem__(each.number, each),
    )


async def test_every_prompt_is_answered_recorded_and_voted_on(tmp_path: Path) -> None:
    found, shown, likes = dict[int, Answered](), Shown(), Likes()
    queue = VerifierQueue([likes])
    task = work(tmp_path, found)
    settings = config(reward={"name": "math", "liked": {"kind": "model", "path": "/m"}})
    await answer_prompts(Pool(), queue, settings, task, Told(shown, len(SAYS)))
    task.recorder.close(7)
    queue.close()
    for number, text in enumerate(SAYS):
        correct, others = VOTES[text]
        assert found[number].vote == Vote(correct=correct, others=others)
        assert [response.model_scores for response in found[number].responses] == [
            {"liked": 1.0 if said.startswith("5") else -0.5} for said in SAYS[text]
        ]
    assert {case.messages for case in likes.cases} == {TOLD}
    assert shown.lines[0] == "evaluating, prompts: 0 of 4, "
    assert shown.lines[-1] == "evaluating, prompts: 4 of 4, accuracy so far 0.417"
    written = {group.id: group for group in recorded_groups(tmp_path)}
    assert sorted(written) == [0, 1, 2, 3]
    assert written[1].trajectories[1].text == r"\boxed{5}"
    assert [file.name for file in tmp_path.glob("step-7/*")] == ["groups.parquet"]
    assert {group.prompt.messages for group in written.values()} == {TOLD}
    older = tmp_path / "step-7/groups.parquet"  # as one of before there were messages
    pq.write_table(pq.ParquetFile(older).read().drop_columns(["messages"]), older)
    assert {group.prompt.messages for group in recorded_groups(tmp_path)} == {()}


async def test_an_evaluation_that_breaks_goes_on_from_what_is_on_disk(tmp_path: Path) -> None:
    found = dict[int, Answered]()
    task = work(tmp_path, found)
    with pytest.raises(BrokenPart, match="no generator is left"):
        await answer_prompts(Pool(breaks_at=2), VerifierQueue([]), config(), task, Told(Shown(), len(SAYS)))
    task.recorder.close(7)
    earlier = list(recorded_groups(tmp_path))
    assert 2 not in found
    assert {group.id for group in earlier} == {0, 1, 3}
    again, pool = dict[int, Answered](), Pool()
    task = work(tmp_path, again, earlier)
    await answer_prompts(pool, VerifierQueue([]), config(), task, Told(Shown(), len(SAYS)))
    task.recorder.close(7)
    assert pool.asked == [2]
    whole, once = dict[int, Answered](), work(tmp_path / "whole", {})
    once = Work(
        requests=once.requests, earlier=(), recorder=once.recorder, done=lambda e: whole.__setitem__(e.number, e)
    )
    await answer_prompts(Pool(), VerifierQueue([]), config(), once, Told(Shown(), len(SAYS)))
    assert again == whole
    assert sorted(group.id for group in recorded_groups(tmp_path)) == [0, 1, 2, 3]
    looked = dict[int, Answered]()
    await look_again(config(), work(tmp_path, looked, list(recorded_groups(tmp_path))), Told(Shown(), len(SAYS)))
    assert looked == whole


async def test_a_prompt_that_cannot_be_sampled_is_told_and_not_recorded(tmp_path: Path) -> None:
    found = dict[int, Answered]()
    task = work(tmp_path, found)
    await answer_prompts(Pool(lost=["hard"]), VerifierQueue([]), config(), task, Told(Shown(), len(SAYS)))
    task.recorder.close(7)
    assert found[2].responses == ()
    assert found[2].failure == "group failed twice: too slow"
    assert {group.id for group in recorded_groups(tmp_path)} == {0, 1, 3}
