"""What a run says when something looks wrong: groups that are all wrong for long and the reason that their verdicts
give most, a policy that moves far at once, metrics beyond their alert."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from actors.types import Summary
from cluster.reporting.metrics import alerts
from learner.settings import LearnerSettings

AFTER = 64  # groups in a row
FAR = 0.1  # nats a token from the starting policy within one step: many times what a healthy step moves
_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.,/]*")  # what differs between verdicts of one kind


class Hints:
    """The hints of one run, each said once."""

    def __init__(self, learner: LearnerSettings) -> None:
        """`learner` are the run's settings, which the hints name."""
        self._learner = learner
        self._all_wrong = AllWrong()
        self._moved = 0.0  # kl_start of the last step
        self._said: set[str] = set()  # metrics

    def graded(self, summary: Summary) -> str:
        """A graded group; a hint where no response has been correct for long, else ""."""
        return self._all_wrong.add(summary)

    def all_wrong(self) -> str:
        """What the groups since the last correct response have in common; "" without any."""
        return self._all_wrong.hint()

    def after(self, metrics: Mapping[str, Any]) -> list[str]:
        """The hints after a step with these metrics."""
        moved = float(metrics["kl_start"] or 0.0)
        found = {"kl_start": far_step(self._moved, moved, self._learner)} | alerts(metrics)
        self._moved = moved
        new = [name for name, hint in found.items() if hint and name not in self._said]
        self._said.update(new)
        return [f"step {metrics['step']}: {found[name]}" for name in new]


class AllWrong:
    """Counts groups that are all wrong, until one is not."""

    def __init__(self) -> None:
        self._groups = self._responses = 0  # in a row
        self._cut = self._empty = 0  # of these responses: at the length limit; nothing but their end
        self._kinds: Counter[str] = Counter()  # reasons without what varies -> in how many of these groups
        self._examples: dict[str, str] = {}  # the first reason of each kind

    def add(self, summary: Summary) -> str:
        """Another group; a hint with the last of AFTER that were all wrong, else ""."""
        if not summary.scores:
            return ""  # nothing is known of it
        if max(summary.scores) > 0:
            self._groups = self._responses = self._cut = self._empty = 0
            self._kinds.clear()
            self._examples.clear()
            return ""
        self._groups += 1
        self._responses += len(summary.lengths)
        self._cut += summary.truncated
        self._empty += sum(length <= 1 for length in summary.lengths)
        kind = _VARIES.sub("…", summary.why_wrong)
        self._kinds[kind] += 1
        self._examples.setdefault(kind, summary.why_wrong)
        return self.hint() if self._groups == AFTER else ""

    def hint(self) -> str:
        """What the groups since the last correct response have in common; "" without any."""
        if not self._groups:
            return ""
        ((kind, count),) = self._kinds.most_common(1)
        reason = self._examples[kind] or "no reason given"
        return (
            f"no response was correct in the last {self._groups} groups. The most frequent reason, in {count} of them: "
            f"{reason} -- {self._form()}read some responses in the trajectories: if they are right, the reward "
            "(reward.name) or the template (data.template) is at fault; if they are wrong, easier prompts or a warm-up "
            "would help"
        )

    def _form(self) -> str:
        """What is to be said of most responses before anybody reads them; "" where there is nothing."""
        if 2 * self._cut > self._responses:
            limit = "rollout.max_new_tokens, which may be too small, or they do not end (data.template)"
            return f"{self._cut} of {self._responses} responses were cut at {limit}; "
        if 2 * self._empty > self._responses:
            what = "end at once: does the prompt end as the model expects (data.template, rollout.min_tokens)?"
            return f"{self._empty} of {self._responses} responses {what} "
        return ""


def far_step(before: float, after: float, learner: LearnerSettings) -> str:
    """What to do about a policy that moved far from where it started within one step; "" where it did not.

    Args:
        before: kl_start of the step before, nats a token; 0 before the first.
        after: of this step.
        learner: the run's.
    """
    if after - before <= FAR:
        return ""
    return (
        f"kl_start rose from {before:.2g} to {after:.2g} nats a token: the policy moved far at once, and accuracy may "
        f"fall. If it does, start anew with a higher learner.lr_warmup (now {learner.lr_warmup}) or a lower "
        f"learner.lr (now {learner.lr:g})"
    )
