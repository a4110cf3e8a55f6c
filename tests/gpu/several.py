"""What is proved with the code of `winnow doctor`: links between ranks, shared memory, an engine beside a policy."""

from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from learner.checks.agreement import agree, write_model
from learner.checks.attention import REAL, Size, attend
from learner.checks.links import link, share
from learner.checks.numerics import multiply

LIMIT = 600.0  # seconds for processes that talk to each other; a trial on a GPU has less


def attentions(device: str, size: Size = REAL) -> dict[str, float]:
    """Varlen attention against masks and against each sequence alone.

    Raises:
        AssertionError: a way is further from float32 than its arithmetic explains.
    """
    found = attend(device, size)
    assert found.problem == "", found.problem
    named = {f"{part}_{way}": off for way, parts in found.errors.items() for part, off in parts.items()}
    return {**named, **found.costs}


def products(device: str) -> dict[str, float]:
    """A product in bfloat16.

    Raises:
        AssertionError: it is further off than its arithmetic explains.
    """
    found = multiply(device)
    assert found.error <= found.bound, f"a product in bfloat16 is off by {found.error} of its terms"
    return asdict(found)


def links(device: str, ranks: int = 1, mib: int = 1024) -> dict[str, float]:
    """Sums over ranks, and the speed of a broadcast between them.

    Raises:
        AssertionError: a sum is not exact.
    """
    found = link(device, ranks, mib, LIMIT)
    assert found.wrong == (), f"sums over {ranks} ranks are wrong in {', '.join(found.wrong)}"
    return {"ranks": ranks, "gb_per_second": found.gb_per_second}


def shared(device: str, mib: int = 1024) -> dict[str, float]:
    """Memory of one device that two processes share.

    Raises:
        AssertionError: one does not see what the other wrote.
    """
    assert share(device, mib, LIMIT), "a process does not see in shared memory what the other wrote"
    return {"gib": mib / 1024}


def agreement(device: str, dtype: str = "float32", tensor_parallel: int = 1) -> dict[str, float]:
    """A new engine and a policy, asked about the same text.

    Raises:
        AssertionError: they differ more than the arithmetic explains.
    """
    with TemporaryDirectory() as folder:
        write_model(Path(folder))
        found = agree(Path(folder), dtype, device, tensor_parallel)
    assert found.holds, f"engine and learner differ: {found}"
    return {"mean": found.mean, "largest": found.largest, "bound": found.bound}
