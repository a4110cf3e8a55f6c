"""What turns a request into a graded group: the policy meets an environment, once for each response.

request ──▶ seeds and sampling of its purpose ──▶ play(task, talk), G times ──▶ verdicts ──▶ Group, Summary
"""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from actors.arrow import fault_of
from actors.engines import Sampler, sampling_for
from actors.filtering.ledger import REJECTED
from actors.filtering.rules import DropRule
from actors.grading.queue import VerifierQueue
from actors.grading.siblings import Siblings
from actors.rollouts.environments import Play, question
from actors.rollouts.span_rewards import placed
from actors.rollouts.talk import Talk
from actors.types import Group, Purpose, RolloutRequest, SamplingSpec, Summary, Times, Trajectory
from rewards import Case, Outcome, Question, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One response to sample."""

    request: RolloutRequest  # of its group
    purpose: Purpose  # the request's, or greedy baseline
    number: int  # among the responses of its purpose, from 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradedResponse:
    """One response with its verdict and when both were there."""

    trajectory: Trajectory
    verdict: Verdict
    times: Times


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradedGroup:
    """What a rollout gives."""

    summary: Summary
    group: Group


class RolloutSession:
    """The rollouts of one run. Made inside a running event loop; `close` gives up what is still being sampled."""

    def __init__(self, run: SamplingSpec, verifiers: VerifierQueue, play: Play = question.play) -> None:
        """`play` is the environment that the policy meets."""
        self._run, self._verifiers, self._play = run, verifiers, play
        self._wants_group = cache(run.reward.wants_group)
        self._running: set[asyncio.Task[GradedGroup]] = set()

    async def rollout(self, engine: Sampler, request: RolloutRequest) -> GradedGroup:
        """Samples and grades one group; responses are graded one by one as they end.

        Raises:
            TimeoutError: the group took longer than `rollout.timeout_seconds`; its requests are ended in the engine.
            RuntimeError: the session was closed meanwhile.
        """
        task = asyncio.create_task(self._group(engine, request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await task
        except asyncio.CancelledError:
            raise RuntimeError(f"group {request.group} was given up: its run has ended") from None

    async def close(self) -> None:
        """Gives up all groups that are not finished."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._verifiers.close()

    async def _group(self, engine: Sampler, request: RolloutRequest) -> GradedGroup:
        async with asyncio.timeout(self._run.rollout.timeout_seconds):
            responses, greedy = await self._responses(engine, request)
        trajectories = tuple(response.trajectory for response in responses)
        verdicts = tuple(response.verdict for response in responses)
        group = Group(
            id=request.group,
            prompt=request.prompt,
            trajectories=trajectories,
            verdicts=verdicts,
            span_rewards=_on_tokens(trajectories, verdicts, engine),
            greedy=greedy.verdict.score if greedy else None,
        )
        times = Times.of_group([response.times for response in responses])
        summary = Summary.of(group, times, extra_tokens=greedy.trajectory.new_tokens if greedy else 0)
        return GradedGroup(summary=summary, group=group)

    async def _responses(
        self, engine: Sampler, request: RolloutRequest
    ) -> tuple[list[GradedResponse], GradedResponse | None]:
        """All responses of a group, and the greedy one where the algorithm asks for it.

        With `rollout.first_stage` = f, a training group whose first f responses are all correct or all wrong is given
        up where the filter would reject it for that. This is biased: with pass rate p a group is kept with probability
        1 - p^f - (1 - p)^f and no longer 1 - p^G - (1 - p)^G, so rare successes and rare failures are trained on less.
        A group that goes on is the one that would have been sampled at once. Where the reward compares siblings there
        is no first stage: what it says of some is not what it says of all.
        """
        run, size = self._run, request.responses or self._run.rollout.group_size
        if request.purpose is not Purpose.TRAINING:
            return await self._siblings(engine, request, range(size)), None
        first: list[GradedResponse] = []
        if run.rollout.first_stage and not self._together(request):
            first = await self._siblings(engine, request, range(run.rollout.first_stage))
            scores = [response.verdict.score for response in first if response.verdict.score is not None]
            if decided(scores, run.drop):
                return first, None
        rest = self._siblings(engine, request, range(len(first), size))
        if not run.greedy:
            return first + await rest, None
        baseline = Wanted(request=request, purpose=Purpose.GREEDY_BASELINE, number=0)
        greedy, others = await asyncio.gather(self._response(engine, baseline, self._verifiers), rest)
        return first + others, greedy

    async def _siblings(self, engine: Sampler, request: RolloutRequest, numbers: Iterable[int]) -> list[GradedResponse]:
        """The responses of these numbers, sampled at the same time; each is graded when it ends, or all of them
        together where their reward compares them."""
        wanted = [Wanted(request=request, purpose=request.purpose, number=number) for number in numbers]
        grader = Siblings(self._verifiers, len(wanted)) if self._together(request) else self._verifiers
        return list(await asyncio.gather(*(self._response(engine, each, grader) for each in wanted)))

    def _together(self, request: RolloutRequest) -> bool:
        """Whether the reward of a request compares siblings."""
        return self._wants_group(request.prompt.reward)

    async def _response(self, engine: Sampler, wanted: Wanted, grader: VerifierQueue | Siblings) -> GradedResponse:
        """One meeting of policy and environment."""
        started, queue, task = time.time(), 0, wanted.request.prompt
        sampling = sampling_for(wanted.purpose, self._run.rollout)
        seed = response_seed(self._run.seed, wanted)

        async def grade(case: Case) -> Verdict:
            nonlocal queue
            queue = max(queue, self._verifiers.waiting)
            return await grader.grade(Question(reward=task.reward, case=case, settings=self._run.reward))

        talk = Talk(engine, task, sampling, seed, grade)
        verdict = _verdict_of(await self._play(task, talk))
        verified = time.time()
        times = Times(
            generate=talk.sampled_at - started,
            verify=verified - talk.sampled_at,
            generated_at=talk.sampled_at,
            verified_at=verified,
            queue=queue,
        )
        return GradedResponse(trajectory=talk.trajectory(), verdict=verdict, times=times)


