"""The supervised stage before reinforcement learning: the learner's ranks imitate worked answers."""

from pathlib import Path

from actors.remote import answers
from cluster.config.run_config import RunConfig
from cluster.placement.startup import Parts
from cluster.reporting.outputs import Progress
from learner.types import Schedule, UpdateStats

REPORT = 10  # supervised updates between two lines of progress


async def warm_up(parts: Parts, config: RunConfig, target: Path, display: Progress) -> None:
    """Trains the model of the run on its worked answers and saves it in `target`; the run has begun on all ranks."""
    warmup, ranks = config.warmup, parts.ranks
    schedule = Schedule(lr=warmup.lr, updates=warmup.updates, warmup=warmup.updates // 4, end=warmup.lr_end)
    await answers([rank.load_policy.remote(Path(config.model.path), schedule) for rank in ranks], "learner")
    for done in range(0, warmup.updates, REPORT):
        count = min(REPORT, warmup.updates - done)
        stats: UpdateStats = (await answers([rank.warm_up.remote(count) for rank in ranks], "learner"))[0]
        display.status(f"warm-up: update {done + count} of {warmup.updates}, loss {stats.loss:.3f}")
    await answers([rank.save.remote(target) for rank in ranks], "learner")
    await answers([rank.unload.remote() for rank in ranks], "learner")
