"""Files and folders at addresses, `s3://`, `gs://`, `hf://` and all that fsspec knows, as file systems of pyarrow; and
local copies of them, which are complete when `fetch` returns and are not fetched again while nothing changed."""

import fcntl
import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from fnmatch import fnmatchcase
from pathlib import Path

from pyarrow import fs

from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.sections import RunSettings
from cluster.reporting.words import counted

OF_PYARROW = ("s3", "gs", "gcs", "abfs", "abfss", "hdfs", "file")  # whose file systems pyarrow has itself
CACHE = "WINNOW_CACHE"  # the variable that names the folder of local copies
AT_ONCE, CHUNK = 8, 8 * 2**20  # files under way at a time; bytes read at a time
COMMIT = re.compile(r"^(hf://[^@?]+)@([0-9a-f]{40})(?=/|\?|$)", re.IGNORECASE)  # of an address of the Hub
SAFE, OTHERS = "*.safetensors", ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx")  # weights


class Part(Enum):
    """What of a folder is wanted."""

    ALL = auto()
    MODEL = auto()  # where there are weights in safetensors, no weights in other forms
    CONFIG = auto()  # no weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file at an address."""

    path: str  # in its file system
    name: str  # below the address; the file's own name where the address is that of a file
    size: int  # bytes
    stamp: str  # another one when the file has changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came of making a local copy."""

    files: int  # of the copy
    size: int  # bytes that were fetched; 0 where the copy was as it should be
    seconds: float

    def __str__(self) -> str:
        if not self.size:
            return f"{self._count} there from before"
        return f"{self._count}, {self.size / 2**20:.3g} MiB fetched in {self.seconds:.1f} s"

    @property
    def _count(self) -> str:
        return counted(self.files, "file")


def copy_of(address: str) -> Path:
    """Where the local copy of an address is, on each node: below WINNOW_CACHE, or ~/.cache/winnow. What lies in one
    folder of one store has one folder there; a pattern has its own, so that it matches nothing that others fetched, and
    so has a commit of the Hub."""
    fixed = COMMIT.match(address)
    scheme, _, rest = COMMIT.sub(r"\1", address).partition("://")
    place, _, options = rest.partition("?")
    *above, name = [part for part in place.split("/") if part not in ("", ".", "..")] or ["root"]
    told_apart = ["/".join(above), *sorted(options.split("&")), name if _is_pattern(name) else ""]
    told_apart += [fixed[2]] if fixed else []
    digest = hashlib.sha256("\n".join(told_apart).encode()).hexdigest()[:12]
    shown = re.sub(r"[^\w.-]", "_", above[-1] if above else "")[:40]
    cache = Path(os.environ.get(CACHE) or Path.home() / ".cache" / "winnow")
    return cache.absolute() / scheme.lower() / f"{shown}-{digest}" / name


def below(address: str, name: str) -> str:
    """The address of what has this name below an address, which may end in options of its file system (`?...`)."""
    place, sign, options = address.partition("?")
    return f"{place.rstrip('/')}/{name}{sign}{options}"


def base_of(settings: RunSettings) -> Path:
    """The local folder in which run folders are made."""
    if not is_address(settings.folder):
        return Path(settings.folder)
    return copy_of(below(settings.folder, "any")).parent


def fetch(address: str, target: Path, part: Part = Part.ALL) -> Fetched:
    """Makes a local copy of a file, a folder, or the files of a pattern in the last part of an address, or brings it up
    to date. Processes that want the same copy wait for each other.

    Args:
        address: where the files are.
        target: `copy_of` it, or another place.
        part: of a folder, what is wanted.

    Raises:
        ConfigError: there is nothing, or it cannot be read or written.
    """
    began = time.monotonic()
    if is_fixed(address) and (count := _whole(target, part)):
        return Fetched(files=count, size=0, seconds=time.monotonic() - began)
    try:
        system, path = file_system(address)
        found = _wanted(listed(system, path), part)
    except Exception as failure:  # file systems raise what they like
        raise unreadable(address, failure) from failure
    if not found:
        raise ConfigError(f"there is nothing at {address}")
    folder = target.parent if is_single(found, path) or _is_pattern(path) else target
    try:
        with _stamps(target) as stamps:
            wanted = [one for one in found if not _is_there(folder / one.name, one, stamps)]

            def get(one: Remote) -> None:
                _download(system, one, folder / one.name)
                stamps[one.name] = one.stamp

            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(get, wanted))
            if part is not Part.CONFIG:
                for name in stamps.keys() - {one.name for one in found}:  # those that are no longer there
                    (folder / name).unlink(missing_ok=True)
                    del stamps[name]
        if is_fixed(address):
            sizes = {str((folder / one.name).relative_to(target.parent)): one.size for one in found}
            _write(_record(target, part), sizes)
    except Exception as failure:
        raise ConfigError(f"{address} cannot be copied to {target}: {_reason(failure)}") from failure
    return Fetched(files=len(found), size=sum(one.size for one in wanted), seconds=time.monotonic() - began)


def is_fixed(address: str) -> bool:
    """Whether what is at an address never changes, as it names a commit of the Hub (`hf://owner/name@COMMIT`)."""
    return COMMIT.match(address) is not None


