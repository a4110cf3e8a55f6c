"""The home of vLLM's sampling interface: token ids and sampling parameters in, completions out, and new weights.

Nothing here knows of prompts, rewards, groups or conversations. Order of calls for a sync:
`pause_generation`, (`init_weight_transfer_engine` whenever the receivers changed), `update_weights`,
`finish_weight_update`, `resume_generation`. Where the update is cut off on its way: `give_up_weight_update`, and again
from the connection on.
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import numpy as np
from vllm import SamplingParams
from vllm.config import WeightTransferConfig
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.inputs import TokensInput, tokens_input
from vllm.logprobs import FlatLogprobs
from vllm.outputs import CompletionOutput, RequestOutput
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine.exceptions import EngineDeadError

from actors.engines import OWN_PROCESS, Completion, Sampling
from actors.errors import EngineDied
from actors.rollouts.last_lines import with_last_lines
from actors.settings import ALONE_SHARE, GeneratorSettings
from actors.transfer.digest import added
from actors.transfer.names import EXTENSION, RECEIVERS
from actors.types import EngineSpec, Finish, HeldWeights, LayerSums

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm.v1.engine import PauseMode
    from vllm.v1.engine.async_llm import AsyncLLM

    from actors.rollouts.in_process import InProcessLLM

P = ParamSpec("P")
T = TypeVar("T")
LOOK_SECONDS = 1.0  # between two looks at whether the engine's process is still there, while it is asked something
UNSYNCED = "default"  # vLLM's name for the version of weights that no sync brought
FIRST = -1  # vLLM's priority of the probe: before all responses, which have 0
PAUSES = {"continue": "keep", "keep": "keep", "finish": "wait"}  # sync.in_flight -> vLLM's way to pause
CPU_BATCH = 4096  # tokens of one forward pass on the CPU, at least
# Tokens of a block of keys and values on the CPU. Siblings share full blocks only of their prompt: with vLLM's 128,
# each computes up to 128 tokens of it anew. Its kernels want a multiple of 32.
CPU_BLOCK = 32
REST_TRIES = 3  # to give memory back, which vLLM refuses while it has not noted that a request was given up


def _asks_the_engine(
    method: Callable[Concatenate["Engine", P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Engine", P], Coroutine[Any, Any, T]]:
    """The method, raising EngineDied, which can be unpickled without vLLM, where the engine has ended; vLLM itself does
    not answer a call that was on its way then."""

    @wraps(method)
    async def asking(self: "Engine", *args: P.args, **kwargs: P.kwargs) -> T:
        asked = asyncio.ensure_future(method(self, *args, **kwargs))
        try:
            while not (await asyncio.wait({asked}, timeout=LOOK_SECONDS))[0]:
                if self.dead:
                    raise EngineDeadError
            return asked.result()
        except EngineDeadError:
            raise _death() from None
        finally:
            asked.cancel()

    return cast("Callable[Concatenate[Engine, P], Coroutine[Any, Any, T]]", asking)


def _death() -> EngineDied:
    return EngineDied(with_last_lines("vLLM's engine has ended"))


def _starter(spec: EngineSpec) -> "Callable[[AsyncEngineArgs], AsyncLLM | InProcessLLM]":
    """What starts vLLM's engine: in this process where a process of its own would only share the CPU with it."""
    if spec.on_cpu and spec.tensor_parallel == 1 and os.environ.get(OWN_PROCESS) != "1":
        from actors.rollouts.in_process import InProcessLLM

        return InProcessLLM
    from vllm.v1.engine.async_llm import AsyncLLM

    return AsyncLLM.from_engine_args


