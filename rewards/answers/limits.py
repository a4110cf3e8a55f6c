"""What is too large to be read as an answer: by its length, its brackets in brackets, or numbers that nobody can
write out. A response of that kind is wrong, a reference of that kind is refused.
"""

import math
import re

LONGEST = 2_000  # characters of an answer; longer ones are compared as text only
_DEEPEST = 24  # brackets in brackets
_OPEN, _CLOSE = "([{", ")]}"
_TOWER = re.compile(r"(?:\^|\*\*)[\s{(\[]*\d{1,12}[\s})\]]*(?:\^|\*\*)[\s{(\[]*\d{1,12}[\s})\]]*(?:\^|\*\*)")
_TWICE = re.compile(r"(?:\^|\*\*)[\s{(\[]*(\d{1,12})[\s})\]]*(?:\^|\*\*)[\s{(\[]*(\d{1,12})")
_FACTORIAL = re.compile(r"(\d+|\))\s*\}?\s*!+")
_MANY_FACTORIALS = re.compile(r"!\s*[)}\]]*\s*!")
_EXPONENT = re.compile(r"\d\s*[)}]?\s*(?:\^|\*\*)\s*[{(]?\s*[-+]?\s*\d{7,}")
_BINOMIAL = re.compile(r"\d{5,}.{0,40}\\choose|\\binom\s*\{[^{}]*(?:\d{5,}|\^)")


def too_large(text: str) -> str:
    """Why an answer is too large to be read, as the end of a sentence; empty where it is not.

    >>> too_large("2^{10}")
    ''
    """
    if len(text) > LONGEST:
        return f"is longer than {LONGEST} characters"
    depth = deepest = 0
    for sign in text:
        if sign in _OPEN:
            depth += 1
            deepest = max(deepest, depth)
        elif sign in _CLOSE:
            depth = max(0, depth - 1)
    if deepest > _DEEPEST:
        return f"has brackets {deepest} deep"
    twice = any(int(top) * math.log10(int(low) or 1) > 5 for low, top in _TWICE.findall(text))
    if re.search(r"\d[eE][-+]?\d{4}", text):
        return "has numbers that nobody can write out"
    if twice or _TOWER.search(text) or _EXPONENT.search(text):
        return "has powers that nobody can write out"
    large = any(found.group(1) != ")" and int(found.group(1)[:9]) > 20_000 for found in _FACTORIAL.finditer(text))
    if large or _MANY_FACTORIALS.search(text) or _BINOMIAL.search(text):
        return "has factorials that nobody can write out"
    return ""
