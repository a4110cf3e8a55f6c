"""The reward `names`: a set of names, such as the files or lines to change, by F-beta against the gold set."""

import json
import re

from rewards.answers.final import spoken, tagged
from rewards.shaping import sorft
from rewards.verdict import Case, Outcome, RewardResult

_BULLET = re.compile(r"(?:[-*]|\d{1,9}[.)])?\s*`?(.*?)`?$")


def names(case: Case) -> RewardResult:
    """F-beta (beta 3) of the names in the response; 0 where one of them is a name that the reference does not know.
    Correct above one half. arXiv 2502.20127 (SoRFT). An answer of more names than the reference has gets half of that
    and is wrong: F-beta counts recall nine times, so that listing everything there is would be right.

    The names are the answer's lines, or a JSON list. The reference is a JSON list, or {"gold": [...], "known": [...]}
    where names outside of `known` are made up; without it every name may be said.

    Raises:
        ValueError: the reference is neither.
    """
    gold, known = _reference(case.reference)
    said = _said(case.response)
    if not said:
        return RewardResult(outcome=Outcome.UNPARSABLE, why="no name found in the answer")
    reward = sorft(said, gold, known or {*gold, *said}) * (0.5 if len(said) > len(gold) else 1.0)
    outcome = Outcome.CORRECT if reward > 0.5 else Outcome.WRONG
    right = len(said & gold)
    why = f"{right} of {len(said)} names are right, of {len(gold)} wanted"
    parts = {"precision": right / len(said), "recall": right / len(gold)}
    return RewardResult(outcome=outcome, why=why, reward=reward, parts=parts)


def check_names(reference: str) -> None:
    """Raises ValueError where the reference names nothing, or cannot be read."""
    _reference(reference)


def _reference(text: str) -> tuple[set[str], set[str]]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as failure:  # no JSON, an integer of too many digits, too many brackets
        raise ValueError(f"the reference {text[:80]!r} is no JSON list of names") from failure
    gold, known = (found.get("gold"), found.get("known", [])) if isinstance(found, dict) else (found, [])
    for listed in (gold, known):
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ValueError(f"the reference {text[:80]!r} must be a list of names, or have gold and known as lists")
    if not gold or not any(name.strip() for name in gold):
        raise ValueError("the reference names nothing: no response could ever meet it")
    return set(gold), set(known)


def _said(response: str) -> set[str]:
    text = tagged(spoken(response) or "") or ""
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError):  # no JSON, an integer of too many digits, too many brackets
        listed = None
    if isinstance(listed, list):
        return {name if isinstance(name, str) else json.dumps(name) for name in listed}
    found = (_BULLET.match(line.strip()) for line in text.splitlines() if not line.startswith("```"))
    return {match.group(1) for match in found if match and match.group(1)}
