"""vLLM's engine in this very process, for the CPU: what `AsyncLLM` asks a process of its own, asked of a thread.

On a CPU a process for the engine is a second start of vLLM, ten seconds of a core and half a gigabyte, and requests and
answers go through pipes beside passes of a few milliseconds. vLLM's synchronous engine has one user here, the thread
that makes it: between two passes it does what it was asked meanwhile.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from vllm import SamplingParams
from vllm.distributed.weight_transfer.base import WeightTransferInitRequest, WeightTransferUpdateRequest
from vllm.engine.arg_utils import EngineArgs
from vllm.inputs import TokensInput
from vllm.outputs import RequestOutput
from vllm.tokenizers import TokenizerLike
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine import PauseMode
from vllm.v1.engine.exceptions import EngineDeadError
from vllm.v1.engine.llm_engine import LLMEngine
from vllm.v1.executor.abstract import Executor

from actors.logs import LOGGER

T = TypeVar("T")
DRAIN_SECONDS = 0.01  # between two looks at whether a paused engine has answered what it had
END_SECONDS = 10.0  # for the pass that is under way at the end


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request will be answered, once."""

    future: Future[RequestOutput]

    async def get(self) -> RequestOutput:
        """The finished request.

        Raises:
            EngineDeadError: the engine has ended.
            ValueError: vLLM refuses the request.
        """
        return await asyncio.wrap_future(self.future)


