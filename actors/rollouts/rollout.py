"""What turns a request into a graded group: the policy meets an environment, once for each episode.

request ──▶ seeds and sampling of its purpose ──▶ play(task, talk), G times ──▶ verdicts ──▶ Group, Summary
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from actors.engines import Sampler, sampling_for
from actors.filtering.ledger import REJECTED
from actors.filtering.rules import DropRule
from actors.grading.queue import VerifierQueue
from actors.grading.siblings import Siblings
from actors.rollouts import question
from actors.rollouts.apart import Apart, EpisodeFailed
from actors.rollouts.chat import TOOL, Chat
from actors.rollouts.episode import PLAYED, Episode, Means, Response, Task, storable
from actors.rollouts.offers import Offers
from actors.rollouts.own import Environment, load_environment
from actors.rollouts.seeds import seed_of
from actors.rollouts.serving.endpoint import Endpoint
from actors.rollouts.span_rewards import on_tokens
from actors.rollouts.stream import Whose
from actors.rollouts.talk import Talk
from actors.rollouts.together import sampled_together
from actors.types import Episodes, Group, Purpose, RolloutRequest, SamplingSpec, Summary, Times, Trajectory
from rewards import Case, Question, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One episode to play."""

    request: RolloutRequest  # of its group
    purpose: Purpose  # the request's, or greedy baseline
    number: int  # among the episodes of its purpose, from 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlayedEpisode:
    """One episode that has come to its end."""

    times: Times
    episode: Episode | None = None  # None where there was a question and an answer, and nothing else
    answer: Response | None = None  # which this is, then

    @property
    def responses(self) -> list[Response]:
        """What was said in it and in the attempts at what it made, as it is to count now: an episode that goes on after
        its end fails, which may be while its siblings are still played."""
        if self.episode is None:
            return [] if self.answer is None else [self.answer]
        return [response for each in self.episode.all for response in each.responses()]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GradedGroup:
    """What a rollout gives."""

    summary: Summary
    group: Group


