"""Steps of a turn, in its sampled tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.rollouts.span_rewards import token_edges


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A part of a turn."""

    text: str
    end: int  # sampled tokens of the turn up to its end: where `Seat.fork` goes on behind it


def cut_behind(stop: str, text: str, ids: Sequence[int], tokenizer: Any) -> list[Step]:
    """A turn, cut behind each place of a text in it. A token stays whole in which one ends, and tokens without text at
    the end belong to the last step.

    Args:
        stop: the text.
        text: of the turn.
        ids: of its tokens.
        tokenizer: the model's, a fast one of transformers.
    """
    edges, steps, start = token_edges(ids, tokenizer), list[Step](), 0
    while start < edges[-1]:
        place = text.find(stop, start)
        behind = place + len(stop) if place >= 0 else edges[-1]
        end = next(number for number, edge in enumerate(edges) if edge >= behind)
        end = len(ids) if edges[end] == edges[-1] else end
        steps.append(Step(text=text[start : edges[end]], end=end))
        start = edges[end]
    return steps
