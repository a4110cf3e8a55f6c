"""Which files of a folder are sent with a job: those that a run may need, and none that only this machine needs."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.config.reading import CONFIG
from cluster.jobs.ignored import Rules, is_ignored, rules_above, rules_of
from cluster.preparing.folders import LOCK

# By name: what version control, tools, builds and loggers keep in a folder.
TOOLS = frozenset(
    {".git", ".hg", ".svn", ".tox", ".nox", ".eggs", ".cache", ".hypothesis", ".ipynb_checkpoints", ".idea", ".vscode"}
    | {"__pycache__", "node_modules", "build", "dist", "wandb", "mlruns", "checkpoints", "runs", ".venv", "venv"}
)
# Keys and passwords: whatever is sent can be read by all who use the cluster.
SECRETS = frozenset(
    {".env", ".netrc", ".ssh", ".aws", ".kube", ".docker", ".gnupg", ".ray", ".huggingface", ".git-credentials"}
)
# A folder that holds one of these is an environment or a cache, whatever its name (CACHEDIR.TAG: bford.info/cachedir).
SIGNS = ("pyvenv.cfg", "conda-meta", "CACHEDIR.TAG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is sent of a folder."""

    files: dict[str, Path]  # path in the folder, with slashes -> the file
    left_out: tuple[str, ...]  # folders and files that lie in it and are not sent; folders end in a slash


def select(folder: Path, needed: Iterable[Path]) -> Selection:
    """What is sent of a folder.

    Args:
        folder: absolute.
        needed: files and folders in it that are sent whatever else leaves them out.
    """
    left_out: list[str] = []
    files = dict(_walk(folder, folder, rules_above(folder), left_out))
    for path in needed:
        whole = {path.relative_to(folder).as_posix(): path} if path.is_file() else dict(_walk_all(folder, path))
        files |= whole
        left_out = [one for one in left_out if path != folder / one.rstrip("/")]
    return Selection(files=dict(sorted(files.items())), left_out=tuple(sorted(left_out)))


def _walk(root: Path, folder: Path, above: Sequence[Rules], left_out: list[str]) -> Iterator[tuple[str, Path]]:
    rules = [*above, rules_of(folder)]
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, is_folder = Path(entry.path), entry.is_dir()
        if entry.name in TOOLS | SECRETS or is_ignored(path, rules, is_folder=is_folder) or _is_own(path, is_folder):
            left_out.append(path.relative_to(root).as_posix() + "/" * is_folder)
        elif is_folder and not _leads_back(path, entry.is_symlink()):
            yield from _walk(root, path, rules, left_out)
        elif entry.is_file():
            yield path.relative_to(root).as_posix(), path


def _walk_all(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if entry.is_dir() and entry.name not in TOOLS and not _leads_back(path, entry.is_symlink()):
            yield from _walk_all(root, path)
        elif entry.is_file():
            yield path.relative_to(root).as_posix(), path


def _is_own(path: Path, is_folder: bool) -> bool:
    """Whether a folder is an environment, a cache, a run's or a package's that pip has made."""
    if not is_folder:
        return False
    is_run = (path / CONFIG).is_file() and (path / LOCK).is_file()
    return is_run or path.name.endswith(".egg-info") or any((path / sign).exists() for sign in SIGNS)


def _leads_back(path: Path, is_link: bool) -> bool:
    """Whether a link leads to a folder that it lies in, which would never end."""
    return is_link and path.parent.resolve().is_relative_to(path.resolve())
