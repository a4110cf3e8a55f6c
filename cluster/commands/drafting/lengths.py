"""How long prompts and answers are by the model's tokenizer, and how long responses may be."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actors.data.reading import DataRow
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.settings import DataSettings
from cluster.config.errors import ConfigError
from cluster.config.models import positions_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEASURED = 5000  # rows, spread over the file
WORKED = 24  # tokens of a median answer from which it is taken for one that was worked out
LEAST, USUAL, USUAL_ON_CPU, MOST = 64, 1024, 256, 16384  # tokens of a response
ASKS_ITSELF = re.compile(r"boxed|####|<answer>|answer (?:after|in|within|with)|\banswer:", re.IGNORECASE)
SAYS = {  # what a prompt says of how to answer, by reward
    "number": "Think step by step and write the final number after ####.",
    "math": "Think step by step and put the final answer within \\boxed{}.",
    "choice": "Think step by step and put the letter of the right option within \\boxed{}.",
    "exact": "Think step by step and write the final answer within <answer></answer>.",
    "code": "Write the Python code in one block that begins with ```python.",
    "sql": "Write one SQL query in a block that begins with ```sql.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Tokens of the prompts as the model reads them, and of what answers them."""

    median: int  # of prompts
    high: int  # their 99th percentile
    most: int
    worked: int  # 99th percentile of worked answers; 0 where answers are short
    positions: int  # most tokens that the model holds
    sizes: tuple[int, ...]  # of every prompt

    def too_long(self, new: int) -> float:
        """The share of prompts that leave no room for so many new tokens."""
        return sum(size > self.positions - new for size in self.sizes) / len(self.sizes)


def template_for(reward: str, rows: Sequence[DataRow], tokenizer: "PreTrainedTokenizerBase") -> tuple[str, str]:
    """(what stands around each prompt, why)."""
    said = SAYS.get(reward, "")
    asked = [row.prompt if isinstance(row.prompt, str) else row.prompt[-1].content for row in rows]
    if not said:
        return "{prompt}", f"{reward} needs no form of the answer"
    if sum(bool(ASKS_ITSELF.search(text)) for text in asked) > len(asked) / 2:
        return "{prompt}", "the prompts themselves say how to answer"
    if _unknown(said, tokenizer):
        return "{prompt}", "the tokenizer does not know the letters of a sentence that says how to answer"
    return f"{{prompt}}\n{said}", f"says where {reward} looks for the answer"


def measure(
    data: DataSettings,
    rows: Sequence[DataRow],
    answers: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    model: Path,
) -> Lengths:
    """Renders and tokenizes prompts as a run does, and the answers as they are.

    Raises:
        ConfigError: the templates do not take the prompts; the message says what to do.
    """
    try:
        renderer = Renderer(data, tokenizer)
        texts = [renderer.render_row(row) for row in rows]
    except DataError as problem:
        raise ConfigError(str(problem)) from problem
    sizes = [len(ids) for ids in renderer.tokens(texts)]
    of_answers = [len(ids) for ids in tokenizer(list(answers), add_special_tokens=False)["input_ids"]] or [0]
    worked = int(np.quantile(of_answers, 0.99)) if np.median(of_answers) >= WORKED else 0
    return Lengths(
        median=int(np.median(sizes)),
        high=int(np.quantile(sizes, 0.99)),
        most=max(sizes),
        worked=worked,
        positions=positions_of(model),
        sizes=tuple(sizes),
    )


def new_tokens(lengths: Lengths, on_gpu: bool) -> tuple[int, str]:
    """(rollout.max_new_tokens, why)."""
    if lengths.worked:
        wanted = 2 ** int(np.ceil(np.log2(max(LEAST, 2 * lengths.worked))))
        why = f"worked answers of the data have up to {lengths.worked} tokens (99th percentile): twice that, rounded up"
    elif on_gpu:
        wanted, why = USUAL, "the data's answers say nothing of how long reasoning is: raise it where many are cut off"
    else:
        wanted, why = USUAL_ON_CPU, "on the CPU every token costs: raise it on GPUs, and where many are cut off"
    room = lengths.positions - min(lengths.high, lengths.positions // 2)
    if min(wanted, MOST) <= room:
        return min(wanted, MOST), why
    return room, f"what prompts leave of the model's {lengths.positions} positions"


def _unknown(text: str, tokenizer: "PreTrainedTokenizerBase") -> bool:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return not ids or (tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids)