def file_system(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it."""
    scheme, sign, rest = address.partition("://")
    scheme = scheme.lower()
    address = f"{scheme}{sign}{rest}"
    if scheme in OF_PYARROW:
        system, path = fs.FileSystem.from_uri(address)
        return system, path.rstrip("/")
    import fsspec

    found, path = fsspec.core.url_to_fs(address)
    return fs.PyFileSystem(fs.FSSpecHandler(found)), path.rstrip("/")


def listed(system: fs.FileSystem, path: str) -> list[Remote]:
    """The file at a path, the files below it, or those that a pattern in its last part matches; by name."""
    parent, _, last = path.rpartition("/")
    pattern = last if _is_pattern(path) else ""
    root = parent if pattern else path
    info = system.get_file_info(root)
    if info.type == fs.FileType.File:
        return [_remote(system, info, last)]
    below = fs.FileSelector(root, allow_not_found=True, recursive=not pattern)
    files = [one for one in system.get_file_info(below) if one.type == fs.FileType.File]
    named = [(one, one.path.removeprefix(root).lstrip("/")) for one in files]
    kept = [(one, name) for one, name in named if not pattern or fnmatchcase(name, pattern)]
    return sorted((_remote(system, one, name) for one, name in kept), key=lambda one: one.name)


def is_single(found: list[Remote], path: str) -> bool:
    """Whether what was listed at a path is a file and no folder."""
    return len(found) == 1 and found[0].path.rstrip("/").lstrip("/") == path.lstrip("/")


def upload(system: fs.FileSystem, local: Path, path: str) -> None:
    """Copies a local file to a path of a file system; the folders above it are made where there have to be any."""
    with local.open("rb") as source:
        try:
            sink = system.open_output_stream(path)
        except FileNotFoundError:
            system.create_dir(path.rpartition("/")[0], recursive=True)
            sink = system.open_output_stream(path)
        with sink:
            while chunk := source.read(CHUNK):
                sink.write(chunk)


def _is_pattern(path: str) -> bool:
    return any(letter in path.rpartition("/")[2] for letter in "*?[")


def _wanted(found: list[Remote], part: Part) -> list[Remote]:
    safe = [one for one in found if fnmatchcase(one.name, SAFE)]
    left_out: set[str] = {one.name for one in safe} if part is Part.CONFIG else set()
    if part is Part.CONFIG or (part is Part.MODEL and safe):
        left_out |= {one.name for one in found if any(fnmatchcase(one.name, pattern) for pattern in OTHERS)}
    return [one for one in found if one.name not in left_out]


def _remote(system: fs.FileSystem, info: fs.FileInfo, name: str) -> Remote:
    handler = getattr(system, "handler", None)
    stamp = handler.fs.ukey(info.path) if isinstance(handler, fs.FSSpecHandler) else str(info.mtime_ns)
    return Remote(path=info.path, name=name, size=info.size or 0, stamp=f"{info.size} {stamp}")


def _is_there(file: Path, one: Remote, stamps: dict[str, str]) -> bool:
    return stamps.get(one.name) == one.stamp and file.is_file() and file.stat().st_size == one.size


def _download(system: fs.FileSystem, one: Remote, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.part")
    with system.open_input_stream(one.path, compression=None) as source, scratch.open("wb") as sink:
        while chunk := source.read(CHUNK):
            sink.write(chunk)
    if scratch.stat().st_size != one.size:
        raise OSError(f"{one.path} has {one.size} bytes, and {scratch.stat().st_size} came")
    scratch.replace(file)


@contextmanager
def _stamps(target: Path) -> Iterator[dict[str, str]]:
    """The stamps of the files of a copy, which nobody else changes meanwhile; kept as they are in the end. They lie
    beside the copy, so that nodes which share its folder share them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file = target.with_name(f".{target.name}.stamps")
    with target.with_name(f".{target.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # also between threads of one process
        known: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
        try:
            yield known
        finally:
            _write(file, known)


def _record(target: Path, part: Part) -> Path:
    """The file that says what a whole copy of what never changes holds: it is not listed again."""
    return target.with_name(f".{target.name}.{part.name.lower()}")


def _whole(target: Path, part: Part) -> int:
    """How many files the copy has, where it is whole and as it was fetched; else 0."""
    file = _record(target, part)
    sizes: dict[str, int] = json.loads(file.read_text()) if file.is_file() else {}
    paths = {target.parent / name: size for name, size in sizes.items()}
    return len(paths) if all(path.is_file() and path.stat().st_size == size for path, size in paths.items()) else 0


def _write(file: Path, content: Mapping[str, object]) -> None:
    scratch = file.with_name(f"{file.name}.new")
    scratch.write_text(json.dumps(content))
    scratch.replace(file)


def unreadable(address: str, failure: Exception) -> ConfigError:
    """What is raised where an address cannot be read."""
    return ConfigError(f"{address} cannot be read: {_reason(failure)}. {_keys(address)}")


def _reason(failure: Exception) -> str:
    said = next(iter(str(failure).splitlines()), "").rstrip(".")
    return f"{type(failure).__name__}: {said}" if said else type(failure).__name__


def _keys(address: str) -> str:
    """Where a file system takes its keys from."""
    known = {"s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "hf": "HF_TOKEN"}
    known |= dict.fromkeys(("gs", "gcs"), "GOOGLE_APPLICATION_CREDENTIALS")
    names = known.get(address.partition("://")[0].lower(), "the variables of its file system")
    return f"What it asks for comes from the environment ({names}), never from the address"
