"""Writes docs/plans.md: what `winnow train --plan --on` prints for a model of 7 billion parameters on clusters that are
not here. A test compares the page with what it prints now.

    python -m tests.project.plans        from the root of the repository
"""

import textwrap
from pathlib import Path

from cluster.commands.plan import plan_on
from cluster.config.reading import load_config
from cluster.placement.imagined import ImaginedCluster

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/plans.md"
MODEL = "tests/data/qwen2.5-7b"  # a config.json with the sizes of Qwen2.5-7B, and nothing else
PLANS = {"7b-1gpu": "1x80", "7b-8gpus": "8x80", "7b-64gpus": "8x8x80"}  # run file -> where
WIDTH = 118
TITLES = {"7b-1gpu": "One GPU", "7b-8gpus": "One node with 8 GPUs", "7b-64gpus": "8 nodes with 8 GPUs each"}
BEFORE = """\
# Plans for GPUs that are not here

`winnow train RUN.toml --plan --on NODESxGPUSxGIB` lays a run out on a cluster that it only describes, and counts what
each GPU holds: `8x8x80` is 8 nodes with 8 GPUs of 80 GiB each, `8x80` one such node; `,cpus=192` behind it is how many
CPUs a node has (16 for each GPU unless it is given), `,ram=1024` how many GiB of memory for them (unknown unless it is
given). Of the model its `config.json` is enough. What does not fit is refused with the largest term and the setting
that makes it smaller.

How far the numbers can be trusted:

* Weights, gradients, optimizer, buckets and activations are counted: the model's forward and backward pass is run on
  PyTorch's meta device, and `tests/learner/test_memory.py` compares the sum with what a real engine allocates on the
  CPU.
* `context` of a learner rank, `a pass` and `besides` of an engine are guesses, and no plan here was tried on a GPU.
* The last line says how generators and ranks would share the GPUs best, and why: by the stage times of an earlier run
  (`--from RUN`), else by arithmetic alone, with no measurement behind it. It is a proposal; nothing sets it.

The three plans below are of the run files in `deploy/runs/` and a model with the sizes of Qwen2.5-7B; long lines are
folded. `python -m tests.project.plans` writes them anew.
"""


def output(name: str) -> str:
    """What the command prints for one run file."""
    config = load_config(ROOT / f"deploy/runs/{name}.toml", [f"model.path={ROOT / MODEL}", "data.path=train.jsonl"])
    return plan_on(config, ImaginedCluster.of(PLANS[name]))


def page() -> str:
    """The whole page."""
    parts = [BEFORE]
    for name, where in PLANS.items():
        command = f"winnow train deploy/runs/{name}.toml model.path={MODEL} data.path=train.jsonl --plan --on {where}"
        lines = [part for line in output(name).splitlines() for part in folded(line)]
        parts.append("\n".join([f"## {TITLES[name]}", "", "```", f"$ {command}", *lines, "```", ""]))
    return "\n".join(parts)


def folded(line: str) -> list[str]:
    """A line in pieces that fit on the page."""
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ", drop_whitespace=True) if len(line) > WIDTH else [line]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
