"""The losses and advantages of winnow on random batches against TRL's own code: ``make bench-agree``.

In the environment of ``make bench-env`` and from the root of the repository: ``.venv-bench/bin/python -W ignore -m
tests.bench.agree``. Winnow's side goes from graded groups through `sequences_of`, `pack` and `token_loss` to a weighted
sum; TRL's is a real GRPOTrainer, RLOOTrainer or DPOTrainer (once AsyncGRPOTrainer.compute_loss) of which only sampling
and the forward pass are replaced. No formula of TRL is written down here.

A line has the largest relative difference over its cases, of the value (a loss relative to the sum of its |terms|) and
of the gradient with respect to each token's log-probability and entropy (each relative to itself, or to a hundredth of
the largest where that is more). Where the two define something differently on
purpose, the line says what and how it was aligned, and "as is" is the difference without that, which must be there.
Exit status 1 if a line is not ok: a difference above 1e-5, a missing one, or nothing compared. With ``--perturb``
winnow's log-probabilities and one score are moved by 1e-3 (and lengths by a token), and each line must notice.
"""

import argparse
import logging
import math
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
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
from trl.rewards import get_soft_overlong_punishment

from actors.types import Group, Summary
from learner.algorithms import Algorithm, algorithm_of
from learner.batching import TrainBatch, pack, plan_updates, sequences_of
from learner.credit import gae, normalised, overlong, token_rewards, whitened
from learner.losses import kl_estimate
from learner.objective import token_loss
from tests.builders import prompt, trajectory, verdict

TOLERANCE = 1e-5
EPSILON = 1e-4  # what TRL adds to a standard deviation
LONGEST = 20  # tokens of a response
STRIDE = 1000  # token t of response i has the id STRIDE * i + t, so that both sides know whose it is


# ----------------------------------------------------------------------------------------------------- batches


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """P groups of J responses, B = P J, of at most T tokens; beyond the end of a response stands garbage."""

    scores: np.ndarray  # float64[P, J]
    lengths: np.ndarray  # int64[B], tool output included
    trained: torch.Tensor  # bool[B, T], False for tool output and beyond the end
    now: torch.Tensor  # float64[B, T], log-probability under the policy, and so on
    start: torch.Tensor  # under the policy at the start of the step
    sampler: torch.Tensor
    reference: torch.Tensor
    entropy: torch.Tensor

    def credits(self, credit: Callable[[np.ndarray], np.ndarray], values: np.ndarray | None = None) -> np.ndarray:
        """The credit of each response, float64[B], of its score or another value [B]."""
        rows = self.scores if values is None else values.reshape(self.scores.shape)
        return np.concatenate([credit(row) for row in rows])


def drawn(
    seed: int,
    *,
    spread: float = 0.4,
    mismatch: float = 0.4,
    mixed: bool = False,
    tools: bool = False,
    empty: bool = False,
    even: bool = False,
    faithful: bool = False,
) -> Draw:
    """A random batch.

    Args:
        seed: of everything; odd ones have scores of -1 and 1, even ones quarters.
        spread: nats between `now` and `start`; 0 is on policy.
        mismatch: nats between `start` and `sampler`.
        mixed: whether every group has correct and wrong responses; else the first is all correct.
        tools: whether tokens 2 to 4 of a response are tool output.
        empty: whether the second response has nothing to train on.
        even: whether all responses are equally long.
        faithful: whether the sampler is the policy where a response is correct.
    """
    random = np.random.default_rng(seed)
    shape = int(random.integers(2, 5)), int(random.choice([2, 4, 8]))
    scores = random.choice([-1.0, 1.0] if seed % 2 else np.arange(-8, 9) / 4, shape)
    scores[int(not mixed) :, :2] = 1.0, -1.0
    scores[0] = scores[0] if mixed else 1.0
    lengths = random.integers(1, LONGEST + 1, scores.size) if not even else np.full(scores.size, LONGEST)
    lengths[-1] = LONGEST
    trained = np.arange(LONGEST) < lengths[:, None]
    trained[:, 2:5] &= not tools
    trained[1] &= not empty

    normal = random.normal(size=(5, *trained.shape))
    start = -np.abs(2.0 * normal[0]).astype(np.float32)
    away = mismatch * normal[1] * ~(faithful & (scores.reshape(-1, 1) > 0))
    columns = {
        "now": start + spread * normal[2],
        "start": start,
        "sampler": (start - away).astype(np.float32),
        "reference": start + 0.7 * normal[3],
        "entropy": np.abs(normal[4]),
    }
    tensors = {name: torch.from_numpy(column.astype(np.float64)) for name, column in columns.items()}
    tensors["now"].requires_grad_()
    tensors["entropy"].requires_grad_()
    return Draw(scores=scores, lengths=lengths, trained=torch.from_numpy(trained), **tensors)


