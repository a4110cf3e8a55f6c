import json
from collections import Counter
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.settings import DataSettings
from learner.batches.packing import Packing
from learner.models.tiny import CONTROL_TOKENS, write_tiny_model
from learner.settings import WarmupSettings
from learner.warmup import WorkedAnswers, add_taught_ends

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(("chat", "taught"), [(None, ["<eos>", "<end>"]), (False, ["<eos>"])])
def test_what_ends_a_turn_is_saved_among_the_ends_of_a_warmed_up_model(
    chat: bool | None, taught: list[str], tmp_path: Path
) -> None:
    control = ("<user>", "<assistant>", "<end>")
    write_tiny_model(tmp_path / "base", alphabet="ab", control=control, chat_template=TEMPLATE, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    for before, after in (("base", "warm"), ("warm", "warmer")):
        lm = AutoModelForCausalLM.from_pretrained(tmp_path / before)
        add_taught_ends(lm.generation_config, tokenizer, DataSettings(chat=chat))
        lm.save_pretrained(tmp_path / after)
        saved = json.loads((tmp_path / after / "generation_config.json").read_text())
        assert saved["eos_token_id"] == tokenizer.convert_tokens_to_ids(taught)


def first_and_taught(folder: Path, control: tuple[str, ...], rank: int = 0, ranks: int = 1) -> list[tuple[int, ...]]:
    """The first token and those that are trained on, of each answer of a rank's first update."""
    warmup = WarmupSettings(path=str(folder / "worked.jsonl"), batch=200)
    answers = WorkedAnswers(folder, DataSettings(), warmup, 0, control)
    packing = Packing(tokens=64, alone=True)
    batches = next(answers.updates(rank=rank, ranks=ranks, packing=packing))
    return [
        (int(row[0]), *taught.tolist())
        for batch in batches
        for row, taught in zip(batch.tokens, batch.split(batch.targets), strict=True)
    ]


def test_half_of_the_worked_answers_stand_behind_control_tokens_that_are_not_imitated(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, alphabet="abc", seed=0)
    rows = [{"prompt": "a", "response": "bc"[number % 2] * (1 + number % 5)} for number in range(200)]
    (tmp_path / "worked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    bare, behind = first_and_taught(tmp_path, ()), first_and_taught(tmp_path, CONTROL_TOKENS)
    assert {first for first, *_ in bare} == {tokenizer.convert_tokens_to_ids("a")}
    assert sorted(taught for _, *taught in bare) == sorted(taught for _, *taught in behind)
    tokens = tokenizer.convert_tokens_to_ids(list(CONTROL_TOKENS))
    seen = Counter(first for first, *_ in behind)
    assert seen.keys() == {*tokens, tokenizer.convert_tokens_to_ids("a")}
    assert 60 < sum(seen[token] for token in tokens) < 140
    halves = [first_and_taught(tmp_path, CONTROL_TOKENS, rank, 2) for rank in range(2)]
    assert sorted(halves[0] + halves[1]) == sorted(behind)


def test_an_answer_as_long_as_a_micro_batch_has_no_room_for_a_control_token(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, alphabet="abc", seed=0)
    (tmp_path / "worked.jsonl").write_text((json.dumps({"prompt": "a", "response": "b" * 62}) + "\n") * 200)
    found = {first for first, *_ in first_and_taught(tmp_path, CONTROL_TOKENS)}
    assert found == {AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("a")}
