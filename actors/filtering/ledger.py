"""Where every dispatched group is, how old it may get, and where it ended. Pure: no Ray, no clock, no arrays.

Conservation, true after every call:
    dispatched = trained + rejected(all_correct) + rejected(all_wrong) + failed + dropped + in flight + buffered
"""

from collections import Counter
from dataclasses import dataclass

from actors.errors import Starved

REJECTED = ("all_correct", "all_wrong")  # the two reasons with counters of their own; others count as dropped
INTERRUPTED = "interrupted"  # the reason of groups that were in flight when a run was saved that has gone on from there
UNPACKABLE = "unpackable"  # the reason of groups that Arrow cannot store
FAILING = 16  # a run stops when this many groups in a row, and at least two steps' worth, had no verdicts


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """What a ledger knows, between two calls. A batch that was taken and not trained on waits again."""

    live: int  # newest version that all generators hold
    batches: int  # trained so far, or before the version that the run began with
    waiting: tuple[int, ...]  # ids of the accepted groups that are not trained on, in the order of their arrival
    admitted: tuple[int, ...]  # live version at the admission of each of them
    in_flight: tuple[int, ...]  # ids of the groups that are being sampled or graded
    unpublished: int  # trained groups whose weights are not live yet
    dispatched: int  # groups so far, and the next id
    trained: int
    kept: int
    failed: int
    ends: dict[str, int]  # rejected and dropped groups by reason
    fates: dict[str, int]  # since the last accepted group: pass rate, or how a group was lost
    lost_in_a_row: int
    failed_in_a_row: int


