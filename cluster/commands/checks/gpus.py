"""The GPUs of this machine by what nvidia-smi tells of them, whatever it is that it tells."""

import re
import shutil
import subprocess
from dataclasses import dataclass

MIB, GIB = 2**20, 2**30
NVIDIA_SECONDS = 20.0  # for nvidia-smi to answer; a GPU that has fallen off its bus never does
QUERY = ("index", "name", "driver_version", "memory.total", "memory.used", "compute_cap")


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
