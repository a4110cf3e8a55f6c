"""Judges after each sync whether every generator holds the weights that the learner sent, and computes with them what
the learner computes."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from actors.errors import BrokenPart
from actors.types import HeldWeights, WeightSums
from cluster.reporting.words import counted

FLOAT32_GAP = 1e-3  # nats; two implementations of the same float32 weights differ by less on every token
MEAN_GAP, LARGEST_GAP = 0.05, 1.0  # nats; in lower precision the mean over the probe's tokens, and any one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far log-probabilities of the probe text lie apart, nats."""

    mean: float
    largest: float

    @classmethod
    def between(cls, found: Sequence[float], wanted: Sequence[float]) -> "Gap":
        """Of two lists for the same tokens."""
        apart = [abs(a - b) for a, b in zip(found, wanted, strict=True)]
        return cls(mean=statistics.fmean(apart), largest=max(apart))


class Proof:
    """What the proofs of a run's syncs remember of the earlier ones."""

    def __init__(self, exact: bool, say: Callable[[str], None]) -> None:
        """
        Args:
            exact: whether weights are float32, in which both sides compute nearly the same.
            say: tells the person something once.
        """
        self.doubts = 0  # syncs so far whose probe was out of bounds
        self._exact, self._say = exact, say
        self._doubted: frozenset[str] = frozenset()  # generators, in the last sync
        self._agreed: set[str] = set()  # groups of weights of which learner and generators once had the same sums
        self._told = False  # that some groups never agree

    def weights(self, version: int, sent: WeightSums, held: Mapping[str, HeldWeights]) -> None:
        """Compares what was sent with what each generator, by name, holds.

        vLLM keeps the weights of some models in another form than they were sent in, so that the sums of a layer never
        agree: this is said once, and such a layer is compared among generators only. A layer that has agreed once
        must agree from then on. That no weight is missing is looked at by the generators themselves, by name.

        Raises:
            BrokenPart: a generator holds another version, or other weights.
        """
        first = next(iter(held))
        for name, one in held.items():
            if one.version != str(version):
                raise BrokenPart(f"{name} holds weight version {one.version} after the sync of version {version}")
            others = _differing(one.sums, held[first].sums)
            if others or one.sha256 != held[first].sha256:
                where = others[0] if others else "which only the hashes show"
                raise BrokenPart(f"{name} holds other weights than {first} after version {version}: {where}")
        differing = _differing(held[first].sums, sent)
        if broken := [group for group in differing if group in self._agreed]:
            raise BrokenPart(
                f"{first} does not hold the weights of version {version} that the learner sent: {_count(broken)} "
                f"differ, the first is {broken[0]}"
            )
        self._agreed |= sent.keys() - set(differing)
        if differing and not self._told:
            self._told = True
            self._say(
                f"vLLM keeps {_count(differing)} of {len(sent)} in another form than they are sent in "
                f"({', '.join(differing[:3])}{', ...' if len(differing) > 3 else ''}): these are compared among "
                "generators, not with the learner"
            )

    def computation(self, version: int, gaps: Mapping[str, Gap]) -> None:
        """Judges the gap of each generator, by name.

        Raises:
            BrokenPart: in float32 a gap is out of bounds; in lower precision one is for the second time in a row, as
                rounding makes a single large one now and then.
        """
        doubted = {name: gap for name, gap in gaps.items() if not self._within_bounds(gap)}
        self.doubts += bool(doubted)
        for name, gap in doubted.items():
            loose = f"{MEAN_GAP:g} in the mean, {LARGEST_GAP:g} on each"
            said = (
                f"log-probabilities of the probe text differ by {gap.mean:.2g} nats in the mean and by "
                f"{gap.largest:.2g} on one token, allowed are {f'{FLOAT32_GAP:g} on each' if self._exact else loose}"
            )
            if self._exact or name in self._doubted:
                raise BrokenPart(f"{name} does not compute what the learner computes after version {version}: {said}")
            self._say(f"{name} after version {version}: {said}; a second time in a row ends the run")
        self._doubted = (self._doubted - gaps.keys()) | doubted.keys()

    def _within_bounds(self, gap: Gap) -> bool:
        """Whether a gap can be rounding; false where it is not a number."""
        if self._exact:
            return gap.largest <= FLOAT32_GAP
        return gap.mean <= MEAN_GAP and gap.largest <= LARGEST_GAP


def _differing(sums: WeightSums, others: WeightSums) -> list[str]:
    """The groups whose sums are not the same."""
    return sorted(group for group in sums.keys() | others.keys() if sums.get(group) != others.get(group))


def _count(groups: Sequence[str]) -> str:
    return f"{counted(len(groups), 'group')} of weights"
