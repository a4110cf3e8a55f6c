"""A Ray session for a run: joins a cluster, or starts Ray on this machine and ends it afterwards."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.job_config import JobConfig

from actors.errors import ActorDied, BrokenPart, ClusterEnded
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.config.travel import backend_problem
from cluster.placement.layout import Layout, Wanted, plan_layout, this_machine
from cluster.placement.metadata import FOLDER, NAME, RUN
from cluster.placement.node import GPU, Nodes
from cluster.placement.nodes import gpu_memory, host_for, nodes_there
from cluster.placement.orphans import named, no_orphans, orphans
from cluster.placement.reachable import check_reachable, ended
from cluster.placement.token import check_token, warn_without_token
from cluster.placement.waiting import demand_of, wait_for_room
from cluster.preparing.memory import checked_memory
from cluster.preparing.preflight import Prepared
from cluster.reporting.logs import LOGGER

LOOKS, SECONDS_BETWEEN = 5, 2.0  # at the head node of a cluster, after an actor has died; at orphans that may still end


@contextmanager
def ray_session(config: RunConfig, folder: Path | None = None) -> Iterator[tuple[Layout, str, float]]:
    """Joins the cluster, or starts Ray on this machine and ends it afterwards, whatever ends this process.

    Gives the layout, which fits, the address of Ray's dashboard, and until when the run may wait for what it wants of
    the cluster (seconds of time.monotonic).

    Args:
        config: of the run.
        folder: of the run, or of several that share the session; Ray's dashboard shows its name and place.

    Raises:
        ConfigError: the cluster is too small, others hold it, or it cannot be reached.
        BrokenPart: the cluster has ended meanwhile.
    """
    run = folder.name if folder else config.run.name
    if address := address_of(config):
        with joined(address, run, folder) as dashboard:
            warn_without_token(dashboard)
            demands = demand_of(wanted_of(config, on_gpu=config.cluster.device != "cpu"))
            seconds = config.cluster.seconds_to_wait
            until = time.monotonic() + seconds
            yield wait_for_room(partial(layout_for, config), demands, seconds), dashboard, until
        return
    layout = layout_for(config, this_machine())
    _name_orphans()
    with no_orphans(), _connected("", run, folder) as dashboard:
        check_token()
        yield layout, dashboard, time.monotonic()


def address_of(config: RunConfig) -> str:
    """Of the cluster that a run joins; "" where Ray is started on this machine."""
    return config.cluster.address or os.environ.get("RAY_ADDRESS", "")


@contextmanager
def joined(address: str, run: str, folder: Path | None = None) -> Iterator[str]:
    """Joins the cluster at an address; gives that of Ray's dashboard, which lists this process as a job.

    Args:
        address: of the cluster.
        run: the job's name there.
        folder: of the run, where it has one.

    Raises:
        ConfigError: it cannot be reached.
        BrokenPart: it has ended meanwhile.
    """
    check_reachable(address)
    _name_orphans()
    with _connected(address, run, folder) as dashboard:
        yield dashboard


@contextmanager
def _connected(address: str, run: str, folder: Path | None) -> Iterator[str]:
    """Connects this process with the cluster at an address, or with one of its own where that is ""; gives the address
    of Ray's dashboard. The others are as for `joined`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # of groups in flight when a run ends
    about = {NAME: run, RUN: run} | ({FOLDER: str(folder.resolve())} if folder else {})
    try:
        with our_signals():
            context = ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                namespace=f"winnow-{run}-{os.getpid()}",
                # Ray's dashboard has a column for this name; what a submitted job was given goes before.
                job_config=JobConfig(metadata=about),
            )
    except (ConnectionError, ValueError, RuntimeError, RayError) as failure:
        where = f"the cluster at {address!r} (cluster.address or RAY_ADDRESS)" if address else "Ray on this machine"
        raise ConfigError(f"cannot join or start {where}: {failure}") from failure
    gone = ""
    try:
        yield context.dashboard_url or ""
    except (BrokenPart, KeyboardInterrupt, SystemExit) as end:  # Ray sends its driver SIGTERM when it loses the cluster
        if gone := _has_ended(patient=bool(address) and isinstance(end, ActorDied)):
            where = f"the Ray cluster at {address!r}" if address else "Ray on this machine"
            raise ClusterEnded(f"{where} has ended ({gone}); what is on disk is kept") from end
        raise
    finally:
        if not gone:
            ray.shutdown()


def _name_orphans() -> None:
    """Warns of processes that an earlier run on this machine left, when they have had time to end."""
    for _ in range(LOOKS):
        if not (found := orphans()):
            return
        time.sleep(SECONDS_BETWEEN)
    LOGGER.warning("%s", named(found))


def settled(prepared: Prepared, layout: Layout) -> Prepared:
    """The run as it is on this layout: nothing that depends on the device or on the size of the cluster is unset."""
    return replace(prepared, config=settled_config(prepared.config, layout))


def settled_config(config: RunConfig, layout: Layout) -> RunConfig:
    """The settings of a run as they are on this layout."""
    config = config.on_device(layout.on_gpu)
    cluster = config.cluster.model_copy(update={"verifiers": layout.verifiers})
    return config.model_copy(update={"cluster": cluster})


def settled_on_cluster(prepared: Prepared, layout: Layout) -> Prepared:
    """As `settled`; on a cluster with GPUs, whether they hold the run has been found out from its nodes.

    Raises:
        ConfigError: it is known that learner or engines do not fit.
    """
    prepared = settled(prepared, layout)
    if prepared.memory is not None or not layout.on_gpu:
        return prepared
    memory = replace(gpu_memory(), host=host_for(layout, nodes_there()))
    return replace(prepared, memory=checked_memory(prepared.config, memory, prepared.max_model_len))


def _has_ended(*, patient: bool) -> str:
    """Why the cluster does not answer, "" where it does; a `patient` caller lost an actor, whose node may go first."""
    for _ in range(LOOKS if patient else 1):
        if problem := ended():
            return problem
        time.sleep(SECONDS_BETWEEN if patient else 0)
    return ""


@contextmanager
def our_signals() -> Iterator[None]:
    """Keeps what this process does at SIGTERM: `ray.init` would have it end without a word."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def layout_for(config: RunConfig, nodes: Nodes) -> Layout:
    """The layout on these nodes.

    Args:
        config: the run.
        nodes: what is there; whether there are GPUs is asked of all, and the layout is made on what is free.

    Raises:
        NoRoom: it does not fit.
        ConfigError: it wants a GPU where there is none.
    """
    has_gpus = any(node.has(GPU) for node in nodes.values())
    on_gpu = config.cluster.device == "gpu" or (config.cluster.device == "auto" and has_gpus)
    if problem := backend_problem(config.sync.backend, colocate=config.cluster.colocate, on_gpu=on_gpu):
        raise ConfigError(problem)
    wanted = wanted_of(config, on_gpu=on_gpu)
    if wanted.scorers and not on_gpu:
        raise ConfigError(
            f'reward.{wanted.scorers[0]}.device = "gpu" wants a GPU for the model of the reward, and this run is on '
            'CPUs: set it to "cpu" or "auto"'
        )
    return plan_layout(wanted, nodes)


def wanted_of(config: RunConfig, *, on_gpu: bool) -> Wanted:
    """What a run wants to place, on GPUs or not."""
    cluster = config.cluster if config.samples else config.cluster.model_copy(update={"generators": 0})
    judges, scorers = tuple(config.hosted_judges), tuple(config.hosted_scorers(on_gpu))
    return Wanted(cluster=cluster, on_gpu=on_gpu, judges=judges, scorers=scorers, evaluators=config.evaluators)
