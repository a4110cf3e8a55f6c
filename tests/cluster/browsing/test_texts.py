"""The text of every token, one behind the other, whatever the tokenizer does at the edges."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cluster.browsing.folder import RunFolder
from cluster.browsing.texts import token_texts
from cluster.config.errors import ConfigError
from tests.cluster.browsing.made import byte_tokenizer

RUN = RunFolder(path=Path("nowhere"), settings={})


def test_a_character_of_several_tokens_stands_at_its_last_one(tmp_path: Path) -> None:
    texts = token_texts(RUN, byte_tokenizer(tmp_path / "tokenizer.json").parent)
    assert texts.tokenizer is not None
    ids = texts.tokenizer.encode("aé😀\n").ids
    assert texts.of(ids) == ["a", "", "é", "", "", "", "😀", "\n"]


def test_tokens_that_are_no_text_and_ids_that_no_token_has_are_there(tmp_path: Path) -> None:
    texts = token_texts(RUN, byte_tokenizer(tmp_path / "tokenizer.json"))
    assert texts.tokenizer is not None
    (half, *_) = texts.tokenizer.encode("é").ids
    found = texts.of([half, 100_000, -1, *texts.tokenizer.encode("b").ids])
    assert found[1:3] == [None, None]
    assert "".join(text or "" for text in found).endswith("b")
    assert len(texts.of([half] * 50)) == 50


def test_spaces_before_words_stay(tmp_path: Path) -> None:
    core = Tokenizer(models.WordLevel({"<unk>": 0, "▁the": 1, "▁cat": 2, "s": 3}, unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    core.save(str(tmp_path / "tokenizer.json"))
    assert "".join(text or "" for text in token_texts(RUN, tmp_path).of([1, 2, 3, 2])) == "the cats cat"


def test_the_newest_checkpoint_is_asked_first_and_what_is_broken_is_passed_over(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path, settings={"model": {"path": str(tmp_path / "model")}})
    assert "neither its checkpoints nor" in token_texts(run).why
    byte_tokenizer(tmp_path / "model/tokenizer.json")
    assert token_texts(run).why.endswith("model has them.")
    (tmp_path / "checkpoints/step-9").mkdir(parents=True)
    (tmp_path / "checkpoints/step-9/tokenizer.json").write_text("{")
    byte_tokenizer(tmp_path / "checkpoints/step-10/tokenizer.json")
    assert token_texts(run).why.endswith("step-10 has them.")


def test_a_folder_that_a_person_gives_must_hold_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--tokenizer .*cannot be read"):
        token_texts(RUN, tmp_path)
