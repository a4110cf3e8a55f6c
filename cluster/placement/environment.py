"""The environment variables of the actors of a run."""

from cluster.config.run_config import RunConfig
from learner.transfer import BACKENDS

# float32 means float32, not TF32, whatever the machine's image sets: NVIDIA's own images turn TF32 on. Triton, in which
# vLLM's attention for float32 is written, takes TF32 unless it is told otherwise.
FLOAT32 = {
    "NVIDIA_TF32_OVERRIDE": "0",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "0",
    "TRITON_F32_DEFAULT": "ieee",
    "VLLM_FLOAT32_MATMUL_PRECISION": "highest",
}
# A thread that waits for the others of its team spins for a short while only, then sleeps: where another process has
# taken their core, it would spin until that gives it back, which makes a step of two threads several times as long.
SHORT_SPINNING = {"GOMP_SPINCOUNT": "1000"}
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}  # for actors that Ray gives none: they would find those of others


def environment(config: RunConfig, backend: str, *, on_gpu: bool) -> dict[str, str]:
    """What all actors of a run have in their environment. `cluster.env` may say otherwise how threads wait.

    Args:
        config: the run, its dtype settled.
        backend: of weight transfer, a key of `learner.transfer.BACKENDS`; "" where no weights travel.
        on_gpu: whether learner and engines have GPUs.
    """
    env = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "INFO"}
    if on_gpu:
        env["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1" if backend and BACKENDS[backend].pickles else "0"
        env["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"  # a fork of a Ray actor, with its threads, may hang
        env |= FLOAT32 if config.model.dtype == "float32" else {}
    else:
        env |= NO_GPU | {
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "TORCHDYNAMO_DISABLE": "1",  # vLLM would compile two small sampler functions for half a minute
            "VLLM_CPU_KVCACHE_SPACE": str(config.generator.cpu_cache_gib),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # an engine has no process for its one worker
        }
    return ({} if on_gpu else SHORT_SPINNING) | config.cluster.env | env


def learner_environment(config: RunConfig, *, on_gpu: bool) -> dict[str, str]:
    """What learner ranks have beside it: packed rows differ in length, and memory that is cut for one would not fit the
    next. Memory of this kind cannot be shared with a process on the same GPU, so not there."""
    if on_gpu and not config.cluster.colocate:
        return {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    return {}
