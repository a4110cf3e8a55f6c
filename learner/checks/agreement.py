"""Whether vLLM's engine and the learner's policy give a text the same log-probabilities, on this machine, with a random
model of a million parameters that is written for it: what every sync of a run asks again, with the run's model."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from actors.data.world import ALPHABET
from actors.engines import start_engine
from actors.settings import GeneratorSettings
from actors.types import EngineSpec
from learner.models.policy import Policy, load_policy
from learner.models.tiny import write_tiny_model
from learner.settings import ModelSettings

TOKENS = 64  # of the text
HEADS = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 384}
LOUDER = 3.0  # times the usual random weights: what the model computes then depends on all of them
FLOAT32 = 1e-3  # nats; largest difference that runs in float32 allow
TIMES = 4.0  # what two computations in bfloat16 may differ, in differences of one of them from float32
SHARE = 0.15  # of a GPU's memory for the engine, which may not be alone on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far engine and learner are apart, in nats, over the tokens of one text."""

    dtype: str
    mean: float
    largest: float
    bound: float  # for `largest` in float32, for `mean` in bfloat16

    @property
    def holds(self) -> bool:
        """Whether they agree as well as the arithmetic lets them."""
        return (self.largest if self.dtype == "float32" else self.mean) <= self.bound


def write_model(folder: Path) -> None:
    """Writes the model: like that of the built-in world, with heads that several GPUs can share, and louder weights."""
    write_tiny_model(folder, alphabet=ALPHABET, seed=0)
    config = AutoConfig.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(type(config)(**config.to_dict() | HEADS), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(LOUDER)
    model.save_pretrained(folder)


def agree(folder: Path, dtype: str, device: str, tensor_parallel: int = 1) -> Agreement:
    """Asks a new engine and a policy about the same text.

    Both compute in the same dtype and round in different places. In float32 that is below FLOAT32. In bfloat16 each of
    them is about as far from float32 as the policy is, and that distance is measured: two such distances are the most
    that is to be expected, and twice that is allowed.

    Args:
        folder: that `write_model` wrote.
        dtype: "float32" or "bfloat16".
        device: "cpu" or "cuda".
        tensor_parallel: GPUs of the engine.

    Raises:
        EngineDied: the engine does not start; the message ends with what it printed last.
    """
    text = _text()
    own = probe(_policy(folder, dtype, device), text)
    bound = FLOAT32
    if dtype == "bfloat16":
        noise = (own - probe(_policy(folder, "float32", device), text)).abs().mean()
        bound = max(FLOAT32, TIMES * float(noise))
    settings = GeneratorSettings(max_sequences=8, memory_share=SHARE, compiled=False)
    spec = EngineSpec(
        model=str(folder),
        dtype="float32" if dtype == "float32" else "bfloat16",
        seed=0,
        max_model_len=2 * TOKENS,
        tensor_parallel=tensor_parallel,
        backend="",
        on_cpu=device == "cpu",
        engine=settings,
    )
    asked = torch.tensor(asyncio.run(_ask(spec, text)))
    gap = (asked - own).abs()
    return Agreement(dtype=dtype, mean=float(gap.mean()), largest=float(gap.max()), bound=bound)


async def _ask(spec: EngineSpec, text: Sequence[int]) -> list[float]:
    engine = start_engine(spec)
    try:
        return await engine.log_probabilities(text)
    finally:
        engine.shutdown()


def _policy(folder: Path, dtype: str, device: str) -> Policy:
    settings = ModelSettings.model_validate({"dtype": dtype}).on_device(device == "cuda")
    return load_policy(folder, settings, logit_chunk=TOKENS).to(device).eval()


@torch.no_grad()
def probe(policy: Policy, text: Sequence[int]) -> torch.Tensor:
    """Log-probability of each token but the first, float32[N - 1] on the CPU, as the learner's engine is probed."""
    device = next(policy.parameters()).device
    tokens = torch.tensor(list(text), device=device)
    states = torch.arange(len(text) - 1, device=device)
    return policy(tokens[None, :-1], states[None], states, tokens[1:], 1.0)[0].float().cpu()


def _text() -> list[int]:
    draw = random.Random(0)
    return [draw.randrange(len(ALPHABET)) for _ in range(TOKENS)]


def agree_in(dtypes: Sequence[str], device: str, folder: Path, told: Callable[[str], None]) -> list[Agreement]:
    """`agree` in one dtype after another.

    Args:
        dtypes: "float32", "bfloat16".
        device: "cpu" or "cuda".
        folder: for the model.
        told: hears what is done next.
    """
    write_model(folder)
    found = []
    for dtype in dtypes:
        told(f"vLLM's engine starts in {dtype}")
        found.append(agree(folder, dtype, device))
    return found
