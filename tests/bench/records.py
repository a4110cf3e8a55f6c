"""Recorded runs of the benchmarks: a folder for each, with what it ran on and a file for each part."""

import json
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cluster.comparing.plan import machine

ROOT = Path(__file__).parents[2]
CODE = ("actors", "cluster", "learner", "rewards")  # what is measured
PACKAGES = ("ray", "vllm", "torch", "deepspeed", "transformers")
ABOUT = "about.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a run was made on."""

    began: str  # local time, which is also the folder's name
    machine: str  # in words
    commit: str  # short; with "+" where files of the code were changed and not committed
    code: str  # digest of the code's folders at that commit, so that a change of documents alone is no other code
    versions: Mapping[str, str]  # of packages
    load: float  # processes that wanted a core when it began, mean of a minute

    @property
    def like(self) -> tuple[str, str]:
        """Runs may be put together where this is the same."""
        return self.machine, self.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run."""

    about: About
    parts: Mapping[str, Mapping[str, Any]]  # name -> `problem` ("" where it ended well), `part` (JSON or None)


def about_now() -> About:
    """This machine and this code."""
    changed = "+" * bool(_git("status", "--porcelain", "--", *CODE))
    return About(
        began=time.strftime("%Y-%m-%d_%H-%M-%S"),
        machine=machine(),
        commit=_git("rev-parse", "--short", "HEAD") + changed,
        code="-".join(_git("rev-parse", "--short", f"HEAD:{folder}") for folder in CODE) + changed,
        versions={package: _version(package) for package in PACKAGES},
        load=os.getloadavg()[0],
    )


def begin(folder: Path, about: About) -> Path:
    """Makes the folder of a run."""
    run = folder / about.began
    run.mkdir(parents=True)
    (run / ABOUT).write_text(json.dumps(asdict(about), indent=1), encoding="utf-8")
    return run


def keep(run: Path, name: str, part: Mapping[str, Any] | None, problem: str = "") -> None:
    """Writes the results of a part to its file."""
    tree = {"problem": problem, "part": part}
    (run / f"{name}.json").write_text(json.dumps(tree, indent=1), encoding="utf-8")


def records(folder: Path) -> list[Record]:
    """All runs in a folder, the oldest first."""
    found = []
    for file in sorted(folder.glob(f"*/{ABOUT}")):
        parts = {
            path.stem: json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(file.parent.glob("*.json"))
            if path.name != ABOUT
        }
        found.append(Record(about=About(**json.loads(file.read_text(encoding="utf-8"))), parts=parts))
    return found


def alike(found: Sequence[Record], about: About) -> list[Record]:
    """Those of the same machine and the same code."""
    return [record for record in found if record.about.like == about.like]


def _version(package: str) -> str:
    """Of a package, whose build for CPUs may have a name of its own; "-" where it is not there."""
    for name in (package, f"{package}-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            pass
    return "-"


def _git(*words: str) -> str:
    """What git says, "" outside a repository."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
