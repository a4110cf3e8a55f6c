"""Whether a device computes what it should: products in bfloat16, and its attention over packed rows. Bounds are those
of the arithmetic, given beside each."""

import time
from dataclasses import dataclass

import torch

BF16 = 2.0**-8  # largest relative error of one rounding to bfloat16, and half of its spacing
WIDTH = 1024  # numbers that are summed in each entry of a product
SPEED_WIDTH = 8192  # of the square matrices whose product is timed on a GPU
TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A product of two matrices of bfloat16 numbers."""

    error: float  # largest error of an entry over the sum of the magnitudes that make it
    bound: float  # that one rounding and a sum in float32 stay below
    tflops: float  # 10^12 floating-point operations a second; 0 where it was not timed


def multiply(device: str) -> Product:
    """A product in bfloat16 against float64 of the same numbers.

    An entry is a sum of WIDTH products. Summed in float32 and rounded once it is off by at most BF16 of itself; a sum
    that is split rounds its parts too, which are no larger than the sum of the magnitudes. So the error stays below
    twice BF16 of that sum; an entry with a wrong or missing part is off by about 1 / sqrt(WIDTH), which is more.
    """
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(WIDTH, WIDTH, generator=draw).to(torch.bfloat16) for _ in range(2))
    found = (left.to(device) @ right.to(device)).cpu().double()
    wanted, size = left.double() @ right.double(), left.double().abs() @ right.double().abs()
    error = float(((found - wanted).abs() / size).max())
    return Product(error=error, bound=2 * BF16, tflops=_speed(device) if device == "cuda" else 0.0)


def _speed(device: str) -> float:
    """10^12 operations a second of a large product in bfloat16: the median of some."""
    square = torch.randn(SPEED_WIDTH, SPEED_WIDTH, device=device, dtype=torch.bfloat16)
    square @ square  # the first one loads its kernel
    times = []
    for _ in range(TRIES):
        torch.cuda.synchronize()
        started = time.monotonic()
        square @ square
        torch.cuda.synchronize()
        times.append(time.monotonic() - started)
    return 2 * SPEED_WIDTH**3 / sorted(times)[TRIES // 2] / 1e12


def cuda_problem() -> str:
    """Why torch cannot compute on a GPU, in CUDA's own words; "" where it can."""
    try:
        torch.zeros(1, device="cuda").add_(1).item()
    except (AssertionError, RuntimeError) as failure:
        return str(failure).splitlines()[0]
    return ""
