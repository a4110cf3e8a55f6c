"""The losses of reward models, micro-batch by micro-batch, each a share of the whole update's loss.

Whole responses (Bradley-Terry): over the pairs of a chosen and a rejected response of a row, with their scores r,

    -log sigmoid(r_chosen - r_rejected - margin)

the mean over the pairs of a row, then over rows. Steps: the cross-entropy of sigmoid(r) with the label y in [0, 1],

    -y log sigmoid(r) - (1 - y) log(1 - sigmoid(r))

the mean over steps. arXiv 2312.08935.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from learner.batches.types import TrainBatch
from learner.engine import Measured
from learner.reward_models.examples import PackedExamples
from learner.reward_models.types import Agreement

SUMS = ("loss", "right", "count", "score", "scores", "good", "goods", "bad", "bads", "computed", "padding", "sequences")


class RankingLoss:
    """Of rows with chosen and rejected responses.

    Args:
        packed: whose micro-batches are asked about.
        rows: of the whole update, over all ranks.
    """

    def __init__(self, packed: PackedExamples, rows: int) -> None:
        self._packed, self._rows = packed, rows

    def __call__(self, number: int, batch: TrainBatch, found: tuple[Any, ...]) -> Measured:
        """The share of one micro-batch.

        Args:
            number: of the micro-batch.
            batch: the micro-batch.
            found: its scores float32[N], in the order of its members.
        """
        scores: torch.Tensor = found[0]
        chosen, rejected, margins, weights = self._pairs(batch, scores.device)
        ahead = scores[chosen] - scores[rejected]
        loss = -(weights * logsigmoid(ahead - margins)).sum()
        good, bad = scores[chosen.unique()], scores[rejected.unique()]
        sums = {"loss": loss, "right": (weights * (ahead > 0)).sum(), "count": weights.sum()}
        loss = (loss + 0.0 * scores.sum()) / self._rows  # also where there is no pair, ranks go through the model
        return Measured(loss=loss, sums=_sums(batch, sums, good, bad))

    def _pairs(self, batch: TrainBatch, device: torch.device) -> list[torch.Tensor]:
        """Places of chosen and rejected ones among the batch's scores, int64[P], margins and weights float32[P]."""
        places = {member: place for place, member in enumerate(batch.members)}
        pairs = [
            (places[start + one], places[start + other], example.margin, 1.0 / len(example.pairs))
            for start, example in zip(self._packed.starts, self._packed.examples, strict=True)
            if start in places
            for one, other in example.pairs
        ]
        kinds = (torch.int64, torch.int64, torch.float32, torch.float32)
        return [
            torch.tensor([pair[column] for pair in pairs], dtype=kind, device=device)
            for column, kind in enumerate(kinds)
        ]


class StepLoss:
    """Of responses with labelled steps.

    Args:
        packed: whose micro-batches are asked about.
        steps: of the whole update, over all ranks.
    """

    def __init__(self, packed: PackedExamples, steps: int) -> None:
        self._packed, self._steps = packed, steps

    def __call__(self, number: int, batch: TrainBatch, found: tuple[Any, ...]) -> Measured:
        """The share of one micro-batch; see `RankingLoss`. Scores are float32[M], step after step of its members."""
        scores: torch.Tensor = found[0]
        labels = self._labels(batch, scores.device)
        scored = scores[: labels.numel()]  # none in a micro-batch that trains nothing
        loss = binary_cross_entropy_with_logits(scored, labels, reduction="sum")
        right = ((scored > 0) == (labels > 0.5)).float().sum()
        sums = {"loss": loss, "right": right, "count": torch.tensor(float(labels.numel()))}
        good, bad = scored[labels > 0.5], scored[labels <= 0.5]
        return Measured(loss=(loss + 0.0 * scores.sum()) / self._steps, sums=_sums(batch, sums, good, bad))

    def _labels(self, batch: TrainBatch, device: torch.device) -> torch.Tensor:
        known = [self._packed.examples[member].labels for member in batch.members if member >= 0]
        return torch.cat([torch.zeros(0), *(torch.from_numpy(each) for each in known if each is not None)]).to(device)


def agreement_of(sums: Mapping[str, float]) -> Agreement:
    """What the sums of all micro-batches, over all ranks, say."""

    def mean(total: str, count: str) -> float:
        return sums[total] / sums[count] if sums[count] else float("nan")

    return Agreement(
        loss=mean("loss", "count"),
        accuracy=mean("right", "count"),
        margin=mean("good", "goods") - mean("bad", "bads"),
        score=mean("score", "scores"),
        count=round(sums["count"]),
    )


def _sums(
    batch: TrainBatch, known: Mapping[str, torch.Tensor], good: torch.Tensor, bad: torch.Tensor
) -> dict[str, torch.Tensor | float]:
    """What is summed over micro-batches and ranks, by the names of SUMS.

    Args:
        batch: the micro-batch.
        known: loss, right and count.
        good: scores of chosen responses, or of right steps.
        bad: of the others.
    """
    trains = batch.members != (-1,)
    return {
        **{name: value.detach() for name, value in known.items()},
        "score": (good.sum() + bad.sum()).detach(),
        "scores": float(good.numel() + bad.numel()),
        "good": good.sum().detach(),
        "goods": float(good.numel()),
        "bad": bad.sum().detach(),
        "bads": float(bad.numel()),
        "computed": float(batch.tokens.size) * trains,
        "padding": float(batch.padding) * trains,
        "sequences": float(len(batch.members)) * trains,
    }
