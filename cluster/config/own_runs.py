"""The run files that winnow brings: those of deploy/runs in a checkout, a copy of them in an installed package. Every
command takes them by the path that the documents give, from any folder."""

from importlib.resources import files
from pathlib import Path

DOCUMENTED = Path("deploy/runs")  # how documents name the folder
DEMO = DOCUMENTED / "demo.toml"


def own_run(path: Path) -> Path:
    """A run file or folder of winnow's own where the path is that of the documents and nothing lies there; else the
    path as it is."""
    if path.exists() or not path.is_relative_to(DOCUMENTED):
        return path
    ours = own_runs() / path.relative_to(DOCUMENTED)
    return ours if ours.exists() else path


def own_runs() -> Path:
    """The folder of winnow's run files."""
    package = Path(str(files("cluster")))
    packaged = package / "runs"
    return packaged if packaged.is_dir() else package.parent / DOCUMENTED
