"""A training run from its run file to its last checkpoint: prepares, starts Ray and the actors, runs, cleans up."""

import asyncio
import shutil
from pathlib import Path

from actors.errors import BrokenPart, Starved
from cluster.config.errors import ConfigError
from cluster.config.run_config import RunConfig
from cluster.placement.actors import running_actors
from cluster.placement.description import describe
from cluster.placement.session import ray_session, settled_on_cluster
from cluster.preparing.folders import make_run_folder, write_config
from cluster.preparing.preflight import prepare
from cluster.preparing.world import write_world
from cluster.reporting.logs import log_file
from cluster.reporting.outputs import Display
from cluster.running.ending import how_to_go_on
from cluster.running.run import Run


def train(config: RunConfig) -> Path:
    """Runs a training to its end and gives the run folder.

    Raises:
        ConfigError: the run cannot start.
        Starved: the filter's patience was spent; a checkpoint was written.
        Stopped: it was asked to stop while it trained; a checkpoint was written.
        BrokenPart: a part of the run failed.
        OSError: a file cannot be written.

    Of all of them, and of a KeyboardInterrupt, the message or a note says what there is to go on from.
    """
    folder = make_run_folder(config.run.name, Path(config.run.folder))
    try:
        with log_file(folder), Display(config.run.steps) as display:
            _train_in(folder, config, display)
    except ConfigError:
        shutil.rmtree(folder)  # nothing has run: only what a built-in world wrote is in it
        raise
    except (BrokenPart, Starved, OSError, KeyboardInterrupt) as end:
        end.add_note(how_to_go_on(folder))
        raise
    return folder


def _train_in(folder: Path, config: RunConfig, display: Display) -> None:
    display.say(f"run folder: {folder}")
    config = write_world(config, folder)
    prepared = prepare(config)
    write_config(config, folder)
    display.status("starting Ray")
    with ray_session(config) as (layout, dashboard):
        prepared = settled_on_cluster(prepared, layout)
        display.say(describe(prepared, layout))
        display.say(f"Ray dashboard: http://{dashboard}")
        with running_actors(prepared, layout) as actors:
            asyncio.run(Run(prepared, actors, folder, display).go())
