"""The losses and advantages of winnow on random batches against TRL's own code: ``make bench-agree``.

In the environment of ``make bench-env`` and from the root of the repository: ``.venv-bench/bin/python -W ignore -m
tests.bench.agree``. Winnow's side goes from graded groups through `sequences_of`, `pack` and `token_loss` to a weighted
sum; TRL's is a real GRPOTrainer, RLOOTrainer or DPOTrainer of which only sampling and the forward pass are replaced, or
the loss of an AsyncGRPOTrainer, IWOPDTrainer or SDPOTrainer. No formula of TRL is written down here.

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
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import datasets
import numpy as np
import torch
import transformers
import trl

from learner.methods.algorithms import Algorithm, algorithm_of
from learner.methods.choices import Aggregation
from learner.methods.credit import Credit, gae, normalised, token_rewards, whitened
from learner.methods.losses import kl_estimate
from tests.bench.draws import Comparison, Draw, drawn, perturbed, winnow_advantages, winnow_loss, winnow_overlong
from tests.bench.peer import (
    trl_advantages,
    trl_async,
    trl_distilled,
    trl_dpo,
    trl_loss,
    trl_overlong,
    trl_self_distilled,
)

TOLERANCE = 1e-5
EPSILON = 1e-4  # what TRL adds to a standard deviation


def algorithm_for(name: str, **pieces: Any) -> Algorithm:
    return algorithm_of(name, {"mismatch": "none"} | pieces)


def with_epsilon(algorithm: Algorithm) -> Algorithm:
    """The algorithm with TRL's standard deviation."""

    def credit(scores: np.ndarray) -> np.ndarray:
        deviation = scores.std(ddof=1)
        return normalised(scores) * (deviation / (deviation + EPSILON))

    own = Credit(name="normalised with epsilon", formula="(r - mean r) / (std r + 1e-4)", function=credit)
    return replace(algorithm, credit=own)


def filled(batch: Draw) -> float:
    """Share of the responses that have trained tokens."""
    return float(batch.trained.any(-1).double().mean())


def token_advantages(c: Comparison, batch: Draw) -> np.ndarray:
    """Of a critic that says whatever the entropy is, float64[B, T]."""
    values = batch.entropy.detach().numpy()
    scores = batch.scores.reshape(-1)
    return np.stack([gae(token_rewards(s, 0.0 * v), v, 1.0, 0.95) for s, v in zip(scores, values, strict=True)])


def all_wrong(c: Comparison, batch: Draw) -> np.ndarray:
    return -np.abs(batch.credits(c.algorithm.credit))


def less_kl(c: Comparison, batch: Draw) -> np.ndarray:
    """The credit of scores less the KL of the response, as an update makes it."""
    gaps = ((batch.start - batch.reference)[i][batch.trained[i]] for i in range(batch.scores.size))
    penalties = (c.algorithm.kl_reward * kl_estimate(c.algorithm.kl, gap).numpy() for gap in gaps)
    rewards = [token_rewards(*pair).sum() for pair in zip(batch.scores.reshape(-1), penalties, strict=True)]
    return batch.credits(c.algorithm.credit, np.array(rewards))


def whitened_credits(c: Comparison, batch: Draw) -> np.ndarray:
    credits = batch.credits(c.algorithm.credit)
    return whitened(credits, credits.mean(), credits.var(ddof=1))


def whitened_with_epsilon(c: Comparison, batch: Draw) -> np.ndarray:
    deviation = batch.credits(c.algorithm.credit).std(ddof=1)
    return whitened_credits(c, batch) * np.sqrt(deviation**2 + 1e-8) / (deviation + EPSILON)


def loss(name: str, algorithm: Algorithm, config: Mapping[str, Any], theirs: str = "GRPO", **rest: Any) -> Comparison:
    """A comparison of losses; the credit "normalised" has TRL's epsilon already, which has a line of its own."""
    if algorithm.credit.name == "normalised":
        algorithm = with_epsilon(algorithm)
    return Comparison(name=name, algorithm=algorithm, config=config, ours=winnow_loss, theirs=trl_loss(theirs), **rest)


def credit(name: str, algorithm: Algorithm, config: Mapping[str, Any], theirs: str = "GRPO", **rest: Any) -> Comparison:
    return Comparison(
        name=name, algorithm=algorithm, config=config, ours=winnow_advantages, theirs=trl_advantages(theirs), **rest
    )


