"""The run file that `winnow init` writes is one that `winnow check` and `--plan` take as it is."""

import json
import string
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.cli import main
from cluster.commands.drafting.draft import Wanted, draft, file_for
from cluster.commands.drafting.fitting import fit, machine
from cluster.commands.drafting.lengths import Lengths, new_tokens
from cluster.commands.drafting.writing import Line, written
from cluster.config.errors import ConfigError
from cluster.config.reading import load_config
from learner.models.tiny import write_tiny_model

ROWS = [{"question": f"What is {n} plus 1?", "answer": f"{n} and 1 make {n + 1}.\n#### {n + 1}"} for n in range(120)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=string.printable, seed=0)
    return folder


def data(folder: Path, rows: list[dict[str, Any]] = ROWS, name: str = "train.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def wanted(model: Path, file: Path, *items: str, **more: str) -> Wanted:
    return Wanted(model=str(model), data=str(file), items=items, file=file.with_name("my.toml"), **more)


def test_the_file_passes_check_and_plan_and_every_setting_has_a_reason(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data(tmp_path)
    out = tmp_path / "my.toml"
    assert main(["init", str(model), str(file), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "reward   number finds 120 of 120 references right" in said
    assert f"  winnow train {out} --plan" in said
    lines = out.read_text().splitlines()
    for above, line in pairwise(lines):
        if "=" in line and not line.startswith(("#", "[")):
            assert above.startswith("# "), line
    assert main(["check", str(out)]) == 0
    assert main(["train", str(out), "--plan"]) == 0


def test_a_file_that_is_there_is_not_written_over(model: Path, tmp_path: Path) -> None:
    file, out = data(tmp_path), tmp_path / "my.toml"
    out.write_text("mine")
    assert main(["init", str(model), str(file), "-o", str(out)]) == 2
    assert out.read_text() == "mine"
    assert main(["init", str(model), str(file), "-o", str(out), "--force"]) == 0
    assert load_config(out).reward.name == "number"


def test_settings_of_the_command_line_are_taken_as_they_are(model: Path, tmp_path: Path) -> None:
    asked = wanted(model, data(tmp_path), "rollout.max_new_tokens=77", "learner.lr=3e-5", "reward.name=math")
    tree = tomllib.loads(draft(asked, print).text)
    assert (tree["rollout"]["max_new_tokens"], tree["learner"]["lr"], tree["reward"]["name"]) == (77, 3e-5, "math")


def test_what_else_is_said_goes_by_the_settings_of_the_command_line(model: Path, tmp_path: Path) -> None:
    text = draft(wanted(model, data(tmp_path), "rollout.groups_per_step=8"), print).text
    steps = tomllib.loads(text)["run"]["steps"]
    assert f"# {steps} steps of 8 prompts go {steps * 8 / len(ROWS):.2g} times through" in text


def test_sizes_are_looked_for_with_the_settings_of_the_command_line() -> None:
    tree = {"model": {"path": "tests/data/qwen2.5-7b"}, "data": {"path": "x"}, "rollout": {"max_new_tokens": 1024}}
    asked = {"learner": {"algorithm": "ppo"}, "reward": {"code": {"unsandboxed": True}}}
    found = fit(tree, asked, machine("8x80"), 1500, 7000)  # with a critic, which has an optimizer of its own
    assert found.settings["learner.micro_batch_tokens"] < 16384 or "learner.zero_stage" in found.settings
    with pytest.raises(ConfigError, match="does not fit"):
        fit(tree, {"learner": {"zero_stage": 0, "adapter": {"rank": 0}}}, machine("1x80"), 1500, 7000)


def test_a_mistake_on_the_command_line_is_not_taken_for_a_want_of_room(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^unknown setting learner\.lrr, did you mean learner\.lr\?$"):
        draft(wanted(model, data(tmp_path), "learner.lrr=1e-5"), print)


def test_several_files_of_data_are_for_the_run_file(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"looks at one file or folder, got 2 in data\.path: name one as DATA"):
        draft(wanted(model, data(tmp_path), 'data.path={"a.jsonl"=1,"b.jsonl"=1}'), print)


def test_worked_answers_say_how_long_responses_may_be() -> None:
    lengths = Lengths(median=50, high=80, most=90, worked=300, positions=4096, sizes=(50, 90))
    assert new_tokens(lengths, on_gpu=True)[0] == 1024
    small = Lengths(median=50, high=80, most=90, worked=300, positions=256, sizes=(50, 90))
    assert new_tokens(small, on_gpu=True) == (176, "what prompts leave of the model's 256 positions")
    short = Lengths(median=50, high=80, most=90, worked=0, positions=4096, sizes=(50, 90))
    assert new_tokens(short, on_gpu=False)[0] == 256


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"alpha": "x", "beta": "y"}], "no column was recognised .* Its columns: alpha, beta"),
        ([{"question": "Which?", "choices": ["a", "b"], "answer": 1}], "is the place of an option in choices"),
        ([{"prompt": "a", "answer": "b " * 200}], "too long, or of too many forms"),
        ([{"prompt": "a", "answer": None}, {"prompt": "b", "answer": "2"}], "1 of 2 references right; first .*:1 has"),
        (
            [{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "answer": "2"}],
            "set data.chat_template to a file with one",
        ),
    ],
)
def test_data_that_nothing_fits_is_refused_with_what_to_do(
    model: Path, tmp_path: Path, rows: list[dict[str, Any]], what: str
) -> None:
    with pytest.raises(ConfigError, match=what):
        draft(wanted(model, data(tmp_path, rows)), print)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("empty.jsonl", b"", "holds no row that can be read"),
        ("lfs.parquet", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "pointer of Git LFS"),
        ("binary.jsonl", bytes(range(256)) * 4, "no text: save it as UTF-8"),
        ("odd.csv", b"a;b;c\n1;2;3\n", "Its columns: a;b;c"),
        ("names.csv", b"prompt,answer\n", "holds no row that can be read"),
    ],
)
def test_files_that_are_broken_are_refused_by_name(
    model: Path, tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=what) as refused:
        draft(wanted(model, file), print)
    assert name in str(refused.value)


