"""What the paper's comparison in miniature shows: its table, and each finding of arXiv 2504.11343 held against it.

    .venv/bin/python -m tests.bench.paper runs/paper                              # also as findings.md in that folder
    .venv/bin/python -m tests.bench.paper runs/paper --write docs/benchmarks.md   # into the page

A finding is a sum over methods of one number that every run gives, taken seed by seed, and what the sum should exceed.
It is confirmed or refuted where the 95 % Student-t interval over the seeds lies on one side of that, else it cannot be
told. So nobody decides by eye what a table says.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cluster.comparing.comparison import MEASURES, Comparison, Estimate, Run, held_out_at, read_comparison
from cluster.comparing.table import markdown_table

MARGIN = 0.02  # of accuracy: what counts as no difference
EARLY, HALF = 0.25, 0.5  # shares of the budget
CONFIRMED, REFUTED, UNTOLD = "confirmed", "refuted", "cannot be told"
PAPER = {  # method -> its average on Qwen2.5-Math-7B-base / LLaMA-3.2-3B-instruct, percent
    "base": "23.6 / 13.1",
    "reinforce": "53.9 / 24.2",
    "reinforce-rej": "56.4 / 28.5",
    "grpo": "56.3 / 28.4",
    "raft": "52.3 / 25.9",
    "raft++": "56.1 / 27.6",
    "iterative-dpo": "48.8 / -",
    "ppo": "52.5 / 26.9",
}
_PART = re.compile(r"(<!-- paper -->\n).*?(<!-- end -->)", re.S)


def _end(comparison: Comparison, run: Run) -> float | None:
    return float(run.evals[-1]["accuracy"])


def _early(comparison: Comparison, run: Run) -> float | None:
    return held_out_at(comparison, run, EARLY)


def _late_gain(comparison: Comparison, run: Run) -> float | None:
    half = held_out_at(comparison, run, HALF)
    return None if half is None else float(run.evals[-1]["accuracy"]) - half


def _entropy_left(comparison: Comparison, run: Run) -> float | None:
    values = MEASURES["entropy"](run)[1]
    return float(values[-1] / values[0]) if len(values) and values[0] > 0 else None


def _kl(comparison: Comparison, run: Run) -> float | None:
    values = MEASURES["kl_start"](run)[1]
    return float(values[-1]) if len(values) else None


NUMBERS: dict[str, Callable[[Comparison, Run], float | None]] = {  # what a run gives, by how it is called in the table
    "accuracy at the end": _end,
    "accuracy at a quarter of the budget": _early,
    "accuracy gained in the second half": _late_gain,
    "share of the first step's entropy that is left": _entropy_left,
    "KL from the start, at the end": _kl,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding of the paper, as it can be measured."""

    says: str  # the paper
    number: str  # a key of NUMBERS
    of: Mapping[str, float]  # method -> its factor in the sum
    above: float = 0.0  # what the sum should exceed
    within: float | None = None  # or how far from zero it may be at most
    gain: Mapping[str, float] = field(default_factory=dict)  # a sum that must be above zero: this is a share of it

    @property
    def measured(self) -> str:
        """The sum in words. Example: "accuracy at the end: grpo - raft++ > 0"."""
        wanted = f"> {self.above:g}" if self.within is None else f"within ±{self.within:g}"
        where = f", where {_in_words(self.gain)} > 0" if self.gain else ""
        return f"{self.number}: {_in_words(self.of)} {wanted}{where}"

    def estimate(self, comparison: Comparison) -> Estimate | None:
        """The sum of each seed that all its methods have; None where there is none."""
        return self._sum(comparison, self.of)

    def _sum(self, comparison: Comparison, of: Mapping[str, float]) -> Estimate | None:
        number = NUMBERS[self.number]
        found = {method: {run.seed: number(comparison, run) for run in comparison.of(method)} for method in of}
        sums = []
        for seed in comparison.seeds:
            values = [(factor, found[method].get(seed)) for method, factor in of.items()]
            if all(value is not None for _, value in values):
                sums.append(sum(factor * value for factor, value in values if value is not None))
        return Estimate(values=tuple(sums)) if sums else None

    def held(self, comparison: Comparison) -> tuple[Estimate, str] | None:
        """The sum and its verdict; None where no seed has all methods. Of a gain that is not clear of zero no share can
        be told."""
        estimate = self.estimate(comparison)
        if estimate is None or not self.gain:
            return estimate and (estimate, self.verdict(estimate))
        gained = self._sum(comparison, self.gain)
        clear = gained is not None and gained.half is not None and gained.mean - gained.half > 0
        return estimate, self.verdict(estimate) if clear else UNTOLD

    def verdict(self, estimate: Estimate) -> str:
        """What the interval says; one seed has none."""
        if estimate.half is None:
            return UNTOLD
        low, high = estimate.mean - estimate.half, estimate.mean + estimate.half
        least, most = (self.above, np.inf) if self.within is None else (-self.within, self.within)
        if low > least and high < most:
            return CONFIRMED
        return REFUTED if high < least or low > most else UNTOLD


def _in_words(of: Mapping[str, float]) -> str:
    terms = [f"{'-' if factor < 0 else '+'} {_factor(factor)}{method}" for method, factor in of.items()]
    return " ".join(terms).removeprefix("+ ")


