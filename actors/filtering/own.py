"""Drop rules of a person's own file (`filter.file`): the package is not edited.

def too_alike(scores):                       # float[J], the scores of the responses with a verdict
    return "too_alike" if scores.std() < 0.1 else ""

RULES = {"too-alike": too_alike}             # name for filter.drop -> rule
"""

from collections.abc import Mapping

import numpy as np

from actors.filtering.rules import RULES, DropRule
from rewards.person_file import load_table

HOLDS = 'a dictionary RULES, such as {"mine": a function of the scores that gives "" or why the group is dropped}'
TRIED = ([1.0, -1.0], [1.0, 1.0, 1.0], [-1.0, -1.0], [0.5])  # scores of groups that a rule is tried on


def known_rules(file: str) -> Mapping[str, DropRule]:
    """The table of rules, and behind it those of a person's file.

    Args:
        file: a Python file; "" for none.

    Raises:
        ValueError: the file does not hold rules; the message says what is wrong with it.
    """
    if not file:
        return RULES
    return {**RULES, **load_table(file, "RULES", holds=HOLDS, one="a rule", known=RULES, problem=_problem)}


def _problem(rule: object) -> str:
    """What keeps an entry from being a rule; "" where nothing does."""
    if not callable(rule):
        return f"must be a function of the scores, got {rule!r}"
    for scores in TRIED:
        try:
            reason = rule(np.array(scores))
        except Exception as failure:  # a person's function raises what it likes
            return f"it fails on the scores {scores}: {type(failure).__name__}: {failure}"
        if not isinstance(reason, str):
            return f'it must give "" or why the group is dropped, and gave {reason!r} for the scores {scores}'
    return ""
