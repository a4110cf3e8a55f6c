"""Tries the sandbox from inside: says "confined", or what is open that should not be."""

import importlib
import os
from typing import Any

from rewards.programs.inside import confine


def main(job: dict[str, Any]) -> None:
    """Prints the one line."""
    confine(job, keep_output=True)
    importlib.import_module("statistics")  # only if the library is open to the user that this is by now
    print(", ".join(_open_doors()) or "confined")


def _open_doors() -> list[str]:
    doors = [f"{place} is there" for place in ("/proc/1", "/sys/kernel", "/etc/passwd") if os.path.exists(place)]
    try:
        if os.fork() == 0:
            os._exit(0)
        doors.append("processes can be started")
    except OSError:
        pass
    try:
        os.mkdir("/probe")
        doors.append("the root is writable")
    except OSError:
        pass
    return doors