def decided(scores: Sequence[float], drop: DropRule) -> bool:
    """Whether the filter would reject a group with these scores, of two responses at least, for being all correct or
    all wrong."""
    return len(scores) > 1 and drop(np.array(scores)) in REJECTED


def response_seed(seed: int, wanted: Wanted) -> int:
    """The sampling seed of one response in a run with this seed. It depends neither on the order of arrival, nor on the
    engine or a restart."""
    place = "-1" if wanted.purpose is Purpose.GREEDY_BASELINE else str(wanted.number)  # apart from all siblings
    key = f"{seed}/{wanted.request.prompt.id}/{wanted.request.visit}/{place}"
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest())


def _verdict_of(found: Verdict | float) -> Verdict:
    """What an environment returned, a score too, as a verdict; an error where it cannot be stored with its group."""
    if isinstance(found, Verdict):
        fault = fault_of(found)
        why = f"the reward gave what cannot be stored: {fault}"
        return Verdict(outcome=Outcome.ERROR, score=None, why=why) if fault else found
    outcome = Outcome.CORRECT if found > 0 else Outcome.WRONG
    return Verdict(outcome=outcome, score=float(found), why="the score of the environment")


def _on_tokens(
    trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict], engine: Sampler
) -> tuple[np.ndarray, ...]:
    """The span rewards on their tokens, float32[T] for each response; none at all where no response has any."""
    if not any(verdict.span_rewards for verdict in verdicts):
        return ()
    pairs = zip(trajectories, verdicts, strict=True)
    return tuple(placed(t, v.span_rewards, engine.tokenizer) for t, v in pairs)