class RolloutSession:
    """The rollouts of one run. Made inside a running event loop; `close` gives up what is still being sampled."""

    def __init__(self, run: SamplingSpec, verifiers: VerifierQueue) -> None:
        """
        Args:
            run: what there is to know of it.
            verifiers: grade what the policy says.

        Raises:
            ValueError: the file of `rollout.environment` holds no environment.
        """
        self._run, self._verifiers = run, verifiers
        file = run.rollout.environment
        try:
            self._environment: Environment | None = load_environment(file) if file else None
        except ValueError as problem:
            raise ValueError(f"rollout.environment: on this node, {problem}") from None
        self._apart = Apart(self._environment.file) if self._environment is not None else None
        self._endpoint = Endpoint() if self._environment is not None else None
        self._chat: Chat | None = None  # of the engine's tokenizer, where there is an environment
        self._offers: Offers | None = None  # the same
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
        if self._apart is not None:
            self._apart.close()
        if self._endpoint is not None:
            await self._endpoint.close()

    async def _group(self, engine: Sampler, request: RolloutRequest) -> GradedGroup:
        async with asyncio.timeout(self._run.rollout.timeout_seconds):
            played, greedy = await self._episodes(engine, request)
        responses = _by_siblings([response for each in played for response in each.responses])
        trajectories = tuple(trajectory for response in responses for trajectory in response.trajectories)
        baseline = greedy.responses[0] if greedy else None
        prompt = request.prompt
        if self._environment is not None:
            prompt = replace(prompt, tokens=_seen_first(trajectories[0]))
        group = Group(
            id=request.group,
            prompt=prompt,
            trajectories=trajectories,
            verdicts=tuple(response.verdict for response in responses for _ in response.trajectories),
            span_rewards=on_tokens(responses, engine.tokenizer),
            greedy=baseline.verdict.score if baseline else None,
        )
        extra = baseline.trajectories[0].new_tokens if baseline else 0
        episodes = None
        every = [episode for each in played if each.episode is not None for episode in each.episode.all]
        if self._environment is not None:
            extra += sum(episode.extra_tokens for episode in every)
            episodes = _counted(played, every)
        for episode in every:
            episode.forget()
        times = Times.of_group([each.times for each in played])
        return GradedGroup(summary=Summary.of(group, times, extra, episodes), group=group)

    async def _episodes(
        self, engine: Sampler, request: RolloutRequest
    ) -> tuple[list[PlayedEpisode], PlayedEpisode | None]:
        """All episodes of a group, and the greedy one where the algorithm asks for it; see `_in_rounds`."""
        run, size = self._run, request.responses or self._run.rollout.group_size
        if request.purpose is not Purpose.TRAINING:
            return await self._siblings(engine, request, range(size)), None
        played: list[PlayedEpisode] = []
        if run.rollout.rounds.size and not self._together(request):
            played = await self._in_rounds(engine, request)
            if _all_decided(played, run.drop):
                return played, None
        rest = self._siblings(engine, request, range(len(played), size))
        if not run.greedy:
            return played + await rest, None
        baseline = Wanted(request=request, purpose=Purpose.GREEDY_BASELINE, number=0)
        task, means = self._task(request), self._means(engine, baseline.purpose)
        greedy, others = await asyncio.gather(self._episode(means, task, baseline, self._verifiers), rest)
        return played + others, greedy

    async def _in_rounds(self, engine: Sampler, request: RolloutRequest) -> list[PlayedEpisode]:
        """The episodes of a group's rounds: after each, one that has `rollout.rounds.enough` needs no further one.

        arXiv 2510.04996 (Reinforce-Ada), and with one round that is smaller than a group arXiv 2506.09016 (SPEED-RL).
        With pass rate p, n responses in all rounds and groups of G, a group is kept with probability

            1 - p^n - (1 - p)^n    in place of    1 - p^G - (1 - p)^G,

        so rare successes and rare failures are trained on less than at once for n < G, and more for n > G. As rounds
        end on a mixture, the share of correct responses in a kept group is nearer to 1/2 than p: it is no estimate of
        p for whoever does not know of the rounds, though a posterior over p from it is right, as it does not depend on
        when sampling stops. The mean of all, from which credits are taken, has the same bias.

        The responses up to G are those that would have been sampled at once. Where the reward compares siblings there
        are no rounds: what it says of some is not what it says of all.
        """
        rounds, played = self._run.rollout.rounds, list[PlayedEpisode]()
        for _ in range(rounds.most):
            played += await self._siblings(engine, request, range(len(played), len(played) + rounds.size))
            if not _all_decided(played, self._run.drop, rounds.enough):
                break
        return played

    async def _siblings(self, engine: Sampler, request: RolloutRequest, numbers: Sequence[int]) -> list[PlayedEpisode]:
        """The episodes of these numbers, played at the same time; a response is graded when it ends, or all of them
        together where their reward compares them, and is sampled with the others where answers are short."""
        if not numbers:
            return []
        wanted = [Wanted(request=request, purpose=request.purpose, number=number) for number in numbers]
        if self._run.rollout.answers_are_short and request.prompt.tokens.size < engine.max_model_len:
            return await self._answered(engine, wanted)
        grader = Siblings(self._verifiers, len(wanted)) if self._together(request) else self._verifiers
        task, means = self._task(request), self._means(engine, request.purpose)
        return list(await asyncio.gather(*(self._episode(means, task, each, grader) for each in wanted)))

    async def _answered(self, engine: Sampler, wanted: Sequence[Wanted]) -> list[PlayedEpisode]:
        """The same for single questions whose answers are short."""
        started, request = time.time(), wanted[0].request
        prompt, sampling = request.prompt, sampling_for(request.purpose, self._run.rollout)
        seed, numbers = response_seed(self._run.seed, wanted[0]), [each.number for each in wanted]
        answers = await sampled_together(engine, prompt, sampling, seed, numbers)
        sampled, queue = time.time(), self._verifiers.waiting
        asked = [Question(reward=prompt.reward, case=case, settings=self._run.reward) for case in answers.cases]
        grade = self._verifiers.grade_group if self._together(request) else self._verifiers.grade_all
        verdicts, verified = await grade(asked), time.time()
        times = Times(
            generate=sampled - started,
            verify=verified - sampled,
            generated_at=sampled,
            verified_at=verified,
            queue=queue,
        )
        return [
            PlayedEpisode(times=times, answer=Response((trajectory,), (), storable(verdict)))
            for trajectory, verdict in zip(answers.trajectories, verdicts, strict=True)
        ]

    def _together(self, request: RolloutRequest) -> bool:
        """Whether the reward of a request compares siblings; an environment asks about each when it likes."""
        return self._environment is None and self._wants_group(request.prompt.reward)

    def _task(self, request: RolloutRequest) -> Task:
        """What all episodes of a request are about."""
        prompt = request.prompt
        return Task(
            id=prompt.id,
            question=prompt.question or prompt.text,
            reference=prompt.reference,
            reward=prompt.reward,
            seed=task_seed(self._run.seed, request) if self._environment is not None else 0,
            prompt=prompt,
        )

    def _means(self, engine: Sampler, purpose: Purpose) -> Means:
        """What episodes of this purpose are played with."""
        rollout, reward = self._run.rollout, self._run.reward
        sampling = sampling_for(purpose, rollout)
        if self._environment is None:
            return Means(engine=engine, sampling=sampling)
        if self._chat is None or self._offers is None:
            self._chat = Chat(self._run.data, engine.tokenizer)
            self._offers = Offers(self._chat, engine.tokenizer)
        ends = tuple(dict.fromkeys((*sampling.stop_token_ids, *self._chat.ends)))
        return Means(
            engine=engine,
            sampling=replace(sampling, stop_token_ids=ends),
            chat=self._chat,
            offers=self._offers,
            runner=self._verifiers.tools,
            endpoint=self._endpoint,
            max_turns=rollout.max_turns,
            max_tokens=rollout.episode_tokens or None,
            file=self._environment.file,
            where=self._environment.where,
            span_weight=reward.span_weight,
            wrong=reward.wrong,
            correct=reward.correct,
        )

    async def _episode(
        self, means: Means, task: Task, wanted: Wanted, grader: VerifierQueue | Siblings
    ) -> PlayedEpisode:
        """One meeting of policy and environment."""
        started, queue = time.time(), 0
        whose, seed = Whose(episode=wanted.number), response_seed(self._run.seed, wanted)

        async def grade(reward: str, case: Case) -> Verdict:
            nonlocal queue
            queue = max(queue, self._verifiers.waiting)
            return await grader.grade(Question(reward=reward, case=case, settings=self._run.reward))

        if self._environment is None or self._apart is None:
            episode = Episode(means, task, whose, seed, grade)
            episode.close(await question.play(task, Talk(episode)))
        else:
            episode = Episode(means, task, whose, seed, grade, asyncio.get_running_loop())
            await self._played(episode, self._environment, self._apart)
        verified = time.time()
        times = Times(
            generate=episode.sampled_at - started,
            verify=verified - episode.sampled_at,
            generated_at=episode.sampled_at,
            verified_at=verified,
            queue=queue,
        )
        return PlayedEpisode(times=times, episode=episode)

    async def _played(self, episode: Episode, environment: Environment, apart: Apart) -> None:
        """Plays a person's environment to its end, whatever that is."""

        async def play() -> Any:
            PLAYED.set(episode)
            return await environment.play(episode.task, Talk(episode))

        found = None
        try:
            try:
                found = await apart.play(play, self._run.rollout.episode_seconds)
            except EpisodeFailed as failure:
                episode.fail(str(failure))
            finally:
                episode.close(found)
            if broken := next((each.broken for each in episode.all if each.broken is not None), None):
                raise broken
        except BaseException:  # nobody will ask what became of it
            for each in episode.all:
                each.forget()
            raise


