"""The folder of a run, and its resolved config in it."""

from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.reading import to_toml
from cluster.config.run_config import RunConfig


def make_run_folder(name: str, base: Path) -> Path:
    """A new folder under `base`; a number is added where the name is taken, so nothing is overwritten."""
    for number in range(1, 10_000):
        folder = base / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder.resolve()
    raise ConfigError(f"{base} holds 9999 runs named {name}: choose another run.name")


def write_config(config: RunConfig, folder: Path) -> None:
    """Writes the resolved config into the run folder."""
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
