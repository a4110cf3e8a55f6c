"""Environments around an engine of paper, which says what a test has written for it."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actors.engines import Completion, Sampling
from actors.grading.client import VerifierClient
from actors.grading.queue import VerifierQueue
from actors.rollouts.rollout import GradedGroup, RolloutSession
from actors.sampled import check_turns
from actors.settings import DataSettings, RolloutSettings
from actors.tools.bench import Bench
from actors.tools.tool import Kind, Result
from actors.tools.worker import Ready, Work
from actors.types import Finish, Group, Prompt, Purpose, RolloutRequest, SamplingSpec
from rewards import Outcome, Question, RewardSettings, Verdict
from tests.doubles import InProcess, Letters

CUT = "…"  # at the end of a text: the turn is cut by its length, and the text ends before it


@dataclass
class Paper:
    """An engine that says these texts in turn, or what a function makes of what it is shown."""

    says: Callable[[str], str] | list[str]
    tokenizer: Any = field(default_factory=Letters)
    max_model_len: int = 4096
    shown: list[list[int]] = field(default_factory=list)  # token ids before each turn
    said: list[list[int]] = field(default_factory=list)  # token ids of each turn
    asked: list[Sampling] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        text = self.says.pop(0) if isinstance(self.says, list) else self.says(self.read(tokens))
        said = text.removesuffix(CUT)
        stops = {stop: said.find(stop) + len(stop) for stop in sampling.stop if stop in said}
        stopped_at = min(stops, key=lambda stop: stops[stop], default="")
        ids = self.tokenizer(said[: stops.get(stopped_at)], add_special_tokens=False)["input_ids"]
        if len(ids) > sampling.max_tokens:
            ids, stopped_at = ids[: sampling.max_tokens], ""
        self.shown.append(list(tokens))
        self.said.append(list(ids))
        self.asked.append(sampling)
        self.seeds.append(seed)
        cut = not stopped_at and (text.endswith(CUT) or len(ids) == sampling.max_tokens)
        finish = Finish.LENGTH if cut else Finish.STOP
        version = len(self.said)
        return [
            Completion(
                tokens=np.array(ids, np.int32),
                logprobs=np.full(len(ids), -0.5, np.float32),
                versions=np.full(len(ids), version, np.int32),
                finish=finish,
                shown=list(tokens),
                stopped_at=stopped_at,
            )
        ]

    def read(self, tokens: Sequence[int]) -> str:
        """Token ids as text, control tokens too."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def shutdown(self) -> None:
        """Nothing runs."""


class Equal:
    """A verifier: a response that holds the reference is right. It runs tools in real processes."""

    def __init__(self) -> None:
        self.bench = Bench()

    async def tools(self, kind: Kind, memory_mib: int) -> Ready:
        return await asyncio.to_thread(self.bench.ready, kind, memory_mib)

    async def use(self, work: Work) -> Result:
        return await asyncio.to_thread(self.bench.use, work)

    async def grade(self, questions: list[Question]) -> list[Verdict]:
        right = [question.case.reference in question.case.response for question in questions]
        outcomes = [Outcome.CORRECT if each else Outcome.WRONG for each in right]
        return [Verdict(outcome=o, score=1.0 if o is Outcome.CORRECT else -1.0, why="so it is") for o in outcomes]


def row(tokenizer: Any, text: str = "?", reference: str = "5") -> Prompt:
    """A row of the data, as it is asked without an environment."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return Prompt(id="7", tokens=np.array(ids, np.int32), text=text, reward="number", reference=reference)


async def played(
    file: Path,
    code: str,
    engine: Paper,
    *,
    size: int = 1,
    rollout: Mapping[str, Any] | None = None,
    data: DataSettings | None = None,
    reward: RewardSettings | None = None,
    prompt: Prompt | None = None,
    purpose: Purpose = Purpose.TRAINING,
    blocked_seconds: float | None = None,
) -> GradedGroup:
    """A group of episodes of the environment that the code is."""
    file.write_text(code)
    settings = RolloutSettings(environment=str(file), group_size=size, **(rollout or {}))
    run = SamplingSpec(
        seed=0, rollout=settings, reward=reward or RewardSettings(), greedy=False, data=data or DataSettings()
    )
    verifier = Equal()
    session = RolloutSession(run, VerifierQueue([VerifierClient(InProcess(verifier))]))
    if blocked_seconds is not None and session._apart is not None:
        session._apart._seconds = blocked_seconds
    request = RolloutRequest(group=0, prompt=prompt or row(engine.tokenizer), visit=0, purpose=purpose)
    try:
        return await session.rollout(engine, request)
    finally:
        await session.close()
        verifier.bench.close()


async def streams(file: Path, code: str, engine: Paper, **more: Any) -> Group:
    """The same, of which every trained token must be one that the engine sampled, in the place where it did."""
    group = (await played(file, code, engine, **more)).group
    assert_sampled(group, engine)
    for one in group.trajectories:
        check_turns(one.tokens, one.sampled, one.turns)
    return group


def assert_sampled(group: Group, engine: Paper) -> None:
    """Every stretch of sampled tokens is a turn of the engine, behind exactly what it was shown then, and no turn is
    in the group a second time."""
    turns = Counter((tuple(shown), tuple(said)) for shown, said in zip(engine.shown, engine.said, strict=True))
    found = Counter(turn for one in group.trajectories for turn in turns_in(one.tokens.tolist(), one.sampled.tolist()))
    assert found <= turns


def turns_in(tokens: list[int], sampled: list[bool]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Each stretch of sampled tokens, with all that stands before it."""
    place = 0
    while place < len(tokens):
        if not sampled[place]:
            place += 1
            continue
        end = next((n for n in range(place, len(tokens)) if not sampled[n]), len(tokens))
        yield tuple(tokens[:place]), tuple(tokens[place:end])
        place = end
