"""Rewards for how a response is written, whatever it says: `format` and `length`. Neither looks at the reference."""

import re

from rewards.settings import KindSettings, Partial
from rewards.shaping import overlong
from rewards.verdict import Case, Outcome, RewardResult

LENGTH_SHARE = 0.25  # share of max_new_tokens at its end over which the reward of a length falls from 1 to 0
LONGEST_END = 50  # characters of a token that ends a turn

_TAG = re.compile(r"</?(?:think|answer)>")
_WHOLE = re.compile(r"\s*<think>.*</think>\s*<answer>.*</answer>\s*", re.DOTALL)
_ANSWER = re.compile(r"<answer>\s*(?!</answer>)\S")
_END = re.compile(r"(?:<\|\w{1,40}\|>|</s>|<end_of_turn>)\Z")
_BOX = re.compile(r"\\boxed\s*\{")


class FormatSettings(KindSettings):
    """[reward.format]."""

    partial: Partial = 0.0  # the reward of a response that has one of the parts of a form, but no whole form


def format_reward(case: Case, settings: FormatSettings) -> RewardResult:
    r"""Correct when the response has one of two forms.

    - Tags: one <think>...</think>, then one <answer>...</answer> that is not empty, and nothing else but white space.
      Thinking may be empty. No tag is nested or repeated; case counts.
    - A box: no <answer> at all, thinking as above or none, and after it a \boxed{...} that is closed and not empty.

    Where the prompt ends with <think>, the response need not begin with it. Tokens that end a turn of a chat count as
    white space at the end, and so does the mark of byte order at the beginning.

    Returns:
        The result. The parts "think", "answer" and "boxed" are 1 where the response has this piece, well written. A
        response with none of the three is unparsable. A response with a piece, but in neither form, is wrong with the
        reward `settings.partial`.
    """
    text = case.response.lstrip("\ufeff").rstrip()
    while (end := _END.search(text, max(0, len(text) - LONGEST_END))) is not None:
        text = text[: end.start()].rstrip()
    if case.prompt.rstrip().endswith("<think>") and not text.lstrip().startswith("<think>"):
        text = f"<think>{text}"
    tags = _TAG.findall(text)
    behind = text.rpartition("</think>")[2].partition("<think>")[0]
    found = {
        "think": _once(tags, "think") and text.lstrip().startswith("<think>"),
        "answer": _once(tags, "answer") and _ANSWER.search(text) is not None,
        "boxed": boxed(behind),
    }
    parts = {name: float(there) for name, there in found.items()}
    if found["think"] and found["answer"] and _WHOLE.fullmatch(text):
        return RewardResult(outcome=Outcome.CORRECT, why="thinks and answers in tags", parts=parts)
    if found["boxed"] and (not tags or (found["think"] and len(tags) == 2)):
        return RewardResult(outcome=Outcome.CORRECT, why="ends in a box", parts=parts)
    if not any(found.values()):
        why = (
            "no thinking or answer in tags and no closed box, expected <think>...</think><answer>...</answer> or a box"
        )
        return RewardResult(outcome=Outcome.UNPARSABLE, why=why, parts=parts)
    there = ", ".join(name for name, is_there in found.items() if is_there)
    why = f"found {there}; expected <think>...</think><answer>...</answer> and nothing else, or a box after thinking"
    return RewardResult(outcome=Outcome.WRONG, why=why, reward=settings.partial, parts=parts)


def length_reward(case: Case) -> RewardResult:
    """The reward is 1 + overlong(tokens, max_new_tokens, 0.25): 1 up to three quarters of max_new_tokens, then falling
    to 0 at max_new_tokens. arXiv 2503.14476 equation 13 (DAPO). Part "overlong" is the penalty in [-1, 0].

    Raises:
        ValueError: nobody counted the tokens of the response, or knows how many it could have had.
    """
    if case.max_new_tokens <= 0 or case.tokens < 0:
        raise ValueError(
            "length needs the response's tokens and the most it could have had, "
            f"got {case.tokens} of {case.max_new_tokens}"
        )
    penalty = overlong(case.tokens, case.max_new_tokens, LENGTH_SHARE)
    reward = 1.0 + penalty
    return RewardResult(
        outcome=Outcome.CORRECT if reward > 0.5 else Outcome.WRONG,
        why=f"{case.tokens} tokens of at most {case.max_new_tokens}; "
        f"the reward falls from {1 - LENGTH_SHARE:.0%} of the most on",
        reward=reward,
        parts={"overlong": penalty},
    )


def boxed(text: str) -> bool:
    r"""Whether the last \boxed{ of a text is closed and has something in it."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return False
    start, depth, escaped = boxes[-1].end(), 1, False
    for position in range(start, len(text)):
        letter = text[position]
        depth += 0 if escaped else (letter == "{") - (letter == "}")
        escaped = letter == "\\" and not escaped
        if depth == 0:
            return bool(text[start:position].strip())
    return False


def _once(tags: list[str], name: str) -> bool:
    """Whether a pair of tags is there once, with no other tag between."""
    pair = [f"<{name}>", f"</{name}>"]
    if sorted(tag for tag in tags if tag in pair) != sorted(pair):
        return False
    return tags.index(pair[1]) - tags.index(pair[0]) == 1
