"""The bodies of the GPU tests, on the CPU and with small sizes: what a rented GPU will run has run before."""

import dataclasses
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from actors.engines import OWN_PROCESS
from tests.gpu import digests, heads, passes, several, steps, trees
from tests.gpu.run import FAILED, PASSED, SKIPPED, Hardware, Outcome, apart, write_report
from tests.gpu.trials import MORE_GPUS, ONE_GPU, TRIALS, Trial, lacking

pytestmark = pytest.mark.usefixtures("one_thread")


HERE = Hardware(name="no GPU", driver="", gpus=0, versions={"torch": "2.13.0"})


def test_a_head_gives_the_log_probabilities_of_float64_in_chunks_of_every_size() -> None:
    found = heads.measure("cpu", heads.SMALL)
    assert found["error_16"] == found["error_96"] > 0


def test_a_digest_is_of_weights_and_not_of_their_shapes() -> None:
    assert digests.measure("cpu", digests.SMALL)["gb"] == pytest.approx(3 * 8 * 6 * 2 / 1e9)


def test_passes_are_run_and_their_memory_is_counted_less_with_checkpointing() -> None:
    found = passes.measure("cpu", passes.SMALL)
    assert 0 < found["counted_gib_small_64_checkpointed"] < found["counted_gib_small_64"]


def test_shared_prompts_give_what_separate_sequences_give() -> None:
    found = trees.measure("cpu", trees.SMALL)
    assert found["tokens_shared"] < found["tokens_apart"] / 2
    assert found["nats"] < 0.01


def test_a_product_in_bfloat16_has_the_error_of_its_arithmetic() -> None:
    found = several.products("cpu")
    assert 0 < found["error"] < found["bound"]


def test_two_ways_to_step_give_the_same_weights_and_another_decay_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < steps.measure("cpu", 2**12)["difference_of_allowed"] < 0.5
    plain = torch.optim.AdamW

    def other(weights: list[torch.Tensor], *, weight_decay: float, **told: Any) -> torch.optim.AdamW:
        return plain(weights, weight_decay=weight_decay * (1 + told.get("foreach", False)), **told)

    monkeypatch.setattr(torch.optim, "AdamW", other)
    with pytest.raises(AssertionError, match="weights differ"):
        steps.measure("cpu", 2**12)


@pytest.mark.slow
def test_two_ranks_sum_exactly_and_two_processes_share_memory() -> None:
    assert several.links("cpu", ranks=2, mib=1)["gb_per_second"] > 0
    assert several.shared("cpu", mib=1) == {"gib": 1 / 1024}


