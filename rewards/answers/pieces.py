r"""Environments of several lines: functions in pieces (`\begin{cases}`), systems of equations and vectors."""

import re

_LINES = re.compile(r"\\begin\s*\{(cases|rcases|aligned)\}(.*)\\end\s*\{\1\}")
_MATRIX = re.compile(r"\\begin\s*\{([pb]matrix)\}(.*)\\end\s*\{\1\}")
_SPLIT = re.compile(
    r"""
    ,?\s*&\s*,?                                                     # as LaTeX separates columns
    | ,?\s*(?=\\(?:text|mbox|mathrm)\s*\{\s*,?\s*(?:if|for|when|otherwise|else)\b)
    | ,\s*(?=[^,]*(?:[<>]|\\(?:le|ge|neq|in)(?![a-zA-Z])))          # a comma before a relation
    """,
    re.VERBOSE,
)
_WHEN = re.compile(r"\\(?:text|mbox|mathrm)\s*\{\s*,?\s*(?:if|for|when)\b\s*([^{}]*)\}|,?\s*(?:if|for|when)\b")


def lines_of(text: str) -> list[str] | None:
    """The lines of a clean text that is one such environment; None for anything else."""
    found = _LINES.fullmatch(text)
    if found is None or "\\begin" in found.group(2):
        return None
    lines = (line.strip(" ,;.") for line in found.group(2).split("\\\\"))
    return [line for line in lines if line]


def piece(line: str) -> tuple[str, str] | None:
    r"""The value and the condition of a line of a function in pieces; None of an equation.

    >>> piece(r"x^2, & \text{if } x > 0")
    ('x^2', 'x > 0')
    """
    value, *condition = _SPLIT.split(line, maxsplit=1)
    if not condition or not value.strip() or condition[0].strip()[:1] in ("=", ""):
        return None
    return value.strip(), _WHEN.sub(r"\1", condition[0], count=1).strip(" ,.")


def entries(latex: str) -> list[str] | None:
    r"""The entries of a matrix of one column or of one row; None of any other.

    >>> entries(r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}")
    ['1', '2']
    """
    found = _MATRIX.fullmatch(latex.strip())
    if found is None or "\\begin" in found.group(2):
        return None
    inside = found.group(2).strip().removesuffix("\\\\")
    parts = inside.split("\\\\") if "&" not in inside else inside.split("&")
    return None if ("\\\\" in inside and "&" in inside) or len(parts) < 2 else [part.strip() for part in parts]
