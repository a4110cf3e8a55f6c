"""What vLLM is told when an engine starts, and what is asked of it around a rest; vLLM itself is a double."""

from pathlib import Path
from typing import Any

import pytest

from actors.settings import GeneratorSettings
from actors.types import EngineSpec, LayerSums

# They load vLLM, which warns of what it uses itself.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


PROBE = (3, 4)
BAD: dict[str, Any] = {"names": ["none"]}  # of an update that is refused


class Scheduler:
    """An engine of vLLM that notes what it is asked, and refuses to give memory back so many times."""

    def __init__(self, refusals: int = 0) -> None:
        self.asked: list[str] = []
        self.arguments: Any = None
        self._refusals = refusals

    def __call__(self, arguments: Any) -> "Scheduler":
        self.arguments = arguments
        return self

    def get_tokenizer(self) -> None:
        return None

    async def pause_generation(self, mode: str, clear_cache: bool) -> None:
        self.asked.append(f"pause {mode}")

    async def release_kv_cache_memory(self) -> None:
        self.asked.append("release")
        if self._refusals:
            self._refusals -= 1
            raise RuntimeError("release_kv_cache_memory() requires a completed pause first")

    async def reset_prefix_cache(self, reset_running_requests: bool) -> bool:
        self.asked.append("forget")
        return True

    async def wake_up(self, tags: list[str]) -> bool:
        self.asked.append(f"wake {','.join(tags)}")
        return True

    async def add_request(self, request: str, prompt: Any, params: Any, priority: int) -> "Scheduler":
        self.asked.append("probe")
        return self

    async def resume_generation(self) -> None:
        self.asked.append("resume")

    async def start_weight_update(self) -> None:
        self.asked.append("start")

    async def update_weights(self, request: Any) -> None:
        self.asked.append("receive")
        if request.update_info == BAD:
            raise ValueError("a tensor too many")

    async def finish_weight_update(self, version: str) -> None:
        self.asked.append(f"finish {version}")

    async def get_weight_version(self) -> str:
        return self.asked[-2].removeprefix("finish ")

    async def collective_rpc(self, method: str) -> list[dict[str, list[int]]]:
        self.asked.append(method)
        return [{"layer 0": [1, 2]}, {"layer 0": [3, 4]}]

    async def get(self) -> Any:
        from vllm.logprobs import Logprob
        from vllm.outputs import RequestOutput

        rows: Any = [None, {PROBE[1]: Logprob(-1.5)}]
        return RequestOutput("1", None, list(PROBE), rows, [], finished=True)


def started(vllm: Scheduler, **fields: Any) -> Any:
    from actors.rollouts.engine import Engine

    known = {
        "model": str(Path(__file__).parent),
        "dtype": "bfloat16",
        "seed": 0,
        "max_model_len": 4096,
        "tensor_parallel": 1,
    }
    known |= {"backend": "nccl", "on_cpu": False, "engine": GeneratorSettings()}
    return Engine(EngineSpec(**{**known, **fields}), vllm)


def test_an_engine_of_several_gpus_starts_its_workers_itself() -> None:
    vllm = Scheduler()
    started(vllm, tensor_parallel=4)
    assert vllm.arguments.distributed_executor_backend == "mp"
    assert vllm.arguments.tensor_parallel_size == 4
    started(vllm)
    assert vllm.arguments.distributed_executor_backend == "uni"


def test_an_engine_on_a_gpu_computes_more_at_once_than_one_on_the_cpu() -> None:
    vllm = Scheduler()
    started(vllm)
    assert (vllm.arguments.max_num_seqs, vllm.arguments.max_num_batched_tokens) == (512, 8192)
    assert vllm.arguments.gpu_memory_utilization == 0.85
    assert not vllm.arguments.enable_sleep_mode
    assert vllm.arguments.block_size is None  # vLLM's own for the GPU
    started(vllm, engine=GeneratorSettings(max_sequences=20_000))
    assert vllm.arguments.max_num_batched_tokens == 20_000
    started(vllm, on_cpu=True)
    assert (vllm.arguments.max_num_seqs, vllm.arguments.max_num_batched_tokens) == (256, 4096)
    assert vllm.arguments.enable_chunked_prefill is False
    assert vllm.arguments.block_size == 32


async def test_an_engine_on_a_shared_gpu_gives_its_keys_back_and_takes_the_memory_again_before_it_goes_on() -> None:
    vllm = Scheduler()
    engine = started(vllm, rests=True)
    assert vllm.arguments.enable_sleep_mode
    assert vllm.arguments.gpu_memory_utilization == 0.35
    await engine.rest("continue")
    await engine.rest("continue")
    await engine.pause_generation("continue")
    await engine.resume_generation(PROBE)
    await engine.pause_generation("continue")
    assert await engine.resume_generation(PROBE) == [-1.5]
    first = ["pause keep", "release", "pause keep", "pause keep", "forget", "probe", "wake kv_cache", "resume"]
    assert vllm.asked == [*first, "pause keep", "forget", "probe", "resume"]


async def test_a_rest_finishes_what_is_being_sampled_where_the_run_says_so() -> None:
    vllm = Scheduler()
    await started(vllm, rests=True).rest("finish")
    assert vllm.asked == ["pause wait", "release"]


async def test_a_request_that_is_given_up_at_the_wrong_moment_costs_another_try() -> None:
    vllm = Scheduler(refusals=2)
    await started(vllm, rests=True).rest("continue")
    assert vllm.asked == ["pause keep", "release"] * 3
    with pytest.raises(RuntimeError, match="requires a completed pause"):
        await started(Scheduler(refusals=3), rests=True).rest("continue")


async def test_an_engine_on_the_cpu_rests_without_giving_anything_back() -> None:
    vllm = Scheduler()
    engine = started(vllm, rests=True, on_cpu=True)
    await engine.rest("continue")
    await engine.resume_generation(PROBE)
    assert vllm.asked == ["pause keep", "forget", "probe", "resume"]


async def test_an_update_of_several_parts_begins_with_the_first_and_its_end_gives_what_is_held() -> None:
    vllm = Scheduler()
    engine = started(vllm)
    for version in ("7", "8"):
        await engine.update_weights({})
        await engine.update_weights({})
        held = await engine.finish_weight_update(version, sha256=False)
        assert (held.version, held.sums) == (version, {"layer 0": LayerSums(4, 6)})
        assert vllm.asked == ["start", "receive", "receive", f"finish {version}", "weight_sums"]
        vllm.asked.clear()


async def test_an_update_that_was_given_up_begins_anew() -> None:
    vllm = Scheduler()
    engine = started(vllm)
    with pytest.raises(ValueError, match="a tensor too many"):
        await engine.update_weights(BAD)
    await engine.give_up_weight_update()
    await engine.update_weights({})
    assert vllm.asked == ["start", "receive", "give_up_weight_update", "start", "receive"]


async def test_an_update_that_failed_and_one_that_was_never_ended_are_none_of_the_next_sync() -> None:
    vllm = Scheduler()
    engine = started(vllm)
    with pytest.raises(ValueError, match="a tensor too many"):
        await engine.update_weights(BAD)
    await engine.pause_generation("continue")
    await engine.update_weights({})  # after which a rank of the learner fails
    await engine.pause_generation("continue")
    await engine.update_weights({})
    begun = ["pause keep", "start", "receive"]
    assert vllm.asked == ["start", "receive", *begun, "end_weight_update", *begun]
