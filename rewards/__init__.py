"""Pure grading: a response and its reference in, a verdict out. Knows no other part of winnow and no cluster."""

from rewards.grading.grader import Grader, Question, RemoteJudge
from rewards.models.judges import JudgeSettings
from rewards.reward_settings import KINDS, RewardSettings
from rewards.settings import Budget, Section
from rewards.table import REWARDS
from rewards.verdict import Case, Outcome, RewardResult, SpanReward, Verdict

__all__ = [
    "KINDS",
    "REWARDS",
    "Budget",
    "Case",
    "Grader",
    "JudgeSettings",
    "Outcome",
    "Question",
    "RemoteJudge",
    "RewardResult",
    "RewardSettings",
    "Section",
    "SpanReward",
    "Verdict",
]
