"""The supervised stage before reinforcement learning: the learner's ranks imitate worked answers."""

import shutil
from pathlib import Path

from actors.errors import BrokenPart
from cluster.config.run_config import RunConfig
from cluster.reporting.display import Progress
from cluster.running.specs import learner_spec, warmup_schedule
from learner.client import Learner
from learner.writing import mark_complete

UPDATES_PER_LINE = 10  # supervised updates between two lines of progress


async def warm_up(learner: Learner, config: RunConfig, target: Path, display: Progress) -> None:
    """Trains the model of the run on its worked answers and saves it in the folder `target`; the ranks have joined.

    Raises:
        BrokenPart: it cannot be written.
    """
    updates = config.warmup.updates
    await learner.open_warm_up(learner_spec(config), Path(config.model.path), warmup_schedule(config))
    display.advance("warm-up, updates", 0, updates)
    for done in range(0, updates, UPDATES_PER_LINE):
        count = min(UPDATES_PER_LINE, updates - done)
        stats = await learner.warm_up(count)
        display.advance("warm-up, updates", done + count, updates, f"loss {stats.loss:.3f}")
    shutil.rmtree(target, ignore_errors=True)  # of a warm-up that was cut short
    await learner.save_checkpoint(target)
    if problem := (await learner.finish_checkpoint()).problem:
        raise BrokenPart(f"the model that the warm-up made cannot be written into {target}: {problem}")
    mark_complete(target)
    await learner.close_session()