class Engine:
    """One engine of vLLM. Where weights come by sync it starts with dummy ones, and nothing that it samples before the
    first sync means anything."""

    def __init__(
        self, spec: EngineSpec, start: "Callable[[AsyncEngineArgs], AsyncLLM | InProcessLLM] | None" = None
    ) -> None:
        """`start` starts vLLM's engine; another one is for tests."""
        self.max_model_len = spec.max_model_len  # most tokens of a prompt and its completion together
        self._requests = 0  # so far; each has its number as id
        self._version, self._in_flight = UNSYNCED, "continue"  # of the live weights; sync.in_flight at the last pause
        self._updating = False  # whether a part of an update has come, and its end has not
        self._gives_memory_back, self._resting = spec.rests and not spec.on_cpu, False
        self._llm = (start or _starter(spec))(engine_arguments(spec))
        self.tokenizer = cast("PreTrainedTokenizerBase", self._llm.get_tokenizer())  # what vLLM's own type stands for

    @property
    def dead(self) -> bool:
        """Whether the engine has failed, or its own process has ended."""
        return self._llm.errored

    @_asks_the_engine
    async def alive(self) -> None:
        """Returns when the engine has answered, which it does between two of its passes: also while it is paused or
        rests, not while it receives weights."""
        await self._llm.get_weight_version()

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        """Samples `sampling.completions` completions of one prompt; a cancelled call ends the request in the engine.

        Args:
            tokens: ids of the prompt; with `sampling.max_tokens` they must fit into `max_model_len`.
            sampling: how tokens are drawn.
            seed: of the draws of the first completion, which the seeds of the others follow. It alone decides on a
                completion, whatever else the engine samples meanwhile.
        """
        params = SamplingParams(
            n=sampling.completions,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            min_tokens=min(sampling.min_tokens, sampling.max_tokens),
            stop=list(sampling.stop),
            stop_token_ids=list(sampling.stop_token_ids),
            include_stop_str_in_output=True,
            seed=seed,
            logprobs=0,
            flat_logprobs=True,
            output_kind=RequestOutputKind.FINAL_ONLY,
            detokenize=bool(sampling.stop),  # the engine looks for texts in what it decodes
            skip_special_tokens=False,  # so that it finds those that are special tokens, too
            skip_clone=True,  # they are this request's alone, and a copy costs more than making them
        )
        output = await self._run(list(tokens), params)
        return [_completion_of(one, output.prompt_token_ids or ()) for one in output.outputs]

    async def log_probabilities(self, tokens: Sequence[int]) -> list[float]:
        """Log-probability of each token of a text but the first, under the live weights at temperature 1, nats."""
        return _of_prompt(await self._run(list(tokens), _asking_for_prompt()), tokens)

    @_asks_the_engine
    async def pause_generation(self, in_flight: str) -> None:
        """Stops scheduling before a sync: responses that are being sampled freeze ("continue", "keep") or end
        ("finish"). An update that has come and was never ended, as a rank of the learner failed, is no more."""
        if self._updating:
            await self._llm.collective_rpc("end_weight_update")
            self._updating = False
        self._in_flight = in_flight
        await self._llm.pause_generation(mode=cast("PauseMode", PAUSES[in_flight]), clear_cache=False)

    @_asks_the_engine
    async def resume_generation(self, probe: Sequence[int]) -> list[float]:
        """Goes on after a sync, first of all with the probe, whose log-probabilities it gives (as `log_probabilities`).

        Every cached key and value of the old weights is forgotten, those of frozen responses too; with "keep" these
        stay, and what other requests may take over from the cache does not: see `_prompt`.
        """
        if self._in_flight != "keep" and not await self._llm.reset_prefix_cache(reset_running_requests=True):
            raise RuntimeError("vLLM did not reset its prefix cache: new responses would see keys of old weights")
        # Asked while the engine is paused, and before all others, so that it waits behind no response that is computed
        # anew; where all places are taken ("keep"), until one response has ended.
        params = _asking_for_prompt()
        answer = await self._llm.add_request(self._next_id(), self._prompt(list(probe)), params, priority=FIRST)
        if self._resting:
            await cast("AsyncLLM", self._llm).wake_up(["kv_cache"])
            self._resting = False
        await self._llm.resume_generation()
        output = await answer.get()
        assert isinstance(output, RequestOutput)
        return _of_prompt(output, probe)

    @_asks_the_engine
    async def rest(self, in_flight: str) -> None:
        """Stops scheduling while the learner trains on the same GPU, and gives it the memory of keys and values; the
        weights stay. `resume_generation`, after a sync, takes the memory again and computes frozen responses anew."""
        for tries_left in reversed(range(REST_TRIES)):
            await self.pause_generation(in_flight)
            if not self._gives_memory_back or self._resting:
                return
            try:
                await cast("AsyncLLM", self._llm).release_kv_cache_memory()
                self._resting = True
                return
            except EngineDeadError:
                raise
            except Exception:  # vLLM's answer to a request that was given up since the pause
                if not tries_left:
                    raise

    async def _held_weights(self, sha256: bool) -> HeldWeights:
        """The live weight version and the digest of every weight that the engine computes with."""
        workers = await self._llm.collective_rpc("weight_sums")
        sums = added({group: LayerSums(*row) for group, row in worker.items()} for worker in workers)
        hashed = ""
        if sha256:
            shards = await self._llm.compute_weight_checksums()
            hashed = hashlib.sha256(repr([sorted(shard.items()) for shard in shards]).encode()).hexdigest()
        return HeldWeights(version=await self._llm.get_weight_version(), sums=sums, sha256=hashed)

    @_asks_the_engine
    async def give_up_weight_update(self) -> None:
        """Ends an update that was cut off and leaves the transfer group; the weights mean nothing until the next."""
        await self._llm.collective_rpc("give_up_weight_update")
        self._updating = False

    @_asks_the_engine
    async def leave_weight_transfer_engine(self) -> None:
        """Leaves the transfer group, whose buffers hold memory."""
        await self._llm.shutdown_weight_transfer_engine()

    @_asks_the_engine
    async def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Meets the learner for weight transfer; `init_info` is what vLLM's back end wants."""
        await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=init_info))

    @_asks_the_engine
    async def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receives one part of an update, which the first part begins, also behind one that failed; `update_info` is
        what vLLM's back end wants."""
        if not self._updating:
            await self._llm.start_weight_update()
        self._updating = False
        await self._llm.update_weights(WeightTransferUpdateRequest(update_info=update_info))
        self._updating = True

    @_asks_the_engine
    async def finish_weight_update(self, version: str, sha256: bool) -> HeldWeights:
        """After the last part of an update: what is sampled from now on is of this version. Gives what the engine
        computes with then.

        Args:
            version: of the weights that came.
            sha256: whether to hash every tensor too, which copies all weights to the host: seconds per GB.
        """
        await self._llm.finish_weight_update(version)
        self._updating, self._version = False, version
        return await self._held_weights(sha256)

    def shutdown(self) -> None:
        """Ends the engine's processes; nothing can be asked of it after that."""
        self._llm.shutdown()

    async def _run(self, tokens: list[int], params: SamplingParams) -> RequestOutput:
        stream = self._llm.generate(self._prompt(tokens), params, request_id=self._next_id())
        try:
            outputs = [output async for output in stream]
        except EngineDeadError:
            raise _death() from None
        return outputs[-1]

    def _prompt(self, tokens: list[int]) -> TokensInput:
        """A prompt that takes over cached keys and values from prompts of the same weight version only. As vLLM's own
        renderer makes it: it does not hand it to a thread once more, as it does with what may be text."""
        return tokens_input(tokens, cache_salt=self._version)

    def _next_id(self) -> str:
        self._requests += 1
        return str(self._requests)


