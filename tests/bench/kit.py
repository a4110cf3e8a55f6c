"""The parts of the benchmarks, the most important first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.figures import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One part of the kit."""

    module: str
    about: str
    minutes: float  # most that it may take; then it is ended and the page says so
    full: Mapping[str, Any]  # arguments of `function`
    short: Mapping[str, Any] | None = None  # arguments in the short form; None: it has no place there
    numbered: bool = False  # whether `function` takes `run`, the number of runs recorded before this one
    function: str = "measure"
    targets: Mapping[str, Target] = field(default_factory=dict)  # of a function that gives plain numbers


LENGTHS = {
    "short": "short answers",
    "demo": "the demo's lengths",
    "tail": "long-tailed answers",
    "lognormal": "log-normal lengths",
    "eight": "eight ranks",
}
BENCHMARKS = {
    "peer": Benchmark(
        module="tests.bench.against",
        about="TRL's GRPOTrainer on the same model, prompts, group size, lengths, learning rate and cores, in turns. "
        "Its settings are the quickest of those that `python -m tests.bench.tuning` tried. Which side goes first "
        "alternates from workload to workload and from run to run. Intervals are 95 % of a bootstrap over steps.",
        minutes=11,
        full={},
        short={"share": 0.6, "names": ("short", "long", "prompts"), "minutes": 5.0},
        numbered=True,
    ),
    "control": Benchmark(
        module="tests.bench.control",
        about="Simulated engines under the real actors: what winnow's own bookkeeping costs. It is bound by CPU time: "
        "the milliseconds below, summed, over the number of cores. Much of them is Ray's calls and pickling.",
        minutes=2.5,
        full={"groups": 15_000},
    ),
    "sync": Benchmark(
        module="tests.bench.sync",
        about="How fast weights reach the engines. The learner's packing, the engine's loading and gloo's own threads "
        "at both ends share two cores here, so the share of a bare broadcast moves with what else the machine does.",
        minutes=2,
        full={"gib": 1.0},
        targets={
            "share_of_bare": Target(
                value=0.8, unit="x", title="a gloo sync of 1 GiB over a bare broadcast of its bytes"
            ),
            "sender_extra_buckets": Target(value=2.0, most=True, title="extra memory of a sync, learner, in buckets"),
            "receiver_extra_buckets": Target(value=2.0, most=True, title="extra memory of a sync, engine, in buckets"),
        },
    ),
    "learning": Benchmark(
        module="tests.bench.learning",
        about="The learner alone.",
        minutes=2,
        full={},
        targets={
            f"padding_{name}": Target(value=0.03, most=True, title=f"padding of all computed tokens, {what}")
            for name, what in LENGTHS.items()
        },
    ),
    "beginnings": Benchmark(
        module="tests.bench.beginnings",
        about="The learner alone, with equal beginnings of sequences computed once and for each of them: short answers "
        "to short prompts and to long ones, the demo's lengths, a long tail. Long answers share little.",
        minutes=2,
        full={"rounds": 2},
        short={"rounds": 1},
        targets={
            "speed_least_long_prompts": Target(
                value=3.0, unit="x", title="learner, equal beginnings of long prompts computed once over each time"
            )
        },
    ),
    "saving": Benchmark(
        module="tests.bench.saving",
        about="What choosing prompts and sampling half of a group first save at equal tokens, with a seed of its own "
        "in each run. An evaluation is of 512 responses: an accuracy is known to 0.02 and a difference to 0.03. "
        "`python -m tests.bench.saving` has all other methods too.",
        minutes=5,
        full={"names": ("chosen",)},
        numbered=True,
        targets={
            "tokens per kept group, chosen / uniform": Target(value=0.5, most=True),
            "accuracy at equal tokens, chosen - uniform": Target(value=0.0),
        },
    ),
    "stages": Benchmark(
        module="tests.bench.ablation",
        about="The real stages on these cores: a perfect overlap of each alone, and what each piece is worth.",
        minutes=3.5,
        full={},
    ),
    "limit": Benchmark(
        module="tests.bench.limit",
        function="with_sleeps",
        about="Stages that sleep for times with heavy tails, under the real loop, ledger and filter: their overlap.",
        minutes=2,
        full={},
    ),
}
