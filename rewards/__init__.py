"""Pure judgement: (response, reference) -> Verdict. Knows no other part of winnow and nothing of clusters."""

from rewards.grading.grader import Grader, Question
from rewards.settings import RewardSettings
from rewards.table import REWARDS, check_settings, reward_names
from rewards.verdict import Case, Outcome, RewardResult, SpanReward, Verdict

__all__ = [
    "REWARDS",
    "Case",
    "Grader",
    "Outcome",
    "Question",
    "RewardResult",
    "RewardSettings",
    "SpanReward",
    "Verdict",
    "check_settings",
    "reward_names",
]
