"""The generator actor: a vLLM engine that turns prompts into graded groups. The one home of vLLM's sampling interface.

Token ids in, token ids and log-probabilities out; what the engine says it sampled is what is trained on.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from vllm import SamplingParams
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.outputs import CompletionOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM

from actors.arrow import batch_of
from actors.settings import GeneratorSettings, RolloutSettings
from actors.types import Finish, Group, Prompt, Summary, Trajectory
from actors.verifier import Ask, Question, VerifierQueue
from rewards import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What a generator needs to start its engine."""

    model: str  # folder with config and tokenizer; its weights are not read, they come with the first sync
    dtype: str  # "float32" or "bfloat16"
    seed: int
    max_model_len: int  # tokens, prompt and response
    tensor_parallel: int
    backend: str  # weight transfer: "nccl", "ipc" or "gloo"
    on_cpu: bool
    engine: GeneratorSettings
    rollout: RolloutSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One group to produce."""

    group: int  # id from the ledger
    prompt: Prompt
    visit: int  # how often this prompt was dispatched before, so that a second visit samples anew


class Generator:
    """Ray actor around one `AsyncLLM`. Serves nothing before its first weight sync: it starts with dummy weights."""

    def __init__(self, spec: EngineSpec, verifiers: Sequence[Ask]) -> None:
        self._spec = spec
        self._verifiers = VerifierQueue(verifiers)
        self._engine: AsyncLLM | None = None
        self._requests = 0

    async def start(self) -> None:
        """Starts the engine; seconds on a GPU, longer on the CPU."""
        spec = self._spec
        self._engine = AsyncLLM.from_engine_args(
            AsyncEngineArgs(
                model=spec.model,
                dtype=spec.dtype,
                seed=spec.seed,
                max_model_len=spec.max_model_len,
                max_num_seqs=spec.engine.max_sequences,
                tensor_parallel_size=spec.tensor_parallel,
                distributed_executor_backend="uni" if spec.on_cpu else None,
                gpu_memory_utilization=spec.engine.memory_share,
                enforce_eager=spec.on_cpu or not spec.engine.compiled,
                load_format="dummy",
                generation_config="vllm",
                logprobs_mode="processed_logprobs",
                weight_transfer_config=WeightTransferConfig(backend=spec.backend),
                disable_log_stats=True,
            )
        )
        self._tokenizer = self._engine.get_tokenizer()

    async def rollout(self, order: Order) -> tuple[Summary, pa.RecordBatch]:
        """Samples and grades one group; responses are graded one by one as they end.

        Raises:
            TimeoutError: the group took longer than `rollout.timeout_seconds`; its requests are aborted.
        """
        rollout = self._spec.rollout
        async with asyncio.timeout(rollout.timeout_seconds):
            answers = await asyncio.gather(*(self._answer(order, sample) for sample in range(rollout.group_size)))
        trajectories, verdicts, generating, verifying = zip(*answers, strict=True)
        group = Group(id=order.group, prompt=order.prompt, trajectories=trajectories, verdicts=verdicts)
        summary = Summary.of(group, seconds_generate=max(generating), seconds_verify=max(verifying))
        return summary, batch_of(group)

    async def pause(self, in_flight: str) -> None:
        """Stops scheduling before a sync: responses that are being sampled freeze ("continue") or end ("finish")."""
        await self._llm.pause_generation(mode="keep" if in_flight == "continue" else "wait", clear_cache=False)

    async def resume(self) -> None:
        """Forgets every cached key and value of the old weights, those of frozen responses too, then goes on."""
        if not await self._llm.reset_prefix_cache(reset_running_requests=True):
            raise RuntimeError("vLLM did not reset its prefix cache: new responses would see keys of old weights")
        await self._llm.resume_generation()

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of each token of a fixed text but the first, under the live weights."""
        params = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
        output = await self._run(list(tokens), params)
        return [row[token].logprob for row, token in zip(output.prompt_logprobs[1:], tokens[1:], strict=True)]

    async def checksum(self) -> tuple[str, str]:
        """(live weight version, one digest over every tensor that the engine computes with)."""
        shards = await self._llm.compute_weight_checksums()
        digest = hashlib.blake2b(repr([sorted(shard.items()) for shard in shards]).encode(), digest_size=8)
        return await self._llm.get_weight_version(), digest.hexdigest()

    # The four calls of vLLM's weight-transfer interface, and the group's release.

    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=init_info))

    async def shutdown_weight_transfer_engine(self) -> None:
        await self._llm.shutdown_weight_transfer_engine()

    async def start_weight_update(self) -> None:
        await self._llm.start_weight_update()

    async def update_weights(self, update_info: dict[str, Any]) -> None:
        await self._llm.update_weights(WeightTransferUpdateRequest(update_info=update_info))

    async def finish_weight_update(self, version: str) -> None:
        await self._llm.finish_weight_update(version)

    def pid(self) -> int:
        """Process id of the actor, for clean-up checks."""
        return os.getpid()

    async def stop(self) -> None:
        """Ends the engine and its processes."""
        if self._engine is not None:
            self._engine.shutdown()

    @property
    def _llm(self) -> AsyncLLM:
        if self._engine is None:
            raise RuntimeError("the generator has not been started")
        return self._engine

    async def _answer(self, order: Order, sample: int) -> tuple[Trajectory, Verdict, float, float]:
        started = time.monotonic()
        rollout, prompt = self._spec.rollout, order.prompt
        params = SamplingParams(
            temperature=rollout.temperature,
            max_tokens=min(rollout.max_new_tokens, self._spec.max_model_len - prompt.tokens.size),
            seed=sample_seed(self._spec.seed, prompt.id, order.visit, sample),
            logprobs=0,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
        )
        output = (await self._run(prompt.tokens.tolist(), params)).outputs[0]
        text = self._tokenizer.decode(output.token_ids, skip_special_tokens=True)
        trajectory = trajectory_of(prompt, output, text)
        sampled = time.monotonic()
        question = Question(reward=prompt.reward, response=text, reference=prompt.reference)
        verdict = await self._verifiers.grade(question)
        return trajectory, verdict, sampled - started, time.monotonic() - sampled

    async def _run(self, tokens: list[int], params: SamplingParams) -> Any:
        self._requests += 1
        output = None
        async for output in self._llm.generate({"prompt_token_ids": tokens}, params, request_id=str(self._requests)):
            pass
        if output is None:
            raise RuntimeError("vLLM ended a request without an output")
        return output


def sample_seed(seed: int, prompt_id: str, visit: int, sample: int) -> int:
    """The sampling seed of one response. It depends on neither order, engine nor restart."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{prompt_id}/{visit}/{sample}".encode(), digest_size=6).digest())


def trajectory_of(prompt: Prompt, output: CompletionOutput, text: str) -> Trajectory:
    """The token stream of one finished response; mask, versions and finish come from the engine, never from ids."""
    before, new = prompt.tokens.size, len(output.token_ids)
    sampled = np.arange(before + new) >= before
    logprobs = np.zeros(before + new, np.float32)
    flat = output.logprobs
    logprobs[before:] = [flat.logprobs[start] for start in flat.start_indices]
    versions = np.full(before + new, -1, np.int32)
    for span in output.weight_versions or ():
        versions[before + span.start : before + span.end] = int(span.version)
    return Trajectory(
        tokens=np.concatenate([prompt.tokens, np.asarray(output.token_ids, np.int32)]),
        sampled=sampled,
        logprobs=logprobs,
        versions=versions,
        finish=Finish(output.finish_reason),
        text=text,
    )
