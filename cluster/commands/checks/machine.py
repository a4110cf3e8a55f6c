"""What the machine has: compiler, sandbox, memory, disk, open files, GPUs and their driver."""

import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster.commands.checks.gpus import GIB, MIB
from cluster.commands.checks.types import Finding, Subject, Told, note, ok, skipped, wrong
from cluster.preparing.host import host_memory
from cluster.preparing.machine import (
    compiler_problem,
    driver_problem,
    headers_problem,
    look_at_machine,
    shared_memory_problem,
)
from rewards.programs.sandbox import sandbox_problem

MEMORY_LEAST, MEMORY_GPU = 4 * GIB, 32 * GIB  # free, to run the demo; for loading models on a machine with GPUs
DISK_LEAST, DISK_LITTLE = GIB, 20 * GIB  # free where runs go, to start at all; for a few checkpoints of a large model
SCRATCH_FULL = 0.95  # of the disk under Ray's folder: from there on Ray stores nothing there any more
FILES_WANTED = 65536
FILES_LEAST = 4096  # open files; Ray takes some tens for each actor
OTHERS = GIB  # bytes of a GPU that are somebody else's
SMALLEST = "#include <Python.h>\nint winnow(void) { return PY_MAJOR_VERSION; }\n"
BF16_CAPABILITY = 8.0  # of the first GPUs that compute in bfloat16


def examine_compiler(subject: Subject, told: Told) -> Finding:
    """A C compiler with Python's headers, which Triton and vLLM need on GPUs; the smallest module is built."""
    facts = look_at_machine()
    problem = compiler_problem(facts.compiler) or headers_problem(facts.headers, facts.has_headers)
    if not problem:
        told(f"{facts.compiler} builds a module of Python")
        problem = _building_problem(facts.compiler, facts.headers)
    if not problem:
        return ok(f"{facts.compiler} builds a module of Python")
    return _with_remedy(problem, stops=bool(subject.visible), mild="no harm on a machine without GPUs")


def _building_problem(compiler: str, headers: str) -> str:
    """Whether a compiler does not build the smallest module of Python, and what it says."""
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "smallest.c", Path(folder) / "smallest.so"
        source.write_text(SMALLEST, encoding="utf-8")
        command = [compiler, "-shared", "-fPIC", f"-I{headers}", str(source), "-o", str(made)]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode == 0:
        return ""
    said = next((line for line in built.stderr.splitlines() if "error" in line), built.stderr.strip()[:200])
    said = said or f"its exit status is {built.returncode}"
    return f"{compiler} builds no module of Python ({said}): apt install gcc libc6-dev"


def examine_sandbox(subject: Subject, told: Told) -> Finding:
    """The sandbox of the reward "code", by a program that runs in it."""
    problem = sandbox_problem()
    if not problem:
        return ok("a program ran in bubblewrap, confined")
    return note(f'the reward "code" cannot run programs, all others work: {problem}')


def examine_shared_memory(subject: Subject, told: Told) -> Finding:
    """Shared memory, through which Ray's actors hand over groups and NCCL what GPUs of one machine tell each other."""
    if not subject.shared.is_dir():
        return note(f"there is no {subject.shared}: Ray keeps its store on a disk, slowly", "mount a tmpfs there")
    size = shutil.disk_usage(subject.shared).total
    if problem := shared_memory_problem(size):
        return _with_remedy(problem, stops=subject.visible > 1, mild="Ray keeps what does not fit on a disk, slowly")
    return ok(f"{subject.shared} holds {_gib(size)}")


def examine_memory(subject: Subject, told: Told) -> Finding:
    """Memory that is free, of the machine or of the container's share of it."""
    found = host_memory(subject.proc, subject.cgroups)
    free = found.free
    said = f"{_gib(free)} of {_gib(found.total)} free in this {'container' if found.bounded else 'machine'}"
    if free < MEMORY_LEAST:
        return wrong(said, f"free {_gib(MEMORY_LEAST)}: end other programs, or give the container more")
    if subject.visible and free < MEMORY_GPU:
        return note(said, "a model is read into memory before it goes to a GPU: about twice its size is needed")
    return ok(said)


