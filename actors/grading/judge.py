"""The judge: a language model of the run that is asked about responses, in a Ray actor of its own."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import ray
from ray.exceptions import GetTimeoutError, RayError

from actors.deaths import GONE, told
from actors.engines import Sampler, Sampling, Watched, start_engine
from actors.errors import EngineDied
from actors.grading.client import Conversation, JudgeClient
from actors.logs import log_in_actor
from actors.remote import cause_of
from actors.types import EngineSpec
from rewards import START_OF_MODEL_SECONDS, Budget, Case, JudgeSettings, Outcome, RewardResult
from rewards.models.endpoint import Failure
from rewards.models.judges import verdicts
from rewards.models.plain import plain_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLY_TOKENS = 512  # the most that a judge says; of a small context half


class JudgeModel:
    """One vLLM engine with the weights of a model folder. Order of calls: `start`, then `replies`, at last `stop`. It
    can be killed and started again any time, and so can its engine."""

    def __init__(self, spec: EngineSpec) -> None:
        log_in_actor()
        self._spec = spec
        self._engine: Watched | None = None

    async def start(self) -> None:
        """Starts the engine, where none is running."""
        if self._engine is not None and self._engine.dead:
            self._engine.shutdown()
            self._engine = None
        self._engine = self._engine or start_engine(self._spec)

    async def replies(self, conversations: Sequence[Conversation]) -> list[str]:
        """What the model says to each conversation, its likeliest token each time."""
        if self._engine is None:
            raise EngineDied("the judge has not been started (start), or has been killed since")
        return list(await asyncio.gather(*(_reply(self._engine, each) for each in conversations)))

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        if self._engine is not None:
            self._engine.shutdown()

    async def alive(self) -> None:
        """A sign of life; see `Engine.alive`."""
        if self._engine is not None:
            await self._engine.alive()


async def _reply(engine: Sampler, conversation: Conversation) -> str:
    """One reply to a conversation, or to what fits into the model's context of one that is too long."""
    tokenizer, most = engine.tokenizer, min(REPLY_TOKENS, engine.max_model_len // 2)
    tokens = fitting(conversation_tokens(tokenizer, conversation), engine.max_model_len - most)
    likeliest = Sampling(temperature=0.0, top_p=1.0, max_tokens=most)
    (completion,) = await engine.generate(tokens, likeliest, seed=0)
    return str(tokenizer.decode(completion.tokens.tolist(), skip_special_tokens=True))


def conversation_tokens(tokenizer: "PreTrainedTokenizerBase", conversation: Conversation) -> list[int]:
    """A conversation in the chat template of a tokenizer, or its texts one below the other where there is none.

    The only control tokens are those of the template, and the beginning of a text that the tokenizer puts itself.
    """
    turns = plain_turns(conversation, tokenizer)
    if getattr(tokenizer, "chat_template", None):
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    text = "\n\n".join(turn["content"] for turn in turns) + "\n\n"
    return list(tokenizer(text)["input_ids"])


def fitting(tokens: Sequence[int], most: int) -> list[int]:
    """At most so many tokens: of more the middle is left out, so that a long response pushes out neither what the judge
    is told before it nor what it is asked behind it."""
    if len(tokens) <= most:
        return list(tokens)
    behind = most // 2
    return [*tokens[: most - behind], *tokens[len(tokens) - behind :]]


def ask_judge(
    judges: Mapping[str, str], name: str, cases: Sequence[Case], settings: JudgeSettings, budget: Budget
) -> list[RewardResult]:
    """The results of the reward `name` from its judge actor; without an answer in time there is no verdict.

    Args:
        judges: name of a reward -> name of its judge actor.
        name: of the reward.
        cases: responses to ask about.
        settings: of the reward.
        budget: what each case may take.
    """
    judge = JudgeClient(ray.get_actor(judges[name]), judges[name])

    def replies(conversations: Sequence[Conversation], seconds: float) -> list[str]:
        try:
            return judge.replies(conversations, seconds)
        except RayError as failure:
            if not (isinstance(failure, GONE) or isinstance(cause_of(failure), EngineDied)):
                raise
        judge.start_again(START_OF_MODEL_SECONDS)  # by Ray where its process was gone; waits behind others who ask that
        return judge.replies(conversations, seconds)

    def answers(conversations: Sequence[Conversation], seconds: float) -> list[str | Failure]:
        try:
            return list(replies(conversations, seconds))
        except GetTimeoutError:
            return [Failure(outcome=Outcome.TIMEOUT, why=f"{name}: no answer in time")] * len(conversations)
        except RayError as failure:
            return [Failure(outcome=Outcome.ERROR, why=told(failure, name, lines=False))] * len(conversations)

    return verdicts(answers, cases, settings, budget.seconds * len(cases))
