"""Which responses of a group are compared with each other, and which of these sets the drop rule refuses.

Where an environment has the policy speak for several seats, or solve what it made up itself, the responses of a group
are several sets of siblings. Rule and credit are asked about each set alone; the ledger counts the group, which is
trained on where any of its sets is kept.
"""

import numpy as np
import pyarrow as pa

from actors.arrow import group_of
from actors.filtering.rules import DropRule
from actors.types import Summary, Times

FAILED = "failed"  # the reason of a set with fewer than two verdicts


def refusals(summary: Summary, drop: DropRule) -> list[str]:
    """Why each set of siblings of a group is refused; "" where it is kept."""
    scores = np.array(summary.scores)
    return [drop(scores[list(one.scored)]) if one.has_verdicts else FAILED for one in summary.sets]


def refusal(summary: Summary, drop: DropRule) -> str:
    """Why a group is refused, "" where any of its sets is kept: the reason of its first set that has verdicts."""
    reasons = refusals(summary, drop)
    return "" if "" in reasons else next((reason for reason in reasons if reason != FAILED), FAILED)


def has_verdicts(summary: Summary) -> bool:
    """Whether the drop rule can be asked about any set of siblings."""
    return any(one.has_verdicts for one in summary.sets)


def refused_rows(batch: pa.RecordBatch, drop: DropRule) -> list[str]:
    """Of a group that is trained on: why the response of each row is not; "" where it is."""
    names = batch.column("siblings")
    if names[0] == names[-1]:  # sets lie together, so there is one
        return [""] * batch.num_rows
    group = group_of(batch)
    summary = Summary.of(group, Times())
    reasons = refusals(summary, drop)
    return [reasons[number] for number, places in zip(summary.siblings, group.responses, strict=True) for _ in places]
