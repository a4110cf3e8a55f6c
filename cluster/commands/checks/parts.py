"""The parts that a run is made of, tried on this machine: Ray, meeting points, GPUs, and an engine beside a learner.
torch and Ray are loaded in the functions, each of which runs in a process of its own."""

import os
import tempfile
from pathlib import Path

from cluster.commands.checks.types import Finding, Subject, Told, note, ok, skipped, wrong
from cluster.config.errors import ConfigError
from cluster.placement.orphans import no_orphans
from cluster.placement.reachable import check_reachable
from cluster.placement.token import demand_token
from cluster.preparing.machine import install_command

LINK_MIB = 256  # of the tensor that is broadcast between GPUs
SLOW = 2.0  # GB/s between GPUs of one machine; PCI Express gives ten times as much, a detour over the host less
SHARED_MIB = 64


def examine_meeting(subject: Subject, told: Told) -> Finding:
    """A store at the loopback address, as learner ranks and weight transfers meet at."""
    from learner.checks.links import meet

    try:
        meet()
    except (OSError, RuntimeError) as failure:
        return wrong(
            f"processes cannot meet at 127.0.0.1: {_first(failure)}",
            "let the loopback interface up (ip link set lo up), and let no firewall refuse connections to it",
        )
    return ok("two ends met at a free port of 127.0.0.1")


def examine_ray(subject: Subject, told: Told) -> Finding:
    """Ray: the cluster that the environment names, or one that is started here and ended again."""
    if address := os.environ.get("RAY_ADDRESS", ""):
        try:
            check_reachable(address)
        except ConfigError as problem:
            said, _, remedy = str(problem).rpartition(". ")
            return wrong(said, remedy)
        return ok(f"a cluster answers at RAY_ADDRESS = {address!r}; the checks below are of this machine alone")
    demand_token("")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import logging

    import ray

    told("Ray starts on this machine")
    with no_orphans():
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        told("Ray is asked for an actor")
        try:
            ray.get(ray.remote(_answer).remote())
        finally:
            ray.shutdown()
    return ok("started here, ran a task in a process of its own, and ended")


def examine_computing(subject: Subject, told: Told) -> Finding:
    """torch on the GPU, by a product in bfloat16."""
    if not subject.visible:
        return skipped("no GPU")
    from learner.checks.numerics import cuda_problem, multiply

    if problem := cuda_problem():
        return wrong(
            f"torch cannot use the GPU: {problem}", f"{install_command('gpu')}; a newer driver where it says so"
        )
    found = multiply("cuda")
    said = f"a product in bfloat16 is off by {found.error:.1e} of its terms (bound {found.bound:.1e})"
    if found.error > found.bound:
        return wrong(said, "this GPU computes wrongly: take it out of the machine (dcgmi diag -r 3 looks closer)")
    return ok(f"{said}, {found.tflops:.0f} TFLOP/s")


def examine_attention(subject: Subject, told: Told) -> Finding:
    """Varlen attention, which runs in bfloat16 take, against masks."""
    if not subject.visible:
        return skipped("no GPU: runs on the CPU attend by masks")
    if why := _lost_to_torch():
        return skipped(why)
    from learner.checks.attention import QUICK, attend
    from learner.models.varlen import CannotAttend

    remedy = 'set model.attention = "sdpa", which is slower and takes more memory'
    try:
        found = attend("cuda", QUICK)
    except (CannotAttend, RuntimeError) as failure:
        return note(f"varlen attention does not run here: {_first(failure)}", remedy)
    if found.problem:
        return wrong(f"varlen attention computes wrongly ({found.problem})", remedy)
    fast, slow = (found.costs[f"seconds_{way}_1x8192"] for way in ("varlen", "masks"))
    return ok(f"varlen attention is as exact as masks, and {slow / fast:.1f} times as fast over 8,192 tokens")


