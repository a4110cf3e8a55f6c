"""What can end a group or a run, named by the boundary that it crossed.

BrokenPart      a part of the run died or failed: the run ends with its name and last words
EngineDied      the engine below a generator died: the same as if the generator had
RolloutFailed   one group could not be produced: it is dropped and counted
BrokenVerifier  one call to a verifier did not come back: its responses have the outcome `error`
Starved         groups were rejected or lost for too long: the run ends with a checkpoint
"""


class BrokenPart(Exception):
    """A part of the run died or failed; the message names the actor, its node and what it said last."""


class ActorDied(BrokenPart):
    """The process of an actor is gone; a run can go on without a generator, as long as one is left."""


class EngineDied(Exception):
    """The process of a generator's engine is gone, and with it the generator."""


class RolloutFailed(Exception):
    """One group could not be produced on any generator; `reason` is the ledger's word for it."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class BrokenVerifier(Exception):
    """The call to a verifier did not come back: its process died or is out of reach."""


class Starved(Exception):
    """`patience` groups in a row were rejected or lost: there is nothing to learn from."""
