"""The folder of a run, and its resolved config in it."""

from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.reading import to_toml
from cluster.config.run_config import RunConfig


def make_run_folder(name: str, base: Path) -> Path:
    """A new folder under `base`; a number is added where the name is taken, so nothing is overwritten.

    Raises:
        ConfigError: it cannot be made, or written to.
    """
    for number in range(1, 10_000):
        folder = base / (name if number == 1 else f"{name}-{number}")
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
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")


def _reason(failure: OSError | ValueError) -> str:
    if isinstance(failure, NotADirectoryError):
        return "a file stands in its path"
    return str(getattr(failure, "strerror", None) or failure)
