import json
from pathlib import Path

import numpy as np
import pytest

from cluster.comparing.comparison import Comparison, Estimate, read_comparison, run_folder
from learner.methods.algorithms import ALGORITHMS
from learner.methods.own import known_algorithms
from tests.bench.paper import FINDINGS, Finding, findings, page_part, write_part

RUNS = Path(__file__).parents[2] / "deploy/runs/paper"
METHODS = sorted({method for finding in FINDINGS for method in finding.of})


def comparison(
    folder: Path, curves: dict[str, list[list[float]]], entropies: tuple[float, float] = (1.0, 0.5)
) -> Comparison:
    """Runs of 100 tokens, evaluated at equal distances: method -> seed -> accuracies."""
    methods = [{"name": "base", "baseline": True}, *({"name": name} for name in curves)]
    seeds = list(range(max(map(len, curves.values()))))
    plan = {"name": "small", "title": "Small", "methods": methods, "seeds": seeds, "budget_tokens": 100}
    folder.mkdir(exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(plan))
    for name, several in curves.items():
        for seed, accuracies in enumerate(several):
            place = run_folder(folder, name, seed)
            place.mkdir(parents=True)
            gap = 100 / (len(accuracies) - 1)
            evals = [
                {"step": at, "tokens": at * gap, "accuracy": accuracy, "prompts": 10, "responses": 20}
                for at, accuracy in enumerate(accuracies)
            ]
            common = {"accuracy": 0.5, "kl_start": 0.1, "wall_seconds": 60.0, "tokens_trained": 50}
            common |= {"groups_dispatched": 8, "groups_kept": 4, "tokens_generated": 10}
            steps = [
                {"step": at, "entropy": value} | common for at, value in enumerate((*entropies[:1], *6 * entropies[1:]))
            ]
            for file, lines in (("metrics.jsonl", steps), ("evals.jsonl", evals)):
                (place / file).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_comparison(folder)


def verdicts(seen: Comparison) -> dict[str, str]:
    return {finding.measured: verdict for finding, _, verdict in findings(seen)}


def test_an_early_lead_and_a_late_stall_are_told_apart_from_chance(tmp_path: Path) -> None:
    noise = (0.00, 0.01, 0.02)
    curves = {
        "raft++": [[0.2 + n, 0.5 + n, 0.55, 0.55, 0.55 + n] for n in noise],
        "grpo": [[0.2 + n, 0.3, 0.5, 0.6, 0.7] for n in noise],
    }
    told = verdicts(comparison(tmp_path, curves))
    assert told == {
        "accuracy at a quarter of the budget: raft++ - grpo > 0": "confirmed",
        "share of the first step's entropy that is left: grpo - raft++ > 0": "cannot be told",
        "accuracy gained in the second half: grpo - raft++ > 0": "confirmed",
        "accuracy at the end: grpo - raft++ > 0": "confirmed",
    }


def test_most_of_the_gain_is_more_than_half_of_it_seed_by_seed(tmp_path: Path) -> None:
    curves = {
        "reinforce": [[0.2, 0.50], [0.2, 0.60], [0.2, 0.70]],
        "reinforce-drop-all-wrong": [[0.2, 0.58], [0.2, 0.69], [0.2, 0.78]],
        "reinforce-rej": [[0.2, 0.60], [0.2, 0.70], [0.2, 0.80]],
    }
    says = "and is most, more than half, of what Reinforce-Rej gains"
    told = {
        finding.says: (estimate, verdict)
        for finding, estimate, verdict in findings(comparison(tmp_path / "gain", curves))
    }
    estimate, verdict = told[says]
    assert estimate.values == pytest.approx((0.03, 0.04, 0.03))
    assert verdict == "confirmed"
    curves["reinforce-rej"] = [[0.2, 0.45], [0.2, 0.55], [0.2, 0.65]]  # it loses, and of nothing there is no share
    told = {
        finding.says: (estimate, verdict)
        for finding, estimate, verdict in findings(comparison(tmp_path / "none", curves))
    }
    estimate, verdict = told[says]
    assert estimate.mean - estimate.half > 0
    assert verdict == "cannot be told"


