"""Algorithms of a person's own file (`learner.file`): the package is not edited.

The file holds a dictionary `ALGORITHMS` of name -> `Algorithm`. What it makes with `@credit` and `@loss` can be chosen
with `objective.credit` and `objective.loss` too.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from learner.methods.algorithms import ALGORITHMS, Algorithm
from learner.methods.credit import CREDITS, Credit
from learner.methods.losses import LOSSES, Loss
from rewards.person_file import load_file, load_table

HOLDS = 'a dictionary ALGORITHMS, such as {"mine": Algorithm(about="...", credit=...)}'
SCORES = np.array([1.0, -1.0, 1.0, -1.0])  # of a group that a credit is tried on


def known_algorithms(file: str) -> Mapping[str, Algorithm]:
    """The table of algorithms, and behind it those of a person's file.

    Args:
        file: a Python file; "" for none.

    Raises:
        ValueError: the file does not hold algorithms; the message says what is wrong with it.
    """
    if not file:
        return ALGORITHMS
    own = _own(file)
    if isinstance(own, str):
        raise ValueError(own)
    return {**ALGORITHMS, **own}


@cache
def _own(file: str) -> Mapping[str, Algorithm] | str:
    """The algorithms of a file, or what is wrong with it; the same answer every time, as a file is run once."""
    tables: tuple[tuple[str, dict[str, Any]], ...] = (("credit", CREDITS), ("loss", LOSSES))
    before = [dict(table) for _, table in tables]
    try:
        load_file(file)
        for (kind, table), known in zip(tables, before, strict=True):
            if taken := [name for name, piece in known.items() if table[name] is not piece]:
                table.update(known)
                return f"{file} defines a {kind} {taken[0]!r}, and winnow has one of that name: rename it"
        return load_table(file, "ALGORITHMS", holds=HOLDS, one="an algorithm", known=ALGORITHMS, problem=_problem)
    except ValueError as problem:
        return str(problem)


def _problem(algorithm: object) -> str:
    """What keeps an entry from being an algorithm; "" where nothing does."""
    if not isinstance(algorithm, Algorithm):
        return f"must be a learner.methods.algorithms.Algorithm, got {algorithm!r}"
    if not isinstance(algorithm.credit, Credit):
        return f"credit must be one of learner.methods.credit, or a function under @credit, got {algorithm.credit!r}"
    if not isinstance(algorithm.loss, Loss):
        return f"loss must be one of learner.methods.losses, or a function under @loss, got {algorithm.loss!r}"
    if not callable(algorithm.drop):
        return f"drop must be a function of the scores, such as those of actors.filtering.rules, got {algorithm.drop!r}"
    return "" if algorithm.credit.pairs else _odd_results(algorithm)


def _odd_results(algorithm: Algorithm) -> str:
    """What is odd about what the functions give for SCORES."""
    try:
        advantages, reason = algorithm.credit(SCORES), algorithm.drop(SCORES)
    except Exception as failure:  # a person's function raises what it likes
        return f"its credit or drop fails on the scores {SCORES.tolist()}: {type(failure).__name__}: {failure}"
    if np.shape(advantages) != SCORES.shape or not np.isfinite(np.asarray(advantages, float)).all():
        return (
            f"its credit must give a number for each of the scores {SCORES.tolist()}, as an array; it gave "
            f"{advantages!r}"
        )
    if not isinstance(reason, str):
        return f'its drop must give "" or the reason for dropping the group, got {reason!r}'
    return ""