def decided(scores: Sequence[float], drop: DropRule, enough: int = 1) -> bool:
    """Whether the filter would reject a group with these scores, of two responses at least, for being all correct or
    all wrong; or would reject it for that without its enough - 1 highest scores, or without as many of its lowest.

    Example: of a rule that drops both, [1, 1, 1, -1] has one wrong response, which is not enough for 2, and
    [1, 1, -1, -1] has enough for 2; a rule that drops the all wrong is content with [1, 1, 1, -1] for 3.
    """
    if len(scores) < 2:
        return False
    ranked, spare = np.sort(scores), min(enough, len(scores)) - 1
    return any(drop(part) in REJECTED for part in (ranked[spare:], ranked[: len(scores) - spare]))


def response_seed(seed: int, wanted: Wanted) -> int:
    """The sampling seed of one response in a run with this seed. It depends neither on the order of arrival, nor on the
    engine or a restart. Those of a group follow each other, as the engine has it with the completions of one request
    (`Sampler.generate`), so that it is the same whether they are sampled by one or by many."""
    number = -1 if wanted.purpose is Purpose.GREEDY_BASELINE else wanted.number  # apart from all siblings
    return 1 + number + seed_of(f"{seed}/{wanted.request.prompt.id}/{wanted.request.visit}")


def task_seed(seed: int, request: RolloutRequest) -> int:
    """What the environments of a request draw from in a run with this seed: the same for all siblings."""
    return seed_of(f"{seed}/{request.prompt.id}/{request.visit}/task")


def _all_decided(played: Sequence[PlayedEpisode], drop: DropRule, enough: int = 1) -> bool:
    """Whether each set of siblings is `decided`."""
    sets: dict[str, list[float]] = {}
    for response in (response for each in played for response in each.responses):
        scores = sets.setdefault(response.trajectories[0].siblings, [])
        scores += [response.verdict.score] if response.verdict.score is not None else []
    return all(decided(scores, drop, enough) for scores in sets.values())


def _by_siblings(responses: Sequence[Response]) -> list[Response]:
    """The responses with those of one set of siblings together, in the order in which the sets come."""
    places: dict[str, int] = {}
    for response in responses:
        places.setdefault(response.trajectories[0].siblings, len(places))
    if len(places) == 1:
        return list(responses)
    return sorted(responses, key=lambda response: places[response.trajectories[0].siblings])


def _counted(played: Sequence[PlayedEpisode], every: Sequence[Episode]) -> Episodes:
    """What went on in episodes, and in the attempts at what they made, which are among `every`."""
    return Episodes(
        count=len(played),
        seconds=sum(each.times.generate + each.times.verify for each in played),
        turns=sum(episode.turns for episode in every),
        tool_calls=sum(episode.calls for episode in every),
        tool_failures=sum(episode.failed_calls for episode in every),
        user_tokens=sum(episode.said.get("user", 0) for episode in every),
        tool_tokens=sum(episode.said.get(TOOL, 0) for episode in every),
    )


def _seen_first(trajectory: Trajectory) -> np.ndarray:
    """What the policy saw before it said anything, int32[any number]."""
    return trajectory.tokens[: np.argmax(trajectory.sampled)] if trajectory.sampled.any() else trajectory.tokens
