"""Environments of verifiers, as it is from 0.4 on: tasks, and agents that ask a model by an address of OpenAI's form.

Their agents are given the address of the episode's seat (`talk.url`), so that every conversation that they have with
the policy is a token stream of it; what an episode is worth is said by verifiers.
"""

import asyncio
import contextvars
import json
import threading
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.rollouts.others.steps import number

if TYPE_CHECKING:
    from actors.rollouts.episode import Task
    from actors.rollouts.talk import Talk

MODEL = "policy"  # what agents are told that they ask
NO_KEY = "WINNOW_HAS_NO_KEY"  # a variable that nobody sets: the address itself is the secret


class VerifiersEnvironment:
    """An `Env` of verifiers, as rows of a file and as an environment of winnow's.

    Example: ``environment = VerifiersEnvironment(lambda: vf.SingleAgentEnv(...))``, then ``play = environment.play``
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        """`make` gives the `Env`; it is called once in a process, and runs all episodes there."""
        self._make = make
        self._served: dict[asyncio.AbstractEventLoop, tuple[asyncio.Future[Any], asyncio.Task[None]]] = {}
        self._tasks: list[Any] = []  # the first ones, as many as rows have asked for
        self._lock = threading.Lock()

    def write(self, file: str | Path, rows: int) -> int:
        """Writes the first tasks of the `Env` as JSON lines with `prompt` and `answer`, a task's place; says how many.

        A prompt is only shown to people, as the agent says what the policy sees. A task without one has its name.
        """
        lines = [
            {"prompt": task.data.prompt_text or task.data.name or f"task {place}", "answer": str(place)}
            for place, task in enumerate(islice(self._make().taskset, rows))
        ]
        Path(file).write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")
        return len(lines)

    async def play(self, task: "Task", talk: "Talk") -> float:
        """The environment: one episode of the `Env`. Its score is the mean reward of the traces of agents that are
        trained.

        Raises:
            RuntimeError: the episode failed; the message is that of verifiers, with its traceback.
        """
        from verifiers.v1 import EvalClientConfig, ModelContext

        env = await self._here()
        client = EvalClientConfig(base_url=talk.url, api_key_var=NO_KEY)
        row = await asyncio.to_thread(self._task, env, int(task.reference))
        episode = await env.run_episode(row, ModelContext(MODEL, client))
        for trace in episode.traces if not episode.ok else ():
            episode.errors.extend(trace.errors)
        if not episode.ok:
            failure = episode.errors[-1] if episode.errors else None
            raise RuntimeError(f"{failure.message}\n{failure.traceback}" if failure else "the episode is not ok")
        trained = [trace for trace in episode.traces if trace.agent.trainable] or episode.traces
        return sum(number(trace.reward, "verifiers") for trace in trained) / len(trained)

    def _task(self, env: Any, place: int) -> Any:
        with self._lock:
            if place >= len(self._tasks):
                self._tasks = list(islice(env.taskset, max(place + 1, 2 * len(self._tasks))))
        if place >= len(self._tasks):
            raise ValueError(f"the row names task {place}, and there are {len(self._tasks)}: write the data again")
        return self._tasks[place]

    async def _here(self) -> Any:
        """The `Env`, with its servers in the event loop of the caller."""
        loop = asyncio.get_running_loop()
        if loop not in self._served:
            ready: asyncio.Future[Any] = loop.create_future()
            serving = asyncio.create_task(self._serve(ready), context=contextvars.Context())  # of no episode
            self._served[loop] = (ready, serving)
        return await asyncio.shield(self._served[loop][0])

    async def _serve(self, ready: asyncio.Future[Any]) -> None:
        """Takes: nothing. Waits for: nothing. Keeps the servers until the loop ends, which cancels it."""
        try:
            env = await asyncio.to_thread(self._make)
            async with env.serving():
                ready.set_result(env)
                await asyncio.Event().wait()
        except Exception as failure:
            if not ready.done():
                ready.set_exception(failure)
