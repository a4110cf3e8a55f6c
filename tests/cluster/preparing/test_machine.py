from dataclasses import replace

import pytest

from cluster.preparing.machine import (
    GIB,
    MachineFacts,
    compiler_problem,
    driver_problem,
    headers_problem,
    look_at_machine,
    machine_problems,
    obstacles,
    shared_memory_problem,
    used_memory_problem,
)

SOUND = MachineFacts(
    drivers=("580.65.06",) * 8,
    cuda="13.0",
    compiler="/usr/bin/gcc",
    headers="/usr/include/python3.11",
    has_headers=True,
    shared=16 * GIB,
)


def test_a_sound_machine_has_no_problem() -> None:
    assert machine_problems(SOUND) == []


@pytest.mark.parametrize(
    ("drivers", "cuda", "found"),
    [
        (("550.54.15",), "13.0", "driver 550.54.15 is too old: torch is built with CUDA 13.0, which wants driver 580"),
        (("580.65.06", "570.1"), "13.0", "driver 570.1 is too old"),
        (("550.54.15",), "12.8", ""),
        (("590.1",), "14.0", ""),  # a CUDA that the table does not know yet
        ((), "", ""),
        (("580.65.06",), "", "torch is a build without CUDA"),
    ],
)
def test_a_driver_is_compared_with_the_cuda_of_torch(drivers: tuple[str, ...], cuda: str, found: str) -> None:
    problem = driver_problem(drivers, cuda)
    assert found in problem
    assert bool(problem) == bool(found)


def test_what_triton_compiles_with_must_be_there() -> None:
    assert "apt install gcc" in compiler_problem("")
    assert "no Python.h in /usr/include/python3.11" in headers_problem("/usr/include/python3.11", False)


def test_the_shared_memory_of_a_plain_container_is_too_small() -> None:
    assert "holds 0.062 GiB" in shared_memory_problem(64 * 2**20)
    assert shared_memory_problem(2 * GIB) == ""
    assert shared_memory_problem(0) == ""  # where there is no such folder, nobody knows


def test_memory_that_somebody_holds_is_named_with_its_gpu() -> None:
    assert "GPU 1 (22.5 GiB)" in used_memory_problem([0, int(22.5 * GIB), GIB // 2])
    assert used_memory_problem([GIB // 2] * 8) == ""


def test_all_problems_of_a_machine_are_named_the_driver_first() -> None:
    bare = replace(SOUND, drivers=("470.1",), compiler="", has_headers=False, shared=1, used=(2 * GIB,))
    found = machine_problems(bare)
    assert [problem.split()[0] for problem in found] == ["NVIDIA's", "there", "there", "/dev/shm", "memory"]
    assert found[:3] == obstacles(bare)


def test_this_machine_can_be_looked_at() -> None:
    facts = look_at_machine()
    assert facts.headers
    assert facts.shared >= 0
