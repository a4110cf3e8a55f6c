"""The generator actor: samples a group, has each response graded the moment it ends, and gives the group back.

vLLM is imported in `start`, so that only the generator's own process loads it.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from actors.arrow import packed
from actors.filtering.ledger import REJECTED
from actors.filtering.rules import DropRule
from actors.grading.verifier import VerifierQueue
from actors.pool import verifier_call
from actors.rollouts.span_rewards import placed
from actors.types import EngineSpec, Group, Order, SamplingSpec, Summary, Times, Trajectory
from rewards import Case, Question, Verdict

if TYPE_CHECKING:
    from actors.rollouts.engine import Sampler


Answer = tuple[Trajectory, Verdict, Times]
# By how much an engine on the CPU is nicer than a learner on the same cores: all wait for an update. Linux keeps this
# for each thread, and the engine's process inherits it from the one that starts it.
GIVES_WAY = 4


class Generator:
    """Ray actor around one vLLM engine. It serves one run after another; nothing before its first weight sync."""

    def __init__(self, spec: EngineSpec, verifiers: Sequence[Any]) -> None:
        self._spec = spec
        self._verifiers = VerifierQueue([verifier_call(verifier) for verifier in verifiers])
        self._started: Sampler | None = None
        self._running: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Starts the engine, once; seconds on a GPU, longer on the CPU."""
        from actors.rollouts.engine import Sampler

        if self._started is None:
            if self._spec.on_cpu:
                os.nice(GIVES_WAY)
            self._started = Sampler(self._spec)

    async def begin(self, run: SamplingSpec) -> None:
        """Opens a run; what is still being sampled for the last one is given up."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._run = run

    @ray.method(num_returns=2)
    async def rollout(self, order: Order) -> tuple[Summary, pa.Buffer]:
        """Samples and grades one group; responses are graded one by one as they end.

        Raises:
            TimeoutError: the group took longer than `rollout.timeout_seconds`; its requests are aborted.
        """
        task = asyncio.create_task(self._group(order))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await task
        except asyncio.CancelledError:
            raise RuntimeError(f"group {order.group} was given up: its run has ended") from None

    async def _group(self, order: Order) -> tuple[Summary, pa.Buffer]:
        async with asyncio.timeout(self._run.rollout.timeout_seconds):
            answers, greedy = await self._answers(order)
        trajectories, verdicts, times = zip(*answers, strict=True)
        group = Group(
            id=order.group,
            prompt=order.prompt,
            trajectories=trajectories,
            verdicts=verdicts,
            span_rewards=self._span_rewards(trajectories, verdicts),
            greedy=greedy[1].score if greedy else None,
        )
        summary = Summary.of(
            group,
            Times.of_group(times),
            extra_tokens=greedy[0].new_tokens if greedy else 0,
        )
        return summary, packed(group)

    async def pause(self, in_flight: str) -> None:
        """Before a sync; see `Sampler.pause`."""
        await self._sampler.pause(in_flight)

    async def resume(self) -> None:
        """After a sync; see `Sampler.resume`."""
        await self._sampler.resume()

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probabilities of a fixed text under the live weights."""
        return await self._sampler.probe(tokens)

    async def checksum(self) -> tuple[str, str]:
        """(live weight version, digest of all weights)."""
        return await self._sampler.checksum()

    # The names that vLLM's weight-transfer clients call.

    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        await self._sampler.join_transfer(init_info)

    async def start_weight_update(self) -> None:
        await self._sampler.begin_update()

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        await self._sampler.receive(update_info)

    async def finish_weight_update(self, version: str) -> None:
        await self._sampler.finish_update(version)

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        if self._started is not None:
            self._started.llm.shutdown()

    @property
    def _sampler(self) -> "Sampler":
        if self._started is None:
            raise RuntimeError("the generator has not been started")
        return self._started

    def _span_rewards(self, trajectories: Sequence[Trajectory], verdicts: Sequence[Verdict]) -> tuple[np.ndarray, ...]:
        """The rewards of steps and spans on their tokens, where any response has some."""
        if not any(verdict.span_rewards for verdict in verdicts):
            return ()
        pairs = zip(trajectories, verdicts, strict=True)
        return tuple(placed(t, v.span_rewards, self._sampler.tokenizer) for t, v in pairs)

    async def _answers(self, order: Order) -> tuple[list[Answer], Answer | None]:
        """All responses of a group and the greedy one, or those of the first stage alone where it decides.

        A group whose first f responses are all correct or all wrong is given up where the filter would reject it for
        that. This is biased: with pass rate p a group is kept with probability 1 - p^f - (1 - p)^f and no longer
        1 - p^G - (1 - p)^G, so rare successes and rare failures are trained on less. A group that goes on is the one
        that would have been sampled at once.
        """
        run, early = self._run, list[Answer]()
        if run.rollout.first_stage and not order.size:
            early = await self._samples(order, range(run.rollout.first_stage))
            if decided([verdict.score for _, verdict, _ in early if verdict.score is not None], run.drop):
                return early, None
        with_greedy = run.greedy and not order.size
        size = order.size or run.rollout.group_size
        late = await self._samples(order, [*([-1] if with_greedy else []), *range(len(early), size)])
        greedy = late.pop(0) if with_greedy else None
        return early + late, greedy

    async def _samples(self, order: Order, samples: Iterable[int]) -> list[Answer]:
        return list(await asyncio.gather(*(self._answer(order, sample) for sample in samples)))

    async def _answer(self, order: Order, sample: int) -> Answer:
        """One response with its verdict and the times of both; sample -1 is the greedy one."""
        started, prompt, run = time.time(), order.prompt, self._run
        seed = sample_seed(run.seed, prompt.id, order.visit, sample)
        # Evaluations, which say their size, ask every algorithm the same question: the whole distribution.
        rollout = run.rollout.model_copy(update={"top_p": 1.0}) if order.size else run.rollout
        trajectory = await self._sampler.sample(prompt, rollout, seed, greedy=sample < 0)
        generated, queue = time.time(), self._verifiers.waiting
        case = Case(
            response=trajectory.text,
            reference=prompt.reference,
            prompt=prompt.text,
            question=prompt.question,
            tokens=trajectory.new_tokens,
            max_new_tokens=rollout.max_new_tokens,
        )
        verdict = await self._verifiers.grade(Question(reward=prompt.reward, case=case, settings=run.reward))
        verified = time.time()
        return (
            trajectory,
            verdict,
            Times(
                generate=generated - started,
                verify=verified - generated,
                generated_at=generated,
                verified_at=verified,
                queue=queue,
            ),
        )


def decided(scores: Sequence[float], drop: DropRule) -> bool:
    """Whether the filter would reject a group with these scores, of two responses at least, for being all correct or
    all wrong."""
    return len(scores) > 1 and drop(np.array(scores)) in REJECTED


def sample_seed(seed: int, prompt_id: str, visit: int, sample: int) -> int:
    """The sampling seed of one response. It depends on neither order, engine nor restart."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{prompt_id}/{visit}/{sample}".encode(), digest_size=6).digest())
