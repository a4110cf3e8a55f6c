"""Every error that winnow raises on purpose outside `rewards` and the run file.

WinnowError
├── DataError          the data cannot be read or trained on; a ValueError too
├── Stopped            someone asked the run to end: it has, with a checkpoint
├── Starved            groups were rejected or lost for too long: the run ends with a checkpoint
├── BrokenPart         a part of the run failed: the run ends with its name and what it said
│   ├── ActorDied      its process is gone; a run goes on without a generator as long as one is left
│   ├── ClusterEnded   Ray's head node is gone, and with it every actor
│   ├── NoAnswer       it hangs: a generator is killed then, and counts as one that died
│   │   └── Hangs      it answers, and says itself that it gets on no more
│   └── ObjectsLost    what it was to be handed is gone with the node that held it
├── EngineDied         vLLM's engine has failed or is gone: treated as the death of its generator
├── Unpackable         a group holds something that Arrow cannot store
├── GroupLost          the arrays of a graded group are gone with a node: it is sampled again
├── RolloutFailed      one group could not be produced: it is dropped and counted
└── BrokenVerifier     one call to a verifier failed: its responses have the outcome `error`
    └── VerifierDied   it did not come back: the responses are asked about again
"""


class WinnowError(Exception):
    """The root of the tree."""


class DataError(WinnowError, ValueError):
    """The data cannot be read or trained on; the message names the file, the line and what is wrong there."""


class Starved(WinnowError):
    """`filter.patience` groups in a row were rejected or lost: there is nothing to learn from."""


class Stopped(WinnowError):
    """A person or a batch system asked the run to end: it has, with a checkpoint, which the message names."""

    def __init__(self, message: str, number: int) -> None:
        """`number` is that of the signal that asked."""
        super().__init__(message)
        self.number = number


class BrokenPart(WinnowError):
    """A part of the run failed; the message names the actor and says what it raised."""


class ActorDied(BrokenPart):
    """The process of an actor is gone, or that of the engine below it."""


class ClusterEnded(BrokenPart):
    """The head node of the Ray cluster is gone, and with it every actor."""


class NoAnswer(BrokenPart):
    """An actor has not answered in time; its process may still be there."""


class Hangs(NoAnswer):
    """An actor answers, but what it does should have ended long before; the message names it and says since when."""


class ObjectsLost(BrokenPart):
    """Objects that an actor was to be handed are gone with the node that held them; it was not called."""


class EngineDied(WinnowError):
    """vLLM's engine has failed or is gone, and with it the actor around it. Needs no vLLM to be unpickled."""


class Unpackable(WinnowError):
    """A group cannot be packed; the message names the group, the column and what Arrow says of it."""


class GroupLost(WinnowError):
    """The arrays of a graded group are gone with the node that held them: it is to be sampled again."""


class RolloutFailed(WinnowError):
    """One group could not be produced on any generator."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason` is the one that the ledger counts it under."""
        super().__init__(message)
        self.reason = reason


class BrokenVerifier(WinnowError):
    """The call to a verifier failed."""


class VerifierDied(BrokenVerifier):
    """The call to a verifier did not come back: its process died or is out of reach."""
