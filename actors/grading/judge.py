"""The judge: a language model of the run that is asked about responses, in a Ray actor of its own.

vLLM is imported in `start`, so that only the judge's own process loads it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ray
from ray.exceptions import GetTimeoutError, RayError

from actors.grading.client import Conversation, JudgeClient
from actors.rollouts.completions import Sampling
from actors.types import EngineSpec
from rewards import Case, Outcome, RewardResult, RewardSettings
from rewards.models.judges import messages, read

if TYPE_CHECKING:
    from actors.rollouts.engine import Engine

REPLY_TOKENS = 512  # the most that a judge says
LIKELIEST = Sampling(temperature=0.0, top_p=1.0, max_tokens=REPLY_TOKENS)


class JudgeModel:
    """One vLLM engine with the weights of a model folder. Order of calls: `start`, then `replies`, at last `stop`."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._engine: Engine | None = None

    async def start(self) -> None:
        """Starts the engine, once."""
        from actors.rollouts.engine import Engine

        self._engine = self._engine or Engine(self._spec)

    async def replies(self, conversations: Sequence[Conversation]) -> list[str]:
        """What the model says to each conversation, its likeliest token each time."""
        if self._engine is None:
            raise RuntimeError("the judge has not been started (start)")
        return list(await asyncio.gather(*(_reply(self._engine, each) for each in conversations)))

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        if self._engine is not None:
            self._engine.shutdown()


async def _reply(engine: "Engine", conversation: Conversation) -> str:
    """One reply; of a conversation that is longer than the model's context the beginning is left out."""
    tokenizer = engine.tokenizer
    if getattr(tokenizer, "chat_template", None):
        text = str(tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True))
    else:
        text = "\n\n".join(message["content"] for message in conversation) + "\n\n"
    room = engine.max_model_len - REPLY_TOKENS
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"][-room:]
    (completion,) = await engine.generate(tokens, LIKELIEST, seed=0)
    return str(tokenizer.decode(completion.tokens.tolist(), skip_special_tokens=True))


def ask_judge(judges: Mapping[str, str], cases: Sequence[Case], settings: RewardSettings) -> list[RewardResult]:
    """What the judge actor says of each case; one that does not answer within `reward.seconds` a case gives none.

    Args:
        judges: reward name -> name of its judge actor.
        cases: the responses.
        settings: of the rewards.
    """
    try:
        judge = JudgeClient(ray.get_actor(judges["judge"]))
        texts = judge.replies([messages(case, settings) for case in cases], settings.seconds * len(cases))
    except GetTimeoutError:
        return [RewardResult(outcome=Outcome.TIMEOUT, why="judge: no answer in time")] * len(cases)
    except (RayError, ValueError) as failure:
        return [RewardResult(outcome=Outcome.ERROR, why=f"judge failed: {failure}")] * len(cases)
    return [read(text, case, settings) for text, case in zip(texts, cases, strict=True)]
