"""The objective of a run as one line of ASCII: what the pieces add up to."""

import re
from functools import partial

from actors.filtering.rules import RULES
from learner.methods.algorithms import Algorithm
from learner.methods.credit import CREDITS
from learner.methods.losses import LOSSES, MISMATCHES

_CREDITS = {
    "best": "[r = max r, r > 0]",
    "above": "[R > threshold]",
    "imitated": "1",
    "raw": "r",
    "centred": "r - mean r",
    "scaled": "r / std r",
    "normalised": "(r - mean r) / std r",
    "leave-one-out": "r - mean of siblings' r",
    "paired": "+1, -1 in pairs",
}
_KL = {"k1": "d", "k2": "d^2/2", "k3": "(exp(-d) + d - 1)"}


def objective_line(algorithm: Algorithm) -> str:
    """What is minimised, and what its symbols mean.

    Example: ``minimise seq-mean-token-mean of w (-min(s A, clip(s, 0.8, 1.2) A)); A = r; s = p/p_step of the token;
    w = min(q, 2), q = p_step/p_sampler; groups dropped: both``
    """
    parts = [f"minimise {algorithm.aggregate} of {_token_loss(algorithm)}", _advantage(algorithm)]
    parts += [*_ratio(algorithm), *_weight(algorithm), *_kl(algorithm), *_extras(algorithm)]
    parts.append(f"groups dropped: {_name_of(algorithm.drop, RULES)}")
    return "; ".join(parts)


def _token_loss(row: Algorithm) -> str:
    low, high = f"{1 - row.clip_low:g}", f"{1 + row.clip_high:g}"
    name = _name_of(row.loss, LOSSES)
    loss = {
        "likelihood": "-A log p",
        "unclipped": "-s A",
        "clipped": f"-min(s A, clip(s, {low}, {high}) A)",
        "preclipped": f"-min(s A, clip(s, {low}, {high}) A)",
        "detached": f"-sg(clip(s, {low}, {high})) A log p",
        "tapered": "-A v log p",
        "preferred": "-log sigmoid(0.1 (m+ - m-)) per pair",
    }.get(name, f"{name}(s, A)")
    if row.clip_dual and name in ("clipped", "preclipped"):
        loss = f"min({loss}, -{row.clip_dual:g} A where A < 0)"
    weighted = f"w ({loss})" if _weight(row) else loss
    whole = f"{weighted} + {row.kl_loss:g} {_KL[row.kl_estimator]}" if row.kl_loss else weighted
    whole += f" - {row.entropy:g} entropy" if row.entropy else ""
    if not row.likelihood:
        return whole
    return f"{1 - row.likelihood:g} ({whole}) + {row.likelihood:g} (-log p of worked answers)"


def _advantage(row: Algorithm) -> str:
    if "critic" in row.needs:
        credit = f"GAE(r, V; gamma {row.gamma:g}, lambda {row.lam:g})"
    elif "process" in row.needs:
        credit = f"leave-one-out of r + returns of leave-one-out token rewards, gamma {row.gamma:g}"
    else:
        name = _name_of(row.credit, CREDITS)
        credit = _CREDITS.get(name, f"{name}(r)")
        credit += f", ddof {row.std_ddof}" if "std" in credit else ""
    if row.baseline:
        less = {"moving": "(r - mean of former r)", "greedy": "(r - r greedy)"}[row.baseline]
        credit = re.sub(r"\br\b", less, credit)
    spread = {"none": "", "whiten": ", whitened", "standardise": ", standardised, 0 beyond 3 sigma"}[row.spread]
    return f"A = {credit}{spread}"


def _ratio(row: Algorithm) -> list[str]:
    name = _name_of(row.loss, LOSSES)
    if name in ("likelihood", "preferred"):
        return ["m = log p - log p_reference of the response"] if name == "preferred" else []
    of = {"token": "of the token", "sequence": "geometric mean over the response", "product": "of the response"}
    inside = " held within 1e-3..1e3" if name == "preclipped" else ""
    taper = ["v = 1 where A > 0, else sg(min(s, 1))"] if name == "tapered" else []
    nucleus = " within the nucleus" if "nucleus" in row.needs else ""
    return [f"s = p/p_{row.anchor} {of[row.ratio]}{inside}{nucleus}", *taper]


def _weight(row: Algorithm) -> list[str]:
    if row.anchor == "sampler" or row.mismatch == "none":
        return []
    weight = MISMATCHES[row.mismatch].replace("cap", f"{row.mismatch_cap:g}")
    return [f"w = {weight}, q = p_step/p_sampler"]


def _kl(row: Algorithm) -> list[str]:
    lines = ["d = log p - log p_reference"] if row.kl_loss or row.kl_reward else []
    tuned = "r_t = clip(0.05 (log p_tuned - log p_reference), +-0.05)" if "tuned" in row.needs else ""
    penalty = f"{row.kl_reward:g} {_KL[row.kl_estimator]}" if row.kl_reward else ""
    if tuned and penalty:
        return [*lines, f"{tuned} - clip({penalty}, +-0.05)"]
    ends = "" if "critic" in row.needs else ", r = score + sum r_t"
    return [*lines, *([tuned] if tuned else []), *([f"r_t = -{penalty}{ends}"] if penalty else [])]


def _extras(row: Algorithm) -> list[str]:
    lines = []
    if "critic" in row.needs:
        lines.append(f"V clipped at +-{row.value_clip:g} from its old value")
    if row.overlong:
        lines.append(f"r falls by 1 over the last {row.overlong:g} of the length")
    if row.passes > 1:
        rising = f", thresholds {', '.join(f'{t:g}' for t in row.thresholds)}" if row.thresholds else ""
        lines.append(f"{row.passes} passes{rising}")
    if "control" in row.needs:
        lines.append("p is given the token of the reward quantile")
    return lines


def _name_of(piece: object, table: dict) -> str:
    function = piece.func if isinstance(piece, partial) else piece
    return next((name for name, known in table.items() if known is function), getattr(function, "__name__", "?"))
