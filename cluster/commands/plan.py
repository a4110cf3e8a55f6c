"""`winnow train --plan`: what a run would do and where, without starting anything."""

import tempfile
from pathlib import Path

from cluster.config.run_config import RunConfig
from cluster.placement.description import describe
from cluster.placement.layout import this_machine
from cluster.placement.session import layout_for, settled
from cluster.preparing.preflight import prepare
from cluster.preparing.world import write_world


def plan(config: RunConfig) -> str:
    """Sizes and layout in words; checks everything that a run checks before Ray starts.

    Raises:
        ConfigError: the run could not start on this machine.
    """
    with tempfile.TemporaryDirectory() as scratch:
        prepared = prepare(write_world(config, Path(scratch)))
        layout = layout_for(config, this_machine())
        return describe(settled(prepared, layout), layout)
