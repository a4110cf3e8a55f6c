"""Whether learner and engines fit into memory, found out before anything starts, so that a critic too many is a
sentence and not a killed process."""

import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.preparing.budget import (
    GIB,
    Budget,
    Device,
    EngineBudget,
    Term,
    engine_budget,
    host_terms,
    in_words,
    learner_budget,
)
from cluster.preparing.host import host_memory
from learner.methods.choices import SideModelKind

if TYPE_CHECKING:
    from learner.models.sizes import ModelSizes, Training

GPU = "a GPU"  # the place of a learner rank's memory
HERE = "this machine"
STORE_SHARE, STORE_MOST = 0.3, 200 * 10**9  # of a node's free memory, and bytes, that Ray keeps for its object store


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The memory of the CPU on the node with GPUs that most learner ranks are on."""

    size: int = 0  # bytes that processes may use there: what is free without Ray's object store; 0 is unknown
    ranks: int = 0  # that are on it at least; 0 is all


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a learner rank or an engine may use."""

    where: str
    size: int  # bytes; 0 is unknown
    host: Host = Host()  # beside GPUs; without, `size` is of the memory of the CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """The memory of a run."""

    memory: Memory
    learner: Budget  # of one rank
    host: tuple[Term, ...] = ()  # of all learner ranks of a node in the memory of the CPU; none without GPUs
    engine: EngineBudget | None  # of one GPU of an engine; None on the CPU, and where nothing is sampled
    sizes: "ModelSizes | None" = None  # of the policy
    tokens: int = 0  # of the longest prompt and response together
    masks_because: str = ""  # why the model cannot have varlen attention, where the device has it


def this_machine_memory(device: str) -> Memory:
    """Memory of the smallest GPU, or on the CPU the machine's that is free now.

    Args:
        device: cluster.device.
    """
    if device != "cpu" and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        try:
            said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False).stdout
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        sizes = [int(line) for line in said.split() if line.isdigit()]
        if sizes:
            return Memory(where=GPU, size=min(sizes) * 2**20, host=Host(size=beside_the_store(host_memory().free)))
    return Memory(where=HERE, size=host_memory().free)


def beside_the_store(free: int) -> int:
    """Bytes of a machine's free memory that Ray leaves to processes when it starts there."""
    return free - min(int(STORE_SHARE * free), STORE_MOST)


def memory_plan(config: RunConfig, memory: Memory, sequence_tokens: int) -> MemoryPlan | None:
    """The memory of a run; None where nothing can be made of the model's config.json.

    Args:
        config: the run.
        memory: that a rank and an engine may use.
        sequence_tokens: of the longest prompt and response together.
    """
    on_gpu = memory.where == GPU
    config = config.on_device(on_gpu)
    sizes = _sizes_of_run(config, config.model.path, sequence_tokens)
    if sizes is None:
        return None
    masks = sizes.varlen_problem if config.model.attention == "varlen" else ""
    if masks:
        config = config.model_copy(update={"model": config.model.model_copy(update={"attention": "sdpa"})})
    device = Device(on_gpu=on_gpu, size=memory.size, sequence_tokens=sequence_tokens)
    path = config.learner.teacher_folder if SideModelKind.TEACHER in config.algorithm.side_models else ""
    teacher = _sizes_of_run(config, path, sequence_tokens) if path else None
    budget = learner_budget(config, sizes, device, teacher.parameters if teacher is not None else 0)
    ranks = memory.host.ranks or config.cluster.learner_ranks
    return MemoryPlan(
        memory=memory,
        learner=budget,
        host=host_terms(config, sizes, budget, ranks) if on_gpu else (),
        engine=engine_budget(config, sizes, device) if on_gpu and config.samples else None,
        sizes=sizes,
        tokens=sequence_tokens,
        masks_because=masks,
    )


def _sizes_of_run(config: RunConfig, path: str, sequence_tokens: int) -> "ModelSizes | None":
    """Of the model in a folder, trained as the run trains its policy."""
    from learner.models.sizes import Training

    learner = config.learner
    training = Training(
        dtype=config.model.settled_dtype,
        checkpointing=bool(config.model.checkpointing),
        tokens=max(learner.micro_batch_tokens, sequence_tokens),
        logit_chunk=learner.logit_chunk,
        entropy_gradient=bool(config.algorithm.entropy),
        adapter=learner.adapter,
    )
    file = Path(path, "config.json")
    return _sizes(path, file.read_bytes() if file.is_file() else b"", training)


@lru_cache
def _sizes(path: str, config: bytes, training: "Training") -> "ModelSizes | None":
    """Found once for a config.json and a way to train: plans that differ in actors alone are many, and each would take
    seconds."""
    from transformers import AutoConfig

    from learner.models.sizes import sizes_of

    try:
        read = AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        return sizes_of(read, training)
    except Exception:  # whatever transformers says of it is told where the model is checked
        return None


