"""What travels with a job, as one zip file: a person's folder, winnow's own code, and the run's settings.

The code travels whether the nodes have winnow or not: what checked the settings is what runs them. The same content
always gives the same bytes, which Ray keeps under their hash and is sent once.
"""

import importlib.metadata
import importlib.util
import os
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.preparing.package_names import PACKAGES
from cluster.reporting.words import counted

MIB = 2**20
OWN = ".winnow"  # the folder of a job for what winnow adds
# Ray's dashboard takes requests of 100 MiB, whatever is set; what it takes becomes a message to the head node.
HTTP_LIMIT, MESSAGE, MESSAGE_LIMIT = 100 * MIB, "RAY_max_grpc_message_size", 512 * MIB
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the time of every file, so that equal content gives equal bytes
NAMED = 6  # large files and folders that a person is told of
DISTRIBUTION = "winnow-rl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What is sent."""

    file: Path  # the zip file
    files: int
    bytes: int  # of the files
    packed: int  # bytes of the zip file


def limit() -> int:
    """The largest package that Ray takes, in bytes."""
    return min(HTTP_LIMIT, int(os.environ.get(MESSAGE, MESSAGE_LIMIT)))


def write_package(file: Path, files: Mapping[str, Path], texts: Mapping[str, str]) -> Package:
    """Packs files for a job.

    Args:
        file: where the zip file goes.
        files: path in the job's folder -> the file.
        texts: path in the job's folder -> what is written there.

    Raises:
        ConfigError: they are larger than Ray takes, or one cannot be read.
    """
    sizes = {name: _size(path) for name, path in files.items()} | {name: len(text) for name, text in texts.items()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (path.stat().st_mode & 0xFFFF) << 16
            try:
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                    while piece := source.read(MIB):
                        target.write(piece)
                        _check(file, sizes)
            except PermissionError as failure:
                raise ConfigError(
                    f"{path} would be sent and cannot be read: {failure.strerror}. {_ADVICE}"
                ) from failure
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), text, zipfile.ZIP_DEFLATED)
    _check(file, sizes)
    return Package(file=file, files=len(sizes), bytes=sum(sizes.values()), packed=file.stat().st_size)


def own_code(folder: Path) -> dict[str, Path]:
    """The files of winnow's packages: path in the job's folder -> the file.

    Args:
        folder: that is sent; where it is winnow's own, the packages are part of it.
    """
    roots = {
        name: Path(spec.origin).parent for name in PACKAGES if (spec := importlib.util.find_spec(name)) and spec.origin
    }
    return {
        f"{name}/{path.relative_to(root).as_posix()}": path
        for name, root in roots.items()
        if root.parent.resolve() != folder.resolve()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def own_distribution() -> dict[str, str]:
    """What tells Python that winnow is installed, so that vLLM finds its plug-in: path in the job's folder -> text;
    nothing where it is not installed here."""
    try:
        found = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return {}
    folder = f"{DISTRIBUTION.replace('-', '_')}-{found.version}.dist-info"
    texts = {name: found.read_text(name) for name in ("METADATA", "entry_points.txt")}
    return {f"{folder}/{name}": text for name, text in texts.items() if text}


def mib(size: int) -> str:
    """A size for a person."""
    return f"{size / MIB:.1f} MiB"


_ADVICE = "Name what the job does not need in a file .rayignore (written as .gitignore), or submit from another folder"


def _check(file: Path, sizes: Mapping[str, int]) -> None:
    if file.stat().st_size <= limit():
        return
    tops = Counter[str]()
    for name, size in sizes.items():
        top, slash, _ = name.partition("/")
        tops[top + slash] += size
    folders = ", ".join(f"{name} {mib(size)}" for name, size in tops.most_common(NAMED))
    largest = ", ".join(f"{name} {mib(size)}" for name, size in Counter(sizes).most_common(NAMED))
    raise ConfigError(
        f"{counted(len(sizes), 'file')} of {mib(sum(sizes.values()))} would be sent with the job, more than the "
        f"{mib(limit())} "
        f"that Ray takes, packed. The largest folders: {folders}. The largest files: {largest}. {_ADVICE}; large data "
        "and models belong where every node sees them, named by an absolute path"
    )


def _size(path: Path) -> int:
    return path.stat().st_size
