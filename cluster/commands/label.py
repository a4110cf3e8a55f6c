"""Labels of reasoning steps for a file of responses, to train a process reward model on."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import ray

from actors.data.cells import text_of
from actors.data.files import BadRow, FileRow, read_files
from actors.data.messages import conversation_of, question_of
from actors.data.reading import asked_of, system_of, text_in
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.grading.labels import Completer, CompleterClient, StepLabel, label_steps
from actors.settings import GeneratorSettings
from actors.types import EngineSpec
from cluster.blocking import run_blocking
from cluster.commands.grade import check_columns, check_rewards, line_of, name_left_out, reward_of, writer
from cluster.config.errors import ConfigError
from cluster.config.models import positions_of
from cluster.config.run_config import GradingConfig
from cluster.placement.orphans import no_orphans
from cluster.placement.session import our_signals
from cluster.preparing.graders import Graders
from cluster.preparing.models import check_policy, load_tokenizer
from rewards import Case, Outcome, Question
from rewards.models.plain import plain

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CPU_ENVIRONMENT = {  # of an engine on the CPU, as in a run
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled:
    """What came of a file."""

    rows: int  # that have labels
    left_out: int  # that could not be labelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """A row and what its labels are made of."""

    row: FileRow
    prompt: tuple[int, ...]  # token ids, in its templates
    steps: tuple[str, ...]  # that together are the response
    size: int  # tokens of the prompt and the steps
    question: Question  # what is asked about a response; its own is empty


def label_file(path: Path, config: GradingConfig, out: Path, *, completions: int = 8, on_cpu: bool = True) -> Labelled:
    """Writes every row with `labels`, one for each of its steps, as they come and in the order of the file.

    Starts Ray on this machine, and in it an engine with the weights of `model.path`. It completes the response from
    behind each step `completions` times, and the reward grades each whole response. Rows that cannot be labelled are
    named on stderr and left out.

    Args:
        path: JSON lines or Parquet with `prompt`, `steps` (a list of texts that together are the response), with
            `reference` where the reward compares with one, and where it differs from row to row `reward`.
        config: the model, the templates around the prompt, how responses are sampled, and the rewards.
        out: the file, JSON lines.
        completions: to sample behind each step.
        on_cpu: whether the engine runs on the CPU instead of a GPU.

    Raises:
        ConfigError: the file, the model or a reward cannot be used, or no row can be labelled.
    """
    bad: list[BadRow] = []
    check_policy(Path(config.model.path), "model.path")
    tokenizer = load_tokenizer(Path(config.model.path))
    try:
        renderer = Renderer(config.data, tokenizer)
        found = list(read_files(str(path), bad.append))
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    rows = []
    for row in found:
        try:
            rows.append(_steps(row, config, renderer, tokenizer))
        except ValueError as problem:
            bad.append(BadRow(place=row.place, problem=str(problem)))
    if not rows:
        raise ConfigError(f"no row of {path} can be labelled" + (f": {bad[0]}" if bad else ": it holds none"))
    with Graders() as graders:
        check_rewards([row.question for row in rows], graders)
        with writer(path, out) as file:
            environment = CPU_ENVIRONMENT if on_cpu else {}
            with no_orphans():
                with our_signals():
                    ray.init(address="local", log_to_driver=False, runtime_env={"env_vars": environment})
                try:
                    run_blocking(_label(rows, config, file, graders, completions=completions, on_cpu=on_cpu))
                finally:
                    ray.shutdown()
    name_left_out(bad, len(bad) + len(rows), "labelled")
    return Labelled(rows=len(rows), left_out=len(bad))


def _steps(row: FileRow, config: GradingConfig, renderer: Renderer, tokenizer: "PreTrainedTokenizerBase") -> Steps:
    """What the labels of a row are made of.

    Raises:
        ValueError: the row lacks what it takes; the problem says what.
    """
    check_columns(row.cells, ("prompt", "steps"))
    steps = row.cells["steps"]
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise ValueError(f"has {str(steps)[:80]!r} in column 'steps', expected a list of texts")
    reward = reward_of(row.cells, config)
    reference = "" if row.cells.get("reference") is None else text_in(row, "reference")
    asked = asked_of(row, "prompt")
    system = system_of(row, config.data.system_column)
    try:
        text = renderer.render(asked, system)
    except DataError as problem:
        raise ValueError(f"cannot be rendered: {problem}") from problem
    (prompt,) = renderer.tokens([text])
    response = tokenizer(plain(text_of("".join(steps)), tokenizer), add_special_tokens=False)["input_ids"]
    size, positions = len(prompt) + len(response), positions_of(Path(config.model.path))
    if not prompt or size >= positions:
        raise ValueError(f"has {len(prompt)} + {len(response)} tokens, and the model holds 1 to {positions - 1}")
    case = Case(
        response="",
        reference=reference,
        prompt=text,
        question=question_of(asked),
        messages=conversation_of(asked, system or config.data.system),
    )
    question = Question(reward=reward, case=case, settings=config.reward)
    return Steps(row=row, prompt=tuple(prompt), steps=tuple(steps), size=size, question=question)


async def _label(
    rows: Sequence[Steps], config: GradingConfig, file: TextIO, graders: Graders, *, completions: int, on_cpu: bool
) -> None:
    """Writes each row with its labels."""
    longest = max(row.size for row in rows) + config.rollout.max_new_tokens
    spec = EngineSpec(
        model=config.model.path,
        dtype=config.model.on_device(not on_cpu).settled_dtype,
        seed=0,
        max_model_len=min(longest, positions_of(Path(config.model.path))),
        tensor_parallel=1,
        backend="",
        on_cpu=on_cpu,
        engine=GeneratorSettings(),
    )
    remote: Any = ray.remote  # its annotations give a class or a handle
    handle = remote(Completer).options(num_gpus=0 if on_cpu else 1, max_concurrency=1024).remote(spec)
    completer = CompleterClient(handle, config.rollout)
    await completer.start()
    tasks = [asyncio.create_task(_labels_of(row, completer, graders, completions)) for row in rows]
    try:
        for row, task in zip(rows, tasks, strict=True):
            labels = [asdict(label) for label in await task]
            print(line_of(row.row.cells | {"labels": labels}), file=file, flush=True)
    finally:
        for task in tasks:
            task.cancel()
        await completer.stop()


async def _labels_of(row: Steps, completer: CompleterClient, graders: Graders, completions: int) -> list[StepLabel]:
    """The labels of one row."""

    async def complete(begun: str, count: int) -> Sequence[str]:
        return await completer.complete(row.prompt, begun, count)

    async def grade(response: str) -> Outcome:
        question = replace(row.question, case=replace(row.question.case, response=response))
        (verdict,) = await asyncio.to_thread(lambda: list(graders.grade([question])))
        return verdict.outcome

    return await label_steps("", row.steps, complete, grade, completions=completions)
