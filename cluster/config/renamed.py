"""Settings that have another name now: whoever still writes the old one is told the new one."""

from collections.abc import Mapping
from typing import Any

# old name -> new name, or several with " or " between
SETTINGS: dict[str, str] = {
    "cluster.wait_seconds": "cluster.wait_minutes",
    "data.overlong_share": "data.too_long_share",
    "filter.keep": "filter.drop",
    "objective.kl": "objective.kl_estimator",
    "objective.likelihood": "objective.imitation",
    "objective.spread": "objective.advantage_normalisation",
    "reward.aggregate": "reward.process.aggregate",
    "reward.databases": "reward.sql.databases",
    "reward.end": "reward.score_weight",
    "reward.file": "reward.own.file",
    "reward.judge_model": "reward.judge.model",
    "reward.judge_prompt": "reward.judge.prompt",
    "reward.judge_url": "reward.judge.url",
    "reward.model": "reward.model.path or reward.process.path or reward.judge.path",
    "reward.partial": "reward.number.partial or reward.math.partial or reward.code.partial or reward.sql.partial",
    "reward.parts": "reward.sum.weights or reward.product.weights or "
    "reward.shaped.weights or reward.consistent.weights",
    "reward.rows": "reward.sql.rows",
    "reward.steps": "reward.span_weight",
    "reward.unsandboxed": "reward.code.unsandboxed",
    "rollout.first_stage": "rollout.rounds.size",
    "rollout.longest_first": "rollout.longest_prompts_first",
}
UNITS = {"cluster.wait_seconds": 60.0}  # old setting -> how many of its units are one of the new setting's
SUBSECTIONS = ("reward.model",)  # names that are a section now; only another value under them is the old setting
# setting -> old value -> new value
VALUES: dict[str, dict[str, str]] = {
    "filter.keep": {
        "all": "none",
        "no-wrong": "all-wrong",
        "no-correct": "all-correct",
        "mixed": "both",
        "band": "out-of-band",
    },
    "model.attention": {"flash_attention_2": "varlen"},
    "objective.credit": {"imitated": "ones"},
    "learner.algorithm": {
        "reinforce-no-wrong": "reinforce-drop-all-wrong",
        "reinforce-no-correct": "reinforce-drop-all-correct",
    },
}


def renamed_settings(tree: Mapping[str, Any], before: str = "") -> list[str]:
    """A sentence for each setting or value in a tree of settings that is spelt the old way.

    Args:
        tree: sections and settings as read from TOML.
        before: what the names in it begin with, with a dot at its end.
    """
    found = []
    for key, value in tree.items():
        name = before + key
        new_value = VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
        if name in UNITS and isinstance(value, int | float):
            new_value = value / UNITS[name]
        section = isinstance(value, Mapping) and (name in SUBSECTIONS or "kind" in value)
        if (name in SETTINGS and not section) or new_value is not value:
            written = "" if new_value is value else f" = {new_value!r}"
            found.append(f"{name} = {value!r} has another name now: write {SETTINGS.get(name, name)}{written}")
        elif isinstance(value, Mapping):
            found += renamed_settings(value, f"{name}.")
    return found