def _asking_for_prompt() -> SamplingParams:
    return SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY)


def _of_prompt(output: RequestOutput, tokens: Sequence[int]) -> list[float]:
    rows = output.prompt_logprobs or []
    return [row[token].logprob for row, token in zip(rows[1:], tokens[1:], strict=True) if row is not None]


def _completion_of(output: CompletionOutput, shown: Sequence[int]) -> Completion:
    """All of it in the engine's own words: what it was shown too, and nothing is guessed from token ids."""
    assert isinstance(output.logprobs, FlatLogprobs)  # as every request asks
    versions = np.full(len(output.token_ids), -1, np.int32)
    for span in output.weight_versions or ():
        versions[span.start : span.end] = -1 if span.version == UNSYNCED else int(span.version)
    return Completion(
        tokens=np.asarray(output.token_ids, np.int32),
        logprobs=np.array([output.logprobs.logprobs[at] for at in output.logprobs.start_indices], np.float32),
        versions=versions,
        finish=Finish(str(output.finish_reason)),
        shown=shown,
        stopped_at=output.stop_reason if isinstance(output.stop_reason, str) else "",
    )


def engine_arguments(spec: EngineSpec) -> AsyncEngineArgs:
    """What vLLM is told.

    Workers of a tensor-parallel engine are processes of its own (`mp`) and see the GPUs of the actor's bundle. Left to
    itself, vLLM takes the placement group of the whole run for the engine's.
    """
    settings = spec.engine.on_device(not spec.on_cpu, colocate=spec.rests)
    return AsyncEngineArgs(
        model=spec.model,
        dtype=spec.dtype,
        seed=spec.seed,
        max_model_len=spec.max_model_len,
        max_num_seqs=settings.max_sequences,
        tensor_parallel_size=spec.tensor_parallel,
        distributed_executor_backend="uni" if spec.tensor_parallel == 1 else "mp",
        gpu_memory_utilization=settings.memory_share or ALONE_SHARE,
        enable_sleep_mode=spec.rests and not spec.on_cpu,
        enforce_eager=spec.on_cpu or not settings.compiled,
        **(_cpu_batches(spec, settings) if spec.on_cpu else _gpu_batches(settings)),
        load_format="dummy" if spec.backend else "auto",
        generation_config="vllm",
        logprobs_mode="processed_logprobs",
        weight_transfer_config=WeightTransferConfig(RECEIVERS[spec.backend]) if spec.backend else None,
        worker_extension_cls=EXTENSION if spec.backend else "",
        scheduling_policy="priority",  # so that the probe of a sync goes first
        disable_log_stats=True,
    )


def _gpu_batches(settings: GeneratorSettings) -> dict[str, Any]:
    """How much one pass on a GPU computes; vLLM wants room for a token of each response."""
    return {"max_num_batched_tokens": max(settings.batch_tokens or 0, settings.max_sequences or 0)}


def _cpu_batches(spec: EngineSpec, settings: GeneratorSettings) -> dict[str, Any]:
    """What one pass on the CPU computes: no prompt in pieces, and of siblings' prompts what the first leaves.

    After a piece vLLM turns the request's random generator back, which torch's generator on the CPU cannot do: the
    engine would die. After a sync, all responses that go on are computed anew, prompt and response, which together may
    be more tokens than vLLM's default for one pass.
    """
    most = max(CPU_BATCH, spec.max_model_len, settings.max_sequences or 0)
    return {"enable_chunked_prefill": False, "max_num_batched_tokens": most, "block_size": CPU_BLOCK}
