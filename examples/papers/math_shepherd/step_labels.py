"""Math-Shepherd's labels: the policy works a question out, and from behind each step it goes on several times. A step
is right where any of these ends is, the paper's hard estimate; the last step is as right as the answer.
"""

import asyncio

from actors.rollouts.search import hard_label

COMPLETIONS = 4  # from behind each step
BETWEEN = "\n\n"  # two steps


def known(verdicts):
    """Whether each is right; without those that are none."""
    return [verdict.score > 0 for verdict in verdicts if verdict.score is not None]


async def label(talk, step):
    """That of a step with something behind it."""
    ends = [talk.fork(at=step.end, trained=False) for _ in range(COMPLETIONS)]
    await asyncio.gather(*(end.more() for end in ends))
    return hard_label(known(await asyncio.gather(*(end.grade() for end in ends))))


async def play(task, talk):
    await talk(task)
    verdict, steps = await talk.grade(), talk.steps(BETWEEN)
    labels = [*await asyncio.gather(*(label(talk, step) for step in steps[:-1])), hard_label(known([verdict]))]
    if steps and all(step.text.strip() for step in steps):
        talk.leave("steps", {"prompt": task.question, "steps": [step.text for step in steps], "labels": labels})
    return verdict
