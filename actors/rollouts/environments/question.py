"""The built-in environment: one question, one answer, graded by the run's reward."""

from actors.rollouts.talk import Talk
from actors.types import Prompt
from rewards import Verdict


async def play(task: Prompt, talk: Talk) -> Verdict:
    """The policy sees the prompt and answers once."""
    await talk(task.tokens)
    return await talk.grade()