def test_one_row_is_enough_and_said_to_be_one(model: Path, tmp_path: Path) -> None:
    made = draft(wanted(model, data(tmp_path, ROWS[:1])), print)
    assert tomllib.loads(made.text)["rollout"]["groups_per_step"] == 1
    assert any("no test file lies beside the data" in line for line in made.said)


def test_a_run_file_is_called_by_its_data() -> None:
    assert str(file_for("/data/gsm8k/train.jsonl")) == "gsm8k.toml"
    assert str(file_for("hf://datasets/openai/my-set/main/train-*.parquet")) == "main.toml"
    assert str(file_for("puzzles.csv")) == "puzzles.toml"


def test_a_reason_stands_above_its_setting_and_tables_are_in_one_line() -> None:
    text = written(["first"], [Line(section="learner", key="adapter", value={"rank": 2, "alpha": 4.0}, why="room")])
    assert text == "# first\n\n[learner]\n# room\nadapter = {rank = 2, alpha = 4.0}\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("on", "wanted"),
    [
        ("8x80", {"cluster.generators": 4, "cluster.learner_ranks": 4, "learner.micro_batch_tokens": 16384}),
        ("8x48", {"cluster.learner_ranks": 4, "learner.zero_stage": 3, "learner.micro_batch_tokens": 16384}),
        ("8x44", {"cluster.learner_ranks": 4, "learner.zero_stage": 3, "learner.micro_batch_tokens": 8192}),
        ("1x80", {"cluster.colocate": True, "learner.adapter": {"rank": 32, "alpha": 64.0}}),
    ],
)
def test_what_is_proposed_fits_the_gpus_that_are_described(on: str, wanted: dict[str, Any]) -> None:
    """Of a model with the sizes of Qwen2.5-7B."""
    tree = {"model": {"path": "tests/data/qwen2.5-7b"}, "data": {"path": "x"}, "rollout": {"max_new_tokens": 1024}}
    found = fit(tree, {}, machine(on), 1500, 7000)
    assert wanted.items() <= dict(found.settings).items()
    assert set(found.why) == set(found.settings)
