"""Which back ends can carry weights between the places that learner and generators have."""


def backend_problem(backend: str, *, colocate: bool, on_gpu: bool | None = None) -> str:
    """Why the weights of a run cannot travel by the back end that it asks for; "" where they can.

    Args:
        backend: `sync.backend`.
        colocate: `cluster.colocate`.
        on_gpu: whether the run is on GPUs; None where that is not known yet.
    """
    if backend in ("nccl", "ipc") and on_gpu is False:
        return (
            f"sync.backend = {backend!r} moves weights between GPUs, and this run is on CPUs: set sync.backend to "
            '"gloo" or "auto"'
        )
    if backend == "nccl" and colocate:
        return (
            'sync.backend = "nccl" cannot join two processes on one GPU, which cluster.colocate has: set sync.backend '
            'to "ipc" or "auto"'
        )
    if backend == "ipc" and not colocate:
        return (
            'sync.backend = "ipc" moves weights through memory of a GPU that a learner rank and a generator share: set '
            'cluster.colocate = true, or sync.backend to "nccl" or "auto"'
        )
    return ""
