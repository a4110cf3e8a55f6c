"""Which commit of the Hub a run reads where a setting names a branch, or none (`hf://owner/name`): found out once, and
kept in the run folder, so that a later try of the run reads the same though the branch has moved on."""

import json
from collections.abc import Mapping
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.preparing.storage import is_fixed, unreadable

REVISIONS = "revisions.json"  # in a run folder: address as a setting has it -> the same with its commit
HUB, BUCKETS = "hf://", "hf://buckets/"  # the latter have no commits


def fixed(address: str) -> str:
    """An address that names the commit to which it leads now, where it is one of the Hub; any other as it is.

    Raises:
        ConfigError: the Hub does not say.
    """
    if not address.lower().startswith(HUB) or address.lower().startswith(BUCKETS) or is_fixed(address):
        return address
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.hf_file_system import HfFileSystemResolvedRepositoryPath

    try:
        found = HfFileSystem(skip_instance_cache=True).resolve_path(address[len(HUB) :])
        assert isinstance(found, HfFileSystemResolvedRepositoryPath)  # as it is no bucket
        info = HfApi().repo_info(found.repo_id, repo_type=found.repo_type, revision=found.revision)
    except Exception as failure:  # clients raise what they like
        raise unreadable(address, failure) from failure
    root = found.root.partition("@")[0]
    return f"{HUB}{root}@{info.sha}" + (f"/{found.path}" if found.path else "")


def read_revisions(folder: Path) -> dict[str, str]:
    """The addresses with their commits that a run has begun with; none where it has no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    file = folder / REVISIONS
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(named): str(address) for named, address in found.items()}
    except (ValueError, AttributeError) as failure:
        raise ConfigError(
            f"{file} is damaged ({failure}), and says which commits of the Hub the run reads: bring it back, or name "
            "them in the settings (hf://owner/name@COMMIT)"
        ) from failure


def write_revisions(folder: Path, revisions: Mapping[str, str]) -> None:
    """Adds addresses with their commits to those of a run.

    Raises:
        OSError: the file cannot be written.
    """
    known = read_revisions(folder)
    if revisions.items() <= known.items():
        return
    scratch = folder / f"{REVISIONS}.new"
    scratch.write_text(json.dumps(known | dict(revisions), indent=1) + "\n", encoding="utf-8")
    scratch.replace(folder / REVISIONS)
