"""The checks of `winnow doctor` in two lanes. What uses GPUs or a whole core is in one lane, since two engines, or an
engine beside another program that takes memory of its GPU, would disturb each other; the rest is in the other."""

from cluster.commands.checks.machine import (
    examine_compiler,
    examine_disk,
    examine_files,
    examine_gpus,
    examine_memory,
    examine_sandbox,
    examine_shared_memory,
)
from cluster.commands.checks.packages import examine_packages
from cluster.commands.checks.parts import (
    examine_agreement,
    examine_attention,
    examine_computing,
    examine_ipc,
    examine_meeting,
    examine_nccl,
    examine_ray,
    examine_run,
)
from cluster.commands.checks.types import Check

TOTAL_SECONDS = 115.0  # for all checks together

LIGHT = (
    Check(name="packages", seconds=30, examine=examine_packages),
    Check(name="compiler", seconds=60, examine=examine_compiler),
    Check(name="sandbox", seconds=40, examine=examine_sandbox),
    Check(name="shared memory", seconds=20, examine=examine_shared_memory),
    Check(name="memory", seconds=20, examine=examine_memory),
    Check(name="disk", seconds=30, examine=examine_disk),
    Check(name="limits", seconds=20, examine=examine_files),
    Check(name="GPUs", seconds=60, examine=examine_gpus),
    Check(name="meeting", seconds=40, examine=examine_meeting),
    Check(name="Ray", seconds=60, examine=examine_ray),
)
RUN = Check(name="run", seconds=90, examine=examine_run)
HEAVY = (
    Check(name="computing", seconds=40, examine=examine_computing),
    Check(name="attention", seconds=40, examine=examine_attention),
    Check(name="NCCL", seconds=45, examine=examine_nccl),
    Check(name="GPU sharing", seconds=45, examine=examine_ipc),
    Check(name="agreement", seconds=110, examine=examine_agreement),
)
CHECKS = {check.name: check for check in (*LIGHT, RUN, *HEAVY)}
