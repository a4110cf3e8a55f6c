"""Drop rules of a person's own file (`filter.file`): the package is not edited.

def too_alike(scores):                       # float[J], the scores of the responses with a verdict
    return "too_alike" if scores.std() < 0.1 else ""

RULES = {"too-alike": too_alike}             # name for filter.drop -> rule
"""

from collections.abc import Mapping

import numpy as np

from actors.filtering.rules import RULES, DropRule
from rewards.person_file import load_file

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
    found = getattr(load_file(file, HOLDS), "RULES", None)
    if not isinstance(found, dict) or not found:
        raise ValueError(f"file must hold {HOLDS}; in {file} RULES is {found!r}")
    for name, rule in found.items():
        if problem := _problem(name, rule):
            raise ValueError(f"{file}, RULES[{name!r}]: {problem}")
    return {**RULES, **found}


def _problem(name: object, rule: object) -> str:
    """What keeps an entry from being a rule; "" where nothing does."""
    if not isinstance(name, str) or not name:
        return "its name must be a text"
    if name in RULES:
        return "winnow has a rule of that name: rename it"
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
