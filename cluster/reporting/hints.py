"""A hint while nothing is learned: groups that are all wrong for long, and the reason that their verdicts give most."""

import re
from collections import Counter

from actors.types import Summary

AFTER = 64  # groups in a row
_VARIES = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.,/]*")  # what differs between verdicts of one kind


class AllWrong:
    """Counts groups that are all wrong, until one is not."""

    def __init__(self) -> None:
        self._groups = 0  # in a row
        self._kinds: Counter[str] = Counter()  # reasons without what varies -> in how many of these groups
        self._examples: dict[str, str] = {}  # the first reason of each kind

    def add(self, summary: Summary) -> str:
        """Another group; a hint with the last of AFTER that were all wrong, else ""."""
        if not summary.scores:
            return ""  # nothing is known of it
        if max(summary.scores) > 0:
            self._groups = 0
            self._kinds.clear()
            self._examples.clear()
            return ""
        self._groups += 1
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
            f"{reason} -- read some responses in the trajectories: if they are right, the reward (reward.name) or the "
            "template (data.template) is at fault; if they are wrong, easier prompts or a warm-up would help"
        )
