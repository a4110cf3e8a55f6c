"""Which folder holds the trajectories that a person means, and what of the run lies beside them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, unchecked_tree
from cluster.config.run_files import CHECKPOINTS, TRAJECTORIES


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """A run as it lies on disk: its own folder, or a copy of it."""

    path: Path
    settings: dict[str, Any]  # the tree of config.toml; empty where there is none, or where it cannot be read

    @property
    def trajectories(self) -> Path:
        """Where its Parquet files are, or will be."""
        return self.path / TRAJECTORIES

    def setting(self, section: str, key: str) -> Any:
        """A setting as the file has it; None where it has none. The file is read as data: nothing that it names is
        run, as it may be another person's."""
        found = self.settings.get(section)
        return found.get(key) if isinstance(found, dict) else None


def run_folder(given: str) -> RunFolder:
    """The run that a person names: its folder, or one inside it (trajectories, a checkpoint).

    Raises:
        ConfigError: there is none; the message says what is there instead.
    """
    if is_address(given):
        raise ConfigError(f"{given} is an address, and winnow rollouts reads folders: copy the run here first")
    path = Path(given)
    if not path.exists():
        raise ConfigError(f"there is no folder {path}: give the folder of a run, such as runs/demo")
    if not path.is_dir():
        raise ConfigError(f"{path} is a file: give the folder of a run, such as runs/demo")
    whole = path.resolve()
    around = [at for at in whole.parents[:2] if whole.relative_to(at).parts[0] in (TRAJECTORIES, CHECKPOINTS)]
    for folder in (path, *around):
        if (folder / CONFIG).is_file() or (folder / TRAJECTORIES).is_dir():
            return RunFolder(path=folder, settings=unchecked_tree(folder / CONFIG))
    if any(path.glob("step-*/groups*.parquet")):
        raise ConfigError(f"{path} holds trajectories and lies in no run: put it into a folder as {TRAJECTORIES}/")
    if runs := _runs_below(path):
        shown = "\n".join(f"  winnow rollouts {run}" for run in runs[:20])
        raise ConfigError(f"{path} holds {len(runs)} runs, and a page shows one of them:\n{shown}")
    raise ConfigError(f"{path} is not the folder of a run: it holds neither {CONFIG} nor {TRAJECTORIES}/")


def _runs_below(folder: Path) -> list[Path]:
    """Runs in a folder of runs, or of a comparison."""
    return sorted(found.parent for depth in ("*", "*/*") for found in folder.glob(f"{depth}/{TRAJECTORIES}"))
