"""The supervised stage before reinforcement learning: the learner's ranks imitate worked answers."""

from pathlib import Path

from cluster.config.run_config import RunConfig
from cluster.placement.startup import Parts, learner_spec
from cluster.reporting.outputs import Progress
from learner.types import Schedule

REPORT = 10  # supervised updates between two lines of progress


async def warm_up(parts: Parts, config: RunConfig, target: Path, display: Progress) -> None:
    """Trains the model of the run on its worked answers and saves it in `target`; the run has begun on all ranks."""
    warmup, learner = config.warmup, parts.learner
    schedule = Schedule(lr=warmup.lr, updates=warmup.updates, warmup=warmup.updates // 4, end=warmup.lr_end)
    await learner.open_warm_up(learner_spec(config), Path(config.model.path), schedule)
    for done in range(0, warmup.updates, REPORT):
        count = min(REPORT, warmup.updates - done)
        stats = await learner.warm_up(count)
        display.status(f"warm-up: update {done + count} of {warmup.updates}, loss {stats.loss:.3f}")
    await learner.save_checkpoint(target)
    await learner.close_session()
