"""Which files of a folder are sent with a job: those that a run may need, and none that only this machine needs."""

import os
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from cluster.config.reading import CONFIG
from cluster.config.run_files import LOCK
from cluster.jobs.ignored import Rules, is_ignored, rules_above, rules_of

# By name: what version control, tools, builds and loggers keep in a folder.
TOOLS = frozenset(
    {".git", ".hg", ".svn", ".tox", ".nox", ".eggs", ".cache", ".hypothesis", ".ipynb_checkpoints", ".idea", ".vscode"}
    | {"__pycache__", "node_modules", "build", "dist", "wandb", "mlruns", "checkpoints", "runs", ".venv", "venv"}
)
# Keys and passwords, by patterns of names in small letters: whatever is sent can be read by all who use the cluster.
SECRETS = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".pgpass", ".my.cnf", ".htpasswd", ".git-credentials"),
    *(".npmrc", ".yarnrc.yml", ".pypirc", "pip.conf", ".s3cfg", ".boto", "rclone.conf", ".dockercfg", "kubeconfig"),
    *(".ssh", ".aws", ".azure", ".oci", ".kube", ".docker", ".gnupg", ".ray", ".huggingface", ".kaggle", "gcloud"),
    *("*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.gpg"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_*_sk", "auth_token", ".vault-token", "kaggle.json"),
    *("credentials", ".credentials", "*credentials*.json", "credentials.*ml", "client_secret*.json"),
    *("service[-_]account*.json", ".secrets", "secrets.json", "secrets.*ml"),
)
PUBLIC = (".env.example", ".env.sample", ".env.template", ".env.dist")  # that show which keys there are, without them
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
        files |= {path.relative_to(folder).as_posix(): path} if path.is_file() else dict(_walk_all(folder, path))
    sent = files.keys() | {above.as_posix() for name in files for above in PurePosixPath(name).parents}
    rest = (name for one in left_out for name in _not_sent(folder, one, sent))
    return Selection(files=dict(sorted(files.items())), left_out=tuple(sorted(rest)))


def is_secret(path: Path) -> bool:
    """Whether a file or folder looks like one of keys or passwords, by its name or by that of what it is a link to."""
    names = {path.name.lower(), path.resolve().name.lower()} if path.is_symlink() else {path.name.lower()}
    return any(fnmatchcase(name, pattern) for name in names.difference(PUBLIC) for pattern in SECRETS)


def _not_sent(root: Path, name: str, sent: Set[str]) -> Iterator[str]:
    """What is not sent of a file or folder that was left out, which a setting may name or a part of it."""
    bare = name.rstrip("/")
    if bare not in sent:
        yield name
    elif name != bare:
        for entry in os.scandir(root / bare):
            yield from _not_sent(root, f"{bare}/{entry.name}" + "/" * entry.is_dir(), sent)


def _walk(root: Path, folder: Path, above: Sequence[Rules], left_out: list[str]) -> Iterator[tuple[str, Path]]:
    rules = [*above, rules_of(folder)]
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path, is_folder = Path(entry.path), entry.is_dir()
        kept = entry.name in TOOLS or is_secret(path) or _is_own(path, is_folder)
        if kept or is_ignored(path, rules, is_folder=is_folder):
            left_out.append(path.relative_to(root).as_posix() + "/" * is_folder)
        elif is_folder and not _leads_back(path, entry.is_symlink()):
            yield from _walk(root, path, rules, left_out)
        elif entry.is_file():
            yield path.relative_to(root).as_posix(), path


def _walk_all(root: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    for entry in os.scandir(folder):
        path = Path(entry.path)
        if is_secret(path) or (entry.name in TOOLS and entry.is_dir()):
            continue
        if entry.is_dir() and not _leads_back(path, entry.is_symlink()):
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
