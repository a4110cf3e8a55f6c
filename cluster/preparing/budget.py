"""The memory of a run, term by term, before anything starts: what a learner rank and a GPU of an engine hold, when
they hold it, and what makes each term smaller. Sizes of models and of their passes come from `learner.models.sizes`;
what DeepSpeed holds for each ZeRO stage is as its sources have it, and `tests/learner/test_memory.py` compares the sum
with what PyTorch allocates on the CPU. CONTEXT, ENGINE_BESIDES and the pass of an engine are guesses: only a GPU tells.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cluster.config.run_config import RunConfig
from cluster.reporting.words import counted
from learner.methods.choices import SideModelKind
from learner.settings import REDUCE_BUCKET, SHARD_BYTES

if TYPE_CHECKING:
    from learner.models.sizes import ModelSizes

GIB = 2**30
CONTEXT = 2 * GIB  # of a process on a GPU: CUDA, NCCL, libraries, and what the allocator cannot use
ENGINE_BESIDES = 3 * GIB  # of an engine on each GPU: the same, and captured graphs
LIVE = 1_000_000_000  # parameters that ZeRO 3 keeps gathered, and updates at once: DeepSpeed's defaults
MOMENTS, FULL = 8, 4  # bytes of AdamW's two moments, and of a number in float32


class During(StrEnum):
    """When memory is held."""

    ALWAYS = "always"
    PASSES = "forward and backward pass"
    STEP = "optimizer step"
    SYNC = "sync of weights"
    SAMPLING = "sampling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One thing that takes memory."""

    name: str
    size: int  # bytes
    during: During
    about: str  # what it is made of
    change: str = ""  # settings that make it smaller; "" where none do


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The memory of one process, and of the others that share its device."""

    terms: tuple[Term, ...]
    host: int = 0  # bytes of the memory of the CPU that one rank holds in place of its device's
    unknown: tuple[str, ...] = ()  # what could not be counted

    def held(self, during: During) -> int:
        """Bytes that are held at this time."""
        return sum(term.size for term in self.terms if term.during in (During.ALWAYS, during))

    @property
    def worst(self) -> During:
        """When most is held."""
        return max((During.PASSES, During.STEP, During.SYNC, During.SAMPLING), key=self.held)

    @property
    def most(self) -> int:
        """Bytes that are held at the worst time."""
        return self.held(self.worst)

    @property
    def largest(self) -> Term:
        """The largest term of the worst time that a setting can make smaller; of them all where none can."""
        there = [term for term in self.terms if term.during in (During.ALWAYS, self.worst)]
        return max([term for term in there if term.change] or there, key=lambda term: term.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Where a learner rank or an engine computes."""

    on_gpu: bool
    size: int  # bytes of its memory; 0 is unknown
    sequence_tokens: int  # of the longest prompt and response together


def learner_budget(config: RunConfig, sizes: "ModelSizes", device: Device, teacher: int = 0) -> Budget:
    """What one learner rank holds on its device.

    Args:
        config: the run, settled.
        sizes: of the policy.
        device: of the rank.
        teacher: parameters of the teacher, where there is one.
    """
    sharding = _Sharding(config, sizes, device.on_gpu)
    terms = [*sharding.trained_terms(), *sharding.frozen_terms(teacher), *_pass_terms(config, sizes, device)]
    terms += _sync_terms(config, sizes, device)
    if device.on_gpu:
        about = "CUDA, NCCL, libraries, fragments: not measured yet"
        terms.append(Term(name="context", size=CONTEXT, during=During.ALWAYS, about=about))
    if device.on_gpu and config.cluster.colocate and config.samples:
        terms += _neighbour_terms(config, sizes, device)
    unknown = () if sizes.passes else ("activations and logits: this architecture runs only with real numbers",)
    return Budget(terms=tuple(term for term in terms if term.size), host=sharding.host, unknown=unknown)