def perturbed(batch: Draw) -> Draw:
    """The same batch, a little changed."""
    scores = batch.scores.copy()
    scores[-1, 0] += 1e-3
    moved = (batch.now + 1e-3 * batch.entropy).detach().requires_grad_()
    return replace(batch, scores=scores, now=moved, lengths=np.maximum(batch.lengths - 1, 1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What one side says."""

    value: torch.Tensor  # float64[], a loss, or float64[B], advantages
    gradient: torch.Tensor | None = None  # of a loss, with respect to `now` and `entropy`
    size: float = 0.0  # sum of |terms| of a loss


def gradient(loss: torch.Tensor, batch: Draw) -> torch.Tensor:
    gradients = torch.autograd.grad(loss, [batch.now, batch.entropy], allow_unused=True)
    return torch.cat([torch.zeros_like(batch.now) if g is None else g for g in gradients])


# ------------------------------------------------------------------------------------------------- comparisons


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One line."""

    name: str
    row: Algorithm  # winnow's, ...
    late: Callable[["Comparison", Draw], np.ndarray] | None = None  # ... its advantages if they need more than scores
    ours: Callable[["Comparison", Draw], Found]
    theirs: Callable[["Comparison", Draw], Found]
    config: Mapping[str, Any] = field(default_factory=dict)  # TRL's
    parts: int = 1  # micro-batches that TRL cuts the batch into
    given: bool = False  # whether TRL is given winnow's advantages, having none like them
    draws: Mapping[str, Any] = field(default_factory=dict)
    limit: float = float("inf")  # nats, within which the log-ratios are held that TRL sees
    scale: Callable[[Draw], float] = lambda batch: 1.0  # of winnow's loss
    value: bool = True  # whether the values mean the same, not only the gradients
    why: str = ""  # what differs on purpose
    apart: Mapping[str, Any] = field(default_factory=dict)  # the fields as they are without an alignment


def advantages_of(c: Comparison, batch: Draw) -> np.ndarray:
    """Winnow's advantages, float64[B] or [B, T]."""
    return c.late(c, batch) if c.late else batch.credits(c.row.credit)


def groups_of(batch: Draw) -> list[Group]:
    """The batch as graded groups; what follows the end of a response looks like tool output."""
    responses = []
    for i in range(batch.scores.size):
        response = trajectory(range(STRIDE * i, STRIDE * i + LONGEST))
        sampled = np.concatenate([[False] * 3, batch.trained[i].numpy()])
        logprobs = np.concatenate([[0.0] * 3, batch.sampler[i].numpy()])
        logprobs = np.where(sampled, logprobs, 0.0).astype(np.float32)
        responses.append(replace(response, sampled=sampled, logprobs=logprobs))
    siblings = batch.scores.shape[1]
    return [
        Group(
            id=number,
            prompt=prompt(str(number)),
            trajectories=tuple(responses[number * siblings :][:siblings]),
            verdicts=tuple(map(verdict, scores.tolist())),
        )
        for number, scores in enumerate(batch.scores)
    ]


def winnow_loss(c: Comparison, batch: Draw) -> Found:
    """The loss of one update over two ranks and several micro-batches."""
    groups = groups_of(batch)
    summaries = [Summary.of(group, seconds_generate=0.0, seconds_verify=0.0) for group in groups]
    (plan,) = plan_updates(summaries, c.row, updates=1, ranks=2, longest=LONGEST)
    batches: list[TrainBatch] = []
    for members in plan.ranks:
        samples = [sample for i in members for sample in sequences_of(groups[i], c.row, plan.totals)]
        batches += pack(samples, 3 * LONGEST, 2 if c.row.pairs else 1)
    terms = torch.cat([_terms(c, batch, packed) for packed in batches]) * c.scale(batch)
    loss = terms.sum()
    return Found(value=loss.detach(), gradient=gradient(loss, batch), size=float(terms.abs().sum()))


def _terms(c: Comparison, batch: Draw, packed: TrainBatch) -> torch.Tensor:
    ids = packed.tokens.reshape(-1)[packed.targets]
    at = ids // STRIDE, ids % STRIDE
    advantages, start = packed.advantages, batch.start[at]
    if c.late is not None:
        late = advantages_of(c, batch)
        advantages = late[at] if late.ndim == 2 else late[at[0]]
    before = start, start - torch.from_numpy(packed.sampler), batch.reference[at]
    tensors = {"advantages": torch.from_numpy(advantages), "owners": torch.from_numpy(packed.owners)}
    losses = token_loss(c.row, (batch.now[at], batch.entropy[at]), before, tensors)
    return losses * torch.from_numpy(packed.weights)


def winnow_advantages(c: Comparison, batch: Draw) -> Found:
    return Found(value=torch.from_numpy(advantages_of(c, batch)))


def winnow_overlong(c: Comparison, batch: Draw) -> Found:
    return Found(value=torch.from_numpy(overlong(batch.lengths, LONGEST, c.row.overlong)))


# ------------------------------------------------------------------------------------------------------ TRL's side


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
    kept = inputs["advantages"] != 0 if c.row.counts == "credited" else torch.ones(len(rows), dtype=torch.bool)
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


# --------------------------------------------------------------------------------------------------- the table


def row_of(name: str, **pieces: Any) -> Algorithm:
    return algorithm_of(name, {"mismatch": "none"} | pieces)


def with_epsilon(row: Algorithm) -> Algorithm:
    """The row with TRL's standard deviation."""

    def credit(scores: np.ndarray) -> np.ndarray:
        deviation = scores.std(ddof=1)
        return normalised(scores) * (deviation / (deviation + EPSILON))

    return replace(row, credit=credit)


def filled(batch: Draw) -> float:
    """Share of the responses that have trained tokens."""
    return float(batch.trained.any(-1).double().mean())


def token_advantages(c: Comparison, batch: Draw) -> np.ndarray:
    """Of a critic that says whatever the entropy is, float64[B, T]."""
    values = batch.entropy.detach().numpy()
    scores = batch.scores.reshape(-1)
    return np.stack([gae(token_rewards(s, 0.0 * v), v, 1.0, 0.95) for s, v in zip(scores, values, strict=True)])


def all_wrong(c: Comparison, batch: Draw) -> np.ndarray:
    return -np.abs(batch.credits(c.row.credit))


def less_kl(c: Comparison, batch: Draw) -> np.ndarray:
    """The credit of scores less the KL of the response, as an update makes it."""
    gaps = ((batch.start - batch.reference)[i][batch.trained[i]] for i in range(batch.scores.size))
    penalties = (c.row.kl_reward * kl_estimate(c.row.kl_estimator, gap).numpy() for gap in gaps)
    rewards = [token_rewards(*pair).sum() for pair in zip(batch.scores.reshape(-1), penalties, strict=True)]
    return batch.credits(c.row.credit, np.array(rewards))


def whitened_credits(c: Comparison, batch: Draw) -> np.ndarray:
    credits = batch.credits(c.row.credit)
    return whitened(credits, credits.mean(), credits.var(ddof=1))


def whitened_with_epsilon(c: Comparison, batch: Draw) -> np.ndarray:
    deviation = batch.credits(c.row.credit).std(ddof=1)
    return whitened_credits(c, batch) * np.sqrt(deviation**2 + 1e-8) / (deviation + EPSILON)


def loss(name: str, row: Algorithm, config: Mapping[str, Any], theirs: str = "GRPO", **rest: Any) -> Comparison:
    """A comparison of losses; the credit "normalised" has TRL's epsilon already, which has a line of its own."""
    if isinstance(row.credit, partial) and row.credit.func is normalised:
        row = with_epsilon(row)
    return Comparison(name=name, row=row, config=config, ours=winnow_loss, theirs=trl_loss(theirs), **rest)


def credit(name: str, row: Algorithm, config: Mapping[str, Any], theirs: str = "GRPO", **rest: Any) -> Comparison:
    return Comparison(name=name, row=row, config=config, ours=winnow_advantages, theirs=trl_advantages(theirs), **rest)


GRPO, BNPO = {"loss_type": "grpo"}, {"loss_type": "bnpo"}
GSPO = GRPO | {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}
DR_GRPO = {"loss_type": "dr_grpo", "scale_rewards": "none"}
KL = {"beta": 0.04}
RLOO = {"beta": 0.03}
ON_POLICY, NEAR, FAR = {"spread": 0.0}, {"spread": 1e-3}, {"spread": 1.0}


def corrected(mode: str, cap: float = 2.0) -> dict[str, Any]:
    return {"vllm_importance_sampling_mode": mode, "vllm_importance_sampling_clip_max": cap}


def of_advantages() -> Iterator[Comparison]:
    grpo, rloo, epsilon = row_of("grpo"), row_of("rloo"), "TRL adds 1e-4 to the standard deviation"
    yield credit("advantages: normalised", with_epsilon(grpo), {}, why=epsilon, apart={"row": grpo})
    yield credit("advantages: centred", row_of("dr-grpo"), DR_GRPO)
    yield credit("advantages: leave one out", rloo, {}, "RLOO")
    yield credit("advantages: leave one out, less KL", rloo, RLOO, "RLOO", late=less_kl)
    late, why = {"late": whitened_credits}, f"{epsilon}, winnow 1e-8 to the variance"
    config = {"normalize_advantages": True}
    yield credit("advantages: whitened", rloo, config, "RLOO", late=whitened_with_epsilon, why=why, apart=late)
    yield Comparison(name="scores: overlong", row=row_of("dapo"), ours=winnow_overlong, theirs=trl_overlong)


def of_grpo() -> Iterator[Comparison]:
    grpo, kl = row_of("grpo"), row_of("grpo", kl_loss=0.04)
    yield loss("grpo", grpo, GRPO, parts=2)
    config = GRPO | {"epsilon": 0.1, "epsilon_high": 0.3}
    yield loss("grpo, clip 0.1 and 0.3", row_of("grpo", clip_low=0.1, clip_high=0.3), config)
    yield loss("grpo, tool output", grpo, GRPO, parts=2, draws={"tools": True})
    why, apart = "TRL counts it as a response; scaled by the others' share", {"scale": lambda batch: 1.0}
    yield loss("grpo, an empty response", grpo, GRPO, draws={"empty": True}, scale=filled, why=why, apart=apart)
    apart = {"config": GRPO | KL | {"use_bias_correction_kl": True}}
    yield loss("grpo, KL", kl, GRPO | KL, parts=2, why="TRL's default has KL times ratio; switched off", apart=apart)
    yield loss("grpo, dual clip", row_of("grpo", clip_dual=3.0), GRPO | {"delta": 3.0}, draws=FAR)
    unbounded, far = {"limit": float("inf")}, {"spread": 15.0}
    why = "TRL has no bound; its log-ratios are held within +-20"
    yield loss("grpo, beyond 20 nats", grpo, GRPO, draws=far, limit=20.0, why=why, apart=unbounded)
    yield loss("grpo, unclipped", row_of("grpo", loss="unclipped"), GRPO | {"epsilon": 1e9}, draws=FAR)
    modes = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
    for kind, mode in zip(("truncate", "mask", "truncate-response", "mask-response"), modes, strict=True):
        yield loss(f"grpo, KL, {kind}", row_of("grpo", mismatch=kind, kl_loss=0.04), GRPO | KL | corrected(mode))
    mean, total = row_of("grpo", aggregate="token-mean"), row_of("grpo", aggregate="seq-mean-token-sum")
    yield loss("bnpo: token-mean", mean, BNPO)
    why, even = "TRL's denominator is the micro-batch's; equal lengths", {"even": True}
    yield loss("bnpo in micro-batches", mean, BNPO, parts=2, draws=even, why=why, apart={"draws": {}})
    yield loss("bnpo, entropy", replace(mean, entropy=0.01), BNPO | {"entropy_coef": 0.01})
    yield loss("luspo of tokens: seq-mean-token-sum", total, {"loss_type": "luspo"}, parts=2)
    gspo_sum = row_of("gspo", aggregate="seq-mean-token-sum")
    yield loss("luspo", gspo_sum, GSPO | {"loss_type": "luspo"}, parts=2, draws=NEAR)
    anchored = row_of("grpo", aggregate="token-mean", anchor="sampler")
    clip = {"epsilon_low": 0.2, "epsilon_high": 0.2}
    yield Comparison(name="grpo, anchor sampler", row=anchored, ours=winnow_loss, theirs=trl_async, config=clip)


def of_other_rows() -> Iterator[Comparison]:
    dapo, cispo = {"loss_type": "dapo", "epsilon_high": 0.28, "punished": True}, {"loss_type": "cispo"}
    yield loss("dr-grpo", row_of("dr-grpo"), DR_GRPO, parts=2)
    yield loss("dapo, overlong", row_of("dapo"), dapo, parts=2, draws={"mixed": True})
    yield loss("cispo", row_of("cispo"), cispo | {"epsilon_high": 1.28}, parts=2)
    yield loss("gspo", row_of("gspo"), GSPO, parts=2, draws=NEAR)
    config = GSPO | KL | corrected("token_truncate")
    yield loss("gspo, KL, truncate", row_of("gspo", mismatch="truncate", kl_loss=0.04), config, draws=NEAR)
    yield loss("reinforce-mean", row_of("reinforce-mean"), GRPO | {"scale_rewards": "none"}, parts=2)
    yield loss("reinforce, given A", row_of("reinforce"), GRPO, given=True)
    yield loss("raft++, given A", row_of("raft++"), GRPO, given=True)
    yield loss("raft on policy, given A", row_of("raft"), GRPO, given=True, draws=ON_POLICY, value=False)
    yield loss("loop, given A", row_of("loop"), GRPO, given=True)
    yield loss("ppo's policy, given A of tokens", row_of("ppo"), BNPO, given=True, late=token_advantages)
    stable, unbounded, why = row_of("stable-reinforce"), {"limit": float("inf")}, "TRL's log-ratios are held so too"
    held, far = math.log(1e3), {"spread": 6.0}
    yield loss("preclipped, given A", stable, GRPO, given=True, draws=far, limit=held, why=why, apart=unbounded)
    config, draws = GRPO | corrected("sequence_truncate", 1.0), ON_POLICY | {"faithful": True}
    why, apart = "TRL truncates correct responses too; their sampler is the policy", {"draws": ON_POLICY}
    topr = row_of("topr")
    yield loss("topr on policy, given A", topr, config, given=True, draws=draws, value=False, why=why, apart=apart)
    tokens = row_of("topr", ratio="token", anchor="step", aggregate="token-mean")
    yield loss("topr of tokens, wrong", tokens, cispo | {"epsilon_high": 1.0}, given=True, late=all_wrong)
    yield loss("rloo", row_of("rloo"), RLOO, "RLOO", late=less_kl, draws=ON_POLICY, value=False)
    clipped = row_of("rloo", loss="clipped", ratio="product", aggregate="seq-mean-token-mean")
    yield loss("rloo, several updates", clipped, RLOO, "RLOO", late=less_kl, draws={"spread": 0.1})
    config, draws = {"beta": 0.1, "loss_type": ["sigmoid"]}, {"mixed": True, "tools": True}
    dpo = row_of("iterative-dpo")
    yield Comparison(name="iterative-dpo", row=dpo, ours=winnow_loss, theirs=trl_dpo, config=config, draws=draws)


# ---------------------------------------------------------------------------------------------------- the lines


def difference(ours: torch.Tensor, theirs: torch.Tensor, floor: float) -> float:
    """Largest |a - b| relative to max(|a|, |b|, floor); infinite where one is not a number."""
    scale = torch.maximum(ours.abs(), theirs.abs()).clamp(min=max(floor, 1e-30))
    return float(((ours - theirs).abs() / scale).nan_to_num(float("inf")).max())


def differences(c: Comparison, seeds: int, move: bool) -> tuple[float, float]:
    """(of the value, of the gradient), the largest of all cases; infinite if TRL's side is 0 throughout."""
    value = slope = largest = 0.0
    for seed in range(seeds):
        batch = drawn(seed, **c.draws)
        ours, theirs = c.ours(c, perturbed(batch) if move else batch), c.theirs(c, batch)
        if theirs.gradient is None:
            largest = max(largest, float(theirs.value.abs().max()))
            value = max(value, difference(ours.value, theirs.value, 1e-2 * float(theirs.value.abs().max())))
            continue
        largest = max(largest, float(theirs.gradient.abs().max()))
        slope = max(slope, difference(ours.gradient, theirs.gradient, 1e-2 * float(theirs.gradient.abs().max())))
        if c.value:
            value = max(value, difference(ours.value, theirs.value, ours.size))
    return (value, slope) if largest > 0.0 else (float("inf"), float("inf"))


def main() -> int:
    parser = argparse.ArgumentParser(description="winnow's losses against TRL's")
    parser.add_argument("--seeds", type=int, default=12, help="cases of each line")
    parser.add_argument("--perturb", action="store_true", help="whether every line notices a small change")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    datasets.disable_progress_bars()
    print(f"torch {torch.__version__}, trl {trl.__version__}, transformers {transformers.__version__}")
    print(f"{'':40} {'cases':>5} {'value':>8} {'gradient':>8}")
    bad = 0
    for c in (*of_advantages(), *of_grpo(), *of_other_rows()):
        value, slope = differences(c, options.seeds, options.perturb)
        differs = max(value, slope) > TOLERANCE
        good, note = differs is options.perturb, ""
        if c.apart:
            as_is = max(differences(replace(c, **c.apart), options.seeds, False))
            good, note = good and as_is > TOLERANCE, f"as is {as_is:.0e}: {c.why}"
        bad += not good
        shown = f"{value:8.0e}" if c.value else f"{'-':>8}"
        shown += f" {slope:8.0e}" if c.ours is winnow_loss else f" {'-':>8}"
        print(f"{c.name:40} {options.seeds:5} {shown} {'differs' if differs else 'ok':8}{note}".rstrip(), flush=True)
    print(f"{bad} lines are not as they should be" if bad else "every line is as it should be")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