class InProcessLLM:
    """The methods of `AsyncLLM` that `Engine` asks for on the CPU, of the same meaning. A pause of mode "wait" waits
    for all that was asked before, also for what has no place in a pass yet."""

    def __init__(self, arguments: EngineArgs) -> None:
        """Returns when the engine runs; raises what vLLM raises where it does not start."""
        self.errored = False  # whether the engine has failed or was ended
        self._asked: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()  # None ends the thread
        self._answers: dict[str, Future[RequestOutput]] = {}  # request -> what waits for it
        self._paused: PauseMode | None = None
        self._later: list[Callable[[], None]] = []  # requests that came during a pause of the mode "wait"
        started: Future[LLMEngine] = Future()
        self._thread = threading.Thread(target=self._work, args=(arguments, started), name="engine", daemon=True)
        self._thread.start()
        self._engine = started.result()

    def get_tokenizer(self) -> TokenizerLike:
        return self._engine.get_tokenizer()

    async def add_request(
        self, request_id: str, prompt: TokensInput, params: SamplingParams, priority: int = 0
    ) -> Answer:
        answer: Future[RequestOutput] = Future()
        self._tell(lambda: self._take(request_id, prompt, params, priority, answer))
        return Answer(answer)

    async def generate(
        self, prompt: TokensInput, params: SamplingParams, request_id: str
    ) -> AsyncIterator[RequestOutput]:
        answer = await self.add_request(request_id, prompt, params)
        try:
            yield await answer.get()
        except asyncio.CancelledError:
            with suppress(EngineDeadError):
                self._tell(lambda: self._give_up(request_id))
            raise

    async def pause_generation(self, *, mode: PauseMode, clear_cache: bool) -> None:
        assert not clear_cache
        await self._ask(lambda: self._pause(mode))
        while mode == "wait" and await self._ask(self._engine.has_unfinished_requests):
            await asyncio.sleep(DRAIN_SECONDS)

    async def resume_generation(self) -> None:
        await self._ask(self._resume)

    async def reset_prefix_cache(self, reset_running_requests: bool) -> bool:
        return await self._ask(lambda: self._engine.reset_prefix_cache(reset_running_requests))

    async def collective_rpc(self, method: str, kwargs: Mapping[str, Any] | None = None) -> list[Any]:
        return await self._ask(lambda: self._engine.collective_rpc(method, kwargs=dict(kwargs or {})))

    async def compute_weight_checksums(self) -> list[dict[str, str]]:
        return await self.collective_rpc("compute_weight_checksums")

    async def init_weight_transfer_engine(self, request: WeightTransferInitRequest) -> None:
        await self.collective_rpc("init_weight_transfer_engine", {"init_info": request.init_info})

    async def shutdown_weight_transfer_engine(self) -> None:
        await self.collective_rpc("shutdown_weight_transfer_engine")

    async def start_weight_update(self) -> None:
        await self.collective_rpc("start_weight_update")

    async def update_weights(self, request: WeightTransferUpdateRequest) -> None:
        await self.collective_rpc("update_weights", {"update_info": request.update_info})

    async def finish_weight_update(self, version: str) -> None:
        await self.collective_rpc("finish_weight_update")
        await self._ask(lambda: self._engine.set_weight_version(version))

    async def get_weight_version(self) -> str:
        return await self._ask(self._engine.get_weight_version)

    def shutdown(self) -> None:
        self._asked.put(None)
        self._thread.join(END_SECONDS)

    async def _ask(self, what: Callable[[], T]) -> T:
        """What the engine's thread gives or raises, between two passes."""
        answer: Future[T] = Future()

        def asked() -> None:
            if answer.set_running_or_notify_cancel():
                try:
                    self._refuse_if_dead()
                    answer.set_result(what())
                except Exception as failure:
                    answer.set_exception(failure)

        self._tell(asked)
        return await asyncio.wrap_future(answer)

    def _tell(self, what: Callable[[], None]) -> None:
        """Has the engine's thread do something that raises nothing."""
        self._asked.put(what)
        self._refuse_if_dead()

    def _refuse_if_dead(self) -> None:
        if self.errored:
            raise EngineDeadError

    # What follows runs on the engine's thread.

    def _work(self, arguments: EngineArgs, started: Future[LLMEngine]) -> None:
        try:
            config = arguments.create_engine_config(UsageContext.ENGINE_CONTEXT)
            self._engine = LLMEngine(config, Executor.get_class(config), log_stats=False)
        except BaseException as failure:
            started.set_exception(failure)
            return
        started.set_result(self._engine)
        try:
            self._serve()
        except Exception:
            LOGGER.exception("a pass of vLLM's engine failed")
        self._end()

    def _end(self) -> None:
        """Nobody waits for an answer any more."""
        self.errored = True
        while not self._asked.empty():
            self._later += filter(None, [self._asked.get()])
        for asked in self._later:
            asked()
        for answer in self._answers.values():
            answer.set_exception(EngineDeadError())
        self._engine.engine_core.shutdown()

    def _serve(self) -> None:
        while True:
            try:
                asked = self._asked.get(block=not self._busy())
            except queue.Empty:
                self._step()
                continue
            if asked is None:
                return
            asked()

    def _busy(self) -> bool:
        return self._paused != "keep" and self._engine.has_unfinished_requests()

    def _step(self) -> None:
        for output in self._engine.step():
            assert isinstance(output, RequestOutput)
            if output.finished:
                answer = self._answers.pop(output.request_id, None)
                if answer is not None:
                    answer.set_result(output)

    def _take(
        self,
        request_id: str,
        prompt: TokensInput,
        params: SamplingParams,
        priority: int,
        answer: Future[RequestOutput],
    ) -> None:
        """Gives the engine a request that nobody has given up."""
        if self._paused == "wait" and not self.errored:
            self._later.append(lambda: self._take(request_id, prompt, params, priority, answer))
            return
        if not answer.set_running_or_notify_cancel():
            return
        try:
            self._refuse_if_dead()
            self._engine.add_request(request_id, prompt, params, priority=priority)
        except Exception as failure:
            answer.set_exception(failure)
        else:
            self._answers[request_id] = answer

    def _give_up(self, request_id: str) -> None:
        if self._answers.pop(request_id, None) is not None:
            self._engine.abort_request([request_id])

    def _pause(self, mode: PauseMode) -> None:
        self._paused = mode

    def _resume(self) -> None:
        self._paused = None
        later, self._later = self._later, []
        for take in later:
            take()
