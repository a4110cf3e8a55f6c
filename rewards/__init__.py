"""Pure grading: a response and its reference in, a verdict out. Knows no other part of winnow and no cluster."""

from rewards.grading.grader import START_OF_MODEL_SECONDS, Grader, Question, Remote
from rewards.grading.worker import Task, answered
from rewards.models.judges import JudgeSettings
from rewards.models.scoring import ScoringSettings
from rewards.reward_settings import KINDS, RewardSettings
from rewards.settings import Budget, KindSettings, Section
from rewards.table import REWARDS
from rewards.verdict import Case, ChatMessage, Outcome, RewardResult, SpanReward, Verdict

__all__ = [
    "KINDS",
    "REWARDS",
    "START_OF_MODEL_SECONDS",
    "Budget",
    "Case",
    "ChatMessage",
    "Grader",
    "JudgeSettings",
    "KindSettings",
    "Outcome",
    "Question",
    "Remote",
    "RewardResult",
    "RewardSettings",
    "ScoringSettings",
    "Section",
    "SpanReward",
    "Task",
    "Verdict",
    "answered",
]
