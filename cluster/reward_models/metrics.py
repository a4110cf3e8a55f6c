"""What each update of a reward model tells: the lines of metrics.jsonl and evals.jsonl."""

from typing import Any

from learner.reward_models.types import Agreement, RewardUpdateStats


def update_line(step: int, stats: RewardUpdateStats, seconds: float, wall_seconds: float) -> dict[str, Any]:
    """The line of an update, with the names of REWARD_MODEL_METRICS."""
    return {
        "step": step,
        "wall_seconds": round(wall_seconds, 3),
        "seconds_update": round(seconds, 3),
        **agreement_line(stats.agreement),
        "sequences": stats.sequences,
        "tokens_computed": stats.computed,
        "padding_share": stats.padding / max(1, stats.computed),
        "grad_norm": stats.grad_norm,
        "lr": stats.lr,
    }


def agreement_line(agreement: Agreement) -> dict[str, Any]:
    """What a line says of agreement with some rows."""
    margin = agreement.margin
    return {
        "agreement_loss": agreement.loss,
        "agreement": agreement.accuracy,
        "agreement_margin": None if margin != margin else margin,  # NaN is no JSON
        "agreement_score": agreement.score,
        "agreement_count": agreement.count,
    }
