"""What `winnow doctor` says of GPUs that fail, by fakes of what they would give; and of a run file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.commands.checks import parts
from cluster.commands.checks.gpus import Gpus
from cluster.commands.checks.types import Finding, State, Subject
from learner.checks import attention, links, numerics
from learner.checks.attention import Attended
from learner.checks.links import Linked, Unreachable
from learner.checks.numerics import Product

ON_CPU = Subject(runs=Path("runs"), gpus=Gpus(found=()), visible=0)
ON_GPUS = Subject(runs=Path("runs"), gpus=Gpus(found=()), visible=2)


def told(_: str) -> None:
    """Nobody listens."""


def gives(found: object) -> Callable[..., object]:
    """A function that gives this, or raises it."""

    def function(*_: Any, **__: Any) -> object:
        if isinstance(found, Exception):
            raise found
        return found

    return function


@pytest.fixture(autouse=True)
def torch_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "cuda_problem", lambda: "")


def nccl(monkeypatch: pytest.MonkeyPatch, found: object) -> Finding:
    monkeypatch.setattr(links, "link", gives(found))
    return parts.examine_nccl(ON_GPUS, told)


def test_gpus_that_reach_each_other_are_ok_with_their_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = nccl(monkeypatch, Linked(ranks=2, wrong=(), gb_per_second=180.0))
    assert (found.state, found.said) == (State.OK, "2 GPUs sum exactly; a broadcast brings each 180.0 GB/s")
    assert nccl(monkeypatch, Linked(ranks=2, wrong=(), gb_per_second=0.5)).state is State.NOTE


def test_gpus_that_do_not_reach_each_other_or_sum_wrongly_stop_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = nccl(monkeypatch, Unreachable("rank 1: unhandled system error"))
    assert found.state is State.WRONG
    assert found.said == "NCCL does not work: rank 1: unhandled system error"
    assert "NCCL_P2P_DISABLE=1" in found.remedy
    found = nccl(monkeypatch, Linked(ranks=2, wrong=("bfloat16", "int64"), gb_per_second=9.0))
    assert found.said == "sums over 2 GPUs are wrong in bfloat16, int64"


@pytest.mark.parametrize("found", [False, Unreachable("rank 0: invalid device context")])
def test_memory_that_cannot_be_shared_is_a_note_as_only_colocated_runs_need_it(
    found: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "share", gives(found))
    said = parts.examine_ipc(ON_GPUS, told)
    assert said.state is State.NOTE
    assert "cluster.colocate" in said.remedy


def test_a_gpu_that_multiplies_wrongly_stops_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "multiply", gives(Product(error=0.03, bound=0.008, tflops=400.0)))
    assert parts.examine_computing(ON_GPUS, told).state is State.WRONG
    monkeypatch.setattr(numerics, "multiply", gives(Product(error=0.003, bound=0.008, tflops=400.0)))
    assert parts.examine_computing(ON_GPUS, told).said.endswith("400 TFLOP/s")


def test_an_attention_that_computes_wrongly_stops_runs_and_one_that_does_not_run_is_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    off = {"varlen": {"output": 0.5}, "masks": {"output": 0.01}}
    monkeypatch.setattr(attention, "attend", gives(Attended(errors=off, costs={})))
    assert parts.examine_attention(ON_GPUS, told).state is State.WRONG
    monkeypatch.setattr(attention, "attend", gives(RuntimeError("no kernel image")))
    found = parts.examine_attention(ON_GPUS, told)
    assert (found.state, found.said) == (State.NOTE, "varlen attention does not run here: no kernel image")
    good = {"varlen": {"output": 0.01}, "masks": {"output": 0.01}}
    costs = {"seconds_varlen_1x8192": 0.01, "seconds_masks_1x8192": 0.02}
    monkeypatch.setattr(attention, "attend", gives(Attended(errors=good, costs=costs)))
    assert "2.0 times as fast" in parts.examine_attention(ON_GPUS, told).said


def test_where_torch_cannot_use_the_gpu_one_line_says_so_and_the_rest_is_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(numerics, "cuda_problem", lambda: "CUDA error: system not yet initialized")
    found = parts.examine_computing(ON_GPUS, told)
    assert (found.state, "system not yet initialized" in found.said) == (State.WRONG, True)
    for examine in (parts.examine_attention, parts.examine_nccl, parts.examine_ipc, parts.examine_agreement):
        assert examine(ON_GPUS, told).state is State.SKIPPED


def test_without_a_gpu_what_needs_one_is_skipped() -> None:
    for examine in (parts.examine_computing, parts.examine_attention, parts.examine_nccl, parts.examine_ipc):
        assert examine(ON_CPU, told).state is State.SKIPPED


def test_a_cluster_that_does_not_answer_is_wrong_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    found = parts.examine_ray(ON_CPU, told)
    assert found.state is State.WRONG
    assert "127.0.0.1:1" in found.said
    assert "unset both" in found.remedy


def test_a_run_that_cannot_start_is_wrong_with_its_mistake(tmp_path: Path) -> None:
    file = tmp_path / "my.toml"
    file.write_text(f'[model]\npath = "{tmp_path}/nowhere"\n[data]\npath = "x.jsonl"\n')
    found = parts.examine_run(Subject(runs=tmp_path, gpus=Gpus(found=()), visible=0, run_file=file), told)
    assert found.state is State.WRONG
    assert "nowhere" in found.said