def examine_nccl(subject: Subject, told: Told) -> Finding:
    """NCCL between all visible GPUs, by sums that are exact and by broadcasts."""
    if not subject.visible:
        return skipped("no GPU: runs on the CPU use gloo")
    if why := _lost_to_torch():
        return skipped(why)
    from learner.checks.links import Unreachable, link

    ranks = subject.visible
    told(f"{ranks} processes meet over NCCL")
    try:
        found = link("cuda", ranks, LINK_MIB, 30.0)
    except Unreachable as failure:
        return wrong(
            f"NCCL does not work: {failure}",
            "see what NCCL_DEBUG=INFO winnow --verbose doctor prints; NCCL_P2P_DISABLE=1 or NCCL_SHM_DISABLE=1 helps "
            "where a virtual machine or container keeps GPUs apart",
        )
    if found.wrong:
        return wrong(f"sums over {ranks} GPUs are wrong in {', '.join(found.wrong)}", "NCCL_P2P_DISABLE=1 may help")
    if ranks == 1:
        return ok("one GPU sums with itself; between GPUs there is nothing to try")
    said = f"{ranks} GPUs sum exactly; a broadcast brings each {found.gb_per_second:.1f} GB/s"
    if found.gb_per_second < SLOW:
        return note(said, "GPUs do not reach each other directly: see `nvidia-smi topo -m`, and whether ACS is on")
    return ok(said)


def examine_ipc(subject: Subject, told: Told) -> Finding:
    """Memory of a GPU that two processes share, which `cluster.colocate` needs."""
    if not subject.visible:
        return skipped("no GPU")
    if why := _lost_to_torch():
        return skipped(why)
    from learner.checks.links import Unreachable, share

    remedy = "cluster.colocate does not work here; in a container give both processes one PID name space and --ipc=host"
    try:
        same = share("cuda", SHARED_MIB, 40.0)
    except Unreachable as failure:
        return note(f"two processes cannot share memory of a GPU: {failure}", remedy)
    if not same:
        return note("a process sees other numbers in a GPU's memory than the one that shares it", remedy)
    return ok("two processes see the same memory of a GPU")


def examine_agreement(subject: Subject, told: Told) -> Finding:
    """A real engine and a real policy, asked about the same text."""
    os.environ.update(environment_of_engines(subject, "float32"))
    if subject.visible and (why := _lost_to_torch()):
        return skipped(why)
    from actors.errors import EngineDied
    from learner.checks.agreement import agree_in

    dtypes = ("bfloat16", "float32") if subject.visible else ("float32",)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = agree_in(dtypes, subject.device, Path(folder), told)
        except EngineDied as failure:
            return wrong(str(failure), "the first error among these lines is the cause")
    said = "; ".join(f"{one.dtype} {one.mean:.1e} nats, at most {one.largest:.1e}" for one in found)
    if bad := [one for one in found if not one.holds]:
        return wrong(
            f"engine and learner do not compute the same: {said} (bound in {bad[0].dtype}: {bad[0].bound:.1e})",
            "a sync would end the run. Compare the versions above with the tested ones, and report this",
        )
    return ok(f"engine and learner agree on a random model: {said}")


def examine_run(subject: Subject, told: Told) -> Finding:
    """What `winnow train RUN.toml --plan` says."""
    from cluster.commands.plan import plan
    from cluster.config.reading import load_config

    assert subject.run_file is not None
    told("the run's model and data are read")
    try:
        planned = plan(load_config(subject.run_file, list(subject.items)))
    except ConfigError as mistake:
        return wrong(str(mistake))
    return ok(f"{subject.run_file} can start here", more=planned)


def environment_of_engines(subject: Subject, dtype: str) -> dict[str, str]:
    """The environment variables that engines of a run in this dtype have."""
    from cluster.config.reading import config_of
    from cluster.placement.environment import environment

    config = config_of({"world": {"name": "addition"}, "model": {"dtype": dtype}})
    return environment(config, "nccl" if subject.visible else "gloo", on_gpu=bool(subject.visible))


def _answer() -> int:
    return os.getpid()


def _lost_to_torch() -> str:
    """Why there is nothing to try on GPUs that are there; "" where torch can use them."""
    from learner.checks.numerics import cuda_problem

    return "torch cannot use the GPU, see computing" if cuda_problem() else ""


def _first(failure: BaseException) -> str:
    return (str(failure).splitlines() or [type(failure).__name__])[0]
