"""Whether a run whose learner failed goes on with a new one, and when."""

from collections.abc import Iterator

from ray.exceptions import RayError

from actors.errors import ActorDied, BrokenPart, NoAnswer
from actors.remote import cause_of
from learner.client import LEARNER, Learner

SIGN_SECONDS = 30.0  # for a rank to give a sign of life when the learner has failed
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0  # seconds before a new learner starts; each pause is twice the one before
# What a rank raises whose device, whose link to the others or whose data is gone: a new process may have better luck.
# Names of classes, by whoever raises them, since the driver does not import torch.
LOSSES = {
    "AcceleratorError": "its device failed",
    "DistError": "its link to the other ranks failed",
    "ObjectLostError": "groups that it was to train on were lost with their node",
}
GLOO = "gloo/transport"  # in what gloo says when a link fails, which has no class of its own


class Restarts:
    """Counts how often a run has begun again from the same place. A run that has written a newer checkpoint meanwhile
    has got on: the count begins anew. So a failure that always comes back ends the run, however far from its last
    checkpoint it is."""

    def __init__(self, most: int) -> None:
        """`most`: `run.restarts`."""
        self.most, self.total = most, 0
        self.in_vain = 0  # since the run has last got on
        self._begun_at: int | None = None

    def pause(self, step: int) -> float | None:
        """Seconds to wait before the run goes on from a step, which is counted; None where it has been tried enough."""
        if step != self._begun_at:
            self._begun_at, self.in_vain = step, 0
        if self.in_vain >= self.most:
            return None
        self.in_vain += 1
        self.total += 1
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self.in_vain - 1))


async def what_was_lost(failure: BrokenPart, learner: Learner) -> str:
    """What a run has lost that a new learner brings back; "" where a new one would fail as the last one did, or
    something else has failed.

    Processes that are gone or hang, devices and links count. What a rank raises of itself, over bad data or a number
    that is not finite, does not: it would come again.
    """
    if silent := await learner.silent(SIGN_SECONDS):
        are = "is" if len(silent) == 1 else "are"
        return f"{' and '.join(silent)} of the learner {are} gone"
    if not str(failure).startswith(LEARNER):
        return ""
    if isinstance(failure, ActorDied | NoAnswer):
        return "the learner hangs" if isinstance(failure, NoAnswer) else "the learner is gone"
    raised = failure.__cause__
    cause = cause_of(raised) if isinstance(raised, RayError) else raised
    kinds = {kind.__name__ for kind in type(cause).__mro__}
    return next(_reasons(kinds, str(cause)), "")


def _reasons(kinds: set[str], said: str) -> Iterator[str]:
    for name, reason in LOSSES.items():
        if name in kinds:
            yield f"a rank of the learner failed: {reason}"
    if GLOO in said:
        yield f"a rank of the learner failed: {LOSSES['DistError']}"
