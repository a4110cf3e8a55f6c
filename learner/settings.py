"""The settings of the model, the learner and the warm-up. Plain checked values; imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from learner.methods.algorithms import Algorithm, algorithm_of
from learner.methods.choices import Aggregation, Baseline, KlEstimator, Mismatch, Need, Normalisation, SideModelKind
from learner.methods.credit import CREDITS
from learner.methods.losses import LOSSES
from learner.methods.own import known_algorithms
from learner.teacher import is_endpoint
from rewards.settings import PathText, Section

# Gradients that DeepSpeed exchanges at once; where that overlaps with computing there are two such pieces.
REDUCE_BUCKET = 200_000_000
SHARD_BYTES = 4 * 2**30  # of weights in one file of a checkpoint


class ModelSettings(Section):
    """The policy."""

    path: PathText = ""  # a Hugging Face causal-LM folder
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"  # of weights; "auto": bfloat16 on GPUs, float32 on CPUs
    # How attention is kept within sequences: "varlen" by PyTorch's kernel for it, in bfloat16 on GPUs; "sdpa" by masks,
    # anywhere. "auto" is "varlen" where device, dtype and model allow it.
    attention: Literal["auto", "varlen", "sdpa"] = "auto"
    control_tokens: tuple[str, ...] = ()  # tokens that stand for reward quantiles, the best first ("quark")
    # Whether activations are computed again in the backward pass: less memory, a third more work; unset: on GPUs.
    checkpointing: bool | None = None

    def on_device(self, on_gpu: bool) -> Self:
        """The settings with what depends on the device settled.

        Raises:
            ValueError: attention that this device or dtype does not have.
        """
        auto = "bfloat16" if on_gpu else "float32"
        dtype = auto if self.dtype == "auto" else self.dtype
        fast = on_gpu and dtype == "bfloat16"
        if self.attention == "varlen" and not fast:
            raise ValueError(
                f'model.attention = "varlen" is for bfloat16 on GPUs, and the run computes in {dtype} on '
                f'{"GPUs" if on_gpu else "CPUs"}: use "sdpa" or "auto"'
            )
        attention = ("varlen" if fast else "sdpa") if self.attention == "auto" else self.attention
        checkpointing = on_gpu if self.checkpointing is None else self.checkpointing
        return self.model_copy(update={"dtype": dtype, "attention": attention, "checkpointing": checkpointing})

    @property
    def settled_dtype(self) -> Literal["float32", "bfloat16"]:
        """The dtype of a run whose device is known."""
        if self.dtype == "auto":
            raise RuntimeError('model.dtype = "auto" was not settled: call on_device first')
        return self.dtype


class AdapterSettings(Section):
    """A low-rank adapter (LoRA, arXiv 2106.09685) that is trained in place of the weights. Off with rank 0."""

    rank: Annotated[int, Field(ge=0, le=1024)] = 0  # of the matrix that is added to a layer's own
    alpha: Annotated[float, Field(gt=0)] = 32.0  # alpha / rank multiplies what is added
    targets: str | tuple[str, ...] = "linear"  # names of layers, such as "q_proj", or "linear": all but the head

    @field_validator("targets")
    @classmethod
    def _are_names(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if value != "linear" and (isinstance(value, str) or not value or not all(value)):
            raise ValueError(
                f'must be "linear" or a list of names of layers, such as ["q_proj", "v_proj"], got {value!r}'
            )
        return value


class LearnerSettings(Section):
    """The algorithm and its optimizer."""

    algorithm: str = "reinforce-rej"  # a key of learner.methods.algorithms.ALGORITHMS, or of ALGORITHMS in `file`
    file: PathText = ""  # a Python file with algorithms of your own
    updates_per_step: Annotated[int, Field(ge=1)] = 1  # optimizer updates that share one batch of groups
    lr: Annotated[float, Field(gt=0)] = 1e-6  # learning rate of AdamW
    lr_end: Annotated[float, Field(ge=0, le=1)] = 1.0  # share of lr at the last update, approached linearly
    lr_warmup: Annotated[int, Field(ge=0)] = 10  # updates over which lr rises from zero, as the optimizer is new
    weight_decay: Annotated[float, Field(ge=0)] = 0.01  # of AdamW, on all weights
    grad_clip: Annotated[float, Field(gt=0)] = 1.0  # largest norm of the whole gradient
    micro_batch_tokens: Annotated[int, Field(ge=1)] = 8192  # tokens of one forward and backward pass on a rank
    logit_chunk: Annotated[int, Field(ge=1)] = 1024  # tokens whose logits exist at the same time
    # What DeepSpeed shards over the ranks: 1 optimizer states, 2 gradients too, 3 weights too. 0 is 1 in bfloat16.
    zero_stage: Literal[0, 1, 2, 3] = 2
    # What lies in the memory of the CPU between uses: "optimizer" its states and the float32 weights beside bfloat16
    # ones, "weights" the weights too, with zero_stage = 3. It saves memory of the GPU and makes an update slower.
    offload: Literal["", "optimizer", "weights"] = ""
    # Whether the metric kl_start is measured, for which the starting policy stays in memory; unset: where that costs no
    # memory of a GPU: on the CPU, with an adapter, and where the algorithm keeps that policy anyway.
    drift: bool | None = None
    side_lr: Annotated[float, Field(gt=0)] = 1e-5  # of the critic or the process-reward model, where there is one
    tuned_path: PathText = ""  # folder of the tuned policy that "rto" takes its token rewards from
    # The policy that "distill" learns from, of any size and the same vocabulary: a folder, or an endpoint that serves
    # it (http://host:8000/v1, with #NAME behind it where there are several models).
    teacher_path: PathText = ""
    reference_every: Annotated[int, Field(ge=0)] = 0  # steps after which the policy becomes its reference; 0 is never
    adapter: AdapterSettings = AdapterSettings()

    def on_device(self, on_gpu: bool) -> Self:
        """The settings with `drift` settled."""
        drift = self.drift if self.drift is not None else not on_gpu or self.adapter.rank > 0
        return self.model_copy(update={"drift": drift})

    @property
    def teacher_folder(self) -> str:
        """`teacher_path` where it names a folder, or the address of one, which the learner loads; else ""."""
        return "" if is_endpoint(self.teacher_path) else self.teacher_path

    def stage_with(self, dtype: str) -> int:
        """The ZeRO stage that trains weights of this dtype. DeepSpeed's optimizer of stage 0 takes a step without
        gradients when it is made, in bfloat16, so that the first true one has the bias correction of a second one."""
        return max(1, self.zero_stage) if dtype == "bfloat16" else self.zero_stage

    @model_validator(mode="after")
    def _is_an_algorithm(self) -> Self:
        try:
            known = known_algorithms(self.file)
        except ValueError as problem:
            raise ValueError(f"learner.file: {problem}") from None
        if self.algorithm not in known:
            raise ValueError(f"learner.algorithm must be one of {', '.join(known)}, got {self.algorithm!r}")
        return self

    @model_validator(mode="after")
    def _shards_what_it_offloads(self) -> Self:
        lowest = {"": 0, "optimizer": 1, "weights": 3}[self.offload]
        if self.zero_stage < lowest:
            raise ValueError(
                f"learner.offload = {self.offload!r} needs learner.zero_stage = {lowest} or higher, got "
                f"{self.zero_stage}: DeepSpeed moves what it shards"
            )
        return self


class ObjectiveSettings(Section):
    """Pieces of the algorithm that the run replaces; what is not set stays as the table of algorithms has it. The
    meaning of each stands at the field of the same name of `learner.methods.algorithms.Algorithm`."""

    credit: str = ""  # a key of learner.methods.credit.CREDITS
    loss: str = ""  # a key of learner.methods.losses.LOSSES
    aggregate: str = ""  # a word of learner.methods.choices.Aggregation
    ratio: Literal["", "token", "sequence", "turn", "product"] = ""
    clip_low: Annotated[float | None, Field(gt=0, le=1)] = None
    clip_high: Annotated[float | None, Field(gt=0)] = None
    clip_dual: Annotated[float | None, Field(ge=0)] = None
    anchor: Literal["", "step", "sampler"] = ""
    mismatch: str = ""  # a word of learner.methods.choices.Mismatch
    mismatch_cap: Annotated[float | None, Field(ge=1)] = None
    kl_estimator: Literal["", "k1", "k2", "k3"] = ""
    kl_reward: Annotated[float | None, Field(ge=0)] = None
    kl_loss: Annotated[float | None, Field(ge=0)] = None
    entropy: Annotated[float | None, Field(ge=0)] = None
    imitation: Annotated[float | None, Field(ge=0, lt=1)] = None
    passes: Annotated[int | None, Field(ge=1)] = None
    thresholds: tuple[float, ...] = ()
    std_ddof: Literal[0, 1, None] = None
    advantage_normalisation: Literal["", "none", "whiten", "standardise"] = ""
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
    "aggregate": tuple(Aggregation),
    "mismatch": tuple(Mismatch),
}


def chosen_algorithm(learner: LearnerSettings, objective: ObjectiveSettings, drop: str = "") -> Algorithm:
    """The algorithm of a run: its entry in the table with the pieces that the run replaces.

    Raises:
        ValueError: the pieces do not go together; the message says which and why.
    """
    name, table = learner.algorithm, known_algorithms(learner.file)
    algorithm = algorithm_of(name, objective.model_dump(), drop, table)
    _check_kl(algorithm, name)
    _check_pairs(algorithm, name)
    _check_credit(algorithm, name, objective)
    if algorithm.echo and Need.NUCLEUS in algorithm.needs:
        raise ValueError(
            f"learner.algorithm = {name!r} restricts the policy to a nucleus, which holds no probability of what "
            "others say: set its echo to 0"
        )
    if 0 < algorithm.clip_dual <= 1:
        raise ValueError(f"objective.clip_dual must be 0 (off) or above 1, got {algorithm.clip_dual:g}")
    if SideModelKind.CRITIC in algorithm.side_models:
        return algorithm
    return replace(algorithm, siblings=max(algorithm.siblings, algorithm.credit.siblings))


def _check_kl(algorithm: Algorithm, name: str) -> None:
    if algorithm.kl_reward and algorithm.kl_loss:
        raise ValueError(
            f"objective.kl_reward = {algorithm.kl_reward:g} and objective.kl_loss = {algorithm.kl_loss:g} would charge "
            "the KL twice: set one of them to 0"
        )
    normalisation = algorithm.advantage_normalisation
    if algorithm.counts == "credited" and (algorithm.kl_reward or normalisation is not Normalisation.NONE):
        raise ValueError(
            f"objective.kl_reward = {algorithm.kl_reward:g} and objective.advantage_normalisation = "
            f"{str(normalisation)!r} have no place in learner.algorithm = {name!r}, which chooses responses by their "
            'scores alone: use objective.kl_loss, and objective.advantage_normalisation = "none"'
        )
    if algorithm.kl_loss and algorithm.kl is KlEstimator.K1:
        raise ValueError(
            'objective.kl_estimator = "k1" has no gradient in expectation as a loss: use "k2" or "k3", or '
            "objective.kl_reward"
        )


def _check_pairs(algorithm: Algorithm, name: str) -> None:
    pairs, aggregate, mismatch = algorithm.credit.pairs, algorithm.aggregate, algorithm.mismatch
    if pairs and (aggregate is not Aggregation.SEQ_MEAN_TOKEN_SUM or mismatch is not Mismatch.NONE):
        raise ValueError(
            f"learner.algorithm = {name!r} is a mean over pairs: leave objective.aggregate and objective.mismatch as "
            f"they are, got {str(aggregate)!r} and {str(mismatch)!r}"
        )
    if algorithm.loss.needs_pairs != pairs or (pairs and algorithm.overlong):
        raise ValueError(
            f'objective.loss = "preferred" and objective.credit = "paired" go together and without objective.overlong '
            f"(learner.algorithm = {name!r}): pairs are of a correct and a wrong response"
        )


def _check_credit(algorithm: Algorithm, name: str, objective: ObjectiveSettings) -> None:
    has_threshold = algorithm.credit.threshold is not None
    if objective.credit and (
        (algorithm.thresholds and not has_threshold) or any(kind.makes_credit for kind in algorithm.side_models)
    ):
        raise ValueError(
            f"objective.credit = {objective.credit!r} would have no effect in learner.algorithm = {name!r}, whose "
            "advantages come from thresholds, a critic or process rewards"
        )
    if algorithm.credit.nothing is not None and algorithm.baseline is not Baseline.NONE:
        raise ValueError(
            f"objective.credit = {algorithm.credit.name!r} counts scores from that of a wrong response on, and "
            f"learner.algorithm = {name!r} takes a baseline off them first: use another credit, or another algorithm"
        )
    if objective.thresholds and not has_threshold:
        raise ValueError('objective.thresholds belong to objective.credit = "above", as in learner.algorithm = "rest"')
    if algorithm.thresholds and len(algorithm.thresholds) != algorithm.passes:
        raise ValueError(
            f"objective.thresholds must hold one threshold for each of the {algorithm.passes} passes, got "
            f"{len(algorithm.thresholds)}: set objective.passes too"
        )


class WarmupSettings(Section):
    """Supervised fine-tuning on worked answers, before any reinforcement learning. Off with 0 updates."""

    updates: Annotated[int, Field(ge=0)] = 0  # of the optimizer; 0 is no warm-up
    path: PathText = ""  # .jsonl or .parquet; with a built-in world this is the world's own file
    # Text or chat messages, or several columns, as data.prompt_column takes them.
    prompt_column: Annotated[str | tuple[str, ...], Field(min_length=1)] = "prompt"
    response_column: str = "response"  # the worked answer
    batch: Annotated[int, Field(ge=1)] = 64  # worked answers in an update
    lr: Annotated[float, Field(gt=0)] = 1e-5  # learning rate of AdamW in the warm-up
    lr_end: Annotated[float, Field(ge=0, le=1)] = 0.1  # share of lr at the last update
