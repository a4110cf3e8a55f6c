"""Whether the learner's models fit into memory: an estimate before anything starts, so that a critic too many is a
sentence and not a killed process."""

import json
import math
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig

GIB = 2**30
GPU = "a GPU"  # the place of a learner rank's memory
MOMENTS = 8  # bytes a parameter of AdamW's two moments
ACTIVATIONS = 1.2  # room for activations and buffers, as a factor; rough, and on the low side on purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a learner rank may use on this machine."""

    where: str
    size: int  # bytes; 0 is unknown


def this_machine_memory(device: str) -> Memory:
    """Memory of the smallest GPU, or on the CPU the machine's that is free now.

    Args:
        device: cluster.device.
    """
    if device != "cpu" and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
        listed = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
        sizes = [int(line) for line in listed.stdout.split() if line.isdigit()]
        if sizes:
            return Memory(where=GPU, size=min(sizes) * 2**20)
    found = Path("/proc/meminfo")
    lines = dict(line.split(":") for line in found.read_text().splitlines()) if found.is_file() else {}
    return Memory(where="this machine", size=int(lines.get("MemAvailable", "0 kB").split()[0]) * 1024)


def learner_bytes(config: RunConfig, model_bytes: int) -> int:
    """Estimate of what one learner rank holds: trained models with optimizer, and frozen ones.

    Args:
        config: the run, its dtype settled.
        model_bytes: size of the policy's weights in the run's dtype.
    """
    learner, ranks, side = config.learner, config.cluster.learner_ranks, config.algorithm.models
    width = 4 if config.model.dtype == "float32" else 2
    parameters = model_bytes / width
    weights, gradients, states = (1 / (ranks if learner.zero_stage >= stage else 1) for stage in (3, 2, 1))
    optimizer = MOMENTS if width == 4 else MOMENTS + 4  # bfloat16 keeps float32 weights beside
    trained = parameters * (width * (weights + gradients) + optimizer * states)
    frozen = parameters * width * weights
    models = 1 + sum(kind.trained for kind in side)
    copies = 1 + sum(not kind.trained and (kind.copied or learner.reference_every > 0) for kind in side)
    return int((models * trained + copies * frozen) * ACTIVATIONS)


def check_memory(config: RunConfig, memory: Memory) -> None:
    """Raises ConfigError where the learner's models cannot fit; says nothing where it cannot know."""
    config = config.on_device(memory.where == GPU)
    size = parameters_of(Path(config.model.path)) * (4 if config.model.dtype == "float32" else 2)
    local = not (config.cluster.address or os.environ.get("RAY_ADDRESS"))
    ranks_here = config.cluster.learner_ranks if memory.where == "this machine" else 1
    wanted = learner_bytes(config, size) * ranks_here
    if not local or not memory.size or wanted <= memory.size:
        return
    models = ["policy", *sorted(kind for kind in config.algorithm.models if kind.copied), "starting policy"]
    raise ConfigError(
        f"learner.algorithm = {config.learner.algorithm!r} needs about {wanted / GIB:.1f} GiB for its models "
        f"({', '.join(models)}), and {memory.where} has {memory.size / GIB:.1f} GiB: raise cluster.learner_ranks with "
        f"learner.zero_stage = 3 (now {config.cluster.learner_ranks} ranks, stage {config.learner.zero_stage})"
        + (", or choose an algorithm with fewer models" if len(models) > 2 else "")
    )


def parameters_of(folder: Path) -> int:
    """Parameters in the weights of a Hugging Face folder, read from the headers of its model*.safetensors files."""
    count = 0
    for file in folder.glob("model*.safetensors"):
        with file.open("rb") as weights:
            header = json.loads(weights.read(int.from_bytes(weights.read(8), "little")))
        count += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return count
