"""The copy of a run folder at an address (`run.folder = "s3://..."`). The run writes into a local folder; a thread
brings to the address what changed there, the marker of each checkpoint last, so that it is complete there as here."""

import json
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from actors.errors import BrokenPart
from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG
from cluster.config.run_files import CHECKPOINTS, LOCK
from cluster.config.sections import RunSettings
from cluster.preparing.folders import held
from cluster.preparing.storage import below, copy_of, fetch, file_system, listed, upload
from cluster.reporting.logs import LOGGER
from cluster.running.checkpoints import newest_checkpoint, step_of
from learner.types import MARKER

EVERY_SECONDS = 30.0  # from one look at the folder to the next
LEAVE_SECONDS = 5.0  # for the file that is under way when a run is interrupted
LAST_TRIES, FIRST_WAIT = 5, 2.0  # at the end of a run: how often, and seconds after the first try, then twice as many
SENT = "uploaded.json"  # in the run folder: what the address has
OURS = (LOCK, SENT, f"{SENT[:-5]}.new")  # which stay here

State = tuple[int, int]  # of a file: bytes, and nanoseconds when it was last written
UNKNOWN: State = (-1, -1)


class CopyLost(BrokenPart):
    """What a run wrote at last is in its local folder, and not at the address of its run folder."""


def is_taken(settings: RunSettings, name: str) -> bool:
    """Whether there is a run of this name at the address of `run.folder`; never where that is none."""
    return is_address(settings.folder) and bool(names_at(below(settings.folder, name)))


def brought_here(address: str, say: Callable[[str], None]) -> Path:
    """The local folder of a run at an address, or of a checkpoint in it, with all that is there; where the local folder
    has a checkpoint as new, and nothing else was written to the address since, it is left as it is. What is replaced
    is kept beside it.

    Raises:
        ConfigError: there is no run, or it cannot be read.
    """
    place, sign, options = address.partition("?")
    run, slash, checkpoint = place.rstrip("/").partition(f"/{CHECKPOINTS}/")
    run, folder = f"{run}{sign}{options}", copy_of(run)
    there = names_at(run)
    if newest_in(there) is None and newest_checkpoint(folder) is None:
        raise ConfigError(f"there is no run with a complete checkpoint at {run}")
    if _is_behind(folder, there):
        _fetch_run(run, folder, say)
    return folder / CHECKPOINTS / checkpoint if slash else folder


def bring_begun(address: str, say: Callable[[str], None]) -> None:
    """As `brought_here`, of a run that may be without a complete checkpoint, or not have begun.

    Raises:
        ConfigError: the address cannot be read, or has something else than a run.
    """
    folder, there = copy_of(address), names_at(address)
    if there and CONFIG not in there and not folder.is_dir():
        raise ConfigError(f"{address} is there, and not the folder of a run: choose another run.name or run.folder")
    if there and _is_behind(folder, there):
        _fetch_run(address, folder, say)


def newest_in(names: Iterable[str]) -> int | None:
    """The step of the newest complete checkpoint among the files of a run; None without one."""
    return max((step_of(Path(name).parent) for name in names if name == _marker_of(name)), default=None)


