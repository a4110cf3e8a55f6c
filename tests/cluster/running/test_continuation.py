"""What keeps a run from going on is said before anything starts."""

import re
from contextlib import chdir, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from actors.types import Prompt
from cluster.cli import main
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, to_toml
from cluster.running.inputs import check_inputs
from cluster.running.resume import find_continuation
from cluster.running.state import Counters
from cluster.running.state_file import write_state
from learner.types import MARKER
from learner.writing import mark_complete
from tests.cluster.running.test_state_file import INPUTS, state_of
from tests.tables import each


def put_run(folder: Path, *steps: int) -> Path:
    (folder / "config.toml").write_text(
        to_toml(config_of({"model": {"path": "m"}, "data": {"path": "d.jsonl"}, "run": {"steps": 5}}))
    )
    for step in steps:
        checkpoint = folder / f"checkpoints/step-{step}"
        write_state(replace(state_of(), counters=Counters(step=step)), checkpoint)
        (checkpoint / MARKER).touch()
    return folder


def test_the_newest_complete_checkpoint_of_a_run_is_taken_or_the_one_that_is_named(tmp_path: Path) -> None:
    run = put_run(tmp_path, 2, 4, 10)
    (run / "checkpoints/step-10" / MARKER).unlink()
    assert find_continuation(run).counters.step == 4
    found = find_continuation(run / "checkpoints/step-2", ["run.steps=7"])
    assert (found.folder, found.checkpoint, found.counters.step) == (run, run / "checkpoints/step-2", 2)
    assert [change.line for change in found.changed] == ["run.steps: 5 → 7"]
    assert not found.is_over
    assert find_continuation(run, ["run.steps=4"]).is_over


def test_a_checkpoint_whose_state_was_cut_is_refused_before_anything_starts(tmp_path: Path) -> None:
    run = put_run(tmp_path, 2, 4)
    share = run / "checkpoints/step-4/state/policy/optimizer.pt"
    share.parent.mkdir()
    share.write_bytes(b"12345678")
    mark_complete(run / "checkpoints/step-4", {"state/policy/optimizer.pt": 8})
    assert find_continuation(run).counters.step == 4
    share.write_bytes(b"1234")
    with pytest.raises(
        ConfigError, match=r"optimizer\.pt was cut or damaged: it has 4 bytes, and 8 were written\. Go on"
    ):
        find_continuation(run)
    assert find_continuation(run / "checkpoints/step-2").counters.step == 2


def test_what_is_no_run_or_has_no_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="takes the folder of a run, or one of its checkpoints, and there is no"):
        find_continuation(tmp_path / "none")
    run = put_run(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot go on: it holds no checkpoint\. Start it anew"):
        find_continuation(run)
    (run / "checkpoints/step-3").mkdir(parents=True)
    with pytest.raises(ConfigError, match="none of its checkpoints is complete"):
        find_continuation(run)
    with pytest.raises(ConfigError, match="is not a complete checkpoint to go on from: name another one"):
        find_continuation(run / "checkpoints/step-3")


def test_all_settings_that_cannot_change_are_named_with_the_way_out(tmp_path: Path) -> None:
    run = put_run(tmp_path, 2)
    with pytest.raises(ConfigError) as refused:
        find_continuation(run, ["rollout.group_size=4", "learner.algorithm=grpo", "run.steps=9"])
    lines = str(refused.value).splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["learner.algorithm", "rollout.group_size"]
    assert lines[2].endswith(f"set model.path={run / 'checkpoints/step-2'}")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prompts": 6, "prompts_digest": "x"}, r"the data of this run has changed .*7 prompts then, 6 now"),
        ({"stored": 6, "stored_digest": "x"}, r"0 stored groups then, 6 now.*data\.stored"),
        ({"dtype": "float32"}, r"trained weights in bfloat16, and here they would be float32"),
        ({"ranks": 4}, r"2 learner ranks at ZeRO stage 3.*4 at stage 3\. Go on with cluster\.learner_ranks=2"),
        ({"zero_stage": 0}, r"ZeRO stage 3.* at stage 0"),
    ],
)
def test_other_data_or_another_shape_of_the_learner_is_refused(change: dict, why: str) -> None:
    check_inputs(INPUTS, INPUTS)
    with pytest.raises(ConfigError, match=why):
        check_inputs(INPUTS, replace(INPUTS, **change))


def test_without_zero_the_number_of_ranks_may_change() -> None:
    whole = replace(INPUTS, zero_stage=0)
    check_inputs(whole, replace(whole, ranks=1))


def test_the_digest_of_prompts_is_of_their_order_tokens_and_references() -> None:
    from cluster.running.inputs import _digest

    def one(id: str, tokens: tuple[int, ...] = (1, 2), reference: str = "3") -> Prompt:
        return Prompt(id=id, tokens=np.array(tokens, np.int32), text="", reward="number", reference=reference)

    found = [
        _digest(prompts)
        for prompts in (
            [one("a"), one("b")],
            [one("b"), one("a")],
            [one("a")],
            [one("a", (1, 3)), one("b")],
            [one("a", reference="4"), one("b")],
        )
    ]
    assert len(set(found)) == len(found)
    assert found[0] == _digest([one("a"), one("b")])


@each(
    ("arguments", "said"),
    [
        (["train"], "needs a run file, or --resume RUN"),
        (["train", "--resume", "none"], "is not the folder of a run, nor one of its checkpoints"),
        (["train", "mine.toml", "--resume", "."], "takes the settings of the run itself, .* got 'mine.toml'"),
        (["train", "--resume", ".", "--plan"], "--plan shows a run that begins"),
        (["train", "--resume", ".", "rollout.group_size=4"], "cannot change in a run that goes on"),
    ],
)
def test_the_command_says_what_is_wrong_and_ends_with_status_2(arguments: list[str], said: str) -> None:
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()) as stderr, chdir(folder):
        put_run(Path(folder), 2)
        assert main(arguments) == 2
    assert re.search(said, stderr.getvalue())
