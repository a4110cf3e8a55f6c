"""How the short answers to a single question are sampled: by one request, without an episode for each.

A request costs the engine's front end more than a short answer does, and so does an episode, which may be all that an
environment makes of it. What comes of it is what episodes of `actors.rollouts.question` would bring.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.engines import Completion, Sampler, Sampling
from actors.types import Prompt, Trajectory
from rewards import Case


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """The answers to one prompt, before they are graded."""

    prompt: Prompt
    trajectories: tuple[Trajectory, ...]
    max_new_tokens: int  # that each might have had

    @property
    def cases(self) -> list[Case]:
        """What there is to grade."""
        prompt = self.prompt
        return [
            Case(
                response=trajectory.text,
                reference=prompt.reference,
                prompt=prompt.text,
                question=prompt.question or prompt.text,
                messages=prompt.messages,
                tokens=trajectory.tokens.size - prompt.tokens.size,
                max_new_tokens=self.max_new_tokens,
            )
            for trajectory in self.trajectories
        ]


async def sampled_together(
    engine: Sampler, prompt: Prompt, sampling: Sampling, seed: int, numbers: Sequence[int]
) -> Answers:
    """The answers that one request brings when the last of them has ended.

    Args:
        engine: that samples; the prompt leaves room for an answer.
        prompt: that is asked.
        sampling: of each answer.
        seed: of the first one; those of the others follow it.
        numbers: of the answers, among the group's.
    """
    left = min(sampling.max_tokens, engine.max_model_len - prompt.tokens.size)
    asked = replace(sampling, max_tokens=left, completions=len(numbers))
    completions = await engine.generate(prompt.tokens.tolist(), asked, seed)
    trajectories = tuple(
        _trajectory(prompt.tokens, completion, engine, number)
        for completion, number in zip(completions, numbers, strict=True)
    )
    return Answers(prompt=prompt, trajectories=trajectories, max_new_tokens=sampling.max_tokens)


def _trajectory(shown: np.ndarray, turn: Completion, engine: Sampler, number: int) -> Trajectory:
    before = shown.size
    sampled = np.ones(before + turn.tokens.size, bool)
    sampled[:before] = False
    return Trajectory(
        tokens=np.concatenate((shown, turn.tokens)),
        sampled=sampled,
        logprobs=np.concatenate((np.zeros(before, np.float32), turn.logprobs)),
        versions=np.concatenate((np.full(before, -1, np.int32), turn.versions)),
        finish=turn.finish,
        text=str(engine.tokenizer.decode(turn.tokens.tolist(), skip_special_tokens=True)),
        episode=number,
    )
