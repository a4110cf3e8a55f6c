"""What each update of a reward model tells: the lines of metrics.jsonl and evals.jsonl."""

from typing import Any, NamedTuple

from learner.reward_models.types import Agreement, RewardUpdateStats


class Metric(NamedTuple):
    """What a metric is."""

    unit: str
    about: str  # a sentence


REWARD_MODEL_METRICS: dict[str, Metric] = {
    "step": Metric("updates", "Optimizer updates so far."),
    "wall_seconds": Metric("s", "Time since the training began; of a run that goes on, since it went on."),
    "seconds_update": Metric("s", "Time that the update took."),
    "agreement_loss": Metric("nats", "Loss on the rows of the update, before it: a mean over rows, or over steps."),
    "agreement": Metric(
        "share",
        "Of the update's rows, before it: pairs in which the chosen response scores higher, or steps judged right.",
    ),
    "agreement_margin": Metric(
        "logits", "Mean score of chosen responses, or of right steps, less that of the others; null without both."
    ),
    "agreement_score": Metric("logits", "Mean of all scores, before the sigmoid."),
    "agreement_count": Metric("rows or steps", "What the loss is a mean over."),
    "sequences": Metric("responses", "Responses in the update."),
    "tokens_computed": Metric("tokens", "Tokens of all forward passes, padding among them."),
    "padding_share": Metric("share", "Of these tokens, padding."),
    "grad_norm": Metric("norm", "Of the whole gradient, before clipping."),
    "lr": Metric("1", "Learning rate of the update."),
}


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
