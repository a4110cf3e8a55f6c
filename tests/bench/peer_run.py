"""TRL's side of the comparison, in its own environment: GRPOTrainer on a folder of `tests.bench.workloads`.

    .venv-bench/bin/python -m tests.bench.peer_run FOLDER SECONDS ACCURACY

Writes a JSON line after each step; ends after SECONDS of training, or at once when ACCURACY has been reached.
"""

import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
import trl

from tests.bench.reached import Watch


def main(arguments: list[str]) -> None:
    """Trains until its time is over."""
    folder, seconds, accuracy = Path(arguments[0]), float(arguments[1]), float(arguments[2])
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    work = json.loads((folder / "workload.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    own, watch = own_reward(folder), Watch(seconds=seconds, accuracy=accuracy)

    def reward(prompts: list[str], completions: list[str], answer: list[str], **more: Any) -> list[float]:
        if work["reward"] == "own":
            right = [own(c, a, p) for p, c, a in zip(prompts, completions, answer, strict=True)]
        else:
            right = [c.strip() == a for c, a in zip(completions, answer, strict=True)]
        lengths = [len(ids) for ids in more["completion_ids"]]
        watch.sampled(sum(right), lengths)
        return [float(each) for each in right]

    samples = work["groups_per_step"] * work["group_size"]
    trainer = trl.GRPOTrainer(
        transformers.AutoModelForCausalLM.from_pretrained(folder / "start", dtype=torch.float32),
        reward_funcs=[reward],
        args=settings(work, samples, folder),
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=transformers.AutoTokenizer.from_pretrained(folder / "start"),
        callbacks=[Clock(watch)],
    )
    trainer.train()


def settings(work: dict[str, Any], samples: int, folder: Path) -> trl.GRPOConfig:
    """Winnow's settings in TRL's words; one update a step, no KL, no checkpoint."""
    return trl.GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        max_steps=100_000,
        num_generations=work["group_size"],
        per_device_train_batch_size=samples,
        max_completion_length=work["max_new_tokens"],
        learning_rate=work["lr"],
        lr_scheduler_type="constant",
        beta=0.0,
        temperature=1.0,
        gradient_checkpointing=False,
    )


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
