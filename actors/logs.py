"""What actors say of their work, each in its own log, which Ray's dashboard shows beside the actor."""

import logging
import sys
from typing import Any

from actors.secrets import hidden

LOGGER = logging.getLogger("winnow")


class HidingFormatter(logging.Formatter):
    """Lines without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback where there is one."""
        return hidden(super().format(record))


def log_in_actor() -> None:
    """Has everything that winnow says in this process written to its stderr, with the time and without secrets: Ray
    keeps it as the log of the actor. Does nothing in a process that is no actor's."""
    ray: Any = sys.modules.get("ray")  # every actor's process has it; trials on GPUs do without
    if not ray or LOGGER.handlers or not (ray.is_initialized() and ray.get_runtime_context().get_actor_id()):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HidingFormatter("%(asctime)s %(levelname)s %(message)s"))
    LOGGER.addHandler(handler)
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
