import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from cluster.comparing.comparison import (
    Comparison,
    Curve,
    Estimate,
    curve,
    finals,
    method_folder,
    read_comparison,
    rows,
    student_t,
)
from cluster.comparing.table import csv_table, latex_table, markdown_table, terminal_table
from cluster.report.words import short

BASE = {"name": "base", "objective": "not trained", "changes": {}, "baseline": True}


def method(name: str) -> dict[str, Any]:
    return {"name": name, "objective": "-A log p", "changes": {"learner.algorithm": name}, "baseline": False}


def step(number: int, **changes: Any) -> dict[str, Any]:
    """The number-th of ten steps that generate 10 tokens each."""
    return {
        "step": number,
        "wall_seconds": 6.0 * number,
        "accuracy": 0.5,
        "entropy": 1.1 - 0.1 * number,
        "kl_start": 0.01 * number,
        "groups_dispatched": 4 * number,
        "groups_kept": 3 * number,
        "tokens_generated": 10,
        "tokens_trained": 8,
    } | changes


def evaluation(number: int, tokens: int, accuracy: float) -> dict[str, Any]:
    times = {"step": number, "tokens": tokens, "wall_seconds": 0.6 * tokens}
    return times | {"prompts": 20, "responses": 100, "correct": round(100 * accuracy), "accuracy": accuracy}


