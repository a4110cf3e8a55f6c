"""What `winnow doctor` says of machines that lack something: each line with what to do."""

import dataclasses
import resource
import shutil
import types
from pathlib import Path

import pytest

from cluster.commands.checks import machine
from cluster.commands.checks.gpus import GIB, MIB, Gpu, Gpus
from cluster.commands.checks.types import Finding, State, Subject
from cluster.preparing.machine import MachineFacts

H100 = Gpu(index=0, name="NVIDIA H100", driver="580.65.06", memory=80 * GIB, used=0, capability="9.0")
ON_CPU = Subject(runs=Path("runs"), gpus=Gpus(found=()), visible=0)
ON_GPU = dataclasses.replace(ON_CPU, gpus=Gpus(found=(H100,)), visible=1)
FACTS = MachineFacts(
    drivers=("580.65.06",), cuda="13.0", compiler="/usr/bin/gcc", headers="/inc", has_headers=True, shared=GIB
)


def told(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """What the machine is said to have; a test changes `facts.now`."""
    here = types.SimpleNamespace(now=FACTS)
    monkeypatch.setattr(machine, "look_at_machine", lambda: here.now)
    return here


def test_no_compiler_no_headers_and_a_compiler_that_fails_stop_runs_on_gpus_alone(
    facts: types.SimpleNamespace, tmp_path: Path
) -> None:
    facts.now = dataclasses.replace(FACTS, compiler="")
    assert machine.examine_compiler(ON_GPU, told).state is State.WRONG
    found = machine.examine_compiler(ON_CPU, told)
    assert found.state is State.NOTE
    assert "no harm on a machine without GPUs" in found.said
    assert "install gcc" in found.remedy
    facts.now = dataclasses.replace(FACTS, has_headers=False)
    assert "/inc" in machine.examine_compiler(ON_GPU, told).said
    failing = tmp_path / "cc"
    failing.write_text("#!/bin/sh\necho 'fatal error: cannot find crt1.o' >&2\nexit 1\n")
    failing.chmod(0o755)
    facts.now = dataclasses.replace(FACTS, compiler=str(failing))
    found = machine.examine_compiler(ON_GPU, told)
    assert "fatal error: cannot find crt1.o" in found.said
    assert "apt install gcc" in found.remedy


def test_small_shared_memory_stops_runs_where_several_gpus_talk_through_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = types.SimpleNamespace(total=64 * MIB, free=64 * MIB)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: usage)
    two = dataclasses.replace(ON_GPU, visible=2, shared=tmp_path)
    assert machine.examine_shared_memory(two, told).state is State.WRONG
    found = machine.examine_shared_memory(dataclasses.replace(two, visible=0), told)
    assert found.state is State.NOTE
    assert "--shm-size" in found.remedy
    assert machine.examine_shared_memory(dataclasses.replace(two, shared=tmp_path / "none"), told).state is State.NOTE


def meminfo(folder: Path, total: int, free: int) -> None:
    (folder / "meminfo").write_text(f"MemTotal: {total // 1024} kB\nMemAvailable: {free // 1024} kB\n")


def memory_of(folder: Path, subject: Subject = ON_CPU) -> Finding:
    return machine.examine_memory(dataclasses.replace(subject, proc=folder, cgroups=folder), told)


def test_memory_is_what_the_machine_or_the_container_has_left(tmp_path: Path) -> None:
    meminfo(tmp_path, 64 * GIB, 48 * GIB)
    assert memory_of(tmp_path).said == "48.0 GiB of 64.0 GiB free in this machine"
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_of(tmp_path).state is State.OK
    (tmp_path / "memory.max").write_text(f"{8 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{6 * GIB}\n")
    found = memory_of(tmp_path)
    assert found.said == "2.0 GiB of 8.0 GiB free in this container"
    assert found.state is State.WRONG
    (tmp_path / "memory.current").write_text(f"{2 * GIB}\n")
    assert memory_of(tmp_path).state is State.OK
    assert memory_of(tmp_path, ON_GPU).state is State.NOTE


