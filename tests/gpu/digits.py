"""Products of Triton in float32: in TF32 unless it is told otherwise, which costs the digits by which a sync of a run
in float32 is proved. Each way is tried in a process of its own, as Triton reads the environment when it compiles."""

import os
import subprocess
import sys

import torch

IEEE = {"TRITON_F32_DEFAULT": "ieee"}  # as cluster.placement.environment has it
SIZE = 64
FLOAT32, TF32 = 2.0**-23, 2.0**-10  # relative spacing of the numbers


def measure(device: str) -> dict[str, float]:
    """The largest error of an entry over the sum of the magnitudes that make it, as Triton does by itself and as actors
    of a float32 run have it.

    Raises:
        AssertionError: with the environment of those actors it is still larger than float32 explains.
    """
    found = {name: float(_apart(env)) for name, env in (("by_itself", {}), ("as_actors_have_it", IEEE))}
    assert found["as_actors_have_it"] < SIZE * FLOAT32, f"products of Triton are not in float32: {found}"
    return found


def _apart(env: dict[str, str]) -> str:
    command = [sys.executable, "-m", __spec__.name if __spec__ else "tests.gpu.digits"]
    clean = {name: value for name, value in os.environ.items() if name not in IEEE}
    return subprocess.run(command, env=clean | env, check=True, capture_output=True, text=True).stdout.split()[-1]


def product_error() -> float:
    """Of a product of two square matrices on the GPU."""
    from tests.gpu.kernels import multiply

    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(SIZE, SIZE, generator=draw) for _ in range(2))
    found = multiply(left.cuda(), right.cuda()).cpu().double()
    size = left.double().abs() @ right.double().abs()
    return float(((found - left.double() @ right.double()).abs() / size).max())


if __name__ == "__main__":
    print(product_error())