@pytest.fixture
def of_actors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that actors of a run have, for what is in this process instead."""
    from cluster.config.reading import config_of
    from cluster.placement.environment import environment

    for name, value in environment(config_of({"world": {"name": "addition"}}), "gloo", on_gpu=False).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(OWN_PROCESS, "1")  # an engine would leave its process group in this one


@pytest.mark.ray
def test_an_engine_gives_a_text_the_log_probabilities_of_the_policy(of_actors: None) -> None:
    assert several.agreement("cpu")["largest"] < 1e-4


@pytest.mark.ray
def test_an_engine_goes_on_after_a_rest_as_if_nothing_had_been(of_actors: None) -> None:
    program = "from tests.gpu import rests; print(rests.measure('cpu')['gib_resting'])"
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=600)
    assert found.returncode == 0, found.stderr[-2000:]
    assert float(found.stdout.split()[-1]) == 0  # of a GPU; on the CPU nothing is given back


@pytest.mark.ray
def test_a_checkpoint_has_the_weights_of_its_moment_and_the_host_never_holds_them_all(of_actors: None) -> None:
    from learner.checks.links import in_processes

    (found,) = in_processes(_saves, [()], 600)  # a process of its own, as only one group of ranks can be joined in each
    assert found["files_in_shards"] > found["files_whole"] == 1
    assert 0 < found["host_gib_in_shards"] < 0.1


def _saves(line: Connection) -> None:
    from tests.gpu import saves

    torch.set_num_threads(1)
    line.send(saves.measure("cpu", saves.SMALL))


@pytest.mark.ray
def test_an_engine_of_two_workers_holds_every_weight_and_ends_with_its_actor(own_ray: None) -> None:
    from tests.gpu import syncs

    assert syncs.measure_tensor_parallel("cpu")["probe_gap"] < 1e-3


@pytest.mark.ray
def test_a_sync_in_which_an_engine_is_killed_is_repeated_with_the_other(own_ray: None) -> None:
    from tests.gpu import syncs

    assert syncs.measure_killed("cpu")["seconds_sync"] > 0


@pytest.mark.ray
def test_every_tensor_arrives_in_another_process_bit_for_bit_and_a_receiver_that_ends_is_noticed() -> None:
    from tests.gpu import transfers

    assert transfers.measure("cpu", transfers.SMALL)["gb_per_second"] > 0


@pytest.mark.ray
@pytest.mark.parametrize(("ranks", "name"), [(1, "bfloat16_zero2"), (2, "float32_zero3"), (1, "bfloat16_zero2_bf16")])
def test_an_update_is_the_one_that_arithmetic_by_hand_gives(
    ranks: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.gpu import updates

    for variable, value in {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(variable, value)
    found = updates.measure("cpu", ranks, [variant for variant in updates.VARIANTS if variant.name == name])
    if name == "bfloat16_zero2_bf16":  # what is lost where gradients are not added up in float32
        assert found[f"gradient_{name}"] > found["error_of_bfloat16"]


@pytest.mark.ray
def test_a_short_run_makes_its_steps_though_an_engine_stops_in_the_middle_of_a_sync(
    own_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.gpu import runs

    lines, train = list[dict[str, Any]](), runs._trained

    def trained(*told: Any, **more: Any) -> list[dict[str, Any]]:
        lines[:] = lines or train(*told, **more)
        return lines

    monkeypatch.setattr(runs, "_trained", trained)
    # A model that knows nothing yet does as well, where no group is dropped: what is tried is not what it learns.
    unlearned = ("warmup.updates=2", "filter.drop=none", "eval.every=0", "rollout.max_new_tokens=16")
    assert runs.measure_stopped("cpu", unlearned, seconds=1500)["seconds_sync"] >= runs.PATIENCE
    assert runs.measure("cpu")["probe_gap"] < 1e-3  # of the same run


def test_every_trial_has_a_body_and_the_quick_ones_of_one_gpu_come_first() -> None:
    assert [trial.gpus for trial in ONE_GPU] == [1] * len(ONE_GPU)
    assert all(trial.gpus > 1 for trial in MORE_GPUS)
    for trial in TRIALS.values():
        module, _, function = trial.body.rpartition(".")
        source = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        assert f"def {function}(device: str" in source, trial.name


def test_a_trial_that_cannot_be_run_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(name="x", about="", body="x.y", seconds=1, needs=("torch",), gpus=2)
    assert lacking(trial, 1) == "needs 2 GPUs, and torch.cuda.device_count() is 1"
    assert lacking(dataclasses.replace(trial, needs=("nowhere_to_be_found",)), 2) == (
        "needs nowhere_to_be_found, which is not installed"
    )
    assert lacking(trial, 2) == ""


@pytest.mark.slow
def test_a_trial_that_holds_fails_dies_or_hangs_is_reported_as_such(tmp_path: Path) -> None:
    ways = {
        "holds": (PASSED, "print('noise'); print('figures: {\"seconds\": 1.5}')"),
        "fails": (FAILED, "raise AssertionError('sums are wrong')"),
        "dies": (FAILED, "import os; os.kill(os.getpid(), 11)"),
        "says nothing": (FAILED, "pass"),
        "hangs": (FAILED, "import time; print('waits', flush=True); time.sleep(600)"),
    }
    found = [
        apart(name, [sys.executable, "-c", code], 10 if name == "hangs" else 600, "a machine")
        for name, (_, code) in ways.items()
    ]
    assert [one.outcome for one in found] == [outcome for outcome, _ in ways.values()]
    why = {one.name: one.why for one in found}
    assert why["fails"] == "status 1: AssertionError: sums are wrong"
    assert why["dies"].startswith("status -11")
    assert why["hangs"] == "had not ended after 10 s, and was killed; it printed last: waits"
    write_report(tmp_path, HERE, [*found, Outcome(name="two", outcome=SKIPPED, why="needs 2 GPUs")])
    report = (tmp_path / "report.md").read_text()
    assert "On no GPU; torch 2.13.0." in report
    assert "1 passed, 4 failed, 1 skipped." in report
    assert "| two | skipped | 0 | needs 2 GPUs |" in report
    assert len((tmp_path / "report.jsonl").read_text().splitlines()) == 6


@pytest.mark.slow
def test_a_process_that_a_hanging_trial_started_is_gone_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    assert apart("hangs", [sys.executable, "-c", code], 8, "a machine").outcome == FAILED
    state = Path(f"/proc/{pid.read_text()}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.slow
def test_the_bodies_that_need_neither_vllm_nor_ray_load_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (
        "ray",
        "vllm",
        "accelerate",
        "httpx",
        "duckdb",
        "sqlglot",
        "math_verify",
        "tenacity",
        "hypothesis",
        "pytest",
    )
    modules = sorted({f"tests.gpu.{t.body.split('.')[0]}" for t in TRIALS.values() if "vllm" not in t.needs})
    code = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nimport {', '.join(modules)}, tests.gpu.run"
    assert apart("x", [sys.executable, "-c", f"{code}\nprint('figures: {{}}')"], 600, "").why == ""
