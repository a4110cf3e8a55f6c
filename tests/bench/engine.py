"""What vLLM's engine spends on one CPU core, by load and part: `python -m tests.bench.engine`. With `--against JSON` a
second engine with these engine arguments of vLLM runs the same loads in turns.

All figures are CPU time, so that other work on the machine counts less. Parts are timed on the thread of the engine's
passes, each without the parts inside it. What the engine's process spends beside its passes is "messages": two threads
that read and write them. "front end" is vLLM's half in the process of the generator.
"""

import argparse
import asyncio
import functools
import importlib
import itertools
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.data.world import ALPHABET
from actors.engines import Sampling
from actors.settings import GeneratorSettings
from actors.transfer.worker import WeightsExtension
from actors.types import EngineSpec
from cluster.config.run_config import RunConfig
from cluster.placement.environment import environment
from learner.models.tiny import write_tiny_model

CORE, RUNNER = "vllm.v1.engine.core:EngineCoreProc", "vllm.v1.worker.gpu_model_runner:GPUModelRunner"
PARTS = {  # what is timed -> the part that it is
    f"{CORE}._process_engine_step": "rest of the pass",
    f"{CORE}._handle_client_request": "requests",
    "vllm.v1.core.sched.scheduler:Scheduler.schedule": "scheduler",
    "vllm.v1.core.sched.scheduler:Scheduler.update_from_output": "scheduler",
    f"{RUNNER}._update_states": "preparing input",
    f"{RUNNER}._prepare_inputs": "preparing input",
    f"{RUNNER}._build_attention_metadata": "preparing input",
    f"{RUNNER}._get_slot_mappings": "preparing input",
    f"{RUNNER}._model_forward": "layers",
    "vllm.v1.attention.backends.cpu_attn:CPUAttentionBackendImpl.forward": "attention",
    "vllm.model_executor.models.qwen2:Qwen2ForCausalLM.compute_logits": "logits",
    "vllm.v1.sample.sampler:Sampler.forward": "log-probabilities",
    "vllm.v1.sample.sampler:Sampler.sample": "draws with seeds",
    f"{RUNNER}._bookkeeping_sync": "tokens to lists",
}
MODULE = "tests.bench.engine"  # also where it runs as the main one
PASSES = "vllm.v1.worker.gpu_model_runner:GPUModelRunner._model_forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests of one kind."""

    prompt: int  # tokens
    completions: int  # of each request
    tokens: int  # of a completion at most
    samples: int  # completions of a round, for each that is sampled at the same time


LOADS = {
    "short": Load(prompt=5, completions=8, tokens=3, samples=16),
    "long-tailed": Load(prompt=5, completions=1, tokens=256, samples=3),
    "long prompts": Load(prompt=550, completions=8, tokens=10, samples=2),
}
SHOWN = ("passes", "process", "front end", *dict.fromkeys(PARTS.values()), "messages")
Spent = Mapping[str, float]  # part -> CPU seconds; "passes" and "process" beside


