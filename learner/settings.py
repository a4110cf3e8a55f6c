"""The settings of the model, the learner and the warm-up. Plain checked values; imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from actors.settings import Section
from learner.methods.algorithms import AGGREGATIONS, ALGORITHMS, Algorithm, algorithm_of
from learner.methods.credit import CREDITS, above, centred, leave_one_out, normalised, paired, scaled
from learner.methods.losses import LOSSES, MISMATCHES, preferred


class ModelSettings(Section):
    """The policy."""

    path: str = ""  # a Hugging Face causal-LM folder
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of weights in generators and of the learner's arithmetic
    attention: Literal["sdpa", "flash_attention_2"] = "sdpa"  # the learner's kernel
    control_tokens: tuple[str, ...] = ()  # tokens that stand for reward quantiles, the best first ("quark")
    checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third more work


class LearnerSettings(Section):
    """The algorithm and its optimizer."""

    algorithm: str = "reinforce-rej"  # a key of learner.methods.algorithms.ALGORITHMS
    updates_per_step: Annotated[int, Field(ge=1)] = 1  # optimizer updates that share one batch of groups
    lr: Annotated[float, Field(gt=0)] = 1e-6
    lr_end: Annotated[float, Field(ge=0, le=1)] = 1.0  # share of lr at the last update, approached linearly
    lr_warmup: Annotated[int, Field(ge=0)] = 0  # updates over which lr rises from zero
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    grad_clip: Annotated[float, Field(gt=0)] = 1.0  # largest norm of the whole gradient
    micro_batch_tokens: Annotated[int, Field(ge=1)] = 8192  # tokens of one forward and backward pass on a rank
    logit_chunk: Annotated[int, Field(ge=1)] = 2048  # tokens whose logits exist at the same time
    zero_stage: Literal[0, 1, 2, 3] = 2  # what DeepSpeed shards: 1 optimizer states, 2 gradients, 3 weights too
    side_lr: Annotated[float, Field(gt=0)] = 1e-5  # of the critic or the process-reward model, where there is one
    tuned_path: str = ""  # folder of the tuned policy that "rto" takes its token rewards from
    reference_every: Annotated[int, Field(ge=0)] = 0  # steps after which the policy becomes its reference; 0 is never

    @field_validator("algorithm")
    @classmethod
    def _is_an_algorithm(cls, value: str) -> str:
        if value not in ALGORITHMS:
            raise ValueError(f"must be one of {', '.join(ALGORITHMS)}, got {value!r}")
        return value


class ObjectiveSettings(Section):
    """Pieces of the algorithm that the run replaces; what is not set stays as the algorithm's row has it. The meaning
    of each stands at the field of the same name of `learner.methods.algorithms.Algorithm`."""

    credit: str = ""  # a key of learner.methods.credit.CREDITS
    loss: str = ""  # a key of learner.methods.losses.LOSSES
    aggregate: str = ""  # a key of learner.methods.algorithms.AGGREGATIONS
    ratio: Literal["", "token", "sequence", "product"] = ""
    clip_low: Annotated[float | None, Field(gt=0, le=1)] = None
    clip_high: Annotated[float | None, Field(gt=0)] = None
    clip_dual: Annotated[float | None, Field(ge=0)] = None
    anchor: Literal["", "step", "sampler"] = ""
    mismatch: str = ""  # a key of learner.methods.losses.MISMATCHES
    mismatch_cap: Annotated[float | None, Field(ge=1)] = None
    kl: Literal["", "k1", "k2", "k3"] = ""
    kl_reward: Annotated[float | None, Field(ge=0)] = None
    kl_loss: Annotated[float | None, Field(ge=0)] = None
    entropy: Annotated[float | None, Field(ge=0)] = None
    likelihood: Annotated[float | None, Field(ge=0, lt=1)] = None
    passes: Annotated[int | None, Field(ge=1)] = None
    thresholds: tuple[float, ...] = ()
    std_ddof: Literal[0, 1, None] = None
    spread: Literal["", "none", "whiten", "standardise"] = ""
    gamma: Annotated[float | None, Field(gt=0, le=1)] = None
    lam: Annotated[float | None, Field(ge=0, le=1)] = None
    value_clip: Annotated[float | None, Field(gt=0)] = None
    overlong: Annotated[float | None, Field(ge=0, lt=1)] = None

    @field_validator("credit", "loss", "aggregate", "mismatch")
    @classmethod
    def _is_in_its_table(cls, value: str, info: ValidationInfo) -> str:
        table = _TABLES[str(info.field_name)]
        if value and value not in table:
            raise ValueError(f"must be one of {', '.join(table)}, got {value!r}")
        return value


_TABLES: dict[str, Iterable[str]] = {
    "credit": CREDITS,
    "loss": LOSSES,
    "aggregate": AGGREGATIONS,
    "mismatch": MISMATCHES,
}


def chosen_algorithm(learner: LearnerSettings, objective: ObjectiveSettings, drop: str = "") -> Algorithm:
    """The algorithm of a run: its row with the pieces that the run replaces.

    Raises:
        ValueError: the pieces do not go together; the message says which and why.
    """
    row = algorithm_of(learner.algorithm, objective.model_dump(), drop)
    if row.kl_reward and row.kl_loss:
        raise ValueError(
            f"objective.kl_reward = {row.kl_reward:g} and objective.kl_loss = {row.kl_loss:g} would charge the KL "
            "twice: set one of them to 0"
        )
    if row.counts == "credited" and (row.kl_reward or row.spread != "none"):
        raise ValueError(
            f"objective.kl_reward = {row.kl_reward:g} and objective.spread = {row.spread!r} have no place in "
            f"learner.algorithm = {learner.algorithm!r}, which chooses responses by their scores alone: use "
            'objective.kl_loss, and objective.spread = "none"'
        )
    if row.pairs and (row.aggregate != "seq-mean-token-sum" or row.mismatch != "none"):
        raise ValueError(
            f"learner.algorithm = {learner.algorithm!r} is a mean over pairs: leave objective.aggregate and "
            f"objective.mismatch as they are, got {row.aggregate!r} and {row.mismatch!r}"
        )
    if 0 < row.clip_dual <= 1:
        raise ValueError(f"objective.clip_dual must be 0 (off) or above 1, got {row.clip_dual:g}")
    if (row.loss is preferred) != row.pairs or (row.pairs and row.overlong):
        raise ValueError(
            f'objective.loss = "preferred" and objective.credit = "paired" go together and without objective.overlong '
            f"(learner.algorithm = {learner.algorithm!r}): pairs are of a correct and a wrong response"
        )
    if objective.credit and (
        (row.thresholds and row.credit is not above) or not row.needs.isdisjoint({"critic", "process"})
    ):
        raise ValueError(
            f"objective.credit = {objective.credit!r} would have no effect in learner.algorithm = "
            f"{learner.algorithm!r}, whose advantages come from thresholds, a critic or process rewards"
        )
    if objective.thresholds and row.credit is not above:
        raise ValueError('objective.thresholds belong to objective.credit = "above", as in learner.algorithm = "rest"')
    if row.kl_loss and row.kl_estimator == "k1":
        raise ValueError(
            'objective.kl = "k1" has no gradient in expectation as a loss: use "k2" or "k3", or objective.kl_reward'
        )
    if row.thresholds and len(row.thresholds) != row.passes:
        raise ValueError(
            f"objective.thresholds must hold one threshold for each of the {row.passes} passes, got "
            f"{len(row.thresholds)}: set objective.passes too"
        )
    return replace(row, siblings=2) if _against_siblings(row) else row


def _against_siblings(row: Algorithm) -> bool:
    credit = row.credit.func if isinstance(row.credit, partial) else row.credit
    return "critic" not in row.needs and credit in (centred, scaled, normalised, leave_one_out, paired)


class WarmupSettings(Section):
    """Supervised fine-tuning on worked answers, before any reinforcement learning. Off with 0 updates."""

    updates: Annotated[int, Field(ge=0)] = 0
    path: str = ""  # .jsonl or .parquet; with a built-in world this is the world's own file
    prompt_column: str = "prompt"
    response_column: str = "response"
    batch: Annotated[int, Field(ge=1)] = 64  # worked answers in an update
    lr: Annotated[float, Field(gt=0)] = 1e-5
    lr_end: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of lr at the last update
