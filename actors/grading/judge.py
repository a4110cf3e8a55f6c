"""The judge actor: a language model of the run that is asked about responses. vLLM is loaded in its process only."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from actors.settings import RolloutSettings
from actors.types import EngineSpec
from rewards import Budget, Case, JudgeSettings, Outcome, RewardResult
from rewards.models.judges import messages, read

if TYPE_CHECKING:
    from actors.rollouts.engine import Sampler

Conversation = list[dict[str, str]]
ANSWER_TOKENS = 512


class JudgeModel:
    """Ray actor around one vLLM engine with the weights of a model folder."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._started: Sampler | None = None

    async def start(self) -> None:
        """Starts the engine, once."""
        from actors.rollouts.engine import Sampler

        self._started = self._started or Sampler(self._spec)

    async def answer(self, conversations: Sequence[Conversation]) -> list[str]:
        """What the model says to each, always its likeliest words."""
        asked = (self._engine.reply(conversation, ANSWER_TOKENS) for conversation in conversations)
        return list(await asyncio.gather(*asked))

    async def continuations(self, text: str, count: int, rollout: RolloutSettings, seed: int) -> list[str]:
        """So many texts that the model goes on with, sampled; what labels of steps are made from."""
        return await self._engine.continuations(text, count, rollout, seed)

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        if self._started is not None:
            self._started.llm.shutdown()

    @property
    def _engine(self) -> "Sampler":
        if self._started is None:
            raise RuntimeError("the judge has not been started")
        return self._started


def ask_judge(
    judges: dict[str, str], name: str, cases: Sequence[Case], settings: JudgeSettings, budget: Budget
) -> list[RewardResult]:
    """The results of the reward `name` from its judge actor; without an answer in time there is no verdict.

    Args:
        judges: name of a reward -> name of its judge actor.
        name: of the reward.
        cases: responses to ask about.
        settings: of the reward.
        budget: what each case may take.
    """
    try:
        reply: Any = ray.get_actor(judges[name]).answer.remote([messages(case, settings) for case in cases])
        texts = ray.get(reply, timeout=budget.seconds * len(cases))
    except GetTimeoutError:
        return [RewardResult(outcome=Outcome.TIMEOUT, why=f"{name}: no answer in time")] * len(cases)
    except (RayError, ValueError) as failure:
        return [RewardResult(outcome=Outcome.ERROR, why=f"{name} failed: {failure}")] * len(cases)
    return [read(text, case, settings) for text, case in zip(texts, cases, strict=True)]
