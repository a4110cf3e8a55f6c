"""The one home of vLLM's sampling interface: an engine that samples token ids and takes new weights.

Token ids in, token ids and log-probabilities out; what the engine says it sampled is what is trained on.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
from vllm import SamplingParams
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.logprobs import FlatLogprobs
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from actors.errors import EngineDied
from actors.settings import RolloutSettings
from actors.types import EngineSpec, Finish, Prompt, Trajectory

P = ParamSpec("P")
T = TypeVar("T")
CPU_BATCH = 4096  # tokens of one forward pass on the CPU, at least


def _asks_the_engine(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """The method, with an exception that needs no vLLM to be read where the engine's own process has ended."""

    @wraps(method)
    async def asking(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(*args, **kwargs)
        except EngineDeadError:
            raise EngineDied(
                "the process of vLLM's engine has ended; its last words are in Ray's log of this actor"
            ) from None

    return asking


class Sampler:
    """One `AsyncLLM`. Where weights come by sync it starts with dummy ones: nothing that it samples means anything
    before the first."""

    def __init__(self, spec: EngineSpec) -> None:
        self._spec = spec
        self._requests = 0
        self.llm = AsyncLLM.from_engine_args(
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
                **(_whole_prompts(spec) if spec.on_cpu else {}),
                load_format="dummy" if spec.backend else "auto",
                generation_config="vllm",
                logprobs_mode="processed_logprobs",
                weight_transfer_config=WeightTransferConfig(backend=spec.backend) if spec.backend else None,
                disable_log_stats=True,
            )
        )
        self.tokenizer = self.llm.get_tokenizer()

    async def sample(self, prompt: Prompt, rollout: RolloutSettings, seed: int, greedy: bool = False) -> Trajectory:
        """One response to a prompt; a cancelled call aborts the request in the engine."""
        params = SamplingParams(
            temperature=0.0 if greedy else rollout.temperature,
            top_p=1.0 if greedy else rollout.top_p,
            max_tokens=min(rollout.max_new_tokens, self._spec.max_model_len - prompt.tokens.size),
            seed=seed,
            logprobs=0,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=False,
            skip_clone=True,  # they are this request's alone, and a copy costs more than making them
        )
        output = (await self._run(prompt.tokens.tolist(), params)).outputs[0]
        return trajectory_of(prompt, output, self.tokenizer.decode(output.token_ids, skip_special_tokens=True))

    async def reply(self, conversation: list[Any], longest: int) -> str:
        """What the model says at the end of a conversation, its likeliest token each time."""
        if getattr(self.tokenizer, "chat_template", None):
            text = str(self.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))
        else:
            text = "\n\n".join(message["content"] for message in conversation) + "\n\n"
        room = self._spec.max_model_len - longest
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"][-room:]
        return (await self._texts(tokens, SamplingParams(temperature=0.0, max_tokens=longest)))[0]

    async def continuations(self, text: str, count: int, rollout: RolloutSettings, seed: int) -> list[str]:
        """So many texts that the model goes on with after this one."""
        tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        longest = min(rollout.max_new_tokens, self._spec.max_model_len - len(tokens))
        params = SamplingParams(n=count, temperature=rollout.temperature, max_tokens=longest, seed=seed)
        return await self._texts(tokens, params)

    async def _texts(self, tokens: Sequence[int], params: SamplingParams) -> list[str]:
        params.output_kind = RequestOutputKind.FINAL_ONLY
        return [output.text for output in (await self._run(list(tokens), params)).outputs]

    async def probe(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of each token of a fixed text but the first, under the live weights, temperature 1."""
        params = SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
        rows = (await self._run(list(tokens), params)).prompt_logprobs or []
        return [row[token].logprob for row, token in zip(rows[1:], tokens[1:], strict=True) if row is not None]

    @_asks_the_engine
    async def pause(self, in_flight: str) -> None:
        """Stops scheduling before a sync: responses that are being sampled freeze ("continue") or end ("finish")."""
        await self.llm.pause_generation(mode="keep" if in_flight == "continue" else "wait", clear_cache=False)

    @_asks_the_engine
    async def resume(self) -> None:
        """Forgets every cached key and value of the old weights, those of frozen responses too, then goes on."""
        if not await self.llm.reset_prefix_cache(reset_running_requests=True):
            raise RuntimeError("vLLM did not reset its prefix cache: new responses would see keys of old weights")
        await self.llm.resume_generation()

    @_asks_the_engine
    async def checksum(self) -> tuple[str, str]:
        """(live weight version, one digest over every tensor that the engine computes with)."""
        shards = await self.llm.compute_weight_checksums()
        digest = hashlib.blake2b(repr([sorted(shard.items()) for shard in shards]).encode(), digest_size=8)
        return await self.llm.get_weight_version(), digest.hexdigest()

    @_asks_the_engine
    async def join_transfer(self, init_info: dict[str, Any]) -> None:
        """Meets the learner for weight transfer."""
        await self.llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=init_info))

    @_asks_the_engine
    async def begin_update(self) -> None:
        """Before the first part of an update."""
        await self.llm.start_weight_update()

    @_asks_the_engine
    async def receive(self, update_info: dict[str, Any]) -> None:
        """Receives one part of an update."""
        await self.llm.update_weights(WeightTransferUpdateRequest(update_info=update_info))

    @_asks_the_engine
    async def finish_update(self, version: str) -> None:
        """After the last part of an update: what is sampled from now on is of this version."""
        await self.llm.finish_weight_update(version)

    @_asks_the_engine
    async def _run(self, tokens: list[int], params: SamplingParams) -> RequestOutput:
        self._requests += 1
        stream = self.llm.generate({"prompt_token_ids": tokens}, params, request_id=str(self._requests))
        outputs = [output async for output in stream]
        return outputs[-1]


def _whole_prompts(spec: EngineSpec) -> dict[str, Any]:
    """Engine arguments by which no prompt is computed in pieces.

    After a piece vLLM turns the request's random generator back, which torch's generator on the CPU cannot do: the
    engine would die. Responses that go on after a sync are computed anew, and so many are easily more than one pass.
    """
    most = max(CPU_BATCH, spec.max_model_len, spec.engine.max_sequences)
    return {"enable_chunked_prefill": False, "max_num_batched_tokens": most}


def trajectory_of(prompt: Prompt, output: CompletionOutput, text: str) -> Trajectory:
    """The token stream of one finished response; mask, versions and finish come from the engine, never from ids."""
    before, new = prompt.tokens.size, len(output.token_ids)
    sampled = np.arange(before + new) >= before
    logprobs = np.zeros(before + new, np.float32)
    assert isinstance(output.logprobs, FlatLogprobs)  # as every request asks
    logprobs[before:] = [output.logprobs.logprobs[start] for start in output.logprobs.start_indices]
    versions = np.full(before + new, -1, np.int32)
    for span in output.weight_versions or ():
        versions[before + span.start : before + span.end] = int(span.version)
    return Trajectory(
        tokens=np.concatenate([prompt.tokens, np.asarray(output.token_ids, np.int32)]),
        sampled=sampled,
        logprobs=logprobs,
        versions=versions,
        finish=Finish(str(output.finish_reason)),
        text=text,
    )
