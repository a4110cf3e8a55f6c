"""What a machine with GPUs must have besides the packages: each check is a function of what was found, and gives a
sentence that says what is wrong and what to do, or "". `winnow doctor` shows them all; a run on GPUs asks each node."""

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GIB = 2**30
SHARED_GIB = 2  # of shared memory, at least: NCCL and vLLM's workers take some hundred MiB for each GPU
QUERY_SECONDS = 20
USED_GIB = 1  # of a GPU's memory: a desktop or a driver takes less
# Main version of CUDA -> main version of the oldest driver that runs programs built with it, as NVIDIA's table of
# minor version compatibility has it.
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What was found on a machine."""

    drivers: tuple[str, ...]  # version of NVIDIA's driver for each GPU, such as "580.65.06"; none without a GPU
    cuda: str  # version of CUDA that torch was built with, such as "13.0"; "" for a build without
    compiler: str  # path of a C compiler; "" without
    headers: str  # folder in which Python.h must lie
    has_headers: bool  # whether it lies there
    shared: int  # bytes that /dev/shm can hold; 0 is unknown
    used: tuple[int, ...] = ()  # bytes of each GPU that somebody holds


def install_command(profile: str) -> str:
    """What brings the packages of a profile, "cpu" or "gpu": in a checkout by make, else by pip."""
    checkout = (Path(__file__).parents[2] / "Makefile").is_file()
    return f"make env PROFILE={profile}" if checkout else f'pip install "winnow-rl[{profile}]"'


def driver_problem(drivers: Sequence[str], cuda: str) -> str:
    """Whether the driver is too old for the CUDA that torch was built with."""
    if drivers and not cuda:
        return f"torch is a build without CUDA, which sees no GPU: install the GPU profile ({install_command('gpu')})"
    wanted = OLDEST_DRIVER.get(_main(cuda), 0)
    if old := sorted({version for version in drivers if _main(version) < wanted}):
        return (
            f"NVIDIA's driver {', '.join(old)} is too old: torch is built with CUDA {cuda}, which wants driver "
            f"{wanted} or later. Install one, or take a machine that has it"
        )
    return ""


def compiler_problem(compiler: str) -> str:
    """Whether a C compiler is missing, with which Triton builds the launcher of each of its kernels."""
    if compiler:
        return ""
    return "there is no C compiler, which Triton needs for vLLM's kernels: install gcc (apt install gcc), or set CC"


def headers_problem(headers: str, has_headers: bool) -> str:
    """Whether Python's own headers are missing, which what Triton compiles includes."""
    if has_headers:
        return ""
    return (
        f"there is no Python.h in {headers}, which Triton needs for vLLM's kernels: install Python's headers "
        "(apt install python3.11-dev, or a Python of uv or conda, which bring them)"
    )


def shared_memory_problem(shared: int) -> str:
    """Whether /dev/shm is so small, as in a container without settings, that Ray and NCCL run out of it."""
    if not shared or shared >= SHARED_GIB * GIB:
        return ""
    return (
        f"/dev/shm holds {shared / GIB:.2g} GiB, and Ray's object store, NCCL and vLLM's workers want {SHARED_GIB} GiB "
        "at least: start the container with --shm-size=16g or --ipc=host"
    )


def used_memory_problem(used: Sequence[int]) -> str:
    """Whether somebody holds memory of a GPU before anything starts there, such as a process of a run that was killed:
    engines take a share of the whole memory, and do not start where it is not free."""
    held = [f"GPU {number} ({size / GIB:.3g} GiB)" for number, size in enumerate(used) if size > USED_GIB * GIB]
    if not held:
        return ""
    return f"memory is in use before the run: {', '.join(held)}. nvidia-smi says by whom; end it, or lower the shares"


def obstacles(facts: MachineFacts) -> list[str]:
    """What would keep any run on the GPUs of this machine from starting; the worst first."""
    found = (
        driver_problem(facts.drivers, facts.cuda),
        compiler_problem(facts.compiler),
        headers_problem(facts.headers, facts.has_headers),
    )
    return [problem for problem in found if problem]


def machine_problems(facts: MachineFacts) -> list[str]:
    """The obstacles, and what only some runs trip over."""
    return [*obstacles(facts), *warnings_of(facts)]


def warnings_of(facts: MachineFacts) -> list[str]:
    """What only some runs on the GPUs of this machine trip over."""
    found = (shared_memory_problem(facts.shared), used_memory_problem(facts.used))
    return [problem for problem in found if problem]


def look_at_machine() -> MachineFacts:
    """The facts of the machine on which this is called; loads nothing heavy."""
    include = sysconfig.get_paths()["include"]
    compilers = (os.environ.get("CC", "").split(" ")[0], "gcc", "clang")
    return MachineFacts(
        drivers=tuple(said for said in _of_gpus("driver_version") if said[:1].isdigit()),
        cuda=_cuda_of_torch(),
        compiler=next((path for name in compilers if name and (path := shutil.which(name))), ""),
        headers=include,
        has_headers=(Path(include) / "Python.h").is_file(),
        shared=_size_of("/dev/shm"),
        used=tuple(int(said) * 2**20 for said in _of_gpus("memory.used") if said.isdigit()),
    )


def _of_gpus(fact: str) -> tuple[str, ...]:
    """What nvidia-smi says of each GPU; nothing where there is none."""
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", f"--query-gpu={fact}", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, timeout=QUERY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip())


def _cuda_of_torch() -> str:
    """Read from the file in which torch says it: importing torch takes seconds."""
    found = importlib.util.find_spec("torch")
    version = Path(found.origin).parent / "version.py" if found and found.origin else Path()
    said = re.search(r"^cuda\b[^=\n]*=\s*'([^']*)'", version.read_text(), re.MULTILINE) if version.is_file() else None
    return said[1] if said else ""


def _size_of(folder: str) -> int:
    try:
        return shutil.disk_usage(folder).total
    except OSError:
        return 0


def _main(version: str) -> int:
    number = re.match(r"\d+", version)
    return int(number[0]) if number else 0