def examine_disk(subject: Subject, told: Told) -> Finding:
    """Room and permission where runs go, and room where Ray keeps what it works with."""
    folder = next(one for one in (subject.runs.absolute(), *subject.runs.absolute().parents) if one.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder) as tried:
            tried.write(bytes(MIB))
            tried.flush()
    except OSError as failure:
        return wrong(
            f"cannot write to {folder}: {failure.strerror}",
            "set run.folder to a folder that can be written and has room",
        )
    free, scratch = shutil.disk_usage(folder).free, shutil.disk_usage(subject.scratch)
    said = f"{_gib(free)} free in {folder}, {_gib(scratch.free)} in {subject.scratch}"
    if free < DISK_LEAST:
        return wrong(said, "free some, or set run.folder to a larger disk")
    if scratch.free < (1 - SCRATCH_FULL) * scratch.total:
        return wrong(
            f"{said}, which is more than {SCRATCH_FULL:.0%} full: Ray stores nothing there any more, and a run fails",
            f"free some of {subject.scratch}, or set RAY_TMPDIR to a folder on a larger disk",
        )
    if subject.visible and free < DISK_LITTLE:
        return note(said, "a checkpoint of a 7B model is 15 GB: see run.checkpoint_every and run.folder")
    return ok(said)


def examine_files(subject: Subject, told: Told) -> Finding:
    """The limits on open files and processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    processes = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    said = f"{_count(soft)} open files, {_count(processes)} processes"
    if soft != resource.RLIM_INFINITY and soft < FILES_LEAST:
        most = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
        remedy = f"ulimit -n {most}" if most > soft else "the hard limit is as low: ask who runs the machine"
        remedy += f"; LimitNOFILE of a service, or --ulimit nofile={FILES_WANTED} of a container"
        return note(f"{said}: Ray's actors open some tens each", remedy)
    if processes != resource.RLIM_INFINITY and processes < FILES_LEAST:
        return note(f"{said}: engines and Ray start hundreds of threads", "ulimit -u 65536")
    return ok(said)


def examine_gpus(subject: Subject, told: Told) -> Finding:
    """The GPUs, their driver against torch's CUDA, and who else is on them."""
    gpus = subject.gpus
    if gpus.problem:
        stops = bool(gpus.found) or look_at_machine().cuda != ""
        return _with_remedy(gpus.problem, stops=stops, mild="runs go to the CPU")
    if not gpus.found:
        return skipped("no GPU here (there is no nvidia-smi): runs go to the CPU")
    if not subject.visible:
        return note("CUDA_VISIBLE_DEVICES hides every GPU: runs go to the CPU", "unset it to use them")
    facts = look_at_machine()
    if problem := driver_problem([one.driver for one in gpus.found], facts.cuda):
        return _with_remedy(problem)
    names = ", ".join(sorted({f"{one.name} ({_gib(one.memory)})" for one in gpus.found}))
    said = f"{len(gpus.found)} x {names}, driver {gpus.found[0].driver}, torch for CUDA {facts.cuda}"
    if old := [one for one in gpus.found if one.capability and float(one.capability) < BF16_CAPABILITY]:
        return note(
            f"{said}: GPU {old[0].index} has computing capability {old[0].capability}, and bfloat16 needs 8.0",
            'set model.dtype = "float32"',
        )
    if taken := [one for one in gpus.found if one.used > OTHERS]:
        held = ", ".join(f"{_gib(one.used)} of GPU {one.index}" for one in taken)
        return note(
            f"{said}: others hold {held}",
            "end them (nvidia-smi lists them): generator.memory_share is of the whole GPU",
        )
    if subject.visible < len(gpus.found):
        return ok(f"{said}; CUDA_VISIBLE_DEVICES shows {subject.visible}")
    return ok(said)


def _with_remedy(problem: str, *, stops: bool = True, mild: str = "") -> Finding:
    """A finding of a sentence "what is wrong: what to do"."""
    said, colon, remedy = problem.rpartition(": ")
    said, remedy = (said, remedy) if colon else (problem, "")
    return wrong(said, remedy) if stops else note(f"{said} ({mild})", remedy)


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _count(limit: int) -> str:
    return "any number of" if limit == resource.RLIM_INFINITY else f"{limit:,}"
