"""vLLM makes a CUDA stream of its own when it is first asked for the current one. The learner tells it the one that is
there before, so that its rank 0 goes on to train on the stream on which DeepSpeed gathers. Each in its own process."""

from multiprocessing.connection import Connection

import torch

from learner.checks.links import in_processes


def measure(device: str) -> dict[str, bool]:
    """Whether vLLM's first use keeps the stream, by itself and after what the learner does.

    Raises:
        AssertionError: it does not after that.
    """
    alone, told = in_processes(_stays, [(False,), (True,)], 90.0)
    assert told, "vLLM has put this process on a stream of its own although it was told the default one"
    return {"stays_by_itself": alone, "stays_when_told": told}


def _stays(line: Connection, told: bool) -> None:
    """The main function of a process: sends whether the stream is the default one after vLLM was asked for it."""
    import vllm.utils.torch_utils as vllm

    torch.zeros(1, device="cuda")
    default = torch.cuda.default_stream()
    if told:
        torch.cuda.set_stream(torch.cuda.current_stream())
    vllm.current_stream()
    line.send(torch.cuda.current_stream() == default)
