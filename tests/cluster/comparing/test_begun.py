"""`winnow compare --resume`: what may go on, and which runs are made."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.comparing import compare as comparing
from cluster.comparing.begun import check_begun, write_methods
from cluster.comparing.comparison import read_comparison, run_folder
from cluster.comparing.plan import ComparisonPlan, plan_comparison, write_plan
from cluster.config.errors import ConfigError
from cluster.config.reading import load_config
from cluster.placement.layout import Layout
from cluster.preparing import world
from cluster.running.checkpoints import checkpoint_of
from cluster.running.state_file import RUN
from learner.types import MARKER, STATE

RUNS = Path(__file__).parents[3] / "deploy/runs"
SMALL = ["run.tokens=2000", "eval.every=1", "learner.lr_end=1", "world.digits=1", "warmup.updates=0"]


def plan_of(
    folder: Path, *overrides: str, methods: tuple[str, ...] = ("grpo", "raft"), seeds: int = 2
) -> ComparisonPlan:
    settings = [*SMALL, f"run.folder={folder}", *overrides]
    configs = {name: load_config(RUNS / "demo.toml", [*settings, f"learner.algorithm={name}"]) for name in methods}
    return plan_comparison("small", "Small", configs, seeds)


def begin(plan: ComparisonPlan, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    write_plan(plan, folder, [])
    write_methods(plan, folder)


def test_seeds_methods_and_notes_may_be_others_when_a_comparison_goes_on(tmp_path: Path) -> None:
    begin(plan_of(tmp_path), tmp_path / "small")
    check_begun(plan_of(tmp_path, "run.note=more", methods=("raft", "ppo", "grpo"), seeds=6), tmp_path / "small")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("run.tokens=3000", "grpo: run.tokens: 2000 → 3000; raft: run.tokens"),
        ("world.slips=0.1", "grpo: world.slips: 0.3 → 0.1"),
        ("eval.samples=7", "eval.samples"),
    ],
)
def test_a_comparison_does_not_go_on_with_other_settings(tmp_path: Path, override: str, said: str) -> None:
    begin(plan_of(tmp_path), tmp_path / "small")
    with pytest.raises(ConfigError, match=said):
        check_begun(plan_of(tmp_path, override), tmp_path / "small")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "small").mkdir()
    with pytest.raises(ConfigError, match="not the folder of a comparison: choose another --name"):
        comparing.compare(plan_of(tmp_path), resume=True)
    assert (tmp_path / "small").is_dir()


def finish(place: Path, tokens: int = 2000) -> None:
    """What a run leaves that has ended."""
    place.mkdir(parents=True, exist_ok=True)
    step = {"step": 3, "accuracy": 0.5, "entropy": 1.0, "kl_start": 0.0, "wall_seconds": 9.0, "tokens_trained": tokens}
    step |= {"groups_dispatched": 8, "groups_kept": 4, "tokens_generated": tokens}
    evals = [{"step": at, "tokens": spent, "accuracy": 0.5} for at, spent in ((0, 0), (3, tokens))]
    evals = [line | {"prompts": 4, "responses": 8, "wall_seconds": 9.0} for line in evals]
    (place / "metrics.jsonl").write_text(json.dumps(step) + "\n")
    (place / "evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in evals))
    checkpoint = checkpoint_of(place, 3)
    (checkpoint / STATE).mkdir(parents=True)
    (checkpoint / STATE / RUN).touch()
    (checkpoint / MARKER).touch()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Method and seed of each run that is made: in place of Ray and a training, the files that a run leaves."""
    runs: list[tuple[str, int]] = []

    class NoActors:
        def __init__(self, *about: Any) -> None: ...

        def __enter__(self) -> "NoActors":
            return self

        def __exit__(self, *failure: object) -> None: ...

        def end(self) -> None: ...

    def job(plan: ComparisonPlan, method: str, seed: int, folder: Path, memory: bool = False) -> SimpleNamespace:
        return SimpleNamespace(prepared=(method, seed), folder=run_folder(folder, method, seed))

    def one(actors: Any, job: SimpleNamespace, line: Any) -> None:
        assert not job.folder.exists()
        runs.append(job.prepared)
        finish(job.folder)

    @contextmanager
    def no_ray(*about: Any) -> Iterator[tuple[Layout | SimpleNamespace, str, None]]:
        yield SimpleNamespace(), "nowhere", None

    monkeypatch.setattr(comparing, "WarmActors", NoActors)
    monkeypatch.setattr(comparing, "ray_session", no_ray)
    monkeypatch.setattr(comparing, "settled", lambda prepared, layout: prepared)
    monkeypatch.setattr(comparing, "describe", lambda prepared, layout: "")
    monkeypatch.setattr(comparing, "_job", job)
    monkeypatch.setattr(comparing, "_one", one)
    return runs


def test_a_comparison_goes_on_with_what_is_missing_failed_or_was_cut_short(
    tmp_path: Path, made: list[tuple[str, int]]
) -> None:
    folder = tmp_path / "small"
    assert comparing.compare(plan_of(tmp_path, seeds=1), resume=True) == (folder, 0)  # nothing is there: it begins
    assert made == [("grpo", 0), ("raft", 0)]
    (checkpoint_of(run_folder(folder, "raft", 0), 3) / MARKER).unlink()  # killed before it had written its last
    assert "| raft |" in (folder / "table.md").read_text()
    made.clear()
    assert comparing.compare(plan_of(tmp_path, seeds=2), resume=True) == (folder, 0)
    assert made == [("raft", 0), ("grpo", 1), ("raft", 1)]
    assert len(read_comparison(folder).runs) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_world_that_was_half_written_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for rows in ("WORLD_PROMPTS", "WORLD_WORKED"):
        monkeypatch.setattr(world, rows, 50)
    place = tmp_path / "starts/0/seed=0"
    (place / "world").mkdir(parents=True)
    (place / "world/prompts.jsonl").touch()
    job = comparing._job(plan_of(tmp_path), "grpo", 0, tmp_path)
    assert len(job.prepared.prompts) == 50
    assert (place / MARKER).is_file()


def test_a_finished_comparison_starts_no_ray_and_writes_its_table_anew(
    tmp_path: Path, made: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path, seeds=1)
    folder, _ = comparing.compare(plan, resume=True)
    (folder / "table.md").unlink()
    monkeypatch.setattr(comparing, "ray_session", lambda *about: nullcontext(1 / 0))
    assert comparing.compare(plan, resume=True) == (folder, 0)
    assert "2 of 2 runs are finished" in capsys.readouterr().out
    assert (folder / "table.md").is_file()
    assert len(made) == 2


def test_without_resume_a_comparison_of_a_name_that_is_taken_is_another_one(
    tmp_path: Path, made: list[tuple[str, int]]
) -> None:
    plan = plan_of(tmp_path, seeds=1)
    assert comparing.compare(plan)[0].name == "small"
    assert comparing.compare(plan)[0].name == "small-2"
    assert len(made) == 4