def _factor(factor: float) -> str:
    return "" if abs(factor) == 1 else f"{abs(factor):g} "


_WRONG, _CORRECT, _REJ = "reinforce-drop-all-wrong", "reinforce-drop-all-correct", "reinforce-rej"
FINDINGS = (
    Finding(
        says="removing the groups that are all wrong helps Reinforce",
        number="accuracy at the end",
        of={_WRONG: 1, "reinforce": -1},
    ),
    Finding(
        says="it helps more than removing those that are all correct",
        number="accuracy at the end",
        of={_WRONG: 1, _CORRECT: -1},
    ),
    Finding(
        says="and is most, more than half, of what Reinforce-Rej gains",
        number="accuracy at the end",
        of={_WRONG: 1, "reinforce": -0.5, _REJ: -0.5},
        gain={_REJ: 1, "reinforce": -1},
    ),
    Finding(
        says="removing the groups that are all correct does little by itself",
        number="accuracy at the end",
        of={_CORRECT: 1, "reinforce": -1},
        within=MARGIN,
    ),
    Finding(
        says="plain Reinforce is below RAFT++ (LLaMA)",
        number="accuracy at the end",
        of={"raft++": 1, "reinforce": -1},
    ),
    Finding(
        says="training on correct responses alone leads early: RAFT++",
        number="accuracy at a quarter of the budget",
        of={"raft++": 1, "grpo": -1},
    ),
    Finding(
        says="likewise RAFT",
        number="accuracy at a quarter of the budget",
        of={"raft": 1, "grpo": -1},
    ),
    Finding(
        says="its entropy falls fastest",
        number="share of the first step's entropy that is left",
        of={"grpo": 1, "raft++": -1},
    ),
    Finding(
        says="its gains stall",
        number="accuracy gained in the second half",
        of={"grpo": 1, "raft++": -1},
    ),
    Finding(
        says="and GRPO passes it: RAFT++",
        number="accuracy at the end",
        of={"grpo": 1, "raft++": -1},
    ),
    Finding(
        says="likewise RAFT",
        number="accuracy at the end",
        of={"grpo": 1, "raft": -1},
    ),
    Finding(
        says="ratio and clip help: RAFT++ is above RAFT",
        number="accuracy at the end",
        of={"raft++": 1, "raft": -1},
    ),
    Finding(
        says="Reinforce-Rej is as good as GRPO or better",
        number="accuracy at the end",
        of={_REJ: 1, "grpo": -1},
        above=-MARGIN,
    ),
    Finding(
        says="Reinforce-Rej stays nearer to its start than Reinforce",
        number="KL from the start, at the end",
        of={"reinforce": 1, _REJ: -1},
    ),
    Finding(
        says="dividing by the standard deviation adds almost nothing to Reinforce-Rej",
        number="accuracy at the end",
        of={"reinforce-rej-std": 1, _REJ: -1},
        within=MARGIN,
    ),
)


def findings(comparison: Comparison) -> list[tuple[Finding, Estimate, str]]:
    """The findings whose methods all have finished runs with a common seed, their sums and verdicts."""
    told = [(finding, finding.held(comparison)) for finding in FINDINGS]
    return [(finding, *held) for finding, held in told if held is not None]


def page_part(comparison: Comparison) -> str:
    """How the comparison was made, its table and its findings, as Markdown."""
    trained = [method for method in comparison.methods if not method.baseline]
    absent = [f"{one.method}, seed {one.seed}: {one.why}" for one in (*comparison.failed, *comparison.missing)]
    lines = [
        f"{len(trained)} methods, {len(comparison.seeds)} seeds each, {comparison.budget_tokens:,} tokens a run; "
        f"{comparison.machine}." + (f" Not in the numbers: {'; '.join(absent)}." if absent else ""),
        "",
        _with_papers_column(markdown_table(comparison)),
        "| the paper | here, seed by seed | is | |",
        "|---|---|---:|---|",
    ]
    lines += [
        f"| {finding.says} | {finding.measured} | {estimate.text('+.3f')} | {verdict} |"
        for finding, estimate, verdict in findings(comparison)
    ]
    return "\n".join(lines)


def _with_papers_column(table: str) -> str:
    head, rule, *body = table.splitlines()
    cells = [(head, "the paper: Qwen / LLaMA"), (rule, "---:")]
    cells += [(line, PAPER.get(line.split(" | ")[0].removeprefix("| ").split(" (")[0], "")) for line in body]
    return "\n".join(line.replace(" | ", f" | {cell} | ", 1) for line, cell in cells) + "\n"


def write_part(page: Path, part: str) -> int:
    """Puts the part between `<!-- paper -->` and `<!-- end -->` of a page; how many places it has."""
    text, count = _PART.subn(lambda mark: f"{mark[1]}\n{part}\n\n{mark[2]}", page.read_text(encoding="utf-8"))
    page.write_text(text, encoding="utf-8")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description="the findings of the paper, held against a comparison")
    parser.add_argument("folder", type=Path, help="of `make paper`")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="write table and findings into this page")
    options = parser.parse_args()
    part = page_part(read_comparison(options.folder))
    (options.folder / "findings.md").write_text(part + "\n", encoding="utf-8")
    print(part)
    if options.write and not write_part(options.write, part):
        print(f"{options.write} has no place for them: put <!-- paper --> and <!-- end --> on lines of their own")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
