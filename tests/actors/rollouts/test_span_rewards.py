from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from actors.rollouts.span_rewards import placed, token_edges
from rewards import SpanReward
from tests.builders import trajectory

NAN = np.nan


def tokenizer(*words: str) -> PreTrainedTokenizerFast:
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token=words[-1])


WORDS = tokenizer("<unk>", "ab", "c", "Ġde", "Ã", "©", "<eos>")  # the two bytes of é are tokens of their own


def test_the_edges_of_tokens_follow_the_decoded_text() -> None:
    assert token_edges([1, 2, 3, 6], WORDS) == [0, 2, 3, 6, 6]


def test_a_character_of_several_tokens_belongs_to_the_last_of_them() -> None:
    assert token_edges([1, 4, 5, 2], WORDS) == [0, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("span_rewards", "expected"),
    [
        ([SpanReward(start=2, end=3, value=0.5)], [NAN, 0.5, NAN, NAN]),
        ([SpanReward(start=1, end=4, value=1.0)], [1.0, 1.0, 1.0, NAN]),  # every token that reaches into it
        ([SpanReward(start=5, end=6, value=0.25), SpanReward(start=5, end=6, value=-1.0)], [NAN, NAN, -0.75, NAN]),
        ([], [NAN] * 4),
    ],
)
def test_span_rewards_fall_on_the_tokens_whose_text_reaches_into_them(
    span_rewards: list[SpanReward], expected: list[float]
) -> None:
    span_rewards = placed(trajectory([1, 2, 3, 6], before=[1, 1]), span_rewards, WORDS)
    assert span_rewards.tolist() == pytest.approx([NAN, NAN, *expected], nan_ok=True)
    assert span_rewards.dtype == np.float32


def test_span_rewards_count_characters_over_the_turns_of_a_conversation() -> None:
    first, second = trajectory([1, 2], before=[1, 1]), trajectory([3, 1], before=[2, 2, 2])
    both = replace(
        first,
        tokens=np.concatenate([first.tokens, second.tokens]),
        sampled=np.concatenate([first.sampled, second.sampled]),
    )
    spans = [SpanReward(start=2, end=4, value=0.5), SpanReward(start=6, end=8, value=1.0)]  # of "abc" + " de" + "ab"
    assert placed(both, spans, WORDS).tolist() == pytest.approx(
        [NAN, NAN, NAN, 0.5, NAN, NAN, NAN, 0.5, 1.0], nan_ok=True
    )


def test_the_tokenizer_of_the_built_in_world_places_span_rewards_too(tmp_path: Path) -> None:
    from learner.models.tiny import write_tiny_model

    write_tiny_model(tmp_path, alphabet="0123456789+=,#", seed=0)
    world = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    ids = world("12#3", add_special_tokens=False)["input_ids"]
    assert token_edges([*ids, world.eos_token_id], world) == [0, 1, 2, 3, 4, 4]
