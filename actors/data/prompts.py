"""The prompts: reading, checking, tokenizing, and which ones are next. Resumable: the position is one number."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.data.chooser import Chooser
from actors.settings import DataSettings
from actors.types import Prompt, Summary

CANDIDATES = 4  # prompts that a chooser looks at for each one that is dealt


class DataError(ValueError):
    """The data cannot be trained on; the message names the file, the line and what is wrong there."""


class PromptSource:
    """Deals prompts in an order that the seed alone decides: one shuffled pass over the data after another.

    With a chooser, the most likely mixed of the next prompts are dealt and the others wait for a later pass. The order
    then depends on the verdicts and on when they came, and the prompts that are trained on are no longer spread as the
    data are: those between solved and out of reach come more often. Only an evaluation on prompts that nobody chose
    says how good the policy is on all of them. To go on elsewhere takes the position and the chooser.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int, position: int = 0, chooser: Chooser | None = None) -> None:
        self._prompts, self._seed, self._chooser = prompts, seed, chooser
        self.position = position  # prompts dealt or passed over so far
        self._shuffled = (-1, list[int]())  # the pass whose order is at hand, and the order

    def take(self, count: int) -> list[tuple[Prompt, int]]:
        """The next prompts, each with the number of passes that came before."""
        if self._chooser is None:
            return self._next(count)
        chance = self._chooser.chance
        candidates = self._next(max(count, min(CANDIDATES * count, len(self._prompts))))
        return sorted(candidates, key=lambda candidate: chance(candidate[0].id), reverse=True)[:count]

    def graded(self, summary: Summary) -> None:
        """Hears of a graded group, kept or not, of a prompt that it dealt."""
        if self._chooser is not None and summary.scores:
            correct = sum(score > 0 for score in summary.scores)
            wrong = len(summary.scores) - correct
            self._chooser.observe(summary.prompt_id, correct, wrong, summary.oldest_version)

    def _next(self, count: int) -> list[tuple[Prompt, int]]:
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
    return [row for _, row in read_lines(path, columns)]


def data_lines(data: DataSettings, lacking: Callable[[str], None] | None = None) -> list[tuple[int, dict[str, str]]]:
    """The rows of the data, cut to prompt, answer and reward, each with its line; see `read_lines`. Where the answer is
    made of several columns, all but one may be empty."""
    answers = [data.answer_column] if isinstance(data.answer_column, str) else [*data.answer_column]
    columns = [data.prompt_column, *answers, *([data.reward_column] if data.reward_column else [])]
    return read_lines(Path(data.path), columns, answers[1:], lacking)


def read_lines(
    path: Path, columns: Sequence[str], blank: Sequence[str] = (), lacking: Callable[[str], None] | None = None
) -> list[tuple[int, dict[str, str]]]:
    """`read_rows` with the number of each line.

    Args:
        path: the file.
        columns: what each row must have.
        blank: which of them may be empty.
        lacking: is told of rows that lack a column, which are then left out; without it the first one raises.
    """

    def lacks(row: Mapping[str, Any], column: str) -> bool:
        kind = isinstance(row.get(column), str | int | float | list | dict)
        return not kind or (row[column] == "" and column not in blank)

    rows = []
    for line, row in read_objects(path):
        missing = [column for column in columns if lacks(row, column)]
        if not missing:
            rows.append((line, {column: _text(row[column]) for column in columns}))
            continue
        found = ", ".join(row) or "none"
        problem = f"{path}:{line} has no text in column {missing[0]!r} (columns there: {found})"
        if lacking is None:
            raise DataError(problem)
        lacking(problem)
    if not rows and lacking is None:
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
    fitting = [prompt for prompt in prompts if prompt.tokens.size <= longest]
    left_out = len(prompts) - len(fitting)
    if left_out > data.too_long_share * len(prompts):
        worst = max(prompt.tokens.size for prompt in prompts)
        raise DataError(
            f"{left_out} of {len(prompts)} prompts in {data.path} are longer than the {longest} tokens that leave room "
            f"for a response (the longest has {worst}), more than data.too_long_share = {data.too_long_share}. "
            "Shorten them, lower rollout.max_new_tokens, or raise data.too_long_share to train without them"
        )
    return fitting, left_out


def reference_of(row: Mapping[str, str], data: DataSettings) -> str:
    """What the reward compares with: the text of the answer column, or several columns as one JSON object."""
    if isinstance(data.answer_column, str):
        return row[data.answer_column]
    return json.dumps({column: _parsed(row[column]) for column in data.answer_column})


def render(prompt: str, data: DataSettings, tokenizer: Any) -> str:
    """The text that the policy sees: the template around the prompt, and the chat template around both."""
    text = data.template.replace("{prompt}", prompt)
    chat = data.chat if data.chat is not None else bool(getattr(tokenizer, "chat_template", None))
    if not chat:
        return text
    messages = [{"role": "system", "content": data.system}] if data.system else []
    messages.append({"role": "user", "content": text})
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def _text(cell: Any) -> str:
    return json.dumps(cell) if isinstance(cell, list | dict) else str(cell)


def _parsed(text: str) -> Any:
    """A list or an object that was written as JSON; any other text is itself."""
    try:
        found = json.loads(text) if text[:1] in ("[", "{") else text
    except json.JSONDecodeError:
        return text
    return found if isinstance(found, list | dict) else text


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a .jsonl or .parquet file as they are, each with its line.

    Raises:
        DataError: the file is missing or of another kind, or a line is no JSON object (it is named).
    """
    if not path.is_file():
        raise DataError(f"there is no data file {path}")
    if path.suffix not in (".jsonl", ".parquet"):
        raise DataError(f"{path} must be a .jsonl or .parquet file")
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
