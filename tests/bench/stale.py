"""`python -m tests.bench.stale`: what staleness costs in samples, by what the ratio of the loss is against.

The short answers of the comparison with TRL, in one process: the learner's policy, samples, packing and loss, and for a
sampler the policy of some versions ago. All answers of a step are of one version. Speed plays no part in it.
"""

import argparse
import copy
import json
import random
import statistics
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from learner.batches.packing import pack
from learner.batches.types import Sample
from learner.methods.algorithms import Algorithm, algorithm_of
from learner.models.examination import examine
from learner.models.inputs import inputs_of
from learner.models.policy import Policy, load_policy
from learner.objective import ModelOutputs, PolicyObjective
from learner.settings import ModelSettings
from tests.bench.against import GAIN, prepare
from tests.bench.reached import WINDOW
from tests.bench.workloads import WORKLOADS

WORK = WORKLOADS["short"]
VARIANTS = [(0, "step"), (1, "step"), (1, "sampler"), (2, "sampler")]  # versions behind, objective.anchor


def answers(lm: Any, tokenizer: Any, prompts: Sequence[str]) -> list[list[tuple[list[int], np.ndarray]]]:
    """For each prompt a group of answers: their tokens, and the log-probabilities with which they were sampled."""
    asked = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    with torch.no_grad():
        found = lm.generate(
            input_ids=asked.input_ids, attention_mask=asked.attention_mask, do_sample=True, temperature=1.0, top_k=0,
            num_return_sequences=WORK.group_size, max_new_tokens=WORK.max_new_tokens, use_cache=True,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    new = found.sequences[:, asked.input_ids.shape[1] :]
    logprobs = torch.stack(found.logits, 1).log_softmax(-1).gather(2, new[..., None])[..., 0].numpy()
    rows = new.tolist()
    sizes = [row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row) for row in rows]
    said = [(row[:size], logp[:size]) for row, size, logp in zip(rows, sizes, logprobs, strict=True)]
    return [said[start : start + WORK.group_size] for start in range(0, len(said), WORK.group_size)]


def update(policy: Policy, optimizer: torch.optim.Optimizer, algorithm: Algorithm, samples: Sequence[Sample]) -> None:
    """One update on all of them, as the learner makes it."""
    optimizer.zero_grad()
    for batch in pack(samples, 4096, width=policy.width):
        outputs = policy(**inputs_of(policy, batch, torch.device("cpu")), temperature=1.0)
        PolicyObjective(algorithm, [ModelOutputs()], None)(0, batch, outputs).loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.trainable(), 1.0)
    optimizer.step()


def curve(start: Path, staleness: int, anchor: str, seed: int, steps: int) -> list[float]:
    """Accuracy of the answers of each step."""
    torch.manual_seed(seed)
    draw, tokenizer = random.Random(seed), AutoTokenizer.from_pretrained(start)
    algorithm = algorithm_of("grpo", {"anchor": anchor})
    policy = load_policy(start, ModelSettings(dtype="float32", attention="sdpa", checkpointing=False), 1024)
    examine(policy)
    optimizer = torch.optim.AdamW(policy.trainable(), lr=WORK.lr, weight_decay=0.0, betas=(0.9, 0.98))
    sampler = copy.deepcopy(policy.lm)
    versions, found = deque([copy.deepcopy(policy.lm.state_dict())], maxlen=staleness + 1), list[float]()
    for _ in range(steps):
        sampler.load_state_dict(versions[0])
        sums = [(draw.randrange(20), draw.randrange(20)) for _ in range(WORK.groups_per_step)]
        prompts = [f"{left}+{right}=" for left, right in sums]
        samples, correct = list[Sample](), 0
        for prompt, wanted, group in zip(prompts, map(sum, sums), answers(sampler, tokenizer, prompts), strict=True):
            texts = [tokenizer.decode(tokens, skip_special_tokens=True) for tokens, _ in group]
            scores = np.array([float(text.strip() == str(wanted)) for text in texts])
            correct += int(scores.sum())
            before = tokenizer(prompt, add_special_tokens=False).input_ids
            for (tokens, logp), credit in zip(group, algorithm.credit(scores).tolist(), strict=True):
                samples += [_sample(before, tokens, logp, credit)] if credit else []
        update(policy, optimizer, algorithm, samples)
        versions.append(copy.deepcopy(policy.lm.state_dict()))
        found.append(correct / (WORK.groups_per_step * WORK.group_size))
    return found


def _sample(prompt: list[int], tokens: list[int], logprobs: np.ndarray, credit: float) -> Sample:
    whole = np.array([*prompt, *tokens], np.int32)
    return Sample(
        tokens=whole,
        trained=np.arange(whole.size) >= len(prompt),
        sampler=np.concatenate([np.zeros(len(prompt), np.float32), logprobs]),
        advantage=credit,
        weight=1.0 / (WORK.groups_per_step * WORK.group_size * len(tokens)),
    )


def until(accuracies: Sequence[float], wanted: float) -> float:
    """Samples until the mean of the last steps is so high."""
    for step in range(WINDOW, len(accuracies) + 1):
        if statistics.mean(accuracies[step - WINDOW : step]) >= wanted:
            return step * WORK.groups_per_step * WORK.group_size
    return float("inf")


def main() -> None:
    """A line of JSON for each run, then a table of medians."""
    parser = argparse.ArgumentParser(description="what staleness costs in samples")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        start = prepare(WORK, Path(place)) / "start"
        for staleness, anchor in VARIANTS:
            runs = [curve(start, staleness, anchor, seed, asked.steps) for seed in range(asked.seeds)]
            print(json.dumps({"staleness": staleness, "anchor": anchor, "accuracy": runs}), flush=True)
            wanted = 0.31 + GAIN
            means, samples = [statistics.mean(run) for run in runs], [until(run, wanted) for run in runs]
            told = ", ".join(f"{each:,.0f}" for each in sorted(samples))
            rows.append(f"| {staleness} | {anchor} | {statistics.mean(means):.3f} | {told} |")
    print(f"\n| versions behind | ratio against | mean accuracy | samples to {wanted:.2f} |\n|---|---|---|---|")
    print(*rows, sep="\n")


if __name__ == "__main__":
    main()
