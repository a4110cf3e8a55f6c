"""What is read of nvidia-smi, of drivers and of torch's build; a compiler that is missing, broken or lacks headers."""

from pathlib import Path

import pytest

from cluster.preparing import machine
from cluster.preparing.machine import GIB, MIB, Gpu, compiler_problem, cuda_in, driver_problem, gpus_in
from tests.tables import each

TWO = """\
0, NVIDIA H100 80GB HBM3, 570.124.06, 81559, 0, 9.0
1, NVIDIA H100 80GB HBM3, 570.124.06, 81559, 30210, 9.0
"""
H100 = "NVIDIA H100 80GB HBM3"


def test_gpus_are_read_from_what_nvidia_smi_prints() -> None:
    found = gpus_in(TWO)
    assert found.problem == ""
    assert found.found == (
        Gpu(index=0, name=H100, driver="570.124.06", memory=81559 * MIB, used=0, capability="9.0"),
        Gpu(index=1, name=H100, driver="570.124.06", memory=81559 * MIB, used=30210 * MIB, capability="9.0"),
    )


def test_a_gpu_without_memory_of_its_own_has_memory_that_is_unknown() -> None:
    (gpu,) = gpus_in("0, NVIDIA GB10, 580.95.05, [N/A], [N/A], 12.1\n").found
    assert (gpu.memory, gpu.used, gpu.capability) == (0, 0, "12.1")
    (old,) = gpus_in("0, Tesla V100-SXM2-16GB, 450.51.06, 16160, 3, [Not Supported]\n").found
    assert (old.memory, old.capability) == (16160 * MIB, "")


@each(
    ("text", "status", "said"),
    [
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", 9, "has failed because"),
        ("No devices were found\n", 6, "No devices were found"),
        ("Failed to initialize NVML: Driver/library version mismatch\n", 18, "version mismatch"),
        (TWO + "Unable to determine the device handle for GPU2: GPU is lost.\n", 15, "GPU is lost"),
        ("", 1, "exit status is 1"),
    ],
)
def test_what_else_nvidia_smi_prints_is_a_problem_in_its_own_words(text: str, status: int, said: str) -> None:
    assert said in gpus_in(text, status).problem


def test_gpus_beside_a_lost_one_are_still_found() -> None:
    assert len(gpus_in(TWO + "Unable to determine the device handle for GPU2: GPU is lost.\n", 15).found) == 2


@each(
    ("driver", "cuda", "least"),
    [
        ("570.124.06", "13.0", "580"),
        ("580.65.06", "13.0", ""),
        ("575.57", "13.2", "580"),
        ("520.61.05", "12.8", "525"),
        ("535.104.05", "12.8", ""),
        ("440.33", "11.8", "450"),
        ("570.124.06", "14.1", "580"),  # a release that came after this was written
        ("[N/A]", "13.0", ""),
        ("570.124.06", "", ""),
    ],
)
def test_a_driver_that_is_too_old_for_torchs_cuda_is_named_with_the_one_it_needs(
    driver: str, cuda: str, least: str
) -> None:
    problem = driver_problem(driver, cuda)
    assert bool(problem) == bool(least)
    assert f"needs {least}" in problem if least else True


@each(
    ("text", "cuda"),
    [
        ("__version__ = '2.13.0+cu130'\ncuda: Optional[str] = '13.0'\n", "13.0"),
        ("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n", ""),
        ('cuda = "12.8"\n', "12.8"),
        ("hip: Optional[str] = '6.2'\n", ""),
    ],
)
def test_the_cuda_of_torch_is_read_from_the_text_of_its_version(text: str, cuda: str) -> None:
    assert cuda_in(text) == cuda


def test_no_compiler_a_compiler_that_fails_and_missing_headers_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    assert "apt install gcc" in compiler_problem()
    monkeypatch.undo()
    failing = tmp_path / "cc"
    failing.write_text("#!/bin/sh\necho 'fatal error: cannot find crt1.o' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CC", str(failing))
    assert "fatal error: cannot find crt1.o" in compiler_problem()
    monkeypatch.setenv("CC", str(tmp_path / "nowhere"))
    assert "set CC to one that works" in compiler_problem()
    monkeypatch.setattr(machine.sysconfig, "get_path", lambda name: str(tmp_path))
    assert f"{tmp_path}/Python.h" in compiler_problem()


@each(("size", "gpus", "small"), [(64 * MIB, 8, True), (64 * MIB, 1, False), (0, 2, True), (16 * GIB, 8, False)])
def test_shared_memory_is_too_small_only_where_gpus_talk_through_it(size: int, gpus: int, small: bool) -> None:
    problem = machine.shared_memory_problem(size, gpus)
    assert bool(problem) == small
    assert f"{size // MIB} MiB" in problem if small else True
