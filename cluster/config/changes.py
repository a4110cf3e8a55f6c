"""Which settings may change when a run goes on, and what is said of those that did."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rewards import Section

# What decides how long, where and how fast a run runs, and what is written and shown of it; and the learning rate. All
# other settings stay: what was trained so far, and what waits to be trained, came about by them.
CHANGEABLE = (
    *("run.note", "run.steps", "run.tokens", "run.seconds"),
    *("run.checkpoint_every", "run.keep_checkpoints", "run.restarts", "run.loggers"),
    *("cluster.*", "generator.*", "sync.*", "eval.*"),
    *("data.path", "data.path.*", "data.stored"),  # the files may have moved; whether they are the same is looked at
    *(
        "rollout.timeout_seconds",
        "rollout.episode_seconds",
        "filter.patience",
        "reward.seconds",
        "reward.memory_mib",
        "reward.*.url",
    ),
    *("model.attention", "model.checkpointing"),
    *("learner.lr", "learner.lr_end", "learner.lr_warmup", "learner.side_lr"),
    *("learner.micro_batch_tokens", "learner.logit_chunk"),
)
WEIGHTS = "data.path, as shares"  # the weights of its files, which may have moved
# Why others cannot, by how they begin; the first that fits.
REASONS = {
    "run.name": "a run stays in its folder",
    "run.folder": "a run stays in its folder",
    "run.seed": "it decides which prompts come next, and how responses are sampled",
    "world.": "data and model were made by it",
    "model.": "weights, optimizer and tokens in flight belong to the model as it was",
    "data.": "the run goes on in the order of its own prompts",
    "warmup.": "the model that training started from was made by it",
    "learner.zero_stage": "the optimizer is on disk as this stage shares it out",
    "learner.offload": "the optimizer is on disk as this shares it out",
    "learner.adapter": "the adapter and its optimizer have this shape",
    "rollout.groups_per_step": "groups that wait were admitted by it",
    "rollout.max_staleness": "groups that wait were admitted by it",
    "": "what was trained so far was trained by it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A setting that is another one than before."""

    name: str  # section.key
    before: Any  # None is unset
    now: Any

    @property
    def allowed(self) -> bool:
        """Whether a run can go on with it."""
        return any(fnmatchcase(self.name, pattern) for pattern in CHANGEABLE)

    @property
    def line(self) -> str:
        """What is said of it."""
        return f"{self.name}: {_shown(self.before)} → {_shown(self.now)}"

    @property
    def refusal(self) -> str:
        """The line, and why a run cannot go on with it."""
        reason = next(reason for beginning, reason in REASONS.items() if self.name.startswith(beginning))
        return f"{self.line} cannot change in a run that goes on: {reason}"


def changes(before: Section, now: Section) -> list[Change]:
    """The settings that differ, by name."""
    trees = [config.model_dump(mode="json") for config in (before, now)]
    old, new = (dict(_flat(tree)) | {WEIGHTS: _weights(tree)} for tree in trees)
    return [
        Change(name=name, before=old.get(name), now=new.get(name))
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _weights(tree: dict[str, Any]) -> list[float]:
    """Of several data files, in their order, wherever they are; of one none."""
    path = tree.get("data", {}).get("path")
    weights = list(path.values()) if isinstance(path, dict) else []
    return [weight / sum(weights) for weight in weights] if len(weights) > 1 else []


def _flat(tree: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _shown(value: Any) -> str:
    return "unset" if value is None else repr(value)
