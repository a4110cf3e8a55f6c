"""How the training of a reward model is found again, and what of it may change."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.config.errors import ConfigError
from cluster.reward_models.config import RewardModelConfig
from cluster.reward_models.preparing import prepare_reward_model
from cluster.reward_models.resume import find_continuation, how_to_go_on, write_inputs
from cluster.running.checkpoints import seal
from cluster.running.inputs import check_inputs
from cluster.running.state import RunInputs
from learner.models.tiny import write_tiny_model
from learner.types import MARKER

# Of the row {"prompt": "1+1=", "chosen": "2", "rejected": "4"}, as before rows had messages.
DIGEST = "4597795d21dc7de360d9e50285fb7973add91a37ba88f8145baa2bffd7868afc"
BEGAN = RunInputs(prompts=4, prompts_digest="ab", stored=0, stored_digest="", ranks=1, zero_stage=2, dtype="float32")
CONFIG = RewardModelConfig.model_validate(
    {"model": {"path": "m"}, "data": {"path": "rows.jsonl"}, "run": {"steps": 9}, "learner": {"batch": 3}}
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with the checkpoints of the steps 2 and 10, and one of step 12 that was cut short."""
    CONFIG.write(tmp_path)
    write_inputs(tmp_path, BEGAN)
    for step in (2, 10, 12):
        (tmp_path / f"checkpoints/step-{step}").mkdir(parents=True)
        if step < 12:
            (tmp_path / f"checkpoints/step-{step}" / MARKER).touch()
    return tmp_path


def test_it_goes_on_from_the_newest_complete_checkpoint_or_the_one_that_is_named(run: Path) -> None:
    found = find_continuation(run, ["run.steps=20", "learner.lr=2e-5"])
    assert (found.checkpoint.name, found.is_over, found.inputs) == ("step-10", False, BEGAN)
    assert [change.line for change in found.changed] == ["learner.lr: 1e-05 → 2e-05", "run.steps: 9 → 20"]
    assert find_continuation(run).is_over
    named = find_continuation(run / "checkpoints/step-2")
    assert (named.folder, named.checkpoint.name, named.is_over) == (run, "step-2", False)
    assert how_to_go_on(run).endswith(f"step-10 is complete; what goes on from it: winnow reward-model --resume {run}")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("learner.batch=4", "learner.batch: 3 → 4 cannot change in a run that goes on: what was trained so far"),
        ("model.path=other", "model.path: 'm' → 'other' cannot change"),
        ("data.rows=:-2", "data.rows: '' → ':-2' cannot change"),
        ("run.seed=3", "run.seed: 0 → 3 cannot change"),
        ("learner.adapter.rank=4", "the adapter and its optimizer have this shape"),
    ],
)
def test_what_was_trained_by_it_cannot_change(run: Path, item: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        find_continuation(run, [item])


def test_what_cannot_go_on_is_refused(
    run: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="step-12 is not a complete checkpoint to go on from"):
        find_continuation(run / "checkpoints/step-12")
    with pytest.raises(ConfigError, match="is not the folder of a reward model's training"):
        find_continuation(tmp_path_factory.mktemp("other"))
    assert main(["train", "--resume", str(run)]) == 2
    assert (
        "is the folder of a reward model's training: winnow reward-model --resume goes on with it"
        in capsys.readouterr().err
    )
    (run / "reward-model.json").write_text('{"ranks"')
    with pytest.raises(ConfigError, match=r"reward-model\.json is damaged"):
        find_continuation(run)
    for step in (2, 10):
        (run / f"checkpoints/step-{step}" / MARKER).unlink()
    with pytest.raises(ConfigError, match=r"no checkpoint in .* is complete"):
        find_continuation(run)


def test_a_checkpoint_that_is_no_longer_whole_is_refused(run: Path) -> None:
    state = run / "checkpoints/step-2/state/reward-model/optimizer.pt"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"12345678")
    assert seal(run / "checkpoints/step-2", {"state/reward-model/optimizer.pt": 8}) == ""
    assert find_continuation(run / "checkpoints/step-2").checkpoint.name == "step-2"
    state.write_bytes(b"1234")
    with pytest.raises(
        ConfigError, match=r"optimizer\.pt was cut or damaged: it has 4 bytes, and 8 were written\. Go on"
    ):
        find_continuation(run / "checkpoints/step-2")
    state.unlink()
    with pytest.raises(ConfigError, match=r"optimizer\.pt is missing"):
        find_continuation(run / "checkpoints/step-2")


def test_nothing_left_to_do_is_said_and_no_mistake(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "checkpoints/step-10/config.json").write_text('{"architectures": ["Qwen2ForSequenceClassification"]}')
    assert main(["reward-model", "--resume", str(run)]) == 0
    assert "nothing is left to do" in capsys.readouterr().out


def test_rows_may_move_and_not_change_and_neither_may_ranks(tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "model", alphabet="0123456789+=", seed=0)
    digests = []
    for name, chosen in (("a.jsonl", "2"), ("b.jsonl", "2"), ("c.jsonl", "3")):
        (tmp_path / name).write_text(json.dumps({"prompt": "1+1=", "chosen": chosen, "rejected": "4"}) + "\n")
        tree = {"model": {"path": str(tmp_path / "model"), "dtype": "float32"}, "data": {"path": f"{tmp_path}/{name}"}}
        found = prepare_reward_model(RewardModelConfig.model_validate(tree), print)
        digests.append(found.inputs(found.prepared.config))
    check_inputs(digests[0], digests[1])
    assert digests[0].prompts_digest == DIGEST
    with pytest.raises(ConfigError, match="the data of this run has changed since its checkpoint"):
        check_inputs(digests[0], digests[2])
    with pytest.raises(ConfigError, match="this run was trained by 1 learner ranks at ZeRO stage 2"):
        check_inputs(digests[0], replace(digests[0], ranks=2))
