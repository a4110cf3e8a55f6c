"""A reward of one's own for the demo's additions: right results earn 1, wrong ones a little for each right digit.

A response writes its carries and then the result behind "#", such as `8+7+0=15,5+6+1=12#125`. Above one half is
correct, so a wrong result must stay below.
"""

MOST_FOR_WRONG = 0.3


def reward(response: str, reference: str, prompt: str) -> float:
    """From 0 to 1: 1 for the right result, else up to 0.3 by the share of its digits that are right.

    Args:
        response: what the model wrote.
        reference: the answer of the row, such as "125".
        prompt: what the model was asked, such as "58+67=".
    """
    result = response.rpartition("#")[2].strip()
    if result == reference:
        return 1.0
    right = sum(a == b for a, b in zip(reversed(result), reversed(reference), strict=False))
    return MOST_FOR_WRONG * right / max(len(result), len(reference))
