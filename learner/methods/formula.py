"""The objective of a run as one line of ASCII: the formulas of its pieces, joined."""

import re

from actors.filtering.rules import RULES
from learner.methods.algorithms import Algorithm
from learner.methods.choices import Anchor, Mismatch, Need, SideModelKind
from learner.methods.credit import CREDITS


def objective_line(algorithm: Algorithm) -> str:
    """What is minimised, and what its symbols mean.

    Example: ``minimise seq-mean-token-mean of w (-min(s A, clip(s, 0.8, 1.2) A)); A = r; s = p/p_step of the token;
    w = min(q, 2), q = p_step/p_sampler; groups dropped: both``
    """
    parts = [f"minimise {algorithm.aggregate} of {_token_loss(algorithm)}", _advantage(algorithm)]
    parts += [*_ratio(algorithm), *algorithm.loss.symbols, *_weight(algorithm), *_kl(algorithm), *_extras(algorithm)]
    parts.append(f"groups dropped: {_rule(algorithm)}")
    return "; ".join(parts)


def needs_of(algorithm: Algorithm) -> list[str]:
    """What a run has beside the policy and its prompts, each in words."""
    needs = [need.formula for need in (*algorithm.models, *sorted(algorithm.needs))]
    needs += ["worked answers (warmup.path)"] if algorithm.imitation else []
    return [*needs, *([f"at least {algorithm.siblings} responses to a prompt"] if algorithm.siblings > 1 else [])]


def _token_loss(algorithm: Algorithm) -> str:
    loss = algorithm.loss.formula(algorithm.clip)
    whole = f"w ({loss})" if _weight(algorithm) else loss
    whole += f" + {algorithm.kl_loss:g} {algorithm.kl.formula}" if algorithm.kl_loss else ""
    whole += f" - {algorithm.entropy:g} entropy" if algorithm.entropy else ""
    if algorithm.imitation:
        whole = f"{1 - algorithm.imitation:g} ({whole}) + {algorithm.imitation:g} (-log p of worked answers)"
    told = "mean over responses of the mean -log p of what was said between their turns"
    return f"{whole} + {algorithm.echo:g} ({told})" if algorithm.echo else whole


def _advantage(algorithm: Algorithm) -> str:
    if SideModelKind.CRITIC in algorithm.side_models:
        credit = f"GAE(r, V; gamma {algorithm.gamma:g}, lambda {algorithm.lam:g})"
    elif SideModelKind.PROCESS in algorithm.side_models:
        credit = f"leave-one-out of r + returns of leave-one-out token rewards, gamma {algorithm.gamma:g}"
    else:
        credit = algorithm.credit.formula
        credit += f", ddof {algorithm.std_ddof}" if algorithm.credit.ddof is not None else ""
    credit = re.sub(r"\br\b", algorithm.baseline.formula, credit)
    if algorithm.teacher:
        gap = f"log p_{algorithm.teacher} - log p_step"
        credit = gap if algorithm.credit is CREDITS["zeros"] else f"{credit} + {gap}"
    return f"A = {credit}{algorithm.advantage_normalisation.formula}"


def _ratio(algorithm: Algorithm) -> list[str]:
    if not algorithm.loss.needs_ratio:
        return []
    words = [f"s = p/{algorithm.anchor.formula}", algorithm.ratio.formula, algorithm.loss.ratio_note]
    words.append("within the nucleus" if Need.NUCLEUS in algorithm.needs else "")
    return [" ".join(word for word in words if word)]


def _weight(algorithm: Algorithm) -> list[str]:
    if algorithm.anchor is Anchor.SAMPLER or algorithm.mismatch is Mismatch.NONE:
        return []
    weight = algorithm.mismatch.formula.replace("cap", f"{algorithm.mismatch_cap:g}")
    return [f"w = {weight}, q = p_step/p_sampler"]


def _kl(algorithm: Algorithm) -> list[str]:
    lines = ["d = log p - log p_reference"] if algorithm.kl_loss or algorithm.kl_reward else []
    has_tuned = SideModelKind.TUNED in algorithm.side_models
    tuned = "r_t = clip(0.05 (log p_tuned - log p_reference), +-0.05)" if has_tuned else ""
    penalty = f"{algorithm.kl_reward:g} {algorithm.kl.formula}" if algorithm.kl_reward else ""
    if tuned and penalty:
        return [*lines, f"{tuned} - clip({penalty}, +-0.05)"]
    ends = "" if SideModelKind.CRITIC in algorithm.side_models else ", r = score + sum r_t"
    return [*lines, *([tuned] if tuned else []), *([f"r_t = -{penalty}{ends}"] if penalty else [])]


def _extras(algorithm: Algorithm) -> list[str]:
    lines = []
    if SideModelKind.CRITIC in algorithm.side_models:
        lines.append(f"V clipped at +-{algorithm.value_clip:g} from its old value")
    if algorithm.overlong:
        lines.append(f"r falls by 1 over the last {algorithm.overlong:g} of the length")
    if algorithm.passes > 1:
        rising = f", thresholds {', '.join(f'{t:g}' for t in algorithm.thresholds)}" if algorithm.thresholds else ""
        lines.append(f"{algorithm.passes} passes{rising}")
    if Need.CONTROL in algorithm.needs:
        lines.append("p is given the token of the reward quantile")
    return lines


def _rule(algorithm: Algorithm) -> str:
    own = getattr(algorithm.drop, "__name__", "a rule of its own")
    return next((name for name, rule in RULES.items() if rule is algorithm.drop), own)
