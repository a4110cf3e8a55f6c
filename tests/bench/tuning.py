"""Settings of either side, tried on each workload of the comparison: which make it the quickest on this machine.

    .venv/bin/python -m tests.bench.tuning [--side winnow] [--names short ...] [--seconds 30]

Prints a table: CPU milliseconds a sample, and samples a second, after the first step. On a machine that does other work
the first tells more. What was quickest of TRL's stands in `tests.bench.peer_run.QUICKEST`.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from actors.engines import OWN_PROCESS
from tests.bench.against import prepare, speed, turn
from tests.bench.workloads import WORKLOADS, Workload

VLLM = {  # as in `tests.bench.peer_run`, which only TRL's environment can read
    "use_vllm": True,
    "vllm_mode": "colocate",
    "vllm_gpu_memory_utilization": 0.1,
    "vllm_max_model_length": 1024,
}


def variants(side: str, work: Workload) -> dict[str, dict[str, Any]]:
    """What is tried, by name. TRL on one thread but for one, as threads that wait for each other cost CPU time too."""
    if side == "winnow":
        apart = {"cluster": {"env": {OWN_PROCESS: "1"}}}
        return {"engines in their generators": {}, "engines in processes of their own": apart}
    quarter = work.groups_per_step * work.group_size // 4
    changes: dict[str, dict[str, Any]] = {
        "its defaults": {},
        "torch on two threads": {"threads": 2},
        "four micro-batches a step": {"gradient_accumulation_steps": 4, "per_device_train_batch_size": quarter},
        "two steps sampled at a time": {"steps_per_generation": 2},
        "continuous batching of transformers": {"use_transformers_continuous_batching": True},
        "vLLM in its process": VLLM,
    }
    return {name: {"threads": 1} | change for name, change in changes.items()}


def row(side: str, name: str, folder: Path, seconds: float, settings: Mapping[str, Any]) -> str:
    """A line of the table."""
    try:
        steps, cost = turn(side, folder, seconds, 2.0, json.dumps(settings))
    except RuntimeError as problem:
        return f"| {name} | failed: {str(problem).strip().splitlines()[-1]} | |"
    if len(steps) < 2:
        return f"| {name} | one step took longer than {seconds:.0f} s | |"
    return f"| {name} | {sum(cost.values()):.2f} | {speed(steps)[0]:.1f} |"


def main() -> None:
    """Tries everything on the workloads that are asked for."""
    parser = argparse.ArgumentParser(description="settings on the workloads of the comparison")
    parser.add_argument("--side", choices=("trl", "winnow"), default="trl", help="whose settings")
    parser.add_argument("--names", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--seconds", type=float, default=30.0, help="of training with each")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for name in asked.names:
            folder = prepare(WORKLOADS[name], Path(place))
            print(f"\n{WORKLOADS[name].title}\n\n| | CPU ms a sample | samples/s |\n|---|---|---|", flush=True)
            for told, settings in variants(asked.side, WORKLOADS[name]).items():
                print(row(asked.side, told, folder, asked.seconds, settings), flush=True)


if __name__ == "__main__":
    main()