def names_at(address: str) -> dict[str, int]:
    """The files below an address, with their sizes in bytes.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        system, path = file_system(address)
        return {one.name: one.size for one in listed(system, path)}
    except Exception as failure:
        raise ConfigError(f"{address} (run.folder) cannot be read: {type(failure).__name__}: {failure}") from failure


class Mirror:
    """Brings a run folder to an address. Order of calls: `start` when the run has begun, then `finish`."""

    def __init__(self, folder: Path, address: str, say: Callable[[str], None]) -> None:
        """`say` is told when the copy falls behind, and when it has caught up."""
        self._folder, self._address, self._say = folder, address, say
        self._system, self._path = file_system(address)
        self._sent = _read(folder / SENT)
        self._listed = bool(self._sent)  # whether it is known what is at the address
        self._behind = False
        self._over, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._go, name="mirror", daemon=True)

    def start(self) -> Self:
        """Begins to look at the folder."""
        self._thread.start()
        return self

    def finish(self) -> None:
        """Brings what is left, where it has been started.

        Raises:
            CopyLost: it cannot be brought.
        """
        if self._thread.ident is None:
            return
        self._over.set()
        self._thread.join()
        for tries in range(LAST_TRIES):
            if not (problem := self._try()):
                self._say(f"the run is at {self._address}, too")
                return
            time.sleep(FIRST_WAIT * 2**tries if tries + 1 < LAST_TRIES else 0.0)
        raise CopyLost(
            f"the run is in {self._folder}, and what it wrote at last is not at {self._address}: {problem}. Copy "
            f"it, or go on from the folder here: winnow train --resume {shlex.quote(str(self._folder))}"
        )

    def leave(self) -> str:
        """Ends at once, without what is left; says so, where it has been started."""
        if self._thread.ident is None:
            return ""
        self._left.set()
        self._over.set()
        self._thread.join(LEAVE_SECONDS)
        return (
            f"the copy of the run at {self._address} is behind the run folder, as it was ended at once; going on from "
            f"{self._folder} brings the rest"
        )

    def bring(self) -> None:
        """Makes the address hold what the folder holds: files that came from here and are gone here go, changed ones
        come, and markers of checkpoints go first and come last. What others have put there stays."""
        there, now = self._sent, _state(self._folder)
        if not self._listed:
            there |= dict.fromkeys(names_at(self._address).keys() & now.keys(), UNKNOWN)
            self._listed = True
        for name in sorted(there.keys() - now.keys(), key=_is_no_marker):
            self._remove(name)
        changed = [name for name, state in now.items() if there.get(name) != state]
        for marker in {_marker_of(name) for name in changed} & there.keys():
            self._remove(marker)  # until all of that checkpoint has come
            changed.append(marker)
        cut = set[str]()  # markers of checkpoints of which something has gone meanwhile
        for name in sorted(dict.fromkeys(changed), key=_turn):
            if name in cut or self._left.is_set():
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
    the end all of it is there, also where the run has failed, but for one that is interrupted: nothing is waited for
    then. Without an address there, nothing is done.

    Raises:
        CopyLost: it is not, and the run itself has not failed.
    """
    if not is_address(settings.folder):
        yield lambda: None
        return
    mirror = Mirror(folder, below(settings.folder, folder.name), say)
    try:
        try:
            yield mirror.start
        except (Exception, SystemExit) as end:
            try:
                mirror.finish()
            except CopyLost as lost:
                end.add_note(str(lost))
            raise
        mirror.finish()
    except KeyboardInterrupt as hurried:  # also while it finishes
        if left := mirror.leave():
            hurried.add_note(left)
        raise


def _is_behind(folder: Path, there: Mapping[str, int]) -> bool:
    """Whether the run went on elsewhere after it was in this folder: there is a newer checkpoint at its address, or,
    with the same one, something that neither came from here nor is a part of what is here."""
    newest = newest_checkpoint(folder)
    here, step = step_of(newest) if newest else -1, newest_in(there)
    if here != (-1 if step is None else step):
        return step is not None and step > here
    sent, now = _read(folder / SENT), _state(folder, whole=False)
    known = [{name: size for name, (size, _) in files.items()} for files in (sent, now)]
    others = (size != known[0].get(name) and size > known[1].get(name, -1) for name, size in there.items())
    return CONFIG in there and any(others)


def _fetch_run(address: str, folder: Path, say: Callable[[str], None]) -> None:
    scratch = folder.with_name(f".{folder.name}.part")
    say(f"{address}: {fetch(address, scratch)}, in {folder}")
    (scratch / LOCK).touch()
    _write(scratch / SENT, _state(scratch, whole=False))
    if folder.exists():
        kept = next(path for n in range(1, 10_000) if not (path := Path(f"{folder}.replaced-{n}")).exists())
        with held(folder):
            folder.rename(kept)
        say(f"the older copy of the run is kept in {kept}")
    scratch.rename(folder)


def _state(folder: Path, *, whole: bool = True) -> dict[str, State]:
    """The files of a run folder that belong to its copy: of checkpoints, those that are complete, or all."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        marker = _marker_of(name)
        if name in OURS or (whole and marker and not (folder / marker).is_file()):
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


def _turn(name: str) -> int:
    """When a file is brought: what tells a run from another folder first, markers last."""
    return 0 if name == CONFIG else 1 + (not _is_no_marker(name))


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
