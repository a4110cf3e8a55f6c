"""A run from its start, or from a checkpoint, to its end, with a new learner wherever the last one died.

Each attempt is a `Run` of its own. All actors but the learner's ranks live on: engines stay loaded, and hold the
restored version after the first sync of the new attempt.
"""

import asyncio
from pathlib import Path

from actors.deaths import LAST_LINES
from actors.errors import ActorDied, BrokenPart, NoAnswer
from actors.pool import GeneratorPool
from actors.remote import within
from cluster.placement.actors import RunActors
from cluster.preparing.preflight import Prepared
from cluster.reporting.display import Progress
from cluster.reporting.logs import LOGGER
from cluster.running.checkpoints import newest_checkpoint, step_of
from cluster.running.restarts import Restarts, what_was_lost
from cluster.running.rewinding import rewind
from cluster.running.run import Run

MOST_SAID = 300  # characters of the reason for a loss that the terminal shows; the log has all of it
BEFORE_ALL = -1  # step to which a folder is brought back of a run that begins anew


async def run_to_end(
    prepared: Prepared,
    actors: RunActors,
    folder: Path,
    display: Progress,
    checkpoint: Path | None = None,
    name: str = "",
) -> None:
    """Runs to the end; where the learner dies or hangs, it goes on with a new one from the newest complete checkpoint,
    or from the start weights where there is none.

    Args:
        prepared: the run.
        actors: that it runs on.
        folder: of the run.
        display: is told how it gets on.
        checkpoint: a complete one of the run, to go on from.
        name: of the run in Ray's metrics; unset, the folder's.

    Raises:
        BrokenPart: something else failed, or the learner once more than `run.restarts` allows.
    """
    restarts, stored = Restarts(prepared.config.run.restarts), prepared.stored and prepared.stored.save()
    while True:
        try:
            await Run(prepared, actors, folder, display, name, checkpoint=checkpoint, restarts=restarts.total).go()
            return
        except BrokenPart as failure:
            lost = await what_was_lost(failure, actors.learner)
            checkpoint = newest_checkpoint(folder)
            pause = restarts.pause(step_of(checkpoint) if checkpoint else 0) if lost else None
            if pause is None:
                if lost and restarts.most:
                    failure.add_note(f"{lost}, and so it ended {restarts.most} times before (run.restarts)")
                raise
            LOGGER.debug("the learner is lost", exc_info=True)
            why = str(failure).partition("\n")[0].removesuffix(LAST_LINES).rstrip(".")[:MOST_SAID]
        origin = str(checkpoint) if checkpoint else "the start, as no checkpoint is complete yet"
        display.say(
            f"{lost} ({why}). A new learner starts in {pause:g} s and goes on from {origin}: restart "
            f"{restarts.in_vain} of at most {restarts.most} without a newer checkpoint (run.restarts)"
        )
        actors.learner.kill()
        await asyncio.sleep(pause)
        if undone := rewind(folder, step_of(checkpoint) if checkpoint else BEFORE_ALL):
            display.say(f"what the run had done after that is in {undone}")
        if prepared.stored is not None and stored:
            prepared.stored.restore(stored)
        await actors.places.furnish()
        actors.learner.renew()
        for pool in (actors.generators, actors.evaluators):
            await _out_of_the_sync(pool, prepared.config.sync.timeout_seconds, display)


async def _out_of_the_sync(pool: GeneratorPool, seconds: float, display: Progress) -> None:
    """Has the generators leave the sync that the last learner may have died in; one that does not is taken out."""

    async def leave(name: str) -> None:
        generator = living[name]
        try:
            await within(seconds, generator.give_up_update(), name, "to give an update up")
        except (ActorDied, NoAnswer) as end:
            pool.remove_dead(name, str(end))
            generator.kill()
            display.say(f"a generator is lost, and a new one is started in its place. {end}")

    living = pool.running
    await asyncio.gather(*map(leave, living))
