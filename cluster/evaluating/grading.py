"""What is found out about graded responses beside their verdicts: who answered the same, and what models of rewards
think of them."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from actors.grading.queue import VerifierQueue
from actors.types import Group
from cluster.evaluating.answers import Answered, Response, Vote, responses_in, texts_in
from cluster.preparing.graders import Graders
from rewards import REWARDS, Case, Outcome, Question, RewardSettings


def no_vote_because(reward: str, settings: RewardSettings, environment: str) -> str:
    """Why no vote can be held among responses that this reward grades; "" where one can.

    Args:
        reward: name of the reward.
        settings: of all rewards.
        environment: `rollout.environment`.
    """
    if environment:
        return "an environment's episodes have no final answer"
    kind = settings.of(reward).kind
    if kind not in REWARDS:
        return f"the reward {reward!r} is a combination, and what is the same to one part may not be to another"
    return "" if REWARDS[kind].said is not None else f"the reward {reward!r} reads no final answer from a response"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondLook:
    """Looks at the responses of one prompt after the other, many at a time."""

    settings: RewardSettings
    environment: str  # rollout.environment
    models: Sequence[str]  # rewards from models that score every response
    verifiers: VerifierQueue  # ask these models
    graders: Graders  # on this machine; compare answers

    async def look(self, group: Group) -> Answered:
        """What a graded group came to."""
        responses, texts = responses_in(group), texts_in(group)
        scores = await asyncio.gather(*(self._scores(group, text) for text in texts))
        return Answered(
            number=group.id,
            prompt_id=group.prompt.id,
            responses=tuple(
                replace(response, model_scores=given) for response, given in zip(responses, scores, strict=True)
            ),
            vote=await self._vote(group.prompt.reward, responses, texts),
        )

    async def _scores(self, group: Group, text: str) -> Mapping[str, float]:
        """What each model gives a response; one that gives no verdict is left out."""
        prompt = group.prompt
        case = Case(
            response=text,
            reference=prompt.reference,
            prompt=prompt.text,
            question=prompt.question,
            messages=prompt.messages,
        )
        questions = [Question(reward=name, case=case, settings=self.settings) for name in self.models]
        verdicts = await asyncio.gather(*map(self.verifiers.grade, questions))
        return {name: v.score for name, v in zip(self.models, verdicts, strict=True) if v.score is not None}

    async def _vote(self, reward: str, responses: Sequence[Response], texts: Sequence[str]) -> Vote | None:
        """How the vote went. Only where it is not decided by the number of correct responses alone are the wrong
        answers compared with each other."""
        if no_vote_because(reward, self.settings, self.environment):
            return None
        wrong = [text for response, text in zip(responses, texts, strict=True) if response.outcome is Outcome.WRONG]
        correct = sum(response.outcome is Outcome.CORRECT for response in responses)
        if not correct or correct > len(wrong):
            return Vote(correct=correct, others=(1,) * len(wrong))
        numbers = await asyncio.to_thread(lambda: next(self.graders.answers(reward, [wrong], self.settings)))
        if numbers is None:
            return None
        counts = Counter(number for number in numbers if number is not None)
        return Vote(correct=correct, others=tuple(counts.values()))