def checked_memory(config: RunConfig, memory: Memory, sequence_tokens: int) -> MemoryPlan | None:
    """As `memory_plan`.

    Raises:
        ConfigError: it is known that learner or engines cannot fit.
    """
    plan = memory_plan(config, memory, sequence_tokens)
    if plan is not None:
        check_memory(config, plan)
    return plan


def check_memory(config: RunConfig, plan: MemoryPlan) -> None:
    """Raises ConfigError where learner or engines cannot fit; says nothing where it cannot know."""
    _check_host(plan)
    memory, learner = plan.memory, plan.learner
    if not memory.size:
        return
    ranks = config.cluster.learner_ranks if memory.where == HERE else 1
    wanted = learner.most * ranks
    if wanted > memory.size:
        largest = learner.largest
        raise ConfigError(
            f"a learner rank needs about {learner.most / GIB:.1f} GiB ({learner.worst})"
            + (f", {ranks} of them {wanted / GIB:.1f} GiB" if ranks > 1 else "")
            + f", and {memory.where} has {memory.size / GIB:.1f} GiB. Most of it is {_named(largest.name)} with "
            f"{largest.size / GIB:.1f} GiB: {largest.about}. "
            + (f"What makes it smaller: {largest.change}. " if largest.change else "")
            + "winnow train RUN.toml --plan shows all terms where it fits; --on 8x192 shows them for larger GPUs"
        )
    engine = plan.engine
    if engine is not None and engine.room < 1.0:
        raise ConfigError(
            f"an engine may have {engine.limit / GIB:.1f} GiB of a GPU (generator.memory_share = "
            f"{config.on_device(True).generator.memory_share:g} of {memory.size / GIB:.1f} GiB). It needs about "
            f"{engine.fixed / GIB:.1f} GiB, and {engine.sequence / GIB:.2f} GiB of keys and values for one response of "
            "full length: raise generator.memory_share or cluster.tensor_parallel, or lower rollout.max_new_tokens"
        )


def _check_host(plan: MemoryPlan) -> None:
    size, wanted = plan.memory.host.size, sum(term.size for term in plan.host)
    if size and wanted > size:
        raise ConfigError(
            f"the learner needs about {wanted / GIB:.1f} GiB of the CPU's memory on a node, and processes have "
            f"{size / GIB:.1f} GiB of it there beside Ray's object store: "
            + "; ".join(f"{term.name} {term.size / GIB:.1f} GiB ({term.about})" for term in plan.host)
            + ". What makes it smaller: "
            + ("; ".join(term.change for term in plan.host if term.change) or "nothing but a node with more memory")
        )


def _named(name: str) -> str:
    return f"the term {name!r}"


def memory_lines(plan: MemoryPlan | None, config: RunConfig) -> list[str]:
    """The memory of a run in words.

    Args:
        plan: None is unknown.
        config: the run, settled.
    """
    if plan is None:
        return ["memory: unknown, as no model can be made of config.json without its weights"]
    memory, learner = plan.memory, plan.learner
    has = f"{memory.size / GIB:.1f} GiB" if memory.size else "memory of unknown size"
    lines = [f"memory of a learner rank, GiB ({memory.where} has {has}):", *in_words(learner.terms)]
    lines.append(f"  {'at most':<20} {learner.most / GIB:6.2f}  {learner.worst}" + _spare(memory.size, learner.most))
    lines += [f"  not counted: {what}" for what in learner.unknown]
    if plan.masks_because:
        lines.append(f"  attention is by masks (sdpa), as varlen attention is not for this model: {plan.masks_because}")
    if plan.host:
        lines += _host_lines(plan)
    return lines + ([] if plan.engine is None else _engine_lines(plan.engine, config))


def _host_lines(plan: MemoryPlan) -> list[str]:
    size = plan.memory.host.size
    has = f"processes have {size / GIB:.1f} GiB there" if size else "how much it has is not known"
    return [f"memory of the CPU on the node of rank 0, GiB ({has}):", *in_words(plan.host)]


def _spare(size: int, most: int) -> str:
    return f"; {(size - most) / GIB:.1f} GiB to spare" if size else ""


def _engine_lines(engine: EngineBudget, config: RunConfig) -> list[str]:
    share = config.generator.memory_share or 0.0
    limit = f"{share:g} of a GPU" + (f" = {engine.limit / GIB:.1f} GiB" if engine.limit else "")
    lines = [f"memory of an engine on each of its GPUs, GiB (it may have {limit}):", *in_words(engine.terms)]
    each = f"{engine.sequence / GIB:6.2f}  for one response of full length with its prompt"
    lines.append(f"  {'keys and values':<20} {each}")
    if engine.limit:
        left = f"{(engine.limit - engine.fixed) / GIB:6.2f}  {engine.room:.0f} of them at a time"
        most = f" (generator.max_sequences = {engine.sequences})"
        lines.append(f"  {'left for them':<20} {left}" + most)
    return lines
