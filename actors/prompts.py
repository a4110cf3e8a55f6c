"""The prompts: reading, checking, tokenizing, and which ones are next. Resumable: the position is one number."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.settings import DataSettings
from actors.types import Prompt


class DataError(ValueError):
    """The data cannot be trained on; the message names the file, the line and what is wrong there."""


class PromptSource:
    """Deals prompts in an order that the seed alone decides: one shuffled pass over the data after another."""

    def __init__(self, prompts: Sequence[Prompt], seed: int, position: int = 0) -> None:
        self._prompts, self._seed = prompts, seed
        self.position = position  # prompts dealt so far
        self._shuffled = (-1, list[int]())  # the pass whose order is at hand, and the order

    def take(self, count: int) -> list[tuple[Prompt, int]]:
        """The next prompts, each with the number of passes that came before."""
        dealt = []
        for position in range(self.position, self.position + count):
            visit, index = divmod(position, len(self._prompts))
            dealt.append((self._prompts[self._order(visit)[index]], visit))
        self.position += count
        return dealt

    def _order(self, visit: int) -> list[int]:
        if self._shuffled[0] != visit:
            order = list(range(len(self._prompts)))
            random.Random(f"{self._seed}/{visit}").shuffle(order)
            self._shuffled = (visit, order)
        return self._shuffled[1]


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a .jsonl or .parquet file, cut to the wanted columns as text.

    Raises:
        DataError: the file is missing, empty or of another kind, or a row lacks a column (file and line are named).
    """
    if not path.is_file():
        raise DataError(f"there is no data file {path}")
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{path} must be a .jsonl or .parquet file")
    rows = []
    for line, row in _raw_rows(path):
        for column in columns:
            if not isinstance(row.get(column), str | int | float) or row[column] == "":
                found = ", ".join(row) or "none"
                raise DataError(f"{path}:{line} has no text in column {column!r} (columns there: {found})")
        rows.append({column: str(row[column]) for column in columns})
    if not rows:
        raise DataError(f"{path} holds no rows")
    return rows


def load_prompts(
    data: DataSettings, reward: str, tokenizer: Any, longest: int, before: Sequence[int] = ()
) -> tuple[list[Prompt], int]:
    """Reads and tokenizes the prompts: (those that fit, how many are longer than `longest` tokens and left out).

    Args:
        data: the file and how its rows become text.
        reward: name of the reward.
        tokenizer: the model's.
        longest: most tokens of a prompt.
        before: token ids that stand before each prompt, such as a control token.

    Raises:
        DataError: more than `data.overlong_share` of them do not fit, or the data cannot be read.
    """
    rows = read_rows(Path(data.path), (data.prompt_column, data.answer_column))
    texts = [render(row[data.prompt_column], data, tokenizer) for row in rows]
    tokens = tokenizer(texts, add_special_tokens=False)["input_ids"]
    prompts = [
        Prompt(
            id=str(number),
            tokens=np.array([*before, *ids], np.int32),
            text=text,
            reward=reward,
            reference=row[data.answer_column],
        )
        for number, (row, text, ids) in enumerate(zip(rows, texts, tokens, strict=True))
    ]
    fitting = [prompt for prompt in prompts if prompt.tokens.size <= longest]
    left_out = len(prompts) - len(fitting)
    if left_out > data.overlong_share * len(prompts):
        worst = max(prompt.tokens.size for prompt in prompts)
        raise DataError(
            f"{left_out} of {len(prompts)} prompts in {data.path} are longer than the {longest} tokens that leave room "
            f"for a response (the longest has {worst}), more than data.overlong_share = {data.overlong_share}. "
            "Shorten them, lower rollout.max_new_tokens, or raise data.overlong_share to train without them"
        )
    return fitting, left_out


def render(prompt: str, data: DataSettings, tokenizer: Any) -> str:
    """The text that the policy sees: the template around the prompt, and the chat template around both."""
    text = data.template.replace("{prompt}", prompt)
    chat = data.chat if data.chat is not None else bool(getattr(tokenizer, "chat_template", None))
    if not chat:
        return text
    messages = [{"role": "system", "content": data.system}] if data.system else []
    messages.append({"role": "user", "content": text})
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _raw_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from enumerate(pq.read_table(path).to_pylist(), start=1)
        return
    with path.open(encoding="utf-8") as file:
        for line, text in enumerate(file, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except json.JSONDecodeError as failure:
                raise DataError(f"{path}:{line} is not JSON: {failure.msg} at column {failure.colno}") from failure
            if not isinstance(row, dict):
                raise DataError(f"{path}:{line} is {type(row).__name__}, expected an object with named columns")
            yield line, row
