"""The step of AdamW over a rank's share of a model in float32, as ZeRO has it in one piece: fused, as the engine takes
it, against foreach, which torch takes by itself on GPUs. Equal within rounding, faster, and without temporaries."""

import time
from dataclasses import dataclass

import torch

LR, BETAS, DECAY = 1e-4, (0.9, 0.98), 0.01  # the last two as the engine has them
STEPS = 4  # the first makes the moments, and is not timed
ROUNDING = 2.0**-23  # relative spacing of float32
OFF = 1e-4  # of an update, by which two orders of its arithmetic may differ beside the rounding of the weight
TEMPORARIES = 0.05  # of the weights, that a fused step may hold meanwhile: a plan counts none


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """What steps in one way did."""

    weights: torch.Tensor
    seconds: float  # of one step
    more: float  # bytes that a step holds meanwhile, over those of the weights; 0 on the CPU


def measure(device: str, numbers: int = 2**29) -> dict[str, float]:
    """Seconds and temporaries of a step in either way, and the largest difference of weights after some of them.

    Raises:
        AssertionError: the weights differ by more than rounding, or on a GPU fused is slower or holds temporaries.
    """
    fused, foreach = (_stepped(device, numbers, way) for way in ("fused", "foreach"))
    apart = (fused.weights - foreach.weights).abs()
    allowed = STEPS * (2 * ROUNDING * foreach.weights.abs() + OFF * LR)
    worst = float((apart / allowed).max())
    assert worst <= 1, f"weights differ by {worst} of what rounding explains after {STEPS} steps"
    if device == "cuda":
        assert fused.more <= TEMPORARIES, f"a fused step holds {fused.more} of the weights more meanwhile"
        assert fused.seconds <= foreach.seconds, f"{fused.seconds} s for a fused step, {foreach.seconds} s for foreach"
    return {
        "gb": 4 * numbers / 1e9,
        "difference_of_allowed": worst,
        **{f"seconds_{name}": way.seconds for name, way in (("fused", fused), ("foreach", foreach))},
        **{f"temporaries_{name}": way.more for name, way in (("fused", fused), ("foreach", foreach))},
    }


def _stepped(device: str, numbers: int, way: str) -> Stepped:
    """The weights after STEPS steps along the same random gradients."""
    draw = torch.Generator(device).manual_seed(0)
    weights = torch.randn(numbers, generator=draw, device=device).mul_(0.02).requires_grad_()
    optimizer = torch.optim.AdamW([weights], lr=LR, betas=BETAS, weight_decay=DECAY, **{way: True})
    weights.grad = torch.empty_like(weights)
    times, more = [], 0.0
    for _ in range(STEPS):
        weights.grad.normal_(0, 1e-3, generator=draw)
        before = _held(device)
        started = time.monotonic()
        optimizer.step()
        peak = _peak(device)
        times.append(time.monotonic() - started)
        more = (peak - before) / weights.nbytes  # of the last step: the first makes the moments
    return Stepped(weights=weights.detach(), seconds=min(times[1:]), more=more)


def _held(device: str) -> int:
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: str) -> int:
    if device != "cuda":
        return 0
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()