class Timed(WeightsExtension):
    """A worker that times the engine in whose process it is."""

    def begin(self) -> None:
        """From now on."""
        self._spent, self._inside = defaultdict[str, float](float), [0.0]
        for name, part in PARTS.items():
            module, _, path = name.partition(":")
            owner, _, method = path.partition(".")
            kind = getattr(importlib.import_module(module), owner)
            setattr(kind, method, self._timed(part, name == PASSES, getattr(kind, method)))

    def spent(self) -> dict[str, float]:
        """So far."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return dict(self._spent) | {"process": used.ru_utime + used.ru_stime}

    def _timed(self, part: str, is_pass: bool, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def timed(*arguments: Any, **named: Any) -> Any:
            self._inside.append(0.0)
            began = time.thread_time()
            try:
                return method(*arguments, **named)
            finally:
                spent = time.thread_time() - began
                self._spent[part] += spent - self._inside.pop()
                self._inside[-1] += spent
                self._spent["passes"] += is_pass

        return timed


async def measured(engine: Any, load: Load, together: int, samples: int, first: int) -> Spent:
    """Milliseconds for each of so many samples, of which so many are sampled at the same time. `first` is the number of
    the first request, which decides on its prompt."""
    free = asyncio.Semaphore(max(1, together // load.completions))
    sampling = Sampling(temperature=1.0, top_p=1.0, max_tokens=load.tokens, completions=load.completions)

    async def ask(number: int) -> None:
        async with free:
            prompt = random.Random(number).choices(range(10), k=load.prompt)
            await engine.generate(prompt, sampling, 1000 * number)

    async def so_far() -> dict[str, float]:
        [spent] = await engine.vllm.collective_rpc("spent")
        return {**spent, "front end": time.process_time()}

    before = await so_far()
    await asyncio.gather(*map(ask, range(first, first + samples // load.completions)))
    after = await so_far()
    spent = {name: 1000 * (after[name] - before.get(name, 0.0)) / samples for name in after}
    parts = sum(spent.get(part, 0.0) for part in {*PARTS.values()})
    return spent | {"messages": spent["process"] - parts, "passes": spent["passes"] / 1000}


def started(folder: str, arguments: Mapping[str, Any]) -> Any:
    """An engine as runs have it, with some arguments of vLLM in place of its own."""
    from vllm.v1.engine.async_llm import AsyncLLM

    from actors.rollouts.engine import Engine

    class Open(Engine):
        """An engine whose vLLM can be asked directly."""

        @property
        def vllm(self) -> AsyncLLM:
            return self._llm

    def start(own: Any) -> AsyncLLM:
        return AsyncLLM.from_engine_args(replace(own, worker_extension_cls=f"{MODULE}.Timed", **arguments))

    spec = EngineSpec(
        model=folder,
        dtype="float32",
        seed=0,
        max_model_len=1024,
        tensor_parallel=1,
        backend="",
        on_cpu=True,
        engine=GeneratorSettings(),
    )
    return Open(spec, start)


async def compared(loads: Sequence[str], together: Sequence[int], rounds: int, against: Sequence[Any]) -> None:
    """Prints medians over rounds, a line for each load, number of sequences and engine."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiny_model(Path(folder), alphabet=ALPHABET, seed=0)
        engines = [started(folder, arguments) for arguments in ({}, *against)]
        for engine in engines:
            await engine.vllm.collective_rpc("begin")
        for name, count in itertools.product(loads, together):
            load, seen = LOADS[name], [list[Spent]() for _ in engines]
            for turn in range(rounds + 1):  # the first one warms up
                for engine, spent in zip(engines, seen, strict=True):
                    spent.append(await measured(engine, load, count, count * load.samples, turn * 100_000))
            for spent in seen:
                parts = {part: statistics.median(each.get(part, 0.0) for each in spent[1:]) for part in SHOWN}
                passes = parts.pop("passes")
                print(f"{name}, {count} at a time: {passes:.3f} passes for each sample")
                for title, share in (("a sample", 1.0), ("a pass", 1 / passes)):
                    print(f"  ms {title}:", {part: round(each * share, 3) for part, each in parts.items()}, flush=True)
        for engine in engines:
            engine.shutdown()


def main() -> None:
    """Starts itself anew in the environment of a run's actors, which vLLM reads when it is loaded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--together", type=int, nargs="+", default=[8, 32, 128], help="sequences at the same time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--against", type=json.loads, nargs="*", default=[], metavar="JSON")
    asked = parser.parse_args()
    config = RunConfig.model_validate({"model": {"path": "none"}, "data": {"path": "none"}})
    env = environment(config, "", on_gpu=False) | {"VLLM_LOGGING_LEVEL": "ERROR"}
    if not env.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-W", "ignore", "-m", MODULE, *sys.argv[1:]], {**os.environ, **env})
    asyncio.run(compared(asked.loads, asked.together, asked.rounds, asked.against))


if __name__ == "__main__":
    main()
