"""LabelledRows rows as samples: a trained place for each score, which lies on the token that is scored.

A sample's trained token is the one behind the place where the score is read, as of `states` in
`learner.batches.types.TrainBatch`, so each row of tokens gets one token more, which is no input.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from actors.data.labelled import LabelledRow, RankedRow, SteppedRow
from learner.batches.packing import Packing, pack
from learner.batches.types import Sample, TrainBatch
from rewards.models.texts import Texts
from rewards.verdict import Case


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """A row ready to train on: its responses, the chosen ones first, or its one response with labels of steps."""

    samples: tuple[Sample, ...]
    chosen: int = 0  # how many of them are chosen
    margin: float = 0.0
    labels: np.ndarray | None = None  # float32[S], of the steps that are scored

    @property
    def tokens(self) -> int:
        """Tokens of all its samples."""
        return sum(sample.inputs for sample in self.samples)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(place of a chosen, place of a rejected) among its samples, each with each."""
        return [(one, other) for one in range(self.chosen) for other in range(self.chosen, len(self.samples))]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedExamples:
    """Micro-batches of examples. Samples are numbered example after example."""

    examples: tuple[Example, ...]
    batches: tuple[TrainBatch, ...]  # `members` are numbers of samples

    @property
    def starts(self) -> list[int]:
        """The number of the first sample of each example."""
        return np.cumsum([0, *(len(example.samples) for example in self.examples)]).tolist()[:-1]


def examples_of(rows: Sequence[LabelledRow], texts: Texts, pad: int | None) -> list[Example]:
    """Rows as the reward that will read the model tokenizes them.

    Args:
        rows: judged.
        texts: of the model.
        pad: the model's padding token: where a text ends with it, the score is read before it.

    Raises:
        ValueError: a row cannot be used; the message says which and why.
    """
    examples = []
    for row in rows:
        try:
            examples.append(_ranked(row, texts, pad) if isinstance(row, RankedRow) else _stepped(row, texts))
        except ValueError as problem:
            raise ValueError(f"{row.place} {problem}") from problem
    return examples


def packed_examples(examples: Sequence[Example], packing: Packing) -> PackedExamples:
    """Examples in micro-batches, all samples of one in the same. Those with as many samples are packed together."""
    by_size: dict[int, list[Example]] = {}
    for example in examples:
        by_size.setdefault(len(example.samples), []).append(example)
    batches, base = [], 0
    for size, alike in by_size.items():
        samples = [sample for example in alike for sample in example.samples]
        for batch in pack(samples, packing.tokens, size, packing.alone, packing.one_row):
            batches.append(replace(batch, members=tuple(base + member for member in batch.members)))
        base += len(samples)
    ordered = tuple(example for alike in by_size.values() for example in alike)
    return PackedExamples(examples=ordered, batches=tuple(batches))


def scored_place(ids: Sequence[int], pad: int | None) -> int:
    """The token whose score counts for a whole response, as transformers finds it: the last that is no padding."""
    return next((place for place in range(len(ids) - 1, -1, -1) if ids[place] != pad), len(ids) - 1)


def _ranked(row: RankedRow, texts: Texts, pad: int | None) -> Example:
    chosen, rejected = (
        [texts.whole(_case(row, response)).ids for response in responses] for responses in (row.chosen, row.rejected)
    )
    if same := next((ids for ids in chosen if ids in rejected), None):
        raise ValueError(
            f"has a chosen and a rejected response that are the same {len(same)} tokens to this model, "
            f"which reads the last {texts.limit} tokens of a text: shorten them, or leave the row out"
        )
    samples = tuple(_sample(ids, [scored_place(ids, pad)]) for ids in (*chosen, *rejected))
    return Example(samples=samples, chosen=len(row.chosen), margin=row.margin)


def _stepped(row: SteppedRow, texts: Texts) -> Example:
    found = texts.separated(_case(row, "".join(row.steps)), row.spans)
    known = [
        (place, label)
        for place, label in zip(found.places, row.labels, strict=True)
        if place >= 0 and label is not None
    ]
    if not known:
        raise ValueError(
            f"has labels only for steps before its last {len(found.ids)} tokens, and the model reads no "
            "more: shorten the response, or leave the row out"
        )
    sample = _sample(found.ids, [place for place, _ in known])
    return Example(samples=(sample,), labels=np.array([label for _, label in known], np.float32))


def _case(row: LabelledRow, response: str) -> Case:
    return Case(response=response, reference="", question=row.question, messages=row.messages)


def _sample(ids: Sequence[int], places: Sequence[int]) -> Sample:
    trained = np.zeros(len(ids) + 1, bool)
    trained[np.array(places) + 1] = True
    tokens = np.array([*ids, 0], np.int32)
    return Sample(tokens=tokens, trained=trained, sampler=None, advantage=0.0, weight=1.0)
