"""Labels of steps by rollouts, as Math-Shepherd makes them to train a process reward model. arXiv 2312.08935.

A step is as good as what can still come of it: from behind each step the rest of the response is sampled several times,
and the share of completions with the right answer is its label.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from actors.engines import Sampler, sampling_for, start_engine
from actors.remote import answer
from actors.settings import RolloutSettings
from actors.types import EngineSpec, Purpose
from rewards.models.plain import plain
from rewards.shaping import hard_label, soft_label
from rewards.verdict import Outcome

if TYPE_CHECKING:
    from ray.actor import ActorHandle

Complete = Callable[[str, int], Awaitable[Sequence[str]]]  # (text so far, how many) -> what may follow
Grade = Callable[[str], Awaitable[Outcome]]  # a response -> how it ended
COMPLETER = "completer"


class Completer:
    """Ray actor around one vLLM engine that continues texts. Order of calls: `start`, `complete`, at last `stop`."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Sampler | None = None

    async def start(self) -> None:
        """Starts the engine, once."""
        self._engine = self._engine or start_engine(self._spec)

    async def complete(self, prompt: Sequence[int], begun: str, count: int, rollout: RolloutSettings) -> list[str]:
        """`count` texts, sampled, that the model goes on with behind a prompt and the beginning of a response. No text
        in that beginning is read as a control token."""
        if self._engine is None:
            raise RuntimeError("the completer has not been started (start)")
        tokenizer = self._engine.tokenizer
        tokens = [*prompt, *tokenizer(plain(begun, tokenizer), add_special_tokens=False)["input_ids"]]
        sampling = replace(
            sampling_for(Purpose.LABEL, rollout),
            max_tokens=min(rollout.max_new_tokens, self._engine.max_model_len - len(tokens)),
            completions=count,
        )
        found = await self._engine.generate(tokens, sampling, self._spec.seed)
        return [str(tokenizer.decode(one.tokens.tolist(), skip_special_tokens=True)) for one in found]

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        if self._engine is not None:
            self._engine.shutdown()


class CompleterClient:
    """The typed caller of a completer. Methods raise ActorDied when the actor is gone, BrokenPart when it failed."""

    def __init__(self, handle: "ActorHandle[Any]", rollout: RolloutSettings) -> None:
        """`rollout` says how completions are sampled: temperature and most new tokens."""
        self.handle, self._rollout = handle, rollout

    async def start(self) -> None:
        """Starts the engine, once."""
        await answer(self.handle.start.remote(), COMPLETER)

    async def complete(self, prompt: Sequence[int], begun: str, count: int) -> list[str]:
        """`count` texts that may follow a prompt and the beginning of a response."""
        return await answer(self.handle.complete.remote(prompt, begun, count, self._rollout), COMPLETER)

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        await answer(self.handle.stop.remote(), COMPLETER)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLabel:
    """What became of the completions of one step.

    Example: ``StepLabel(step=0, hard=1.0, soft=0.25, scored=8)``
    """

    step: int  # its place, from 0
    hard: float | None  # 1 where any completion is correct, else 0; None where none was scored
    soft: float | None  # the share of completions that are correct; None where none was scored
    scored: int  # completions with a verdict


async def label_steps(
    prompt: str, steps: Sequence[str], complete: Complete, grade: Grade, *, completions: int = 8
) -> list[StepLabel]:
    """One label for each step, in order; all steps are completed and graded at the same time.

    Args:
        prompt: as the policy saw it.
        steps: of one response; put together without anything between, they are the response.
        complete: samples what may follow a text.
        grade: grades a response: steps and completion, without the prompt. One without a verdict does not count.
        completions: to sample behind each step, at least one.

    Raises:
        ValueError: `completions` is below one.
        ExceptionGroup: `complete` or `grade` failed; all other calls are cancelled.
    """
    if completions < 1:
        raise ValueError(f"a label needs at least one completion, got {completions}")
    async with asyncio.TaskGroup() as group:
        tasks = []
        for step in range(len(steps)):
            begun = "".join(steps[: step + 1])
            tasks.append(group.create_task(_outcomes(prompt, begun, complete, grade, completions)))
    return [_label(step, task.result()) for step, task in enumerate(tasks)]


async def _outcomes(prompt: str, begun: str, complete: Complete, grade: Grade, completions: int) -> list[Outcome]:
    texts = await complete(prompt + begun, completions)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(grade, begun + text)) for text in texts]
    return [task.result() for task in tasks]


async def _one(grade: Grade, response: str) -> Outcome:
    return await grade(response)


def _label(step: int, outcomes: Sequence[Outcome]) -> StepLabel:
    verdicts = [outcome is Outcome.CORRECT for outcome in outcomes if outcome.scored]
    if not verdicts:
        return StepLabel(step=step, hard=None, soft=None, scored=0)
    return StepLabel(step=step, hard=hard_label(verdicts), soft=soft_label(verdicts), scored=len(verdicts))
