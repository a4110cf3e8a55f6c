import json
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from cluster.cli import main
from cluster.config.reading import CONFIG
from cluster.evaluating import evaluate as evaluating
from cluster.evaluating.against import RESULT
from learner.models.tiny import write_tiny_model

REWARD = """
def reward(response, reference, prompt):
    if response.startswith(("1", "2")):
        raise RuntimeError("no verdict on that")
    return len(set(response)) % 2 == 0
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet="0123456789+=", seed=0)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two files with different columns, a reward, and a run file that names them."""
    easy = [{"prompt": f"{number}+1=", "answer": str(number + 1)} for number in range(5)]
    hard = [{"q": f"{number}+7=", "a": str(number + 7)} for number in range(3)]
    for name, rows in (("easy", easy), ("hard", hard)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "reward.py").write_text(REWARD)
    (tmp_path / "eval.toml").write_text(f"""
[cluster]
device = "cpu"
[reward]
name = "own"
[reward.own]
file = "{tmp_path}/reward.py"
[rollout]
max_new_tokens = 6
[eval.path]
easy = "{tmp_path}/easy.jsonl"
hard = {{path = "{tmp_path}/hard.jsonl", prompt_column = "q", answer_column = "a"}}
""")
    for section in ("eval", "data", "cluster"):
        (tmp_path / f"{section}-as-text.toml").write_text(f'{section} = "x"')
    return tmp_path


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["eval", *words]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--samples", "0", "{data}/easy.jsonl"], "--samples must be at least 1, got 0"),
        ([], "nothing says what is evaluated"),
        (["none.jsonl"], "there is no data file none.jsonl"),
        (["{data}/hard.jsonl"], "hard.jsonl:1 has no text in column 'prompt' (columns there: q, a)"),
        (["{data}/eval.toml", "eval.rows=9:"], "easy.jsonl holds no rows in data.rows = '9:'"),
        (["{data}/easy.jsonl", "rollout.max_new_tokens=2048"], "must be below the model's 2048 positions, got 2048"),
        (["{data}/easy.jsonl", "rollout.max_new_tokens=2045"], "are longer than the 3 tokens that leave room"),
        (["{data}/eval.toml", "reward.name=number", "reward.liked.kind=model"], "reward.liked.path"),
        (["{data}/easy.jsonl", "--out", "{data}/none/out.json"], "must be a file in a folder that is there"),
        (["{data}/easy.jsonl", "--against", "{data}/easy.jsonl"], "is not what winnow eval writes"),
        (["none.toml"], "there is no run file none.toml"),
        (["{data}/eval-as-text.toml"], "eval must be a section"),
        (["{data}/data-as-text.toml", "{data}/easy.jsonl"], "data must be a section"),
        (["{data}/cluster-as-text.toml", "{data}/easy.jsonl"], "cluster must be a section"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence_before_anything_starts(
    words: list[str], message: str, model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = data / "runs"
    found = said([str(model), *(word.format(data=data) for word in words), f"run.folder={runs}"], capsys)
    assert message in found
    assert found.startswith("winnow: ")
    assert "Traceback" not in found
    assert not runs.exists() or not any(runs.iterdir())


def test_the_seconds_of_an_evaluation_are_those_of_all_its_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers are imagined; the clock is turned."""
    now, earlier = [100.0], list[int]()

    def answer_all(evaluation: Any, display: Any, recorder: Any, earlier: Any, answered: dict[int, None]) -> None:
        now[0] += 10.0
        answered[len(earlier)] = None
        if len(earlier) == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(evaluating.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(evaluating, "_answer_all", answer_all)
    monkeypatch.setattr(evaluating, "_earlier", lambda evaluation: list(earlier))
    monkeypatch.setattr(evaluating, "result_lines", lambda result: [])
    evaluation: Any = SimpleNamespace(
        folder=tmp_path,
        prompts=(1, 2),
        subject=SimpleNamespace(step=None),
        result=lambda answered, seconds, against=None: {"seconds": seconds},
    )
    found = []
    for done in ([], [0], [0, 1]):
        earlier[:] = done
        with suppress(KeyboardInterrupt):
            evaluating._run(evaluation, SimpleNamespace(say=str), None, None)  # type: ignore[arg-type]
        found.append(json.loads((tmp_path / RESULT).read_text())["seconds"])
    assert found == [10.0, 20.0, 20.0]


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_a_model_is_evaluated_on_two_benchmarks_and_looked_at_again_without_ray(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(model), "--samples", "4", str(data / "eval.toml"), f"run.folder={data}/runs"]
    assert main(["eval", *words, "--out", str(data / "out.json")]) == 0
    capsys.readouterr()
    (folder,) = (data / "runs").iterdir()
    result = json.loads((folder / RESULT).read_text())
    assert json.loads((data / "out.json").read_text()) == result
    assert result["complete"]
    assert [result["benchmarks"][name]["prompts"] for name in ("easy", "hard")] == [5, 3]
    rows = [
        row for file in folder.glob("trajectories/step-0/groups*.parquet") for row in pq.read_table(file).to_pylist()
    ]
    assert len(rows) == 32
    assert {version for row in rows for version in row["versions"]} == {-1}
    for name in ("easy", "hard"):
        mine = [row for row in rows if row["prompt_id"].startswith(f"eval/{name}/")]
        outcomes = result["benchmarks"][name]["outcomes"]
        assert outcomes["error"] == sum(row["response"].startswith(("1", "2")) for row in mine)
        assert outcomes["correct"] == sum(
            len(set(row["response"])) % 2 == 0 and not row["response"].startswith(("1", "2")) for row in mine
        )
        assert sum(outcomes.values()) == len(mine)
        assert result["benchmarks"][name]["majority"] is None
    assert sum(each["outcomes"]["error"] for each in result["benchmarks"].values()) > 0
    check_again(folder, result, capsys)


def check_again(folder: Path, result: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The same call with its folder starts nothing, finds the same, and compares it with itself."""
    before = (folder / CONFIG).read_text()
    assert main(["eval", str(folder), "--against", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "starting Ray" not in out
    assert "8 of 8 prompts were answered before" in out
    again = json.loads((folder / RESULT).read_text())
    assert (again["benchmarks"], again["prompts"]) == (result["benchmarks"], result["prompts"])
    assert again["seconds"] == result["seconds"]
    assert all(not each["wrong_to_right"] for each in again["against"]["benchmarks"].values())
    assert (folder / CONFIG).read_text() == before
    assert main(["eval", str(folder), "--samples", "8"]) == 2
    assert "is an evaluation, which goes on by its own settings" in capsys.readouterr().err
