"""The settings of the model, the learner and the warm-up. Plain checked values; imports nothing heavy."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from actors.settings import Section
from learner.algorithms import AGGREGATIONS, ALGORITHMS


class ModelSettings(Section):
    """The policy."""

    path: str = ""  # a Hugging Face causal-LM folder
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of weights in generators and of the learner's arithmetic
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"  # the learner's kernel
    checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third more work


class LearnerSettings(Section):
    """The algorithm and its optimizer."""

    algorithm: str = "reinforce-rej"  # a key of learner.algorithms.ALGORITHMS
    aggregate: str = ""  # a key of learner.algorithms.AGGREGATIONS; "" is the algorithm's own
    clip_low: Annotated[float, Field(gt=0, lt=1)] = 0.2  # the ratio's lower bound is 1 - clip_low
    clip_high: Annotated[float, Field(gt=0)] = 0.2  # and its upper bound 1 + clip_high
    std_ddof: Literal[0, 1] = 1  # of the standard deviation, where an algorithm divides by it
    mismatch_cap: Annotated[float, Field(ge=1)] = 2.0  # most that a token's learner/sampler probability ratio may weigh
    updates_per_step: Annotated[int, Field(ge=1)] = 1  # optimizer updates that share one batch of groups
    lr: Annotated[float, Field(gt=0)] = 1e-6
    lr_end: Annotated[float, Field(ge=0, le=1)] = 1.0  # share of lr at the last update, approached linearly
    lr_warmup: Annotated[int, Field(ge=0)] = 0  # updates over which lr rises from zero
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    grad_clip: Annotated[float, Field(gt=0)] = 1.0  # largest norm of the whole gradient
    micro_batch_tokens: Annotated[int, Field(ge=1)] = 8192  # tokens of one forward and backward pass on a rank
    logit_chunk: Annotated[int, Field(ge=1)] = 2048  # tokens whose logits exist at the same time
    zero_stage: Literal[0, 1, 2, 3] = 2  # what DeepSpeed shards: 1 optimizer states, 2 gradients, 3 weights too

    @field_validator("algorithm")
    @classmethod
    def _is_an_algorithm(cls, value: str) -> str:
        if value not in ALGORITHMS:
            raise ValueError(f"must be one of {', '.join(ALGORITHMS)}, got {value!r}")
        return value

    @field_validator("aggregate")
    @classmethod
    def _is_an_aggregation(cls, value: str) -> str:
        if value and value not in AGGREGATIONS:
            raise ValueError(f"must be one of {', '.join(AGGREGATIONS)}, got {value!r}")
        return value


class WarmupSettings(Section):
    """Supervised fine-tuning on worked answers, before any reinforcement learning. Off with 0 updates."""

    updates: Annotated[int, Field(ge=0)] = 0
    path: str = ""  # .jsonl or .parquet; with a built-in world this is the world's own file
    prompt_column: str = "prompt"
    response_column: str = "response"
    batch: Annotated[int, Field(ge=1)] = 64  # worked answers in an update
    lr: Annotated[float, Field(gt=0)] = 1e-5
    lr_end: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of lr at the last update
