"""Labels of reasoning steps for a file of responses, to train a process reward model on."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from actors.data.files import FileRow, read_files
from actors.data.messages import question_of
from actors.data.reading import asked_of, text_in
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.grading.labels import Completer, CompleterClient, StepLabel, label_steps
from actors.settings import GeneratorSettings
from actors.types import EngineSpec
from cluster.config.errors import ConfigError
from cluster.config.run_config import GradingConfig
from cluster.preparing.graders import Graders
from rewards import Case, Outcome, Question

NEEDED = ("prompt", "steps", "reference")
CPU_ENVIRONMENT = {  # of an engine on the CPU, as in a run
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


def label_file(path: Path, config: GradingConfig, out: Path, *, completions: int = 8, on_cpu: bool = True) -> int:
    """Writes every row with `labels`, one for each of its steps; gives the number of rows.

    Starts Ray on this machine, and in it an engine with the weights of `model.path`. It completes the response from
    behind each step `completions` times, and the reward grades each whole response.

    Args:
        path: JSON lines or Parquet with `prompt`, `steps` (a list of texts that together are the response) and
            `reference`, and where it differs from row to row `reward`.
        config: the model, the templates around the prompt, how responses are sampled, and the rewards.
        out: the file, JSON lines.
        completions: to sample behind each step.
        on_cpu: whether the engine runs on the CPU instead of a GPU.

    Raises:
        ConfigError: the file cannot be read, or a row lacks what it needs; file and line are named.
    """
    try:
        rows = list(read_files(str(path)))
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    for row in rows:
        if missing := [name for name in NEEDED if name not in row.cells]:
            raise ConfigError(f"{row.place} has no {missing[0]!r} (columns there: {', '.join(row.cells) or 'none'})")
        steps = row.cells["steps"]
        if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
            raise ConfigError(f"{row.place} has {steps!r} in column 'steps', expected a list of texts")
    environment = CPU_ENVIRONMENT if on_cpu else {}
    ray.init(address="local", log_to_driver=False, runtime_env={"env_vars": environment})
    try:
        labelled = asyncio.run(_labelled(rows, config, completions, on_cpu))
    finally:
        ray.shutdown()
    with out.open("w", encoding="utf-8") as file:
        for row, labels in zip(rows, labelled, strict=True):
            labelled_row = row.cells | {"labels": [asdict(label) for label in labels]}
            file.write(json.dumps(labelled_row, ensure_ascii=False, default=str) + "\n")
    return len(rows)


async def _labelled(
    rows: Sequence[FileRow], config: GradingConfig, completions: int, on_cpu: bool
) -> list[list[StepLabel]]:
    """The labels of each row, in order."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(config.model.path)
    renderer = Renderer(config.data, tokenizer)
    prompts = [renderer.render(asked_of(row, "prompt")) for row in rows]
    texts = [prompt + "".join(row.cells["steps"]) for prompt, row in zip(prompts, rows, strict=True)]
    longest = max((len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts), default=0)
    spec = EngineSpec(
        model=config.model.path,
        dtype=config.model.on_device(not on_cpu).settled_dtype,
        seed=0,
        max_model_len=longest + config.rollout.max_new_tokens,
        tensor_parallel=1,
        backend="",
        on_cpu=on_cpu,
        engine=GeneratorSettings(),
    )
    remote: Any = ray.remote  # its annotations give a class or a handle
    handle = remote(Completer).options(num_gpus=0 if on_cpu else 1, max_concurrency=1024).remote(spec)
    completer = CompleterClient(handle, config.rollout)
    await completer.start()
    try:
        with Graders() as graders:
            of_row = [
                _labels_of(prompt, row, completer, graders, config, completions)
                for prompt, row in zip(prompts, rows, strict=True)
            ]
            return list(await asyncio.gather(*of_row))
    finally:
        await completer.stop()


async def _labels_of(
    prompt: str,
    row: FileRow,
    completer: CompleterClient,
    graders: Graders,
    config: GradingConfig,
    completions: int,
) -> list[StepLabel]:
    """The labels of one row."""
    reward, reference = row.cells.get("reward", config.reward.name), text_in(row, "reference")
    asked = question_of(asked_of(row, "prompt"))

    async def grade(response: str) -> Outcome:
        case = Case(response=response, reference=reference, prompt=prompt, question=asked)
        question = Question(reward=reward, case=case, settings=config.reward)
        (verdict,) = await asyncio.to_thread(lambda: list(graders.grade([question])))
        return verdict.outcome

    return await label_steps(prompt, row.cells["steps"], completer.complete, grade, completions=completions)
