"""The judge actor: a language model of the run that is asked about responses. vLLM is loaded in its process only."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from actors.settings import RolloutSettings
from actors.types import EngineSpec
from rewards import Case, Outcome, RewardResult, RewardSettings
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


def ask_judge(judge: str, cases: Sequence[Case], settings: RewardSettings) -> list[RewardResult]:
    """The judgements of the judge actor of this name; one that does not answer in reward.seconds gives none."""
    try:
        reply: Any = ray.get_actor(judge).answer.remote([messages(case, settings) for case in cases])
        texts = ray.get(reply, timeout=settings.seconds * len(cases))
    except GetTimeoutError:
        return [RewardResult(outcome=Outcome.TIMEOUT, why="judge: no answer in time")] * len(cases)
    except (RayError, ValueError) as failure:
        return [RewardResult(outcome=Outcome.ERROR, why=f"judge failed: {failure}")] * len(cases)
    return [read(text, case, settings) for text, case in zip(texts, cases, strict=True)]
