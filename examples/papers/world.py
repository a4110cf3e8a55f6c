"""What the worlds of these recipes share: how data, conversations and tiny models are written."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

FOLDER = Path("runs/papers")  # below runs/, which git ignores
ROLES = ("<system>", "<user>", "<assistant>", "<end>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

Said = list[tuple[str, str]]  # (role, text) of a conversation
Item = TypeVar("Item")


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def dealt(items: Sequence[Item], sizes: Mapping[str, int], seed: str) -> dict[str, list[Item]]:
    """Sets of these sizes, by name, of shuffled items; none is in two of them."""
    shuffled, found, start = list(items), dict[str, list[Item]](), 0
    random.Random(seed).shuffle(shuffled)
    for name, size in sizes.items():
        found[name] = shuffled[start : start + size]
        start += size
    return found


def conversation(said: Said) -> dict[str, Any]:
    """A row of what is imitated."""
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def write_model(folder: Path, alphabet: str, words: Sequence[str] = (), heads: int = 3) -> None:
    """Writes a model of 0.7 million parameters with random weights: a Hugging Face folder with a chat template.

    Args:
        folder: made where it is missing.
        alphabet: characters, a token each.
        words: longer texts that are one token each.
        heads: of attention.
    """
    from learner.models.tiny import write_tiny_model

    write_tiny_model(
        folder, alphabet=alphabet, words=words, control=ROLES, chat_template=CHAT_TEMPLATE, seed=0, heads=heads
    )
