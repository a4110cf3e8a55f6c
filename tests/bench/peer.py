"""TRL's side of the comparison in `tests/bench/agree.py`: its own trainers, of which only sampling and the forward pass
are replaced. No formula of TRL is written down here."""

import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import accelerate
import datasets
import numpy as np
import torch
import transformers
import trl
from tokenizers import Tokenizer, models
from trl.experimental.async_grpo import AsyncGRPOTrainer
from trl.experimental.iw_opd import IWOPDTrainer
from trl.experimental.sdpo import SDPOTrainer
from trl.rewards import get_soft_overlong_punishment

from tests.bench.draws import LONGEST, STRIDE, Comparison, Draw, Found, advantages_of, gradient


@cache
def parts_of_a_trainer() -> tuple[Any, Any, tempfile.TemporaryDirectory]:
    """(model, tokenizer, folder), none of which says anything about a loss."""
    words = Tokenizer(models.WordLevel({"a": 0, "<eos>": 1}, unk_token="a"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<eos>")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=2, eos_token_id=1, **sizes))
    return model.train(), tokenizer, tempfile.TemporaryDirectory()


def score_of(completions: list, score: list[float], **_: Any) -> list[float]:
    return score


def trainer_of(kind: str, c: Comparison, batch: Draw) -> Any:
    """A trainer of TRL whose policy samples the batch, and whose models find its log-probabilities."""
    model, tokenizer, folder = parts_of_a_trainer()
    config = {"num_iterations": 2, **c.config}
    if kind == "GRPO":
        config.setdefault("use_bias_correction_kl", False)
    beta, punished = config.pop("beta", 0.0), config.pop("punished", False)
    args = getattr(trl, f"{kind}Config")(
        output_dir=folder.name,
        use_cpu=True,
        bf16=False,
        report_to="none",
        num_generations=batch.scores.shape[1],
        per_device_train_batch_size=batch.scores.size // c.parts,
        gradient_accumulation_steps=c.parts,
        max_completion_length=LONGEST,
        beta=0.0,  # else a reference model is loaded
        **config,
    )
    trainer = getattr(trl, f"{kind}Trainer")(
        model,
        reward_funcs=[score_of] + [get_soft_overlong_punishment(LONGEST, LONGEST // 5)] * punished,
        args=args,
        train_dataset=datasets.Dataset.from_list([{"prompt": "a", "score": 0.0}]),
        processing_class=tokenizer,
    )
    trainer.current_gradient_accumulation_steps = c.parts
    trainer.beta, trainer.ref_model = beta, object()
    trainer.use_vllm = "vllm_importance_sampling_mode" in config
    ids = [list(range(STRIDE * i, STRIDE * i + length)) for i, length in enumerate(batch.lengths)]
    prompts, texts = [[0]] * len(ids), [""] * len(ids)
    tools = [batch.trained[i, : len(row)].long().tolist() for i, row in enumerate(ids)]
    sampled = [batch.sampler[i, : len(row)].tolist() for i, row in enumerate(ids)]
    rollout = prompts, ids, tools if kind == "GRPO" else texts, texts, sampled, {}, None, None
    trainer._generate = lambda prompts: rollout if kind == "GRPO" else rollout[:3]

    def forward(model: Any, input_ids: torch.Tensor, mask: Any, width: int, *_: Any, **__: Any) -> tuple:
        rows = input_ids[:, -width] // STRIDE
        held = batch.start + (batch.now - batch.start).clamp(-c.limit, c.limit)
        logp = batch.reference if model is trainer.ref_model else held if torch.is_grad_enabled() else batch.start
        return logp[rows, :width], batch.entropy[rows, :width], None

    trainer._get_per_token_logps_and_entropies = forward
    return trainer


def inputs_of(trainer: Any, c: Comparison, batch: Draw, step: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """(inputs of TRL's loss, which responses they are), from its own sampling and scoring code."""
    trainer._step = step
    inputs = trainer._prepare_inputs([{"prompt": "a", "score": score} for score in batch.scores.reshape(-1).tolist()])
    rows = inputs["completion_ids"][:, 0] // STRIDE
    if not c.given:
        return inputs, rows
    inputs["advantages"] = torch.from_numpy(advantages_of(c, batch))[rows]
    kept = inputs["advantages"] != 0 if c.algorithm.counts == "credited" else torch.ones(len(rows), dtype=torch.bool)
    return {name: column[kept] if column.ndim else column for name, column in inputs.items()}, rows[kept]


def trl_loss(kind: str) -> Callable[[Comparison, Draw], Found]:
    def theirs(c: Comparison, batch: Draw) -> Found:
        trainer = trainer_of(kind, c, batch)
        steps = (inputs_of(trainer, c, batch, step)[0] for step in range(c.parts))
        loss = sum(trainer.compute_loss(trainer.model, inputs) for inputs in steps)
        return Found(value=loss.detach(), gradient=gradient(loss, batch))

    return theirs


def trl_advantages(kind: str) -> Callable[[Comparison, Draw], Found]:
    def theirs(c: Comparison, batch: Draw) -> Found:
        inputs, rows = inputs_of(trainer_of(kind, c, batch), c, batch, 0)
        return Found(value=inputs["advantages"].double()[rows.argsort()])

    return theirs


def trl_overlong(c: Comparison, batch: Draw) -> Found:
    ids = [[0] * length for length in batch.lengths]
    punishment = get_soft_overlong_punishment(LONGEST, LONGEST // 5)(completion_ids=ids)
    return Found(value=torch.tensor(punishment, dtype=torch.float64))


def trl_dpo(c: Comparison, batch: Draw) -> Found:
    model, tokenizer, folder = parts_of_a_trainer()
    row = {"prompt": "a", "chosen": "a", "rejected": "a"}
    trainer = trl.DPOTrainer(
        model,
        ref_model=transformers.LlamaForCausalLM(model.config),
        args=trl.DPOConfig(output_dir=folder.name, use_cpu=True, bf16=False, report_to="none", **c.config),
        train_dataset=datasets.Dataset.from_list([row]),
        processing_class=tokenizer,
    )
    chosen, rejected = [], []
    for number, scores in enumerate(batch.scores):
        correct, wrong = (number * len(scores) + np.flatnonzero((scores > 0) == good) for good in (True, False))
        chosen += correct[: len(wrong)].tolist()
        rejected += wrong[: len(correct)].tolist()

    def forward(logp: torch.Tensor) -> Callable[..., SimpleNamespace]:
        def outputs(labels: torch.Tensor, **_: Any) -> SimpleNamespace:
            found = logp[chosen + rejected].masked_fill(labels[:, 1:] == -100, 0.0)
            return SimpleNamespace(log_probs=found, entropy=found, mean_logits=found, is_top1=found > 0)

        return outputs

    trainer.ref_model = forward(batch.reference)
    mask = torch.nn.functional.pad(batch.trained[chosen + rejected].long(), (1, 0))  # one token of a prompt
    inputs = {"input_ids": mask, "attention_mask": mask, "completion_mask": mask}
    loss = trainer._compute_loss(forward(batch.now), inputs, False)
    return Found(value=loss.detach(), gradient=gradient(loss, batch))


def trl_async(c: Comparison, batch: Draw) -> Found:
    trainer = object.__new__(AsyncGRPOTrainer)
    counters = {f"_step_{name}": 0.0 for name in ("forward_tokens", "trained_tokens", "seq_len_weighted", "samples")}
    vars(trainer).update(counters, accelerator=accelerate.Accelerator(cpu=True), _metrics={"train": defaultdict(list)})
    vars(trainer).update(aux_loss_enabled=False, current_gradient_accumulation_steps=1, _step_forward_s=0.0, **c.config)
    rows = batch.trained.nonzero()[:, 0]
    count, none = len(rows), torch.full((1, len(rows)), -1)
    inputs = dict.fromkeys(("tree_kv_index", "tree_cu_seqlens_q", "tree_cu_seqlens_k"), none)
    inputs |= dict.fromkeys(("attention_mask", "input_ids", "position_ids", "shift_labels"), torch.ones_like(none))
    inputs |= dict.fromkeys(("global_n_tokens", "global_n_forward_tokens", "mean_seq_len"), torch.tensor([count]))
    inputs |= {"token_index": torch.arange(count)[None], "segment_id": rows[None], "tree_max_seqlens": none[:, :2]}
    inputs |= {"old_log_probs": batch.sampler[batch.trained][None]}
    inputs |= {"advantages": torch.from_numpy(advantages_of(c, batch))[rows][None]}
    outputs = SimpleNamespace(log_probs=batch.now[batch.trained], entropy=batch.entropy[batch.trained])
    loss = trainer.compute_loss(lambda **_: outputs, inputs)
    return Found(value=loss.detach(), gradient=gradient(loss, batch))


def of_two(logp: torch.Tensor) -> torch.Tensor:
    """Logits of a vocabulary of two tokens [B, T, 2], of which the first has these log-probabilities."""
    return torch.stack([logp, torch.log(-torch.expm1(logp))], -1)


def trl_distilled(c: Comparison, batch: Draw) -> Found:
    """On-policy distillation with the log-probabilities of sampled tokens alone, without weights of their places."""
    trainer = object.__new__(IWOPDTrainer)
    vars(trainer).update(temperature=1.0, iw_opd_gamma=0.0, iw_opd_epsilon=1e-8)
    vars(trainer).update(model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)})
    sampled = torch.zeros_like(batch.trained, dtype=torch.int64)
    loss = trainer._compute_iw_opd_loss(
        student_logits=of_two(batch.now),
        completion_tokens=sampled,
        labels=sampled.masked_fill(~batch.trained, -100),
        teacher_actual_logprobs=batch.teacher,
        rollout_logprobs=batch.start,
    )
    return Found(value=loss.detach(), gradient=gradient(loss, batch))


def trl_self_distilled(c: Comparison, batch: Draw) -> Found:
    """Self-distillation on sampled tokens; what the informed policy says is given."""
    trainer, args = object.__new__(SDPOTrainer), {"distillation_alpha": 1.0, "distillation_is_clip": None}
    vars(trainer).update(args=SimpleNamespace(distillation_mode="sampled_token", **args))
    vars(trainer).update(accelerator=accelerate.Accelerator(cpu=True), _log_self_distillation_metric=lambda *_: None)
    logits = SimpleNamespace(
        student_logits=of_two(batch.now),
        teacher_logits=of_two(batch.teacher),
        completion_ids=torch.zeros_like(batch.trained, dtype=torch.int64),
        loss_mask=batch.trained.double(),
    )
    loss = trainer._compute_self_distillation_loss(SimpleNamespace(training=True), {}, logits)
    return Found(value=loss.detach(), gradient=gradient(loss, batch))
