"""The copy of a run folder at an address (`run.folder = "s3://..."`). The run writes into a local folder; a thread
brings to the address what changed there, the marker of each checkpoint last, so that it is complete there as here."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from actors.errors import BrokenPart
from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.sections import RunSettings
from cluster.preparing.folders import LOCK
from cluster.preparing.storage import below, copy_of, fetch, file_system, listed, upload
from cluster.reporting.logs import LOGGER
from cluster.running.checkpoints import CHECKPOINTS, newest_checkpoint, step_of
from learner.types import MARKER

EVERY_SECONDS = 30.0  # from one look at the folder to the next
LAST_TRIES, FIRST_WAIT = 5, 2.0  # at the end of a run: how often, and seconds after the first try, then twice as many
SENT = "uploaded.json"  # in the run folder: what the address has
OURS = (LOCK, SENT, f"{SENT[:-5]}.new")  # which stay here

State = tuple[int, int]  # of a file: bytes, and nanoseconds when it was last written
UNKNOWN: State = (-1, -1)


class CopyLost(BrokenPart):
    """What a run wrote at last is in its local folder, and not at the address of its run folder."""


def base_of(settings: RunSettings) -> Path:
    """The local folder in which run folders are made."""
    if not is_address(settings.folder):
        return Path(settings.folder)
    return copy_of(below(settings.folder, "any")).parent


def is_taken(settings: RunSettings, name: str) -> bool:
    """Whether there is a run of this name at the address of `run.folder`; never where that is none."""
    return is_address(settings.folder) and bool(_names(below(settings.folder, name)))


def brought_here(address: str, say: Callable[[str], None]) -> Path:
    """The local folder of a run at an address, or of a checkpoint in it, with all that is there; where the local folder
    has a checkpoint as new, it is left as it is. What is replaced is kept beside it.

    Raises:
        ConfigError: there is no run, or it cannot be read.
    """
    place, sign, options = address.partition("?")
    run, slash, checkpoint = place.rstrip("/").partition(f"/{CHECKPOINTS}/")
    run, folder = f"{run}{sign}{options}", copy_of(run)
    here, there = newest_checkpoint(folder), newest_at(run)
    if there is not None and there > (step_of(here) if here else -1):
        scratch = folder.with_name(f".{folder.name}.part")
        say(f"{run}: {fetch(run, scratch)}, in {folder}")
        _write(scratch / SENT, _state(scratch))
        if folder.exists():
            kept = next(path for n in range(1, 10_000) if not (path := Path(f"{folder}.replaced-{n}")).exists())
            folder.rename(kept)
            say(f"the older copy of the run is kept in {kept}")
        scratch.rename(folder)
    if not folder.is_dir():
        raise ConfigError(f"there is no run with a complete checkpoint at {run}")
    return folder / CHECKPOINTS / checkpoint if slash else folder


def newest_at(address: str) -> int | None:
    """The step of the newest complete checkpoint of the run at an address; None without one."""
    steps = [step_of(Path(name).parent) for name in _names(address) if name == _marker_of(name)]
    return max(steps, default=None)


class Mirror:
    """Brings a run folder to an address. Order of calls: `start` when the run has begun, then `finish`."""

    def __init__(self, folder: Path, address: str, say: Callable[[str], None]) -> None:
        """`say` is told when the copy falls behind, and when it has caught up."""
        self._folder, self._address, self._say = folder, address, say
        self._system, self._path = file_system(address)
        self._sent = _read(folder / SENT)
        self._listed = bool(self._sent)  # whether it is known what is at the address
        self._behind = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go, name="mirror", daemon=True)

    def start(self) -> Self:
        """Begins to look at the folder."""
        self._thread.start()
        return self

    def finish(self) -> None:
        """Brings what is left.

        Raises:
            CopyLost: it cannot be brought.
        """
        self._over.set()
        self._thread.join()
        for tries in range(LAST_TRIES):
            if not (problem := self._try()):
                self._say(f"the run is at {self._address}, too")
                return
            time.sleep(FIRST_WAIT * 2**tries if tries + 1 < LAST_TRIES else 0.0)
        raise CopyLost(
            f"the run is in {self._folder}, and what it wrote at last is not at {self._address}: {problem}. Copy "
            f"it, or go on from the folder here: winnow train --resume {self._folder}"
        )

    def bring(self) -> None:
        """Makes the address hold what the folder holds: files that are gone here go, changed ones come, and markers of
        checkpoints go first and come last."""
        if not self._listed:
            self._sent |= dict.fromkeys(_names(self._address), UNKNOWN)
            self._listed = True
        there, now = self._sent, _state(self._folder)
        for name in sorted(there.keys() - now.keys(), key=_is_no_marker):
            self._remove(name)
        changed = [name for name, state in now.items() if there.get(name) != state]
        for marker in {_marker_of(name) for name in changed} & there.keys():
            self._remove(marker)  # until all of that checkpoint has come
            changed.append(marker)
        cut = set[str]()  # markers of checkpoints of which something has gone meanwhile
        for name in sorted(dict.fromkeys(changed), key=lambda name: not _is_no_marker(name)):
            if name in cut:
                continue
            try:
                upload(self._system, self._folder / name, f"{self._path}/{name}")
                there[name] = now[name]
            except FileNotFoundError:
                if (self._folder / name).exists():
                    raise  # it is the address that is not there
                cut.add(_marker_of(name))
        _write(self._folder / SENT, there)

    def _go(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self._try()

    def _try(self) -> str:
        """Brings what changed; why it cannot, "" where it can."""
        try:
            self.bring()
        except Exception as failure:  # file systems raise what they like, and none of it ends a run
            problem = f"{type(failure).__name__}: {failure}"
            LOGGER.debug("the copy at %s is behind", self._address, exc_info=True)
            if not self._behind:
                self._say(f"the copy of the run at {self._address} is behind: {problem}. It is tried again")
            self._behind = True
            return problem
        if self._behind:
            self._say(f"the copy of the run at {self._address} has caught up")
        self._behind = False
        return ""

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._system.delete_file(f"{self._path}/{name}")
        self._sent.pop(name, None)


@contextmanager
def mirrored(folder: Path, settings: RunSettings, say: Callable[[str], None]) -> Iterator[Callable[[], object]]:
    """While it lasts, from the call of what it gives on, the run folder is brought to the address in `run.folder`. In
    the end all of it is there, also where the run has failed. Without an address there, nothing is done.

    Raises:
        CopyLost: it is not, and the run itself has not failed.
    """
    if not is_address(settings.folder):
        yield lambda: None
        return
    begun: list[Mirror] = []
    mirror = Mirror(folder, below(settings.folder, folder.name), say)
    try:
        yield lambda: begun.append(mirror.start())
    except BaseException as end:
        for one in begun:
            try:
                one.finish()
            except CopyLost as lost:
                end.add_note(str(lost))
        raise
    for one in begun:
        one.finish()


def _state(folder: Path) -> dict[str, State]:
    """The files of a run folder that belong to its copy: of checkpoints, those that are complete."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        marker = _marker_of(name)
        if name in OURS or (marker and not (folder / marker).is_file()):
            continue
        with suppress(FileNotFoundError):  # removed meanwhile
            if path.is_file():
                stat = path.stat()
                found[name] = (stat.st_size, stat.st_mtime_ns)
    return found


def _marker_of(name: str) -> str:
    """The marker of the checkpoint that a file belongs to; "" where it belongs to none."""
    first, _, rest = name.partition("/")
    return f"{first}/{rest.partition('/')[0]}/{MARKER}" if first == CHECKPOINTS and "/" in rest else ""


def _is_no_marker(name: str) -> bool:
    return name != _marker_of(name)


def _names(address: str) -> set[str]:
    """The files below an address.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        system, path = file_system(address)
        return {one.name for one in listed(system, path)}
    except Exception as failure:
        raise ConfigError(f"{address} (run.folder) cannot be read: {type(failure).__name__}: {failure}") from failure


def _read(file: Path) -> dict[str, State]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {name: (size, written) for name, (size, written) in found.items()}


def _write(file: Path, sent: Mapping[str, State]) -> None:
    scratch = file.with_suffix(".new")
    scratch.write_text(json.dumps(sent), encoding="utf-8")
    scratch.replace(file)