class Ledger:
    """Admission, staleness and conservation of groups.

    A slot is held from "admitted at live version v" until the group is rejected, or until weights that learned from it
    are live. With P groups a step and S allowed lag there are (S+1)*P slots, and batch number b (trained from weights
    version b) may hold a group admitted at version v only while b - v <= S. `take` therefore goes oldest first, and
    waits for older groups in flight when there would be more of them left than later batches may still hold. It never
    waits for ever: when everything admitted has ended, oldest first always leaves few enough.
    """

    def __init__(self, *, groups_per_step: int, max_staleness: int, patience: int, version: int = 0) -> None:
        self._step_size, self._staleness, self._patience = groups_per_step, max_staleness, patience
        self._live = version  # newest version that all generators hold
        self._next_batch = version  # batches taken so far, which is the version that the next one trains from
        self._admitted: dict[int, int] = {}  # group in flight or buffered -> live version at its admission
        self._flying = Counter[int]()  # groups in flight by live version at their admission
        self._buffered: dict[int, None] = {}  # accepted groups in the order of their arrival
        self._taken: dict[int, int] = {}  # the batch that is being trained: group -> live version at its admission
        self._unpublished = 0  # trained groups whose weights are not live yet
        self._dispatched = self._trained = self._kept = self._failed = 0
        self._ends: Counter[str] = Counter()  # rejected and dropped groups by reason
        self._lost_in_a_row = self._failed_in_a_row = 0
        self._fates: Counter[str] = Counter()  # since the last accepted group: pass rate, or how a group was lost

    @property
    def slots(self) -> int:
        """How many groups may be admitted now."""
        held = len(self._admitted) + len(self._taken) + self._unpublished
        return (self._staleness + 1) * self._step_size - held

    @property
    def in_flight(self) -> int:
        """Groups that are being sampled or graded."""
        return len(self._admitted) - len(self._buffered)

    @property
    def patience_spent(self) -> float:
        """Groups in a row that were rejected or lost, as a share of those after which the run ends."""
        return self._lost_in_a_row / self._patience

    def admit(self, count: int) -> range:
        """Dispatches `count` groups and gives their ids.

        Raises:
            ValueError: there are fewer free slots.
        """
        if count > self.slots:
            raise ValueError(f"cannot admit {count} groups with {self.slots} free slots")
        ids = range(self._dispatched, self._dispatched + count)
        self._dispatched += count
        self._admitted.update(dict.fromkeys(ids, self._live))
        self._flying.update(self._live for _ in ids)
        return ids

    def accept(self, group: int) -> None:
        """The filter kept the group; it waits for its batch."""
        self._land(group)
        self._buffered[group] = None
        self._kept += 1
        self._lost_in_a_row = self._failed_in_a_row = 0
        self._fates.clear()

    def reject(self, group: int, reason: str, pass_rate: float) -> None:
        """The filter refused the group; its slot is free at once.

        Raises:
            Starved: this was the last of `patience` groups in a row that were rejected or lost.
        """
        self._end(group)
        self._ends[reason] += 1
        self._failed_in_a_row = 0
        self._fates[f"{int(pass_rate * 10) / 10:.1f} correct"] += 1
        self._wait_longer()

    def fail(self, group: int) -> None:
        """Fewer than two of its responses have a verdict.

        Raises:
            Starved: as `reject`, or this was the last of FAILING groups in a row, and of two steps' worth.
        """
        self._end(group)
        self._failed += 1
        self._fates["without verdicts"] += 1
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= max(FAILING, 2 * self._step_size):
            raise Starved(
                f"{self._failed_in_a_row} groups in a row could not be judged: the verifier fails on nearly every "
                "response. Nothing was trained on them"
            )
        self._wait_longer()

    def drop(self, group: int, reason: str) -> None:
        """It ended for a reason that is not about its responses, such as a deadline.

        Raises:
            Starved: as `reject`.
        """
        self._end(group)
        self._ends[reason] += 1
        self._fates[f"dropped ({reason})"] += 1
        self._wait_longer()

    def take(self) -> tuple[int, ...] | None:
        """The next batch of P groups, oldest admission first, or None while it must wait. It is in the order of
        dispatch, which the seed decides, whatever the order of arrival."""
        # asked behind every offer: what costs as much as there are groups comes last, once a step
        if self._taken or len(self._buffered) < self._step_size or not self._have_places(self._flying):
            return None
        chosen = sorted(self._buffered)[: self._step_size]
        left = Counter(self._admitted.values()) - Counter(self._admitted[group] for group in chosen)
        if not self._have_places(left):
            return None
        for group in chosen:
            del self._buffered[group]
            self._taken[group] = self._admitted.pop(group)
        self._next_batch += 1
        return tuple(chosen)

    def trained(self) -> None:
        """The learner has trained on the batch that was taken last."""
        self._trained += len(self._taken)
        self._unpublished += len(self._taken)
        self._taken = {}

    def publish(self, version: int) -> None:
        """All generators hold `version`; the slots of what it learned from are free."""
        self._live = version
        self._unpublished = 0

    def counts(self) -> dict[str, int]:
        """Running totals under their metric names; in flight and buffered are of now."""
        counts = {
            "groups_dispatched": self._dispatched,
            "groups_kept": self._kept,
            "groups_trained": self._trained,
            "groups_all_correct": self._ends["all_correct"],
            "groups_all_wrong": self._ends["all_wrong"],
            "groups_failed": self._failed,
            "groups_dropped": sum(n for reason, n in self._ends.items() if reason not in REJECTED),
            "groups_in_flight": self.in_flight,
            "groups_buffered": len(self._buffered) + len(self._taken),
        }
        check_conservation(counts)
        return counts

    def drops(self) -> dict[str, int]:
        """Dropped groups by reason."""
        return {reason: n for reason, n in self._ends.items() if reason not in REJECTED}

    def save(self) -> LedgerState:
        """All that it knows."""
        waiting = [*self._taken, *self._buffered]
        versions = self._taken | self._admitted
        return LedgerState(
            live=self._live,
            batches=self._next_batch - bool(self._taken),
            waiting=tuple(waiting),
            admitted=tuple(versions[group] for group in waiting),
            in_flight=tuple(group for group in self._admitted if group not in self._buffered),
            unpublished=self._unpublished,
            dispatched=self._dispatched,
            trained=self._trained,
            kept=self._kept,
            failed=self._failed,
            ends=dict(self._ends),
            fates=dict(self._fates),
            lost_in_a_row=self._lost_in_a_row,
            failed_in_a_row=self._failed_in_a_row,
        )

    def restore(self, state: LedgerState) -> None:
        """Goes on from what another ledger with the same settings knew.

        Groups that were in flight are dropped as INTERRUPTED, which uses up no patience: nobody will offer them under
        their ids, and their prompts are dispatched again under new ones.
        """
        self._live, self._next_batch, self._unpublished = state.live, state.batches, state.unpublished
        self._admitted = dict(zip(state.waiting, state.admitted, strict=True))
        self._buffered = dict.fromkeys(state.waiting)
        self._taken, self._flying = {}, Counter()
        self._dispatched, self._trained = state.dispatched, state.trained
        self._kept, self._failed = state.kept, state.failed
        self._ends, self._fates = Counter(state.ends), Counter(state.fates)
        self._lost_in_a_row, self._failed_in_a_row = state.lost_in_a_row, state.failed_in_a_row
        if state.in_flight:
            self._ends[INTERRUPTED] += len(state.in_flight)

    def _wait_longer(self) -> None:
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= self._patience:
            raise Starved(self._starvation())

    def _have_places(self, left: Counter[int]) -> bool:
        """Whether so many groups of each version, in no batch yet, can still be trained within their staleness when the
        next batch is taken without them: those that are in flight, or all."""
        rank = 0
        for version in sorted(left):
            rank += left[version]
            if rank > self._step_size * (version + self._staleness - self._next_batch):
                return False
        return True

    def _end(self, group: int) -> None:
        self._land(group)
        del self._admitted[group]

    def _land(self, group: int) -> None:
        """A group is in flight no more."""
        if group not in self._admitted or group in self._buffered:
            raise ValueError(f"group {group} is not in flight: it was never dispatched, or it has ended already")
        version = self._admitted[group]
        self._flying[version] -= 1
        if not self._flying[version]:
            del self._flying[version]

    def _starvation(self) -> str:
        histogram = ", ".join(f"{fate}: {count}" for fate, count in sorted(self._fates.items()))
        return (
            f"{self._lost_in_a_row} groups in a row were rejected or lost (filter.patience). "
            f"Groups by share of correct responses, and those that were lost: {histogram}. "
            "Choose easier or harder prompts, a larger rollout.group_size, or a higher filter.patience."
        )


def check_conservation(counts: dict[str, int]) -> None:
    """Raises AssertionError unless every dispatched group is in exactly one place."""
    places = ("trained", "all_correct", "all_wrong", "failed", "dropped", "in_flight", "buffered")
    found = sum(counts[f"groups_{place}"] for place in places)
    if found != counts["groups_dispatched"]:
        raise AssertionError(f"{counts['groups_dispatched']} groups dispatched, {found} accounted for: {counts}")
