"""The metrics of the training of a reward model: every name with its unit and what it is.

Its metrics.jsonl and evals.jsonl, `winnow metrics` and docs/metrics.md read this table.
"""

from typing import NamedTuple

REWARD_MODEL = "reward-model"  # under which `winnow metrics` lists them
ABOUT = "How the training of a reward model goes; a step is one update."


class RewardModelMetric(NamedTuple):
    """What a metric is."""

    unit: str
    about: str  # a sentence


REWARD_MODEL_METRICS: dict[str, RewardModelMetric] = {
    "step": RewardModelMetric("updates", "Optimizer updates so far."),
    "wall_seconds": RewardModelMetric("s", "Time since the training began; of a run that goes on, since it went on."),
    "seconds_update": RewardModelMetric("s", "Time that the update took."),
    "agreement_loss": RewardModelMetric(
        "nats", "Loss on the rows of the update, before it: a mean over rows, or over steps."
    ),
    "agreement": RewardModelMetric(
        "share",
        "Of the update's rows, before it: pairs in which the chosen response scores higher, or steps judged right.",
    ),
    "agreement_margin": RewardModelMetric(
        "logits", "Mean score of chosen responses, or of right steps, less that of the others; null without both."
    ),
    "agreement_score": RewardModelMetric("logits", "Mean of all scores, before the sigmoid."),
    "agreement_count": RewardModelMetric("rows or steps", "What the loss is a mean over."),
    "sequences": RewardModelMetric("responses", "Responses in the update."),
    "tokens_computed": RewardModelMetric("tokens", "Tokens of all forward passes, padding among them."),
    "padding_share": RewardModelMetric("share", "Of these tokens, padding."),
    "grad_norm": RewardModelMetric("norm", "Of the whole gradient, before clipping."),
    "lr": RewardModelMetric("1", "Learning rate of the update."),
}
