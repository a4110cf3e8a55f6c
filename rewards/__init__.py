"""Pure judgement: (response, reference) -> Verdict. Knows no other part of winnow and nothing of models or clusters."""

from rewards.table import REWARDS, Scores, grade
from rewards.verdict import Outcome, Verdict

__all__ = ["REWARDS", "Outcome", "Scores", "Verdict", "grade"]
