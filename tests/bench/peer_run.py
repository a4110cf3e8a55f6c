"""TRL's side of the comparison, in its own environment: GRPOTrainer on a folder of `tests.bench.workloads`.

    .venv-bench/bin/python -m tests.bench.peer_run FOLDER SECONDS ACCURACY [SETTINGS]

Writes a JSON line after each step; ends after SECONDS of training, or at once when ACCURACY has been reached. SETTINGS
are TRL's, as JSON, in place of those that were found to be the quickest; "threads" among them are torch's.
"""

import importlib.util
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl
from trl.generation.vllm_generation import VLLMGeneration

from examples.environments.calculator import calculate
from tests.bench.reached import Watch

Settings = Mapping[str, Any]
VLLM: Settings = {
    "use_vllm": True,
    "vllm_mode": "colocate",
    "vllm_gpu_memory_utilization": 0.1,
    "vllm_max_model_length": 1024,
}
# workload -> TRL's settings, found by `tests.bench.tuning`; its defaults where nothing is quicker
QUICKEST: Mapping[str, Settings] = {"long": VLLM, "prompts": VLLM}
# How TRL reads the calculator's conversations; transformers takes it from the tokenizer.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<assistant>",
    "fields": {
        "tool_calls": {
            "open": "<tool_call>",
            "close_pattern": "</tool_call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": "<end>", "content": "text"},
    },
}


def main(arguments: list[str]) -> None:
    """Trains until its time is over."""
    folder, seconds, accuracy = Path(arguments[0]), float(arguments[1]), float(arguments[2])
    work = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
    more = dict(json.loads(arguments[3]) if len(arguments) > 3 else QUICKEST.get(work["name"], {}))
    torch.set_num_threads(more.pop("threads", len(os.sched_getaffinity(0))))
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"  # vLLM shares this process's threads
    VLLMGeneration.sync_weights = mended_sync
    watch = Watch(seconds=seconds, accuracy=accuracy)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "start")
    if work["tool"]:
        tokenizer.response_template, tokenizer.eos_token = RESPONSE_TEMPLATE, "<end>"
    trainer = trl.GRPOTrainer(
        transformers.AutoModelForCausalLM.from_pretrained(folder / "start", dtype=torch.float32),
        reward_funcs=[reward_of(work, folder, watch)],
        args=settings(work, folder, more),
        train_dataset=datasets.Dataset.from_list(rows_of(work, folder)),
        processing_class=tokenizer,
        callbacks=[Clock(watch)],
        tools=[calculate] if work["tool"] else None,
    )
    trainer.train()


def rows_of(work: Settings, folder: Path) -> list[dict[str, Any]]:
    """The prompts: texts, or messages where there is a tool."""
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    if work["tool"]:
        return [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    return rows


def reward_of(work: Settings, folder: Path, watch: Watch) -> Any:
    """The workload's reward as TRL calls one, which tells the watch of all responses."""
    own = own_reward(folder)

    def reward(prompts: list[Any], completions: list[Any], answer: list[str], **more: Any) -> list[float]:
        said = [each if isinstance(each, str) else each[-1].get("content") or "" for each in completions]
        if work["reward"] == "own":
            right = [own(text, a, "") for text, a in zip(said, answer, strict=True)]
        else:
            right = [text.strip() == a for text, a in zip(said, answer, strict=True)]
        watch.sampled(sum(right), [len(ids) for ids in more["completion_ids"]])
        return [float(each) for each in right]

    return reward


def settings(work: Settings, folder: Path, more: Settings) -> trl.GRPOConfig:
    """Winnow's settings in TRL's words; one update a step, no KL, no checkpoint."""
    own: dict[str, Any] = {
        "output_dir": str(folder / "trl"),
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "max_steps": 100_000,
        "num_generations": work["group_size"],
        "per_device_train_batch_size": work["groups_per_step"] * work["group_size"],
        "max_completion_length": work["max_new_tokens"],
        "max_tool_calling_iterations": 2 if work["tool"] else None,
        "learning_rate": work["lr"],
        "lr_scheduler_type": "constant",
        "beta": 0.0,
        "temperature": 1.0,
        "gradient_checkpointing": False,
    }
    return trl.GRPOConfig(**own | more)


def mended_sync(generation: VLLMGeneration) -> None:
    """Weights for the vLLM in TRL's process, in vLLM's own way. TRL loads them into vLLM's model as it stands, which
    fails on the CPU: layers there keep packed weights alone ("'Parameter' object has no attribute 'weight_loader'")."""
    from actors.transfer.gloo import refresh_packed_heads

    runner = generation.llm.llm_engine.model_executor.driver_worker.model_runner
    runner.reload_weights(weights_iterator=((name, each.detach()) for name, each in generation._iter_named_params()))
    refresh_packed_heads(runner.model)
    generation.llm.reset_prefix_cache()


class Clock(transformers.TrainerCallback):
    """Tells the watch of steps, and the trainer when it is over."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._first = 0.0  # CPU seconds when the first step was over

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._watch.begin(time.monotonic())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        print(json.dumps(self._watch.step(time.monotonic())), flush=True)
        self._first = self._first or time.process_time()
        if self._watch.over:
            print(json.dumps(self._watch.cost({"TRL": time.process_time() - self._first})), flush=True)
        control.should_training_stop = self._watch.over


def own_reward(folder: Path) -> Any:
    """The function of reward.py."""
    spec = importlib.util.spec_from_file_location("own_reward", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reward


if __name__ == "__main__":
    main(sys.argv[1:])
