"""vLLM makes a CUDA stream of its own the first time that it is asked for the current one. The learner asks first, so that
its rank 0 goes on to train on the stream on which DeepSpeed gathers."""

import torch


def measure(device: str) -> dict[str, bool]:
    """Whether the stream changes without and with what the learner does before.

    Raises:
        AssertionError: it changes with it.
    """
    from vllm.utils.torch_utils import current_stream

    default = torch.cuda.default_stream()
    torch.cuda.set_stream(torch.cuda.current_stream())
    current_stream()
    kept = torch.cuda.current_stream() == default
    assert kept, "vLLM has put this process on a stream of its own although it was told the default one"
    return {"kept": kept}
