"""Feeds the learner: takes accepted groups, plans the updates of a step, and ships each rank its share."""

from dataclasses import dataclass

import numpy as np

from actors.filtering.client import FilterClient
from actors.filtering.filter import AcceptedBatch
from cluster.running.state import ScoreHistory
from learner.batches.planning import plan_step, scores_by_seat
from learner.client import Learner
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Baseline
from learner.methods.credit import quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeder:
    """Between the filter and the learner. Credit is computed here, once for each group, from its summary."""

    filter: FilterClient
    learner: Learner
    algorithm: Algorithm
    updates: int  # optimizer updates in a pass over the batch
    max_new_tokens: int
    has_span_rewards: bool
    control_tokens: tuple[int, ...]  # ids, one for each reward quantile, the best first; empty where none are used
    scores: ScoreHistory  # grows only where control tokens or baselines of seats are used
    most_siblings: int | None = None  # responses of a set of siblings that are trained on at most; None: all

    async def take(self) -> AcceptedBatch:
        """The next batch, packed on its ranks; nothing is left to do but to train on it.

        Takes: P accepted groups. Waits for: the filter, then for all ranks to have packed. Woken by: the filter.
        """
        batch = await self.filter.take()
        plan = plan_step(
            batch.summaries,
            self.algorithm,
            updates=self.updates,
            ranks=self.learner.ranks,
            max_new_tokens=self.max_new_tokens,
            control=self._control_of_score(batch) if self.control_tokens else None,
            baselines=self.scores.roles,
            has_span_rewards=self.has_span_rewards,
            most_siblings=self.most_siblings,
        )
        if self.algorithm.baseline is Baseline.ROLE:
            self.scores.add_roles(scores_by_seat(batch.summaries, self.algorithm, self.max_new_tokens))
        await self.learner.prepare(plan, batch.groups)
        return batch

    def _control_of_score(self, batch: AcceptedBatch) -> dict[float, int]:
        """score -> control token, for every score in the batch, by its quantile among the newest scores of the run."""
        scores = np.array([score for summary in batch.summaries for score in summary.scores])
        self.scores.add(scores)
        known = np.unique(scores)
        found = quantiles(self.scores.scores, known, len(self.control_tokens))
        return {float(score): self.control_tokens[index] for score, index in zip(known, found, strict=True)}
