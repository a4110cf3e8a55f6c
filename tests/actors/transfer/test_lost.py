"""A sync from two ZeRO-3 ranks to two generators, the real parts: what arrives, and what becomes of it when a generator
dies or hangs in its middle, or a rank fails."""

import asyncio
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from actors.arrow import unpacked
from actors.data.world import ALPHABET
from actors.errors import BrokenPart
from actors.types import RolloutRequest
from learner.models.tiny import write_tiny_model
from learner.settings import LearnerSettings
from tests.actors.transfer.test_weights import ALGORITHM, ENV, PROBE, begin, publisher_of, start_generators
from tests.builders import prompt
from tests.gpu.syncs import in_the_next_pass
from tests.learner.test_engine import ranks_of, train
from tests.runs import Runs

pytestmark = pytest.mark.ray
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
SECONDS = 36  # sync.timeout_seconds: a third of it for each step, on a machine that may be busy


@pytest.fixture(scope="module")
def session(_runs: Runs) -> Iterator[None]:
    _runs.end()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def there(session: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list, dict[str, Any]]:
    """A model whose head is its embedding, two ZeRO-3 ranks that gather every parameter where it is used, and two
    generators, which serve all tests."""
    model = tmp_path_factory.mktemp("model")
    write_tiny_model(model, alphabet=ALPHABET, seed=1, tied=True)
    settings = LearnerSettings(zero_stage=3, micro_batch_tokens=64, logit_chunk=1024)
    return model, ranks_of(settings, model, 2, ALGORITHM), start_generators(model, 2, own_process=True)


def engine_of(generator: Any) -> int:
    """The process of a generator's engine."""
    pids = ray.get(generator.__ray_call__.remote(lambda _: [one.pid for one in multiprocessing.active_children()]))
    assert len(pids) == 1
    return int(pids[0])


def is_there(pid: int) -> bool:
    """Whether a process lives, if only stopped."""
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "(zombie)" not in status.read_text()


def test_tied_weights_reach_two_generators_from_two_ranks_while_responses_are_sampled(there: Any) -> None:
    _, ranks, generators = there
    publisher = publisher_of(ranks, generators)
    begin(generators, min_tokens=200)

    async def story() -> tuple[list[float], Any]:
        gaps = [(await publisher.publish(0, PROBE)).probe_gap]
        request = RolloutRequest(group=0, prompt=prompt("0", [1, 2, 10, 3, 11]), visit=0)
        flying = generators["generator-0"].rollout.remote(request)
        await generators["generator-0"].sampling_of.remote(16)
        gaps.append((await publisher.publish(1, PROBE)).probe_gap)  # while the responses are being sampled
        batch = unpacked((await asyncio.gather(*flying))[1])
        await asyncio.to_thread(train, ranks, 1, ALGORITHM)
        gaps.append((await publisher.publish(2, PROBE)).probe_gap)
        return gaps, batch

    gaps, batch = asyncio.run(story())
    assert max(gaps) < 1e-3
    rows = zip(batch.column("versions").to_pylist(), batch.column("sampled").to_pylist(), strict=True)
    versions = [np.array(row)[sampled] for row, sampled in rows]
    assert any(set(row) == {0, 1} for row in versions)  # it went on under the new weights, token by token
    assert all((np.diff(row) >= 0).all() for row in versions)
    held = ray.get([one.held_weights.remote() for one in generators.values()])
    assert held[0] == held[1]
    assert held[0].version == "2"
    assert held[0].sha256


def test_without_packing_the_tied_head_anew_the_probe_refuses_the_sync(
    there: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ranks, _ = there
    # A vLLM plugin, found on the path like any other, that undoes the repair in every process of the engine.
    (tmp_path / "undo-1.0.dist-info").mkdir()
    (tmp_path / "undo-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: undo\nVersion: 1.0\n")
    (tmp_path / "undo-1.0.dist-info/entry_points.txt").write_text("[vllm.general_plugins]\nundo = undo:undo\n")
    (tmp_path / "undo.py").write_text(
        "def undo():\n    from actors.transfer import gloo\n    gloo.refresh_packed_heads = lambda model: None\n"
    )
    monkeypatch.setitem(ENV, "PYTHONPATH", str(tmp_path))
    generators = start_generators(model, 1)
    publisher = publisher_of(ranks, generators)
    with pytest.raises(BrokenPart, match="does not compute what the learner computes"):
        asyncio.run(publisher.publish(0, PROBE))
    for one in generators.values():
        ray.kill(one)


def test_a_rank_that_fails_in_a_send_ends_the_run_and_leaves_no_rank_in_a_gather(there: Any) -> None:
    _, ranks, generators = there

    def fail() -> None:
        raise RuntimeError("out of memory, say")

    async def story(number: int) -> None:
        publisher = publisher_of(ranks, generators, timeout_seconds=SECONDS)
        await publisher.publish(0, PROBE)
        in_the_next_pass(ranks[number], fail)
        with pytest.raises(BrokenPart, match="out of memory, say"):
            await publisher.publish(1, PROBE)

    for number in (1, 0):
        asyncio.run(story(number))
        first, second = ray.get([one.probe.remote(PROBE) for one in ranks], timeout=60)  # both have come back
        assert first == second


def test_a_generator_that_hangs_or_dies_in_a_send_is_left_out_and_the_sync_repeated_until_none_is_left(
    there: Any,
) -> None:
    """The last test of the generators. That a sync is repeated after a death, too, is one of those in `tests/gpu`."""
    _, ranks, generators = there
    said = list[str]()
    publisher = publisher_of(ranks, generators, said, timeout_seconds=SECONDS)
    hangs, dies = (engine_of(generators[name]) for name in ("generator-1", "generator-0"))

    async def story() -> None:
        await publisher.publish(0, PROBE)
        assert said == []  # learner and generators agree over every weight
        in_the_next_pass(ranks[0], lambda: os.kill(hangs, signal.SIGSTOP))
        assert (await publisher.publish(1, PROBE)).probe_gap < 1e-3
        lost = publisher._pool.deaths["generator-1"]
        assert f"generator-1: did not answer within {SECONDS} s, in the sync of version 1" in lost
        assert list(publisher._pool.alive) == ["generator-0"]
        assert (await generators["generator-0"].held_weights.remote()).version == "1"
        await asyncio.to_thread(train, ranks, 1, ALGORITHM)
        assert (await publisher.publish(2, PROBE)).probe_gap < 1e-3
        in_the_next_pass(ranks[0], lambda: os.kill(dies, signal.SIGKILL))
        with pytest.raises(BrokenPart, match=r"no generator is left\. generator-1: .*generator-0: .*sync of version 3"):
            await publisher.publish(3, PROBE)
        assert "did not answer" not in publisher._pool.deaths["generator-0"]

    asyncio.run(story())
    assert gone(hangs, generators["generator-1"])
    assert gone(dies, generators["generator-0"])


def gone(pid: int, generator: Any) -> bool:
    """Whether a process has ended, or does so within some seconds."""
    for _ in range(100):
        if not is_there(pid):
            return True
        ray.wait([generator.probe.remote(PROBE)], timeout=0.2)  # an actor that lives reaps it by that
        time.sleep(0.1)
    return False
