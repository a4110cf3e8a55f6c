"""Whether Python finds winnow's own packages under their names, here and in Ray's workers."""

import importlib.util
from pathlib import Path

PACKAGES = ("rewards", "actors", "learner", "cluster")


def other_packages(here: Path) -> list[Path]:
    """Files and folders that would be imported instead of a package of winnow's.

    Ray's workers look into the folder that the run was started from first, whatever the driver imported.

    Args:
        here: the folder that the run is started from.
    """
    root = Path(__file__).parents[2]
    found = []
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin and Path(spec.origin).resolve().parents[1] != root.resolve():
            found.append(Path(spec.origin))
        beside = [here / f"{name}.py", here / name / "__init__.py"] if here.resolve() != root.resolve() else []
        found += [path for path in beside if path.is_file() and path not in found]
    return found
