"""Stands in for Slurm on one machine: commands `srun` and `scontrol` in a folder on PATH, and a job's environment.

`srun` runs its command once for each task with SLURM_PROCID set, as Slurm does on as many nodes, and hands signals on.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy/slurm/ray.sh"
REQUEUED = "requeued"  # the file beside the commands in which `scontrol requeue` writes the job's number


def make_commands(folder: Path) -> None:
    """Makes `srun` and `scontrol`."""
    for name in ("srun", "scontrol"):
        made = folder / name
        made.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} {folder} "$@"\n', encoding="utf-8")
        made.chmod(0o755)


def environment_of_job(folder: Path, job: int, nodes: int, tries: int = 0) -> dict[str, str]:
    """What a job script finds in its environment.

    Args:
        folder: with the commands, and the job's home.
        job: its number.
        nodes: how many it has, each with one CPU.
        tries: how often it was queued again.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    return ours | {
        "HOME": str(folder),
        "PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_CPUS_ON_NODE": "1",
        "SLURM_JOB_ID": str(job),
        "SLURM_JOB_NODELIST": f"node[1-{nodes}]",
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_RESTART_COUNT": str(tries),
    }


def srun(words: list[str]) -> int:
    """Runs the tasks at the same time and waits for all; the last status that is not 0."""
    options = [word for word in words if word.startswith("--")]
    command = words[len(options) :]  # every option is written with its value in one word
    tasks = next(int(word.partition("=")[2]) for word in options if word.startswith("--ntasks="))
    started = [subprocess.Popen(command, env=os.environ | {"SLURM_PROCID": str(task)}) for task in range(tasks)]

    def hand_on(number: int, _: object) -> None:
        for task in started:
            task.send_signal(number)

    signal.signal(signal.SIGTERM, hand_on)
    return max(task.wait() for task in started)


def scontrol(folder: Path, words: list[str]) -> int:
    """`show hostnames` and `requeue`."""
    if words[:2] == ["show", "hostnames"]:
        print("\n".join(f"node{number + 1}" for number in range(int(os.environ["SLURM_JOB_NUM_NODES"]))))
        return 0
    assert words[0] == "requeue", words
    (folder / REQUEUED).write_text(words[1], encoding="utf-8")
    return 0


if __name__ == "__main__":
    name, folder, *words = sys.argv[1:]
    sys.exit(srun(words) if name == "srun" else scontrol(Path(folder), words))
