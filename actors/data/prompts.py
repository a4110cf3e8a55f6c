"""From rows to prompts: templates, chat templates, tokens."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from actors.data.reading import data_lines
from actors.errors import DataError
from actors.settings import DataSettings
from actors.types import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_prompts(
    data: DataSettings,
    reward: str,
    tokenizer: "PreTrainedTokenizerBase",
    max_prompt_tokens: int,
    before: Sequence[int] = (),
) -> tuple[list[Prompt], int]:
    """Reads and tokenizes the prompts: (those that fit, how many are longer than `max_prompt_tokens` and left out).

    Args:
        data: the file and how its rows become text.
        reward: name of the reward.
        tokenizer: the model's.
        max_prompt_tokens: a longer prompt is left out.
        before: token ids that stand before each prompt, such as a control token.

    Raises:
        DataError: more than `data.too_long_share` of them do not fit, or the data cannot be read.
    """
    rows = [row for _, row in data_lines(data)]
    texts = [render(row[data.prompt_column], data, tokenizer) for row in rows]
    tokens = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompts = [
        Prompt(
            id=str(number),
            tokens=np.array([*before, *ids], np.int32),
            text=text,
            reward=row[data.reward_column] if data.reward_column else reward,
            reference=reference_of(row, data),
            question=row[data.prompt_column],
        )
        for number, (row, text, ids) in enumerate(zip(rows, texts, tokens, strict=True))
    ]
    fitting = [prompt for prompt in prompts if prompt.tokens.size <= max_prompt_tokens]
    left_out = len(prompts) - len(fitting)
    if left_out > data.too_long_share * len(prompts):
        worst = max(prompt.tokens.size for prompt in prompts)
        raise DataError(
            f"{left_out} of {len(prompts)} prompts in {data.path} are longer than the {max_prompt_tokens} tokens that "
            f"leave room for a response (the longest has {worst}), more than "
            f"data.too_long_share = {data.too_long_share}. "
            "Shorten them, lower rollout.max_new_tokens, or raise data.too_long_share to train without them"
        )
    return fitting, left_out


def reference_of(row: Mapping[str, str], data: DataSettings) -> str:
    """What the reward compares with: the text of the answer column, or several columns as one JSON object."""
    if isinstance(data.answer_column, str):
        return row[data.answer_column]
    return json.dumps({column: _parsed(row[column]) for column in data.answer_column})


def render(prompt: str, data: DataSettings, tokenizer: "PreTrainedTokenizerBase") -> str:
    """The text that the policy sees: the template around the prompt, and the chat template around both."""
    text = data.template.replace("{prompt}", prompt)
    chat = data.chat if data.chat is not None else bool(getattr(tokenizer, "chat_template", None))
    if not chat:
        return text
    messages = [{"role": "system", "content": data.system}] if data.system else []
    messages.append({"role": "user", "content": text})
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def _parsed(text: str) -> Any:
    """A list or an object that was written as JSON; any other text is itself."""
    try:
        found = json.loads(text) if text[:1] in ("[", "{") else text
    except json.JSONDecodeError:
        return text
    return found if isinstance(found, list | dict) else text
