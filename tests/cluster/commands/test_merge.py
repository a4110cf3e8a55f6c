from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.data.world import ALPHABET
from cluster.cli import main
from learner.adapter_folder import write_adapter
from learner.models.adapter import adapter_parameters
from learner.models.policy import load_policy
from learner.models.tiny import write_tiny_model
from learner.settings import AdapterSettings, ModelSettings
from tests.learner.models.test_adapter import TOKENS, as_if_trained


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder, alphabet=ALPHABET, seed=3)
    return folder


@pytest.fixture(scope="module")
def checkpoint(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "step-1"
    lm = load_policy(model, ModelSettings(dtype="float32"), 8, adapter=AdapterSettings(rank=2)).lm
    as_if_trained(lm)
    write_adapter(lm, dict(adapter_parameters(lm)), folder, model)
    return folder


def test_a_merged_checkpoint_is_a_model_folder_that_answers_as_peft_does(
    model: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel

    out = tmp_path / "merged"
    assert main(["merge", str(checkpoint), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"done: {out} holds {model} with {checkpoint} merged into it (from_pretrained)\n"
    base = AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(out)(TOKENS).logits
        assert (found - base(TOKENS).logits).abs().max() > 1e-2
        wanted = PeftModel.from_pretrained(base, checkpoint)(TOKENS).logits
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(out).get_vocab() == AutoTokenizer.from_pretrained(model).get_vocab()
    assert (out / "complete").is_file()
    assert main(["merge", str(checkpoint), "--out", str(out)]) == 2
    assert f"--out {out} is there and not an empty folder" in capsys.readouterr().err


def test_a_model_that_was_moved_is_found_with_base(
    model: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = checkpoint / "adapter_config.json"
    text = config.read_text()
    config.write_text(text.replace(str(model), "/gone"))
    try:
        assert main(["merge", str(checkpoint), "--out", str(tmp_path / "a")]) == 2
        said = f"{checkpoint} is an adapter for the model in /gone, which is not there: say where it is with --base"
        assert said in capsys.readouterr().err
        assert main(["merge", str(checkpoint), "--out", str(tmp_path / "a"), "--base", str(tmp_path)]) == 2
        assert f"{tmp_path} (--base) holds no config.json" in capsys.readouterr().err
        assert not (tmp_path / "a").exists()
        assert main(["merge", str(checkpoint), "--out", str(tmp_path / "a"), "--base", str(model)]) == 0
    finally:
        config.write_text(text)


def test_what_is_no_adapter_is_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(model), "--out", str(tmp_path / "a")]) == 2
    assert main(["merge", str(tmp_path / "none"), "--out", str(tmp_path / "a")]) == 2
    whole, none = capsys.readouterr().err.splitlines()
    assert f"{model} is a whole model already: there is nothing to merge" in whole
    assert f"{tmp_path}/none is no adapter folder: it must hold adapter_config.json and adapter_model" in none


def test_a_run_that_starts_from_an_adapter_is_told_to_merge_it(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    run = tmp_path / "run.toml"
    run.write_text(f'model.path = "{checkpoint}"\ndata.path = "{tmp_path}/p.jsonl"\nreward.name = "number"\n')
    assert main(["train", str(run), "--plan"]) == 2
    said = "holds an adapter (LoRA) and no whole model. Merge it into its model first: winnow merge"
    assert f"{checkpoint} (model.path) {said} {checkpoint} --out MERGED" in capsys.readouterr().err
