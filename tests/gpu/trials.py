"""What is tried on GPUs, in the order that proves the most in the first ten minutes. A trial is a function of the
device, which gives figures and raises AssertionError; `tests/gpu/test_on_cpu.py` calls the same ones on the CPU."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Figures = Mapping[str, float | bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One thing that is tried."""

    name: str
    about: str
    body: str  # module below tests.gpu and function: "updates.measure"
    seconds: float  # that it may take before it is killed
    needs: tuple[str, ...] = ("torch", "transformers")  # packages
    gpus: int = 1
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def run(self, device: str = "cuda") -> Figures:
        """The figures.

        Raises:
            AssertionError: what is tried does not hold.
        """
        module, _, function = self.body.rpartition(".")
        found: Callable[..., Figures] = getattr(importlib.import_module(f"tests.gpu.{module}"), function)
        return found(device, **self.arguments)


VLLM = ("torch", "transformers", "vllm")
RUN = (*VLLM, "deepspeed", "ray")
COLOCATED = ("cluster.colocate=true",)

ONE_GPU = (
    Trial(
        name="attention",
        about="varlen attention over packed rows against masks and against each sequence alone, in bfloat16",
        body="several.attentions",
        seconds=60,
    ),
    Trial(
        name="trees",
        about="shared prompts by joined calls of varlen attention against separate sequences: digits, time, memory",
        body="trees.measure",
        seconds=120,
    ),
    Trial(name="products", about="a product in bfloat16 against float64", body="several.products", seconds=60),
    Trial(
        name="updates",
        about="gradients of 64 micro-batches and the step they make, ZeRO 0 to 3, against arithmetic by hand",
        body="updates.measure",
        seconds=300,
        needs=("torch", "transformers", "deepspeed"),
    ),
    Trial(
        name="steps",
        about="a step of AdamW over 2 GB of float32 weights, fused and foreach: difference, time, temporaries",
        body="steps.measure",
        seconds=60,
        needs=("torch",),
    ),
    Trial(
        name="heads",
        about="log-probabilities over 152,064 tokens against float64; memory and time by chunk",
        body="heads.measure",
        seconds=60,
    ),
    Trial(
        name="digests",
        about="the digest of 15 GB of weights, of copies in other shapes, and of other weights",
        body="digests.measure",
        seconds=60,
    ),
    Trial(
        name="passes",
        about="memory of forward and backward passes of 1.5B and 7B models against what is counted; their speed",
        body="passes.measure",
        seconds=240,
    ),
    Trial(
        name="checkpoints",
        about="a checkpoint of 3 GB: how long training is held up, memory of the host, the weights in the files",
        body="saves.measure",
        seconds=180,
        needs=("deepspeed", *VLLM),
    ),
    Trial(name="links", about="NCCL with one rank", body="several.links", seconds=100, needs=("torch",)),
    Trial(
        name="shared memory",
        about="CUDA IPC between two processes, both writing",
        body="several.shared",
        seconds=100,
        needs=("torch",),
    ),
    Trial(
        name="digits",
        about="products of Triton in float32, by itself and as actors have it",
        body="digits.measure",
        seconds=90,
        needs=("torch", "triton"),
    ),
    Trial(
        name="transfers",
        about="weights to another process by vLLM's engines of CUDA IPC, bit for bit; a receiver that dies",
        body="transfers.measure",
        seconds=180,
        needs=VLLM,
    ),
    Trial(
        name="streams",
        about="vLLM leaves the learner's rank on the stream on which DeepSpeed works",
        body="streams.measure",
        seconds=100,
        needs=VLLM,
    ),
    *(
        Trial(
            name=f"agreement in {dtype}",
            about="vLLM's engine and the learner's policy on the same text",
            body="several.agreement",
            seconds=150,
            needs=VLLM,
            arguments={"dtype": dtype},
        )
        for dtype in ("float32", "bfloat16")
    ),
    Trial(
        name="rests",
        about="an engine gives the memory of keys and values back, as the driver counts it, and goes on as before",
        body="rests.measure",
        seconds=150,
        needs=VLLM,
    ),
    *(
        Trial(
            name=f"run on one GPU in {dtype}",
            about="a short run of the demo's world, learner and engine on the same GPU",
            body="runs.measure",
            seconds=300,
            needs=RUN,
            arguments={"settings": (*COLOCATED, f"model.dtype={dtype}")},
        )
        for dtype in ("float32", "bfloat16")
    ),
)
MORE_GPUS = (
    Trial(
        name="links between GPUs",
        about="NCCL between two GPUs: exact sums, speed of a broadcast",
        body="several.links",
        seconds=100,
        needs=("torch",),
        gpus=2,
        arguments={"ranks": 2},
    ),
    Trial(
        name="updates over ranks",
        about="the same update by two ranks on two GPUs",
        body="updates.measure_over_ranks",
        seconds=300,
        needs=("torch", "transformers", "deepspeed"),
        gpus=2,
    ),
    Trial(
        name="tensor parallel",
        about="an engine over two GPUs beside the policy",
        body="several.agreement",
        seconds=200,
        needs=VLLM,
        gpus=2,
        arguments={"dtype": "bfloat16", "tensor_parallel": 2},
    ),
    Trial(
        name="sync at tensor parallel 2",
        about="weights over gloo to an engine on two GPUs, one of which is the learner's: every weight, and the probe",
        body="syncs.measure_tensor_parallel",
        seconds=200,
        needs=RUN,
        gpus=2,
    ),
    Trial(
        name="run over NCCL",
        about="a short run, learner and engine on a GPU each, weights over NCCL and proved",
        body="runs.measure",
        seconds=300,
        needs=RUN,
        gpus=2,
        arguments={"settings": ("model.dtype=bfloat16", "sync.backend=nccl")},
    ),
    Trial(
        name="sync over NCCL at tensor parallel 2",
        about="weights over NCCL to an engine on two GPUs, the learner on a third",
        body="syncs.measure_tensor_parallel",
        seconds=200,
        needs=RUN,
        gpus=3,
        arguments={"backend": "nccl"},
    ),
    Trial(
        name="sync in which an engine is killed",
        about="one of two engines is killed while weights travel over NCCL: the sync is repeated with the other",
        body="syncs.measure_killed",
        seconds=200,
        needs=RUN,
        gpus=3,
    ),
    Trial(
        name="run with ZeRO 3 over ranks",
        about="a short run of two ranks and a generator",
        body="runs.measure",
        seconds=300,
        needs=RUN,
        gpus=3,
        arguments={"settings": ("cluster.learner_ranks=2", "learner.zero_stage=3", "model.dtype=bfloat16")},
    ),
    Trial(
        name="run with an engine that stops",
        about="two generators, the engine of one stops before a sync: the run goes on with the other",
        body="runs.measure_stopped",
        seconds=300,
        needs=RUN,
        gpus=3,
    ),
)
TRIALS = {trial.name: trial for trial in (*ONE_GPU, *MORE_GPUS)}


def lacking(trial: Trial, gpus: int) -> str:
    """Why a trial cannot be run here; "" where it can.

    Args:
        trial: one of TRIALS.
        gpus: that torch sees.
    """
    if gpus < trial.gpus:
        wanted = f"{trial.gpus} GPUs" if trial.gpus > 1 else "a GPU"
        return f"needs {wanted}, and torch.cuda.device_count() is {gpus}"
    missing = [name for name in trial.needs if importlib.util.find_spec(name) is None]
    if missing:
        return f"needs {', '.join(missing)}, which is not installed"
    return ""