@pytest.mark.parametrize(
    ("values", "above", "within", "verdict"),
    [
        ((0.1, 0.11, 0.12), 0.0, None, "confirmed"),
        ((-0.1, -0.11, -0.12), 0.0, None, "refuted"),
        ((0.1, -0.1, 0.2), 0.0, None, "cannot be told"),
        ((0.1,), 0.0, None, "cannot be told"),
        ((-0.010, -0.011, -0.012), -0.02, None, "confirmed"),
        ((0.010, 0.011, 0.012), 0.0, 0.02, "confirmed"),
        ((0.10, 0.11, 0.12), 0.0, 0.02, "refuted"),
        ((-0.10, -0.11, -0.12), 0.0, 0.02, "refuted"),
        ((-0.03, 0.0, 0.03), 0.0, 0.02, "cannot be told"),
    ],
)
def test_a_verdict_is_where_the_whole_interval_lies(
    values: tuple[float, ...], above: float, within: float | None, verdict: str
) -> None:
    finding = Finding(says="", number="accuracy at the end", of={"a": 1}, above=above, within=within)
    assert finding.verdict(Estimate(values=values)) == verdict


def test_findings_are_of_seeds_that_all_their_methods_have(tmp_path: Path) -> None:
    curves = {"raft": [[0.2, 0.5], [0.2, 0.6]], "raft++": [[0.2, 0.6]]}
    ((finding, estimate, _),) = findings(comparison(tmp_path, curves))
    assert finding.of == {"raft++": 1, "raft": -1}
    assert estimate.values == pytest.approx((0.1,))


def test_table_and_findings_stand_in_the_page_in_place_of_the_last_ones(tmp_path: Path) -> None:
    seen = comparison(tmp_path, {name: [[0.2, 0.5], [0.2, 0.6]] for name in METHODS})
    part = page_part(seen)
    assert "| grpo | 56.3 / 28.4 | 0.550" in part
    assert "| base | 23.6 / 13.1 |" in part
    assert part.count(" | cannot be told |") + part.count(" | confirmed |") == len(FINDINGS)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- paper -->\nold\n<!-- end -->\nafter\n")
    assert write_part(page, part) == 1
    assert write_part(page, part) == 1
    assert page.read_text() == f"before\n<!-- paper -->\n\n{part}\n\n<!-- end -->\nafter\n"


def test_every_finding_is_of_methods_that_have_a_run_file() -> None:
    assert set(METHODS) <= {file.stem for file in RUNS.glob("[!_]*.toml")}


@pytest.mark.parametrize(
    ("method", "right", "wrong", "both"),
    [
        ("drop-all-wrong-in-place", (1, 1, 1, 1), (0, 0, 0, 0), (1, -1, -1, -1)),
        ("drop-all-correct-in-place", (0, 0, 0, 0), (-1, -1, -1, -1), (1, -1, -1, -1)),
        ("rej-in-place", (0, 0, 0, 0), (0, 0, 0, 0), (1, -1, -1, -1)),
        ("rej-std-in-place", (0, 0, 0, 0), (0, 0, 0, 0), (1, -1, -1, -1)),  # whose deviation is 1
    ],
)
def test_a_group_rejected_in_place_is_worth_nothing(
    method: str, right: tuple[float, ...], wrong: tuple[float, ...], both: tuple[float, ...]
) -> None:
    algorithm = known_algorithms(str(RUNS / "in_place.py"))[method]
    for scores, worth in (((1, 1, 1, 1), right), ((-1, -1, -1, -1), wrong), ((1, -1, -1, -1), both)):
        assert algorithm.drop(np.array(scores, float)) == ""
        assert algorithm.credit(np.array(scores, float)) == pytest.approx(worth)
    assert algorithm.counts == "credited"
    assert algorithm.loss is ALGORITHMS["reinforce"].loss