@pytest.mark.parametrize(
    ("free", "scratch", "state", "remedy"),
    [
        (500 * MIB, 50 * GIB, State.WRONG, "run.folder"),
        (50 * GIB, 3 * GIB, State.WRONG, "RAY_TMPDIR"),
        (50 * GIB, 50 * GIB, State.OK, ""),
    ],
)
def test_a_full_disk_under_the_runs_or_under_ray_stops_runs(
    free: int, scratch: int, state: State, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(folder: Path) -> types.SimpleNamespace:
        return types.SimpleNamespace(total=100 * GIB, free=scratch if folder == Path("/scratch") else free)

    monkeypatch.setattr(machine.shutil, "disk_usage", usage)
    subject = dataclasses.replace(ON_CPU, runs=tmp_path / "runs", scratch=Path("/scratch"))
    found = machine.examine_disk(subject, told)
    assert found.state is state
    assert remedy in found.remedy
    assert list(tmp_path.iterdir()) == []  # nothing is left of the trial


def test_a_folder_that_cannot_be_written_to_stops_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refused)
    found = machine.examine_disk(dataclasses.replace(ON_CPU, runs=Path("/usr/runs")), told)
    assert (found.state, found.said) == (State.WRONG, "cannot write to /usr: Permission denied")
    assert "run.folder" in found.remedy


def test_few_open_files_are_a_note_with_the_command_that_raises_them(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (1024, 4096), resource.RLIMIT_NPROC: (-1, -1)}
    monkeypatch.setattr(machine.resource, "getrlimit", limits.__getitem__)
    found = machine.examine_files(ON_CPU, told)
    assert found.state is State.NOTE
    assert "1,024 open files, any number of processes" in found.said
    assert "ulimit -n 4096" in found.remedy
    limits[resource.RLIMIT_NOFILE] = (-1, -1)
    assert machine.examine_files(ON_CPU, told).state is State.OK


def test_gpus_are_named_with_their_memory_driver_and_cuda(facts: types.SimpleNamespace) -> None:
    two = Gpus(found=(H100, dataclasses.replace(H100, index=1)))
    found = machine.examine_gpus(dataclasses.replace(ON_GPU, gpus=two, visible=2), told)
    assert found.said == "2 x NVIDIA H100 (80.0 GiB), driver 580.65.06, torch for CUDA 13.0"
    assert "CUDA_VISIBLE_DEVICES shows 1" in machine.examine_gpus(dataclasses.replace(ON_GPU, gpus=two), told).said


def test_an_old_driver_stops_runs_and_other_users_and_old_gpus_are_notes(facts: types.SimpleNamespace) -> None:
    def of(**changed: object) -> Finding:
        gpu = dataclasses.replace(H100, **changed)  # type: ignore[arg-type]
        return machine.examine_gpus(dataclasses.replace(ON_GPU, gpus=Gpus(found=(gpu,))), told)

    assert of(driver="570.124.06").state is State.WRONG
    assert "580" in of(driver="570.124.06").said + of(driver="570.124.06").remedy
    assert of(used=30 * GIB).state is State.NOTE
    assert "30.0 GiB of GPU 0" in of(used=30 * GIB).said
    assert "bfloat16 needs 8.0" in of(capability="7.0").said
    facts.now = dataclasses.replace(FACTS, cuda="")
    assert of().state is State.WRONG  # a torch without CUDA


def test_no_gpu_is_skipped_hidden_gpus_are_a_note_and_a_broken_driver_is_wrong_where_torch_has_cuda(
    facts: types.SimpleNamespace,
) -> None:
    assert machine.examine_gpus(ON_CPU, told).state is State.SKIPPED
    assert machine.examine_gpus(dataclasses.replace(ON_GPU, visible=0), told).state is State.NOTE
    broken = dataclasses.replace(ON_CPU, gpus=Gpus(found=(), problem="nvidia-smi says: no. Install the driver anew"))
    assert machine.examine_gpus(broken, told).state is State.WRONG
    facts.now = dataclasses.replace(FACTS, cuda="")
    assert machine.examine_gpus(broken, told).state is State.NOTE


def test_a_missing_sandbox_is_a_note_as_only_one_reward_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "sandbox_problem", lambda: "bubblewrap is missing; install it: apt install bubblewrap")
    found = machine.examine_sandbox(ON_CPU, told)
    assert found.state is State.NOTE
    assert "apt install bubblewrap" in found.said + found.remedy
    assert shutil.which("sh")  # the rest of the machine is as it was
