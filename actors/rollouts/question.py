"""The built-in environment: one question, one answer, graded by the run's reward."""

from typing import TYPE_CHECKING

from rewards import Verdict

if TYPE_CHECKING:
    from actors.rollouts.episode import Task
    from actors.rollouts.talk import Talk


async def play(task: "Task", talk: "Talk") -> Verdict:
    """The policy sees the prompt and answers once."""
    await talk(task)
    return await talk.grade()
