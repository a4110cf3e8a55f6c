"""Has the generators of an evaluation answer its prompts, and keeps every response on disk."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from actors.arrow import group_of, unpacked
from actors.errors import ObjectsLost, RolloutFailed
from actors.filtering.recorder import Recorder
from actors.grading.queue import VerifierQueue
from actors.pool import GeneratorPool
from actors.remote import answer
from actors.types import Group, RolloutRequest
from cluster.config.run_config import RunConfig
from cluster.evaluating.answers import Answered
from cluster.evaluating.grading import SecondLook
from cluster.evaluating.progress import Told
from cluster.placement.actors import SamplingActors
from cluster.preparing.graders import Graders
from cluster.running.specs import sampling_spec, scorer_tasks

QUEUED = 2  # times the responses that an engine decodes at a time are given to it, so that it never waits for more
TRIES = 2  # of a group that is lost with a node when it is graded already


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done."""

    requests: Sequence[RolloutRequest]  # that are left
    earlier: Sequence[Group]  # that an earlier try has left on disk
    recorder: Recorder
    done: Callable[[Answered], None]  # is told of each prompt


async def start_and_answer(actors: SamplingActors, config: RunConfig, work: Work, told: Told) -> None:
    """Starts the engines, then samples, grades and records every group; returns when all are done.

    Raises:
        BrokenPart: no generator is left, or one did not start. What is done is done.
    """
    told.status("starting the generators")
    starts = [_start(actors, config), *(judge.start() for judge in actors.judges)]
    starts += [actors.scorers[task.name].start(task) for task in scorer_tasks(config, list(actors.scorers))]
    await asyncio.gather(*starts)
    queue = VerifierQueue(actors.places.verifiers)
    try:
        await answer_prompts(actors.generators, queue, config, work, told)
    finally:
        queue.close()


async def look_again(config: RunConfig, work: Work, told: Told) -> None:
    """As `start_and_answer`, where nothing is left to sample and no model is to be asked."""
    await answer_prompts(GeneratorPool([]), VerifierQueue([]), config, work, told)


async def answer_prompts(
    pool: GeneratorPool, verifiers: VerifierQueue, config: RunConfig, work: Work, told: Told
) -> None:
    """Samples, grades and records every group on generators that run.

    Args:
        pool: of the generators.
        verifiers: ask the models of rewards.
        config: the run, settled.
        work: what is to be done.
        told: is told of each prompt.

    Raises:
        BrokenPart: no generator is left.
    """
    with Graders() as graders:
        look = SecondLook(
            settings=config.reward,
            environment=config.rollout.environment,
            models=list(config.scoring_models),
            verifiers=verifiers,
            graders=graders,
        )
        await _Sampler(pool, look, work, told, at_once=_at_once(config)).go()


async def _start(actors: SamplingActors, config: RunConfig) -> None:
    """Brings up all generators; each holds the weights of `model.path` then."""
    generators, spec = actors.generators.alive.values(), sampling_spec(config)
    await asyncio.gather(*(generator.start() for generator in generators))
    await asyncio.gather(*(generator.begin(spec) for generator in generators))


def _at_once(config: RunConfig) -> int:
    """Groups in flight."""
    sequences = config.generator.max_sequences or 1
    each = math.ceil(QUEUED * sequences / config.eval.samples)
    return config.cluster.fewest_generators * each


class _Sampler:
    """Samples what is left, many groups at a time."""

    def __init__(self, pool: GeneratorPool, look: SecondLook, work: Work, told: Told, *, at_once: int) -> None:
        self._pool, self._look, self._work, self._told = pool, look, work, told
        self._room = asyncio.Semaphore(at_once)

    async def go(self) -> None:
        """All of it; the first that raises ends the rest."""
        self._told.begin()
        works = [self._again(group) for group in self._work.earlier]
        works += [self._sampled(request) for request in self._work.requests]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self, group: Group) -> None:
        async with self._room:
            self._done(await self._look.look(group))

    async def _sampled(self, request: RolloutRequest) -> None:
        async with self._room:
            try:
                buffer = await self._graded(request)
            except RolloutFailed as failure:
                lost = Answered(number=request.group, prompt_id=request.prompt.id, responses=(), failure=str(failure))
                self._done(lost)
                return
            self._work.recorder.write([buffer], "")
            self._done(await self._look.look(group_of(unpacked(buffer))))

    async def _graded(self, request: RolloutRequest) -> pa.Buffer:
        """The packed group of a request."""
        lost = 0
        while True:
            _, reference = await self._pool.rollout(request)
            try:
                return await answer(reference, "the object store")
            except ObjectsLost as failure:
                lost += 1
                if lost == TRIES:
                    raise RolloutFailed("generator_error", f"prompt {request.prompt.id}: {failure}") from failure

    def _done(self, answered: Answered) -> None:
        self._work.done(answered)
        self._told.done(correct=answered.correct, scored=answered.scored)
