"""The memory of keys and values that an engine gives back while it rests beside the learner on one GPU, as the driver
counts it for all processes of that GPU, and that it goes on afterwards as if nothing had been."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from actors.engines import Sampling, start_engine
from actors.settings import GeneratorSettings
from actors.types import EngineSpec
from cluster.preparing.budget import ENGINE_BESIDES
from learner.checks.agreement import write_model

SHARE = 0.5  # of the GPU, for the engine
TEXT = [1, 2, 10, 3, 4, 11, 5, 5]
TOKENS = 512  # of a response that a rest finds in flight
SAME = 1e-4  # nats; the same text under the same weights
BACK = 0.9  # of what it had that it gives back, and takes again
GIB = 2**30


def measure(device: str) -> dict[str, float]:
    """GiB of the GPU in use by all its processes: before the engine, with it, while it rests, after that.

    Raises:
        AssertionError: it keeps more than a plan counts for an engine that rests, or does not go on as before.
    """
    before = _used(device)
    with TemporaryDirectory() as folder:
        write_model(Path(folder))
        weights = (Path(folder) / "model.safetensors").stat().st_size
        used = asyncio.run(_rested(device, folder))
    awake, resting, again = (size - before for size in used)
    if device == "cuda":
        counted = weights + ENGINE_BESIDES
        assert resting <= counted, f"an engine that rests holds {resting / GIB:.1f} GiB, not {counted / GIB:.1f}"
        assert awake - resting >= BACK * (awake - counted), f"it gave back {(awake - resting) / GIB:.1f} GiB only"
        assert again >= BACK * awake, f"it took {again / GIB:.1f} GiB again, and had {awake / GIB:.1f}"
    return {"gib_awake": awake / GIB, "gib_resting": resting / GIB, "gib_again": again / GIB}


async def _rested(device: str, folder: str) -> tuple[int, int, int]:
    """Bytes of the GPU that are in use while an engine is awake, while it rests, and after that."""
    spec = EngineSpec(
        model=folder,
        dtype="float32",
        seed=0,
        max_model_len=2 * TOKENS,
        tensor_parallel=1,
        backend="",
        on_cpu=device == "cpu",
        engine=GeneratorSettings(max_sequences=8, memory_share=SHARE, compiled=False),
        rests=True,
    )
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=TOKENS, min_tokens=TOKENS)
    engine = start_engine(spec)
    try:
        wanted = await engine.log_probabilities(TEXT)
        (whole,) = await engine.generate(TEXT, sampling, seed=0)
        awake = _used(device)
        flying = asyncio.create_task(engine.generate(TEXT, sampling, seed=0))
        await asyncio.sleep(0.1)
        await engine.rest("continue")
        resting = _used(device)
        assert not flying.done(), "the response was over before the engine rested"
        found = await engine.resume_generation(TEXT)
        again = _used(device)
        assert _apart(found, wanted) < SAME, "the engine gives a text other log-probabilities than before its rest"
        (frozen,) = await flying
        assert frozen.tokens.tolist() == whole.tokens.tolist(), "a response that was frozen went on otherwise"
        assert _apart(frozen.logprobs.tolist(), whole.logprobs.tolist()) < SAME, "its keys and values are others"
        return awake, resting, again
    finally:
        engine.shutdown()


def _apart(left: Sequence[float], right: Sequence[float]) -> float:
    return max(abs(one - other) for one, other in zip(left, right, strict=True))


def _used(device: str) -> int:
    """Bytes of the GPU that its driver has given to processes, this one among them; 0 on the CPU."""
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free