class _Sharding:
    """What models, gradients and optimizer take on one rank."""

    def __init__(self, config: RunConfig, sizes: "ModelSizes", on_gpu: bool) -> None:
        learner = config.learner
        self._config, self._sizes, self._on_gpu = config, sizes, on_gpu
        self._ranks = config.cluster.learner_ranks
        self._width = width_of(config)
        half = self._width < FULL
        self._stage = learner.stage_with(config.model.settled_dtype)
        self._half, self._moves = half, bool(learner.offload) and on_gpu  # offload means nothing on the CPU
        self._engines = 1 + sum(kind.trained for kind in config.algorithm.models)

    def _shard(self, elements: int, from_stage: int) -> int:
        return -(-elements // self._ranks) if self._stage >= from_stage else elements

    @property
    def host(self) -> int:
        """Bytes that lie in the memory of the CPU instead: optimizer, gradients and, where they go too, weights."""
        if not self._moves:
            return 0
        share, locked, plain = self._shard(self._sizes.trained, 1), [], []
        if self._stage == 3:  # gradients are added up in one buffer, and are handed to the optimizer in another
            locked.append(FULL * share)
            plain += [FULL * share, FULL * share]
        else:  # weights and gradients of the optimizer; the new weights in their own width, on their way back
            locked += [FULL * share, FULL * share, self._width * share]
            plain += [self._width * share] * (self._stage == 2)  # gradients of micro-batches are added up in a second
        if self._config.learner.offload == "weights":
            plain.append(self._width * self._shard(self._sizes.parameters, 3))
        return self._engines * (MOMENTS * share + sum(plain) + sum(page_locked(size) for size in locked))

    def trained_terms(self) -> Iterable[Term]:
        """Of the policy and of each side model that is trained."""
        width, whole, trained = self._width, self._sizes.parameters, self._sizes.trained
        models = "" if self._engines == 1 else f", of {self._engines} models"
        if trained < whole:
            whole += trained
        away = self._moves and self._config.learner.offload == "weights"
        over = self._over(3)
        more = "more cluster.learner_ranks with learner.zero_stage = 3, or learner.offload"
        yield Term(
            name="weights",
            size=0 if away else self._engines * width * self._shard(whole, 3),
            during=During.ALWAYS,
            about=f"{width} bytes for each of {_count(whole)} parameters{over}{models}",
            change=f'{more} = "weights"',
        )
        each, sharded = (FULL, 2)  # bfloat16 gradients are added up in float32
        yield Term(
            name="gradients",
            size=0 if self._moves and self._stage > 1 else self._engines * each * self._shard(trained, sharded),
            during=During.ALWAYS,
            about=f"{each} bytes for each of {_count(trained)} parameters that are trained"
            f"{self._over(sharded)}{models}",
            change="learner.zero_stage = 2 with more cluster.learner_ranks, learner.offload, or a learner.adapter",
        )
        copies = self._half or self._stage in (1, 2)  # of the weights, in float32
        states = MOMENTS + FULL * copies
        yield Term(
            name="optimizer",
            size=0 if self._moves else self._engines * states * self._shard(trained, 1),
            during=During.ALWAYS,
            about=f"AdamW's moments{' and float32 weights' * copies}: {states} bytes for each{self._over(1)}{models}",
            change='more cluster.learner_ranks, learner.offload = "optimizer", or a learner.adapter',
        )
        yield from self._working_terms(trained, whole)

    def _working_terms(self, trained: int, whole: int) -> Iterable[Term]:
        stage, width = self._stage, self._width
        if stage and not self._moves:
            part = self._shard(trained, 1)
            part = min(part, LIVE) if stage == 3 else part
            about = "the gradients of the rank's share in one piece"
            yield Term(name="step temporaries", size=FULL * part, during=During.STEP, about=about)
        if stage:
            elements = REDUCE_BUCKET if self._on_gpu else min(REDUCE_BUCKET, trained)
            count = 2 if stage == 2 else 1
            each = width if stage > 1 else FULL
            about = f"{count} of {_count(elements)} gradients that are exchanged at once"
            size = self._engines * count * each * elements
            during = During.ALWAYS if stage > 1 else During.STEP
            yield Term(name="buckets", size=size, during=during, about=about)
        if stage and self._half:
            elements = max(min(self._sizes.largest, trained), elements if stage > 1 else 0)
            about = "the largest matrix or bucket in float32, while it is added up"
            yield Term(name="gradient on its way", size=FULL * elements, during=During.PASSES, about=about)
        if stage == 3:
            about = "layers that are whole on every rank while they compute"
            yield Term(name="gathered", size=width * min(LIVE, whole), during=During.PASSES, about=about)

    def _over(self, from_stage: int) -> str:
        if self._ranks == 1:
            return ""
        return f", over {counted(self._ranks, 'rank')}" if self._stage >= from_stage else ", on every rank"

    def frozen_terms(self, teacher: int) -> Iterable[Term]:
        """Of the models that are only asked, the parameters of a teacher among them."""
        learner, models = self._config.learner, self._config.algorithm.models
        own = bool(SideModelKind.REFERENCE in models and learner.reference_every)
        start = bool(learner.drift) or (SideModelKind.REFERENCE in models and not own)
        names = ["starting policy"] * (start and not learner.adapter.rank) + ["reference"] * own
        names += ["tuned policy"] * (SideModelKind.TUNED in models)
        size = len(names) * self._width * self._shard(self._sizes.parameters, 3)
        about = f"{', '.join(names)}: {self._width} bytes a parameter{self._over(3)}"
        change = "learner.zero_stage = 3 with more cluster.learner_ranks, an algorithm without them"
        change += ", learner.drift = false" * bool(learner.drift)
        yield Term(name="frozen models", size=size, during=During.ALWAYS, about=about, change=change)
        yield Term(
            name="teacher",
            size=self._width * self._shard(teacher, 3),
            during=During.ALWAYS,
            about=f"{self._width} bytes for each of {_count(teacher)} parameters{self._over(3)}",
            change="learner.zero_stage = 3 with more cluster.learner_ranks, a smaller learner.teacher_path",
        )


def _pass_terms(config: RunConfig, sizes: "ModelSizes", device: Device) -> Iterable[Term]:
    learner, model = config.learner, config.model
    tokens = max(learner.micro_batch_tokens, device.sequence_tokens)
    smaller = "a smaller learner.micro_batch_tokens"
    if sizes.passes is not None:
        smallest = tokens > learner.micro_batch_tokens
        yield Term(
            name="activations",
            size=sizes.passes.kept,
            during=During.PASSES,
            about=f"kept for the backward pass, of {tokens} tokens" + " (the longest sequence)" * smallest,
            change=smaller if model.checkpointing else "model.checkpointing = true",
        )
        yield Term(
            name="layer or logits",
            size=sizes.passes.above,
            during=During.PASSES,
            about=f"at once: one layer, or logits of {min(learner.logit_chunk, tokens)} tokens x {sizes.vocabulary} "
            "words; a gradient",
            change=f"a smaller learner.logit_chunk, or {smaller}",
        )
    if model.attention == "sdpa":
        layers = 1 if model.checkpointing else sizes.layers
        row = min(tokens, max(device.sequence_tokens, 1))
        width = width_of(config)
        repeated = 2 * (sizes.heads - sizes.key_value_heads) * sizes.head_dim * width * tokens
        yield Term(
            name="attention masks",
            size=tokens * row * (1 + width * layers) + layers * repeated,
            during=During.PASSES,
            about=f"rows of up to {row} tokens; keys and values repeated for each head",
            change=f'model.attention = "varlen" (bfloat16 on GPUs), or {smaller}',
        )


def _sync_terms(config: RunConfig, sizes: "ModelSizes", device: Device) -> Iterable[Term]:
    width = width_of(config)
    piece = min(config.sync.bucket_mib * 2**20 + width * sizes.largest, width * sizes.parameters)
    pieces = (2 if device.on_gpu else 1) + (config.learner.zero_stage == 3)
    bucket = f"{counted(pieces, 'piece')} of sync.bucket_mib = {config.sync.bucket_mib}"
    about = f"{bucket} and the largest matrix, on rank 0"
    change = "a smaller sync.bucket_mib"
    if config.samples:
        yield Term(name="weights that travel", size=pieces * piece, during=During.SYNC, about=about, change=change)


def _neighbour_terms(config: RunConfig, sizes: "ModelSizes", device: Device) -> Iterable[Term]:
    """Of the engine on the same GPU: it gives its keys and values back while the learner trains."""
    held = width_of(config) * sizes.parameters + ENGINE_BESIDES
    about = "its weights, and what it needs besides, while it rests"
    yield Term(name="engine", size=held, during=During.ALWAYS, about=about)
    share = config.generator.memory_share or 0.0
    about = f"generator.memory_share = {share:g} of the GPU, less the above"
    size = max(0, int(share * device.size) - held)
    change = "a smaller generator.memory_share"
    yield Term(name="engine's cache", size=size, during=During.SAMPLING, about=about, change=change)


def page_locked(size: int) -> int:
    """Bytes that torch takes of the host for a page-locked buffer: the next power of two."""
    return 1 << (size - 1).bit_length() if size else 0


def host_terms(config: RunConfig, sizes: "ModelSizes", learner: Budget, ranks: int) -> tuple[Term, ...]:
    """What the learner holds in the memory of the CPU of a node with GPUs, the one of rank 0. What is not known for
    certain is left out: libraries, caches of files, engines.

    Args:
        config: the run, settled.
        sizes: of the policy.
        learner: of one rank.
        ranks: that are on the node.
    """
    written = sizes.trained if config.learner.adapter.rank else sizes.parameters
    shards = min(2 * SHARD_BYTES, 2 * width_of(config) * written)
    away = config.learner.offload
    terms = (
        Term(
            name="offloaded",
            size=ranks * learner.host,
            during=During.ALWAYS,
            about=f"{learner.host / GIB:.1f} GiB for each of {ranks} ranks: AdamW's moments, float32 weights, gradients"
            + ", weights" * (away == "weights")
            + "; torch rounds page-locked buffers up to powers of two",
            change="more cluster.learner_ranks on more nodes, learner.offload = "
            + ('"optimizer" or ""' if away == "weights" else '""')
            + ", or a learner.adapter",
        ),
        Term(
            name="checkpoint",
            size=shards,
            during=During.ALWAYS,
            about="a shard of weights that is gathered and one that is written, on rank 0",
        ),
    )
    return tuple(term for term in terms if term.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBudget:
    """What an engine needs on each of its GPUs, and what it may have."""

    terms: tuple[Term, ...]
    limit: int  # bytes that it may have; 0 is unknown
    sequence: int  # bytes of keys and values of one longest sequence
    sequences: int  # that may decode together

    @property
    def fixed(self) -> int:
        """Bytes that it needs before any response."""
        return sum(term.size for term in self.terms)

    @property
    def room(self) -> float:
        """How many sequences of the full length find room at the same time."""
        return max(0, self.limit - self.fixed) / max(1, self.sequence)


def engine_budget(config: RunConfig, sizes: "ModelSizes", device: Device) -> EngineBudget:
    """What one GPU of an engine holds; as `learner_budget`."""
    width, parallel, engine = width_of(config), config.cluster.tensor_parallel, config.generator
    batch, sequences = engine.batch_tokens or 0, engine.max_sequences or 0
    passing = width * batch * (2 * sizes.intermediate // parallel + 6 * sizes.heads * sizes.head_dim)
    sampling = 3 * FULL * sequences * sizes.vocabulary
    weights = width * sizes.parameters // parallel
    terms = (
        _always("weights", weights, f"{width} bytes a parameter" + f", over {parallel} GPUs" * (parallel > 1)),
        _always("a pass", passing + sampling, f"{batch} tokens; logits of {sequences} responses (estimate)"),
        _always("besides", ENGINE_BESIDES, "CUDA, NCCL, captured graphs, buffers: not measured yet"),
    )
    heads = max(1, sizes.key_value_heads // parallel)
    each = width * 2 * sizes.layers * heads * sizes.head_dim
    return EngineBudget(
        terms=terms,
        limit=int((engine.memory_share or 0.0) * device.size),
        sequence=each * device.sequence_tokens,
        sequences=sequences,
    )


def _always(name: str, size: int, about: str) -> Term:
    return Term(name=name, size=size, during=During.ALWAYS, about=about)


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.3g} billion" if parameters >= 10**9 else f"{parameters / 1e6:.3g} million"


def width_of(config: RunConfig) -> int:
    """Bytes of a number of the run's dtype."""
    return FULL if config.model.settled_dtype == "float32" else 2


def in_words(terms: Sequence[Term]) -> list[str]:
    """A line for each term, the name, GiB, and what it is made of."""
    return [
        f"  {term.name:<20} {term.size / GIB:6.2f}  {term.about}"
        + ("" if term.during is During.ALWAYS else f"; {term.during}")
        for term in terms
    ]
