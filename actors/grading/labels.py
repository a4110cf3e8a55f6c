"""Labels of steps by rollouts, as Math-Shepherd makes them to train a process reward model. arXiv 2312.08935.

A step is as good as what can still come of it: from behind each step the rest of the response is sampled several times,
and the share of completions with the right answer is its label.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rewards.shaping import hard_label, soft_label
from rewards.verdict import Outcome

Complete = Callable[[str, int], Awaitable[Sequence[str]]]  # (text so far, how many) -> what may follow
Judge = Callable[[str], Awaitable[Outcome]]  # a response -> how it is judged


@dataclass(frozen=True, slots=True, kw_only=True)
class StepLabel:
    """What became of the completions of one step.

    Example: ``StepLabel(step=0, hard=1.0, soft=0.25, scored=8)``
    """

    step: int  # its place, from 0
    hard: float | None  # 1 where any completion is correct, else 0; None where none was judged
    soft: float | None  # the share of completions that are correct; None where none was judged
    scored: int  # completions with a verdict


async def label_steps(
    prompt: str, steps: Sequence[str], complete: Complete, judge: Judge, *, completions: int = 8
) -> list[StepLabel]:
    """One label for each step, in order; all steps are completed and judged at the same time.

    Args:
        prompt: as the policy saw it.
        steps: of one response; put together without anything between, they are the response.
        complete: samples what may follow a text.
        judge: judges a response: steps and completion, without the prompt. One without a verdict does not count.
        completions: to sample behind each step, at least one.

    Raises:
        ValueError: `completions` is below one.
        ExceptionGroup: `complete` or `judge` failed; nothing of the rest goes on.
    """
    if completions < 1:
        raise ValueError(f"a label needs at least one completion, got {completions}")
    async with asyncio.TaskGroup() as group:
        tasks = []
        for step in range(len(steps)):
            begun = "".join(steps[: step + 1])
            tasks.append(group.create_task(_outcomes(prompt, begun, complete, judge, completions)))
    return [_label(step, task.result()) for step, task in enumerate(tasks)]


async def _outcomes(prompt: str, begun: str, complete: Complete, judge: Judge, completions: int) -> list[Outcome]:
    texts = await complete(prompt + begun, completions)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_one(judge, begun + text)) for text in texts]
    return [task.result() for task in tasks]


async def _one(judge: Judge, response: str) -> Outcome:
    return await judge(response)


def _label(step: int, outcomes: Sequence[Outcome]) -> StepLabel:
    verdicts = [outcome is Outcome.CORRECT for outcome in outcomes if outcome.scored]
    if not verdicts:
        return StepLabel(step=step, hard=None, soft=None, scored=0)
    return StepLabel(step=step, hard=hard_label(verdicts), soft=soft_label(verdicts), scored=len(verdicts))
