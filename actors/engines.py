"""What goes into an engine and what comes out, as plain values, and the door to the engine itself.

vLLM is imported by `actors.rollouts.engine` alone, and that only by `start_engine`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from actors.errors import EngineDied
from actors.garbage import loading
from actors.logs import LOGGER
from actors.settings import RolloutSettings
from actors.types import EngineSpec, Finish, Purpose

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from actors.rollouts.engine import Engine


OWN_PROCESS = "WINNOW_OWN_PROCESS"  # environment variable: with 1 an engine on the CPU has a process, as on GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float  # 0 takes the likeliest token each time
    top_p: float  # share of the probability from which tokens are drawn
    max_tokens: int  # most tokens of a completion, at least 1
    min_tokens: int = 0  # fewest tokens of a completion, where `max_tokens` allows as many
    stop: tuple[str, ...] = ()  # texts that end a completion and stay in it, found among special tokens too
    stop_token_ids: tuple[int, ...] = ()  # tokens that end a completion and stay in it, beside the end-of-text token
    completions: int = 1  # how many, all of the same prompt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completion:
    """What an engine sampled behind one prompt; N tokens."""

    tokens: np.ndarray  # int32[N], the engine's own ids, the end-of-text token included where it was sampled
    logprobs: np.ndarray  # float32[N], log-probability of each token under the distribution it was drawn from, nats
    versions: np.ndarray  # int32[N], the weight version that chose each token, -1 where no sync brought the weights
    finish: Finish
    shown: Sequence[int]  # token ids that the engine says it has sampled behind
    stopped_at: str = ""  # the text of `Sampling.stop` that ended it


class Sampler(Protocol):
    """An engine as those see it who sample from it; `actors.rollouts.engine.Engine` is the real one."""

    max_model_len: int  # most tokens of a prompt and its completion together
    tokenizer: "PreTrainedTokenizerBase"

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        """`sampling.completions` completions of one prompt, each as it is alone with seed, seed + 1 and so on;
        a cancelled call ends the request in the engine."""
        ...

    def shutdown(self) -> None:
        """Ends the engine."""
        ...


class Watched(Sampler, Protocol):
    """An engine as those see it who find out that it has died or hangs."""

    @property
    def dead(self) -> bool:
        """Whether the engine has failed, or its own process has ended."""
        ...

    async def alive(self) -> None:
        """Returns when the engine has answered."""
        ...


def start_engine(spec: EngineSpec) -> "Engine":
    """A running engine in this process, which loads vLLM: seconds on a GPU, longer where it captures CUDA graphs.

    Raises:
        EngineDied: it does not start; the message ends with what it printed last, which has the cause.
    """
    from actors.rollouts.last_lines import with_last_lines

    began = time.monotonic()
    LOGGER.info("vLLM's engine starts with %s, sequences of %d tokens at most", spec.model, spec.max_model_len)
    try:
        with loading():
            from actors.rollouts.engine import Engine

            engine = Engine(spec)
    except Exception as failure:  # vLLM raises many kinds
        reason = f"vLLM's engine does not start with the model {spec.model}: {type(failure).__name__}: {failure}"
        raise EngineDied(with_last_lines(reason)) from None
    LOGGER.info("the engine runs, after %.0f s", time.monotonic() - began)
    return engine


def sampling_for(purpose: Purpose, rollout: RolloutSettings) -> Sampling:
    """How responses of this purpose are sampled in a run.

    Evaluations and labels draw from the whole distribution, so that they ask every algorithm the same question. What
    ends a response is the same for all.
    """
    greedy, training = purpose is Purpose.GREEDY_BASELINE, purpose is Purpose.TRAINING
    return Sampling(
        temperature=0.0 if greedy else rollout.temperature,
        top_p=rollout.top_p if training else 1.0,
        max_tokens=rollout.max_new_tokens,
        min_tokens=rollout.min_tokens,
        stop=rollout.stop,
        stop_token_ids=rollout.stop_token_ids,
    )
