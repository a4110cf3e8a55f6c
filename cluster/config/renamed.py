"""Settings that have another name now: whoever still writes the old one is told the new one."""

from collections.abc import Mapping
from typing import Any

SETTINGS: dict[str, str] = {
    "data.overlong_share": "data.too_long_share",
    "filter.keep": "filter.drop",
    "reward.end": "reward.score_weight",
    "reward.steps": "reward.span_weight",
    "rollout.longest_first": "rollout.longest_prompts_first",
}
# setting -> old value -> new value
VALUES: dict[str, dict[str, str]] = {
    "filter.keep": {
        "all": "none",
        "no-wrong": "all-wrong",
        "no-correct": "all-correct",
        "mixed": "both",
        "band": "out-of-band",
    },
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
        if name in SETTINGS or new_value != value:
            written = "" if new_value == value else f" = {new_value!r}"
            found.append(f"{name} = {value!r} has another name now: write {SETTINGS.get(name, name)}{written}")
        elif isinstance(value, Mapping):
            found += renamed_settings(value, f"{name}.")
    return found