def add_run(
    folder: Path, name: str, seed: int, accuracies: Sequence[float], steps: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """A run evaluated at equal distances up to 100 tokens."""
    place = folder / method_folder(name) / f"seed={seed}"
    place.mkdir(parents=True)
    told = [step(number) for number in range(1, 11)] if steps is None else steps
    gap = len(accuracies) - 1
    evals = [evaluation(10 * at // gap, 100 * at // gap, accuracy) for at, accuracy in enumerate(accuracies)]
    for file, lines in (("metrics.jsonl", told), ("evals.jsonl", evals)):
        (place / file).write_text("".join(json.dumps(line) + "\n" for line in lines))


def plan(folder: Path, methods: Sequence[Mapping[str, Any]], seeds: Sequence[int] = (0, 1, 2), **more: Any) -> None:
    told = {"name": "small", "title": "A small one", "budget_tokens": 100, "methods": methods, "seeds": seeds} | more
    (folder / "compare.json").write_text(json.dumps(told))


def two_methods(folder: Path) -> Comparison:
    """raft ends at 0.5, 0.6 and 0.7; grpo 0.1, 0.1 and 0.4 higher."""
    plan(folder, [BASE, method("raft"), method("grpo")])
    for seed, (raft, grpo) in enumerate([(0.5, 0.6), (0.6, 0.7), (0.7, 1.1)]):
        add_run(folder, "raft", seed, (0.2 + seed / 10, 0.4, raft))
        add_run(folder, "grpo", seed, (0.2 + seed / 10, 0.4, grpo))
    return read_comparison(folder)


def test_an_interval_is_students_over_the_seeds() -> None:
    three = Estimate(values=(0.5, 0.6, 0.7))
    assert three.half == pytest.approx(4.303 * 0.1 / 3**0.5, rel=1e-6)
    assert three.text() == "0.600 ± 0.248"
    assert Estimate(values=(0.1, 0.3)).half == pytest.approx(12.706 * 0.1, rel=1e-6)
    assert Estimate(values=(0.1, 0.3)).text("+.1f") == "+0.2 ± 1.3"


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft")], seeds=[4])
    add_run(tmp_path, "raft", 4, (0.2, 0.6))
    comparison = read_comparison(tmp_path)
    (row,) = rows(comparison)
    line = curve(comparison, "raft", "held_out")
    assert row.final.half is None
    assert row.final.text() == "0.600"
    assert line is not None
    assert line.half is None


def test_quantiles_beyond_the_table_are_those_of_student() -> None:
    assert [student_t(degrees) for degrees in (1, 9)] == [12.706, 2.262]
    assert student_t(10) == pytest.approx(2.228, abs=0.003)
    assert student_t(30) == pytest.approx(2.042, abs=0.001)


def test_a_row_holds_what_the_runs_did(tmp_path: Path) -> None:
    row = rows(two_methods(tmp_path))[1]
    assert row.final.values == (0.5, 0.6, 0.7)
    assert row.half is not None
    assert row.half.values == (0.4, 0.4, 0.4)
    numbers = [row.entropy_start, row.entropy_end, row.kl_end, row.kept, row.generated, row.trained]
    means = [estimate.mean for estimate in [*numbers, row.steps, row.minutes] if estimate]
    # ends are means of steps 6 to 10
    assert means == pytest.approx([1.0, 0.3, 0.08, 0.75, 100, 80, 10, 1.0])


def test_the_difference_is_taken_seed_by_seed(tmp_path: Path) -> None:
    comparison = two_methods(tmp_path)
    base, raft, grpo = rows(comparison)
    assert comparison.reference == "raft"
    assert raft.difference is None
    assert grpo.difference is not None
    assert grpo.difference.values == pytest.approx((0.1, 0.1, 0.4))
    assert grpo.difference.mean == pytest.approx(0.2)
    assert grpo.difference.half == pytest.approx(4.303 * 0.03**0.5 / 3**0.5, rel=1e-6)  # variance 0.03
    assert base.difference is not None
    assert base.difference.values == pytest.approx((-0.3, -0.3, -0.3))
    against_grpo = rows(comparison, "grpo")[1].difference
    assert against_grpo is not None
    assert against_grpo.values == pytest.approx((-0.1, -0.1, -0.4))


def test_an_unknown_reference_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no method is called ppo: base, raft, grpo"):
        rows(two_methods(tmp_path), "ppo")


def test_a_difference_counts_only_seeds_that_both_methods_finished(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft"), method("grpo")])
    for seed, accuracy in ((0, 0.5), (1, 0.6)):
        add_run(tmp_path, "raft", seed, (0.2, accuracy))
    for seed, accuracy in ((1, 0.9), (2, 0.1)):
        add_run(tmp_path, "grpo", seed, (0.2, accuracy))
    difference = rows(read_comparison(tmp_path))[1].difference
    assert difference is not None
    assert difference.values == pytest.approx((0.3,))


def test_a_baseline_is_one_value_per_seed_from_before_training(tmp_path: Path) -> None:
    comparison = two_methods(tmp_path)
    assert finals(comparison, comparison.methods[0]) == pytest.approx({0: 0.2, 1: 0.3, 2: 0.4})
    assert rows(comparison)[0].final.mean == pytest.approx(0.3)
    assert rows(comparison)[0].kl_end is None


def test_a_curve_ends_where_its_first_seed_ends(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft")], seeds=[0, 1])
    add_run(tmp_path, "raft", 0, (0.0, 0.5, 1.0))  # to 100 tokens
    add_run(tmp_path, "raft", 1, (0.2, 0.2))
    longer = tmp_path / "raft" / "seed=1" / "evals.jsonl"
    longer.write_text("".join(json.dumps(evaluation(at, 20 * at, 0.2)) + "\n" for at in (0, 10)))  # to 200
    line = curve(read_comparison(tmp_path), "raft", "held_out")
    assert line is not None
    assert (line.tokens[0], line.tokens[-1], len(line.tokens)) == (0, 100, 101)
    assert line.seeds[:, 25] == pytest.approx([0.25, 0.2])
    assert line.mean[25] == pytest.approx(0.225)
    assert line.half is not None
    assert line.half[25] == pytest.approx(12.706 * 0.025, rel=1e-6)


def test_a_training_curve_is_a_trailing_mean_over_cumulated_tokens_without_the_gaps(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft")], seeds=[0])
    entropies = [None, 1.0, 0.8, None, 0.6, 0.6, 0.5, 0.4, 0.4, 0.4]
    steps = [step(number, entropy=entropy) for number, entropy in enumerate(entropies, 1)]
    add_run(tmp_path, "raft", 0, (0.2, 0.5), steps)
    line = curve(read_comparison(tmp_path), "raft", "entropy")
    assert line is not None
    assert (line.tokens[0], line.tokens[-1]) == (20, 100)
    assert value_at(line, 36) == pytest.approx(0.87)  # from (1.0 + 0.8) / 2 at 30 to (1.0 + 0.8 + 0.6) / 3 at 50
    assert value_at(line, 100) == pytest.approx(0.46)


def test_the_kept_share_is_of_groups_and_not_the_mean_of_steps(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft")], seeds=[0])
    totals = [(0, 0), (8, 8), (8, 8), (10, 8)]  # dispatched, kept
    steps = [
        step(number, groups_dispatched=sent, groups_kept=kept, tokens_generated=25)
        for number, (sent, kept) in enumerate(totals, 1)
    ]
    add_run(tmp_path, "raft", 0, (0.2, 0.5), steps)
    line = curve(read_comparison(tmp_path), "raft", "kept")
    assert line is not None
    assert line.tokens[0] == 50  # the first step dispatched nothing
    assert (value_at(line, 75), value_at(line, 100)) == pytest.approx((1.0, 0.8))


def test_a_measure_without_numbers_has_no_curve(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft")], seeds=[0])
    add_run(tmp_path, "raft", 0, (0.2, 0.5), [step(number, kl_start=None) for number in range(1, 11)])
    comparison = read_comparison(tmp_path)
    assert curve(comparison, "raft", "kl_start") is None
    assert "| 0.500 | 0.350 | 1.000 → 0.300 |  | 75% |  | 80 / 100 |" in markdown_table(comparison)


def test_runs_that_did_not_finish_are_named_and_not_counted(tmp_path: Path) -> None:
    failure = {"method": "raft", "seed": 0, "why": "loss is infinite"}
    plan(tmp_path, [method("raft")], seeds=[0, 1, 2, 3, 4, 5], failed=[failure])
    add_run(tmp_path, "raft", 0, (0.2, 0.1))  # what a failed run left is not read
    add_run(tmp_path, "raft", 1, (0.2, 0.5))
    add_run(tmp_path, "raft", 3, (0.2, 0.5), [])
    add_run(tmp_path, "raft", 4, (0.2, 0.5))
    add_run(tmp_path, "raft", 5, (0.2, 0.5))
    (tmp_path / "raft/seed=4/evals.jsonl").write_text(json.dumps(evaluation(0, 0, 0.2)) + '\n{"step": 5, "tok')
    half = [evaluation(0, 0, 0.2), evaluation(5, 50, 0.4)]
    (tmp_path / "raft/seed=5/evals.jsonl").write_text("".join(json.dumps(line) + "\n" for line in half))
    comparison = read_comparison(tmp_path)
    assert [run.seed for run in comparison.runs] == [1]
    assert [(absent.seed, absent.why) for absent in comparison.failed] == [(0, "loss is infinite")]
    assert [(absent.seed, absent.why) for absent in comparison.missing] == [
        (2, "no folder"),
        (3, "no training step"),
        (4, "not evaluated both before and after training"),
        (5, "last evaluated at 50% of its budget"),
    ]
    assert "raft (1 of 6 seeds)" in markdown_table(comparison)


def test_half_of_a_budget_in_seconds_is_half_of_the_time(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft")], seeds=[0], budget_tokens=0, budget_seconds=48)
    add_run(tmp_path, "raft", 0, (0.0, 0.6))  # 60 seconds
    half = rows(read_comparison(tmp_path))[0].half
    assert half is not None
    assert half.mean == pytest.approx(0.24)


def test_a_comparison_without_a_finished_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"compare.json does not exist"):
        read_comparison(tmp_path)
    plan(tmp_path, [BASE, method("raft")], seeds=[0, 1], failed=[{"method": "raft", "seed": 1, "why": "broke"}])
    with pytest.raises(ValueError, match="no run has finished: 1 failed, 1 are missing"):
        read_comparison(tmp_path)


def test_a_plan_that_lacks_something_or_mixes_two_methods_is_an_error(tmp_path: Path) -> None:
    plan(tmp_path, [method("a/b"), method("a b")])
    with pytest.raises(ValueError, match="two methods share a folder: a/b, a b"):
        read_comparison(tmp_path)
    (tmp_path / "compare.json").write_text('{"name": "x", "title": "y"}')
    with pytest.raises(ValueError, match=r"compare.json lacks methods, seeds"):
        read_comparison(tmp_path)


def test_the_markdown_table_is_what_a_readme_shows(tmp_path: Path) -> None:
    assert markdown_table(two_methods(tmp_path)).splitlines() == [
        "| method | accuracy at the end | at half the budget | entropy start → end | KL from start | groups kept "
        "| difference to raft | tokens trained / generated |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| base | 0.300 ± 0.248 |  |  |  |  | -0.300 ± 0.000 |  |",
        "| raft | 0.600 ± 0.248 | 0.400 ± 0.000 | 1.000 → 0.300 | 0.080 | 75% |  | 80 / 100 |",
        "| grpo | 0.800 ± 0.657 | 0.400 ± 0.000 | 1.000 → 0.300 | 0.080 | 75% | +0.200 ± 0.430 | 80 / 100 |",
    ]


def test_the_terminal_shows_the_same_numbers_and_what_is_missing(tmp_path: Path) -> None:
    plan(tmp_path, [method("raft [all]")], seeds=[0, 1])
    add_run(tmp_path, "raft [all]", 0, (0.2, 0.5))
    out = io.StringIO()
    Console(file=out, width=200).print(terminal_table(read_comparison(tmp_path), 200))
    assert "raft [all] (1 of 2 seeds) │               0.500" in out.getvalue()
    assert "raft [all] seed 1: no folder" in out.getvalue()


def test_folders_and_counts_are_short_and_safe() -> None:
    assert method_folder("raft / pos only") == "raft---pos-only"
    told = [short(count) for count in (0, 999, 12_345, 999_600, 1_250_000, 3e9)]
    assert told == ["0", "999", "12.3k", "1M", "1.25M", "3G"]


def value_at(line: Curve, tokens: float) -> float:
    return float(np.interp(tokens, line.tokens, line.mean))


def test_the_table_for_other_programs_has_every_seed(tmp_path: Path) -> None:
    told = list(csv.DictReader(io.StringIO(csv_table(two_methods(tmp_path)))))
    assert [row["method"] for row in told] == ["base", "raft", "grpo"]
    assert {row["reference"] for row in told} == {"raft"}
    assert (told[1]["seeds"], told[1]["final_values"]) == ("0 1 2", "0.5 0.6 0.7")
    assert float(told[1]["final_mean"]) == pytest.approx(0.6)
    assert float(told[1]["final_half"]) == pytest.approx(0.248, abs=1e-3)
    assert (told[0]["entropy_end_mean"], told[1]["difference_mean"]) == ("", "")


def test_the_table_for_a_paper_has_no_letter_that_latex_reads_otherwise(tmp_path: Path) -> None:
    plan(tmp_path, [BASE, method("raft_100%"), method(r"a\b{c}")], seeds=[0])
    for name in ("raft_100%", r"a\b{c}"):
        add_run(tmp_path, name, 0, (0.2, 0.5))
    text = latex_table(read_comparison(tmp_path))
    assert text.startswith("\\begin{tabular}{lrrrrrrr}\n\\toprule\nmethod & ")
    assert r"difference to raft\_100\%" in text
    assert r"a\textbackslash{}b\{c\} & 0.500 & " in text
    assert r"$\to$" in text
    assert all(line.endswith(r"\\") for line in text.splitlines() if "&" in line)
    assert len({line.replace(r"\&", "").count("&") for line in text.splitlines() if "&" in line}) == 1
