"""From rows to prompts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from actors.data.messages import conversation_of, question_of
from actors.data.reading import read_data
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.settings import DataSettings
from actors.types import Prompt, RowPrompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def no_tokens(text: str) -> str:
    """What to say of a prompt that the tokenizer makes nothing of."""
    return f"is no token of the tokenizer, which knows no character of {text[:80]!r}: take the model's own tokenizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedPrompts:
    """The prompts of the data that can be used."""

    prompts: tuple[Prompt, ...]  # of one path after the other
    shares: tuple[tuple[int, float], ...]  # of each path: how many of the prompts are its, and its weight
    left_out: int  # prompts that are too long


def load_prompts(
    data: DataSettings,
    reward: str,
    tokenizer: "PreTrainedTokenizerBase",
    max_prompt_tokens: int,
    before: Sequence[int] = (),
) -> LoadedPrompts:
    """Reads, renders and tokenizes the prompts.

    Args:
        data: the files and how their rows become text.
        reward: name of the reward.
        tokenizer: the model's.
        max_prompt_tokens: a longer prompt is left out.
        before: token ids that stand before each prompt, such as a control token.

    Raises:
        DataError: more than `data.too_long_share` of them do not fit, or the data cannot be read.
    """
    renderer = Renderer(data, tokenizer)
    prompts: list[Prompt] = []
    shares, sizes, number = [], [0], 0
    for path, rows in read_data(data, reward).items():
        texts = [renderer.render_row(row) for row in rows]
        fitting = 0
        for row, text, ids in zip(rows, texts, renderer.tokens(texts), strict=True):
            if not ids:
                raise DataError(f"{row.place} {no_tokens(text)}")
            tokens = np.array([*before, *ids], np.int32)
            sizes.append(tokens.size)
            if tokens.size <= max_prompt_tokens:
                fitting += 1
                prompts.append(
                    RowPrompt(
                        id=str(number),
                        tokens=tokens,
                        text=text,
                        reward=row.reward,
                        reference=row.reference,
                        question=question_of(row.prompt),
                        messages=conversation_of(row.prompt, row.system or data.system),
                        asked=row.prompt,
                        system=row.system,
                    )
                )
            number += 1
        shares.append((fitting, data.paths[path]))
    left_out = number - len(prompts)
    if left_out > data.too_long_share * number:
        raise DataError(
            f"{left_out} of {number} prompts in {', '.join(data.paths)} are longer than the {max_prompt_tokens} tokens "
            f"that leave room for a response (the longest has {max(sizes)}), more than "
            f"data.too_long_share = {data.too_long_share}. "
            "Shorten them, lower rollout.max_new_tokens, or raise data.too_long_share to train without them"
        )
    return LoadedPrompts(prompts=tuple(prompts), shares=tuple(shares), left_out=left_out)
