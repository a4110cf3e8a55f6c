"""What the README shows is true: every algorithm is listed, its example of a reward works, and it stays short.

The example of a new algorithm and the printed objective stand in docs/algorithms.md.
"""

import re
from pathlib import Path

import numpy as np
import pytest

from cluster.config.reading import load_config
from learner.methods.algorithms import ALGORITHMS, algorithm_of
from learner.methods.credit import CREDITS
from learner.methods.formula import objective_line

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ALGORITHMS_PAGE = (ROOT / "docs/algorithms.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [README, ALGORITHMS_PAGE], ids=["README.md", "docs/algorithms.md"])
def test_every_algorithm_is_listed(page: str) -> None:
    assert [name for name in ALGORITHMS if f"`{name}`" not in page] == []


def test_the_example_of_a_new_algorithm_is_one_of_about_ten_lines_and_works(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(# mine\.py\n.*?)```", ALGORITHMS_PAGE, re.S)
    lines = [line for line in example.splitlines() if line and not line.startswith(("#", "from", "import"))]
    assert len(lines) <= 12
    (tmp_path / "mine.py").write_text(example)
    config = load_config(
        ROOT / "deploy/runs/demo.toml", [f"learner.file={tmp_path / 'mine.py'}", "learner.algorithm=median"]
    )
    CREDITS.pop("above-median")
    chosen = config.algorithm
    assert chosen.credit(np.array([1.0, -1.0, -1.0])).tolist() == [2.0, 0.0, 0.0]
    assert chosen.drop(np.array([1.0, 1.0])) == "all_correct"
    assert "A = r - median r" in objective_line(chosen)
    assert "clip(s, 0.8, 1.28)" in objective_line(chosen)


def test_the_objective_that_the_docs_print_is_the_one_that_is_printed() -> None:
    (shown,) = re.findall(r"objective: (minimise .*?)\n```", ALGORITHMS_PAGE, re.S)
    pieces = {"clip_high": 0.28, "kl_loss": 0.001, "mismatch": "mask"}
    assert objective_line(algorithm_of("reinforce-rej", pieces)) == " ".join(shown.split())


def test_the_reward_that_the_readme_shows_tells_right_from_wrong() -> None:
    (source,) = re.findall(r"```python\n(# mine\.py\n.*?)```", README, re.S)
    names: dict[str, object] = {}
    exec(source, names)
    reward = names["reward"]
    assert callable(reward)
    assert [reward(response, "4", "2+2=") for response in ("it is 4 ", "it is 5")] == [1.0, 0.0]


def test_the_readme_can_be_read_in_ten_minutes() -> None:
    said = re.sub(r"<!-- benchmarks:.*?<!-- end -->", "", README, flags=re.S)  # a table that nobody reads word by word
    assert len(said.split()) <= 1250
