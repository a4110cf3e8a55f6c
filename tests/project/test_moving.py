"""docs/moving.md is true of this project: settings, defaults, run files and the wrappers of rewards of others; and of
TRL, where it is installed (`make others-test`)."""

import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cluster.config.described import described
from cluster.config.reading import config_of
from learner.methods.algorithms import ALGORITHMS, Algorithm, algorithm_of
from learner.methods.formula import objective_line
from tests.others import package
from tests.tables import each

PAGE = (Path(__file__).parents[2] / "docs/moving.md").read_text(encoding="utf-8")
DEFAULTS = {one.name: one.default for one in described()}
UNSET = "unset"


def part(title: str) -> str:
    """What stands under a heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    lines = [line for line in part(title).splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\)\| ?", line.strip("| ")) for line in lines if "---" not in line]


def with_defaults(text: str) -> list[tuple[str, str]]:
    """(setting, what stands in brackets behind it)."""
    return re.findall(r"`(\w+(?:\.\w+)+)` \(([^)]*)\)", text)


def default_of(setting: str) -> str:
    """As the page writes it: of a piece of the algorithm that of the table of algorithms."""
    section, _, key = setting.partition(".")
    if section == "objective":
        value = Algorithm.__dataclass_fields__[key].default
        return f'"{value}"' if isinstance(value, str) else str(value)
    return DEFAULTS[setting] or UNSET


def test_every_default_of_ours_that_the_page_names_is_the_real_one() -> None:
    tables = [row[1] for title in ("From TRL", "From OpenRLHF", "From verl") for row in rows(title)[1:]]
    named = [pair for text in (*tables, part("What differs from all three")) for pair in with_defaults(text)]
    assert len(named) > 100
    assert [(setting, said, default_of(setting)) for setting, said in named if said != default_of(setting)] == []


def test_every_row_says_what_is_here_or_what_differs() -> None:
    for title in ("From TRL", "From OpenRLHF", "From verl"):
        assert [row for row in rows(title) if len(row) < 2 or not "".join(row[1:]).strip()] == []


def test_the_estimators_by_name_are_algorithms() -> None:
    table, _, _ = part("The same objective").split("### Estimators by name")[1].partition("| TRL `loss_type`")
    ours = " ".join(line.rsplit(" | ", 1)[1] for line in table.splitlines() if line.startswith("| "))
    named = {name for code in re.findall(r"`([^`]*)`", ours) for name in re.findall(r'"([\w+-]+)"', code)}
    assert {"grpo", "dr-grpo", "loop", "ppo"} <= named
    assert named - {"whiten"} <= set(ALGORITHMS)


@each(
    ("number", "piece"),
    [
        (0, "w = prod q [prod q <= 3], q = p_step/p_sampler"),
        (1, "min(-min(s A, clip(s, 0.8, 1.2) A), -3 A where A < 0)"),
        (2, "+ 0.01 (exp(-d) + d - 1)"),
    ],
)
def test_the_run_files_give_the_objectives_that_they_stand_for(number: int, piece: str) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", part("The same objective"), re.S | re.M)
    config = config_of(tomllib.loads(blocks[number]) | {"world": {"name": "addition"}})
    line = objective_line(config.algorithm)
    assert line.startswith("minimise token-mean of")
    assert "A = (r - mean r) / std r" in line
    assert piece in line
    assert "groups dropped: none" in line


def test_the_leave_one_out_of_the_others_has_a_ratio_and_a_clip() -> None:
    assert "clip(s, 0.8, 1.2)" in objective_line(algorithm_of("loop"))
    assert "clip" not in objective_line(algorithm_of("rloo"))


def of_trl(prompts: list[str], completions: list[Any], solution: list[str], **columns: Any) -> list[float]:
    """As TRL calls a reward function: lists, and the columns of the data by name."""
    pairs = zip(completions, solution, strict=True)
    return [float(completion[0]["content"].endswith(answer)) for completion, answer in pairs]


def of_verl(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> dict[str, float]:
    """As verl calls one."""
    return {"score": float(solution_str.endswith(ground_truth)), "acc": 1.0}


def of_openrlhf(queries: list[str], prompts: list[str], labels: list[str]) -> dict[str, Any]:
    """As OpenRLHF calls one."""
    assert queries[0].startswith(prompts[0])
    return {"rewards": [float(queries[0].endswith(labels[0]))]}


@pytest.mark.parametrize(
    ("number", "module", "name", "theirs"),
    [
        (0, "my_trl_rewards", "accuracy_reward", of_trl),
        (1, "my_verl_reward", "compute_score", of_verl),
        (2, "my_openrlhf_reward", "reward_func", of_openrlhf),
    ],
)
def test_a_wrapped_reward_of_theirs_tells_right_from_wrong(
    number: int, module: str, name: str, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ModuleType(module)
    setattr(known, name, theirs)
    monkeypatch.setitem(sys.modules, module, known)
    names: dict[str, Any] = {}
    exec(re.findall(r"^```python\n(.*?)^```", part("Reward functions"), re.S | re.M)[number], names)
    if "reward_group" in names:
        assert names["reward_group"](["it is 4", "5"], "4", "2+2=") == [1.0, 0.0]
    else:
        assert [names["reward"](response, "4", "2+2=") for response in ("it is 4", "5")] == [1.0, 0.0]


@pytest.mark.others
def test_every_setting_of_trl_that_the_page_names_is_there_with_its_default() -> None:
    fields = package("trl").GRPOConfig.__dataclass_fields__
    pairs = [pair for row in rows("From TRL")[1:] for pair in re.findall(r"`(\w+)`(?: \(([^) ]*)\))?", row[0])]
    arguments = ("model", "train_dataset", "prompt", "reward_funcs", "tools", "environment_factory", "rollout_func")
    named = {name: said.strip('"') for name, said in pairs if name not in arguments}
    assert len(named) > 40
    assert [name for name in named if name not in fields] == []
    assert [name for name, said in named.items() if said and not is_value(said, fields[name].default)] == []


def is_value(said: str, value: Any) -> bool:
    """Whether that is how the page writes a value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(said) == value
    return said == str(value)
