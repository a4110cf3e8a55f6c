"""What a machine must have beside its packages: a driver that is new enough, a C compiler with Python's headers, shared
memory. Each `..._problem` gives a sentence that says what to do, or "" where all is well."""

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

MIB, GIB = 2**20, 2**30
NVIDIA_SECONDS = 20.0  # for nvidia-smi to answer; a GPU that has fallen off its bus never does
COMPILER_SECONDS = 20.0
SHARED_FOLDER = Path("/dev/shm")
SHARED_LEAST = GIB  # of shared memory on a machine with several GPUs: NCCL takes some tens of MiB for each pair
# The oldest Linux driver for each major release of CUDA, by NVIDIA's table of CUDA compatibility.
DRIVERS = {11: 450, 12: 525, 13: 580}
QUERY = ("index", "name", "driver_version", "memory.total", "memory.used", "compute_cap")
SMALLEST = "#include <Python.h>\nint winnow(void) { return PY_MAJOR_VERSION; }\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as nvidia-smi tells of it."""

    index: int
    name: str
    driver: str  # its version
    memory: int  # bytes; 0 where nvidia-smi does not say, as on machines whose GPU has no memory of its own
    used: int  # bytes that some process holds now
    capability: str  # of computing, such as "9.0"; "" where nvidia-smi does not say


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """What nvidia-smi said."""

    found: tuple[Gpu, ...]
    problem: str = ""  # why there may be others that it did not tell of, and what to do


def this_machines_gpus() -> Gpus:
    """The GPUs that nvidia-smi lists, whatever CUDA_VISIBLE_DEVICES says; none where there is no nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return Gpus(found=())
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=NVIDIA_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Gpus(
            found=(),
            problem=f"nvidia-smi has not answered within {NVIDIA_SECONDS:g} s: a GPU or its driver hangs; look at "
            "`dmesg | grep -i xid`, and start the machine anew",
        )
    return gpus_in(listed.stdout, listed.returncode)


def gpus_in(text: str, status: int = 0) -> Gpus:
    """The GPUs in what nvidia-smi printed for QUERY.

    Args:
        text: of its output.
        status: its exit status.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    found = [gpu for line in lines if (gpu := _gpu_in(line)) is not None]
    if status == 0 and len(found) == len(lines):
        return Gpus(found=tuple(found))
    said = next((line.strip() for line in lines if _gpu_in(line) is None), f"its exit status is {status}")
    return Gpus(
        found=tuple(found),
        problem=f"nvidia-smi says: {said}. Install the driver anew, or in a container give it the GPUs (--gpus all)",
    )


def _gpu_in(line: str) -> Gpu | None:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != len(QUERY) or not fields[0].isdecimal():
        return None
    index, name, driver, memory, used, capability = fields
    return Gpu(
        index=int(index),
        name=name,
        driver=driver,
        memory=int(memory) * MIB if memory.isdecimal() else 0,
        used=int(used) * MIB if used.isdecimal() else 0,
        capability=capability if re.fullmatch(r"\d+\.\d+", capability) else "",
    )


def driver_problem(driver: str, cuda: str) -> str:
    """Whether a driver is too old for a release of CUDA.

    Args:
        driver: its version, such as "580.65.06".
        cuda: the release that torch was built for, such as "13.0".
    """
    major, release = driver.split(".")[0], cuda.split(".")[0]
    if not major.isdecimal() or not release.isdecimal():
        return ""
    least = DRIVERS.get(int(release), max(DRIVERS.values()))
    if int(major) >= least:
        return ""
    return (
        f"the NVIDIA driver is {driver}, and torch is built for CUDA {cuda}, which needs {least} or later: install a "
        "newer driver on the host (a container uses the host's)"
    )


def torch_cuda() -> str:
    """The release of CUDA that the installed torch is built for, "" for a build without it; torch is not loaded."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin).with_name("version.py")
    return cuda_in(file.read_text(encoding="utf-8")) if file.is_file() else ""


def cuda_in(text: str) -> str:
    """The release of CUDA in the text of torch's version.py; "" where it names none."""
    found = re.search(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", text, re.M)
    return found[1] if found else ""


def compiler_problem() -> str:
    """Whether a C compiler builds the smallest module of Python: Triton and vLLM's compilation do at their start. It
    is tried by building one."""
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("gcc", "clang", "cc")), "")
    if not compiler:
        return "there is no C compiler, which Triton calls at its start: install one (apt install gcc g++)"
    include = sysconfig.get_path("include")
    if not (Path(include) / "Python.h").is_file():
        version = sysconfig.get_python_version()
        return (
            f"Python's headers are missing ({include}/Python.h), which Triton builds with: install them (apt install "
            f"python{version}-dev), or use a Python that brings them (uv, conda, pyenv)"
        )
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "smallest.c", Path(folder) / "smallest.so"
        source.write_text(SMALLEST, encoding="utf-8")
        command = [compiler, "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(made)]
        try:
            built = subprocess.run(command, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as failure:
            return f"the C compiler {compiler!r} cannot be run ({failure}): set CC to one that works, or unset it"
    if built.returncode == 0:
        return ""
    said = next((line for line in built.stderr.splitlines() if "error" in line), built.stderr.strip()[:200])
    return f"the C compiler {compiler!r} builds no module of Python: {said}. Reinstall it (apt install gcc g++)"


def shared_memory_problem(size: int, gpus: int) -> str:
    """Whether shared memory is too small for what the GPUs of this machine tell each other.

    Args:
        size: bytes of /dev/shm; 0 where there is none.
        gpus: of this machine.
    """
    if size >= SHARED_LEAST or gpus < 2:
        return ""
    return (
        f"{SHARED_FOLDER} has {size / MIB:.0f} MiB, and NCCL passes what {gpus} GPUs tell each other through it: start "
        "the container with --shm-size=16g or --ipc=host (in Kubernetes an emptyDir with medium: Memory), or "
        f"mount -o remount,size=16G {SHARED_FOLDER}"
    )


def shared_memory(folder: Path = SHARED_FOLDER) -> int:
    """Bytes that shared memory can hold; 0 where there is none."""
    if not folder.is_dir():
        return 0
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize
