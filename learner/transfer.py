"""How weights travel from the learner to the generators: the table of back ends, and which one a run takes. Light, as
the driver reads it; the senders are in `learner/weights.py`, the receivers are vLLM's and `actors/transfer/gloo.py`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One way for weights to travel."""

    name: str  # of the setting sync.backend, and vLLM's name of the back end
    about: str
    suits: Callable[[bool, bool], bool]  # (on GPUs, generators on the learner's GPUs) -> whether "auto" takes it
    pickles: bool = False  # whether vLLM's workers must be allowed to unpickle what the learner sends


BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend(
            name="gloo",
            about="over TCP in buckets, without any GPU",
            suits=lambda on_gpu, colocate: not on_gpu,
        ),
        Backend(
            name="ipc",
            about="through memory of a GPU that a learner rank and a generator share",
            suits=lambda on_gpu, colocate: on_gpu and colocate,
            pickles=True,
        ),
        Backend(
            name="nccl",
            about="from GPU to GPU",
            suits=lambda on_gpu, colocate: on_gpu and not colocate,
        ),
    )
}


def choose_backend(setting: str, on_gpu: bool, colocate: bool) -> str:
    """The name of the back end of a run.

    Args:
        setting: `sync.backend`: a key of BACKENDS, or "auto".
        on_gpu: whether generators and learner have GPUs.
        colocate: whether each generator shares the GPU of a learner rank.
    """
    if setting != "auto":
        return BACKENDS[setting].name
    return next(backend.name for backend in BACKENDS.values() if backend.suits(on_gpu, colocate))
