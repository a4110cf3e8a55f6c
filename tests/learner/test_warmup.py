import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from actors.settings import DataSettings
from learner.models.tiny import write_tiny_model
from learner.warmup import add_taught_ends

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