GRPO, BNPO = {"loss_type": "grpo"}, {"loss_type": "bnpo"}
GSPO = GRPO | {"importance_sampling_level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4}
DR_GRPO = {"loss_type": "dr_grpo", "scale_rewards": "none"}
KL = {"beta": 0.04}
RLOO = {"beta": 0.03}
ON_POLICY, NEAR, FAR = {"spread": 0.0}, {"spread": 1e-3}, {"spread": 1.0}


def corrected(mode: str, cap: float = 2.0) -> dict[str, Any]:
    return {"vllm_importance_sampling_mode": mode, "vllm_importance_sampling_clip_max": cap}


def of_advantages() -> Iterator[Comparison]:
    grpo, rloo, epsilon = algorithm_for("grpo"), algorithm_for("rloo"), "TRL adds 1e-4 to the standard deviation"
    yield credit("advantages: normalised", with_epsilon(grpo), {}, why=epsilon, apart={"algorithm": grpo})
    yield credit("advantages: centred", algorithm_for("dr-grpo"), DR_GRPO)
    yield credit("advantages: leave one out", rloo, {}, "RLOO")
    yield credit("advantages: leave one out, less KL", rloo, RLOO, "RLOO", late=less_kl)
    late, why = {"late": whitened_credits}, f"{epsilon}, winnow 1e-8 to the variance"
    config = {"normalize_advantages": True}
    yield credit("advantages: whitened", rloo, config, "RLOO", late=whitened_with_epsilon, why=why, apart=late)
    yield Comparison(
        name="scores: overlong", algorithm=algorithm_for("dapo"), ours=winnow_overlong, theirs=trl_overlong
    )


def of_grpo() -> Iterator[Comparison]:
    grpo, kl = algorithm_for("grpo"), algorithm_for("grpo", kl_loss=0.04)
    yield loss("grpo", grpo, GRPO, parts=2)
    config = GRPO | {"epsilon": 0.1, "epsilon_high": 0.3}
    yield loss("grpo, clip 0.1 and 0.3", algorithm_for("grpo", clip_low=0.1, clip_high=0.3), config)
    yield loss("grpo, tool output", grpo, GRPO, parts=2, draws={"tools": True})
    why, apart = "TRL counts it as a response; scaled by the others' share", {"scale": lambda batch: 1.0}
    yield loss("grpo, an empty response", grpo, GRPO, draws={"empty": True}, scale=filled, why=why, apart=apart)
    apart = {"config": GRPO | KL | {"use_bias_correction_kl": True}}
    yield loss("grpo, KL", kl, GRPO | KL, parts=2, why="TRL's default has KL times ratio; switched off", apart=apart)
    yield loss("grpo, dual clip", algorithm_for("grpo", clip_dual=3.0), GRPO | {"delta": 3.0}, draws=FAR)
    unbounded, far = {"limit": float("inf")}, {"spread": 15.0}
    why = "TRL has no bound; its log-ratios are held within +-20"
    yield loss("grpo, beyond 20 nats", grpo, GRPO, draws=far, limit=20.0, why=why, apart=unbounded)
    yield loss("grpo, unclipped", algorithm_for("grpo", loss="unclipped"), GRPO | {"epsilon": 1e9}, draws=FAR)
    modes = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
    for kind, mode in zip(("truncate", "mask", "truncate-response", "mask-response"), modes, strict=True):
        yield loss(f"grpo, KL, {kind}", algorithm_for("grpo", mismatch=kind, kl_loss=0.04), GRPO | KL | corrected(mode))
    mean, total = algorithm_for("grpo", aggregate="token-mean"), algorithm_for("grpo", aggregate="seq-mean-token-sum")
    yield loss("bnpo: token-mean", mean, BNPO)
    why, even = "TRL's denominator is the micro-batch's; equal lengths", {"even": True}
    yield loss("bnpo in micro-batches", mean, BNPO, parts=2, draws=even, why=why, apart={"draws": {}})
    yield loss("bnpo, entropy", replace(mean, entropy=0.01), BNPO | {"entropy_coef": 0.01})
    yield loss("luspo of tokens: seq-mean-token-sum", total, {"loss_type": "luspo"}, parts=2)
    gspo_sum = algorithm_for("gspo", aggregate="seq-mean-token-sum")
    yield loss("luspo", gspo_sum, GSPO | {"loss_type": "luspo"}, parts=2, draws=NEAR)
    anchored = algorithm_for("grpo", aggregate="token-mean", anchor="sampler")
    clip = {"epsilon_low": 0.2, "epsilon_high": 0.2}
    yield Comparison(name="grpo, anchor sampler", algorithm=anchored, ours=winnow_loss, theirs=trl_async, config=clip)


def of_other_rows() -> Iterator[Comparison]:
    dapo, cispo = {"loss_type": "dapo", "epsilon_high": 0.28, "punished": True}, {"loss_type": "cispo"}
    yield loss("dr-grpo", algorithm_for("dr-grpo"), DR_GRPO, parts=2)
    yield loss("dapo, overlong", algorithm_for("dapo"), dapo, parts=2, draws={"mixed": True})
    yield loss("cispo", algorithm_for("cispo"), cispo | {"epsilon_high": 1.28}, parts=2)
    yield loss("gspo", algorithm_for("gspo"), GSPO, parts=2, draws=NEAR)
    config = GSPO | KL | corrected("token_truncate")
    yield loss("gspo, KL, truncate", algorithm_for("gspo", mismatch="truncate", kl_loss=0.04), config, draws=NEAR)
    yield loss("reinforce-mean", algorithm_for("reinforce-mean"), GRPO | {"scale_rewards": "none"}, parts=2)
    yield loss("reinforce, given A", algorithm_for("reinforce"), GRPO, given=True)
    yield loss("raft++, given A", algorithm_for("raft++"), GRPO, given=True)
    yield loss("raft on policy, given A", algorithm_for("raft"), GRPO, given=True, draws=ON_POLICY, value=False)
    yield loss("loop, given A", algorithm_for("loop"), GRPO, given=True)
    yield loss("ppo's policy, given A of tokens", algorithm_for("ppo"), BNPO, given=True, late=token_advantages)
    stable, unbounded, why = (
        algorithm_for("stable-reinforce"),
        {"limit": float("inf")},
        "TRL's log-ratios are held so too",
    )
    held, far = math.log(1e3), {"spread": 6.0}
    yield loss("preclipped, given A", stable, GRPO, given=True, draws=far, limit=held, why=why, apart=unbounded)
    config, draws = GRPO | corrected("sequence_truncate", 1.0), ON_POLICY | {"faithful": True}
    why, apart = "TRL truncates correct responses too; their sampler is the policy", {"draws": ON_POLICY}
    topr = algorithm_for("topr")
    yield loss("topr on policy, given A", topr, config, given=True, draws=draws, value=False, why=why, apart=apart)
    tokens = algorithm_for("topr", ratio="token", anchor="step", aggregate="token-mean")
    yield loss("topr of tokens, wrong", tokens, cispo | {"epsilon_high": 1.0}, given=True, late=all_wrong)
    yield loss("rloo", algorithm_for("rloo"), RLOO, "RLOO", late=less_kl, draws=ON_POLICY, value=False)
    clipped = algorithm_for("rloo", loss="clipped", ratio="product", aggregate="seq-mean-token-mean")
    yield loss("rloo, several updates", clipped, RLOO, "RLOO", late=less_kl, draws={"spread": 0.1})
    config, draws = {"beta": 0.1, "loss_type": ["sigmoid"]}, {"mixed": True, "tools": True}
    dpo = algorithm_for("iterative-dpo")
    yield Comparison(name="iterative-dpo", algorithm=dpo, ours=winnow_loss, theirs=trl_dpo, config=config, draws=draws)


def of_teachers() -> Iterator[Comparison]:
    on_policy: dict[str, Any] = {"ours": winnow_loss, "draws": ON_POLICY | {"mixed": True}}
    likelihood = {"loss": "likelihood"}
    distill, theirs = algorithm_for("distill"), {"theirs": trl_distilled}
    yield Comparison(name="distill on policy", algorithm=distill, value=False, **theirs, **on_policy)
    yield Comparison(name="distill, -A log p", algorithm=algorithm_for("distill", **likelihood), **theirs, **on_policy)
    own = algorithm_for("self-distill", **likelihood)
    means = replace(own, aggregate=Aggregation.SEQ_MEAN_TOKEN_MEAN)
    why, apart = "TRL's is a mean of responses' means; so here", {"algorithm": own}
    of_own: dict[str, Any] = {"theirs": trl_self_distilled, "why": why, "apart": apart}
    yield Comparison(name="self-distill, -A log p", algorithm=means, **of_own, **on_policy)


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
    for c in (*of_advantages(), *of_grpo(), *of_other_rows(), *of_teachers()):
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
