"""The folder of a run: made, held by one process at a time, with its resolved config in it."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, to_toml
from cluster.config.run_config import RunConfig
from cluster.config.run_files import LOCK
from cluster.reporting.logs import LOGGER


def make_run_folder(name: str, base: Path, taken: Callable[[str], bool] = lambda name: False) -> Path:
    """A new folder under `base`; a number is added where the name is taken, so nothing is overwritten.

    Args:
        name: of the run.
        base: may be made, too.
        taken: whether a name is taken elsewhere.

    Raises:
        ConfigError: it cannot be made, or written to.
    """
    for number in range(1, 10_000):
        folder = base / (name if number == 1 else f"{name}-{number}")
        if taken(folder.name):
            continue
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.exists() or folder.is_symlink():
                continue
            raise ConfigError(f"cannot make the run folder {folder}: {base} (run.folder) leads nowhere") from None
        except (OSError, ValueError) as failure:
            raise ConfigError(
                f"cannot make the run folder {folder}: {_reason(failure)}. Set run.folder to a folder that you may "
                "write to"
            ) from failure
        return folder.resolve()
    raise ConfigError(f"{base} holds 9999 runs named {name}: choose another run.name")


def write_config(config: RunConfig, folder: Path) -> None:
    """Writes the resolved config into the run folder."""
    (folder / CONFIG).write_text(to_toml(config), encoding="utf-8")


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """While it lasts no other process runs in the folder. The system lets go of it when this process ends, however it
    ends.

    Raises:
        ConfigError: another process does.
    """
    file = folder / LOCK
    with file.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as failure:
            lock.seek(0)
            raise ConfigError(
                f"another process runs in {folder}: {lock.read().strip() or failure.strerror}. Wait until it has "
                "ended, or end it"
            ) from None
        except OSError as failure:
            LOGGER.warning("%s cannot be locked (%s): see to it that one process at a time runs there", folder, failure)
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        with suppress(OSError):  # of a file system that has no such thing
            os.fsync(lock.fileno())  # other nodes read it soon
        yield


def _reason(failure: OSError | ValueError) -> str:
    if isinstance(failure, NotADirectoryError):
        return "a file stands in its path"
    return str(getattr(failure, "strerror", None) or failure)
