r"""The many ways of writing one thing: LaTeX and Unicode made uniform, numerals read exactly, units split off.

Nothing here changes what a formula means; two texts that are equal when clean mean the same.
"""

import re
import unicodedata
from fractions import Fraction

from rewards.answers.rewrites import RULES

_SIGNS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "‒": "-", "′": "'", "’": "'", "″": "''",
    "×": "\\times ", "÷": "/", "·": "\\cdot ", "⋅": "\\cdot ", "≤": "\\le ", "≥": "\\ge ",
    "≠": "\\neq ", "∞": "\\infty ", "∪": "\\cup ", "∩": "\\cap ", "∈": "\\in ", "π": "\\pi ", "θ": "\\theta ",
    "±": "\\pm ", "°": "^\\circ ", "½": "\\frac{1}{2}", "¼": "\\frac{1}{4}", "¾": "\\frac{3}{4}",
    "∅": "\\emptyset ", "√": "\\sqrt ", "ℝ": "\\mathbb{R}", "ℤ": "\\mathbb{Z}", "ℚ": "\\mathbb{Q}", "ℕ": "\\mathbb{N}",
    "ℂ": "\\mathbb{C}", "⟨": "(", "⟩": ")", "→": "\\to ", "≈": "\\approx ", "∘": "\\circ ", "、": ",",
}  # fmt: skip
_RAISED = re.compile(r"[⁰¹²³⁴-⁹⁺⁻]+|[₀-₉]+")
_SIGN = re.compile("|".join(map(re.escape, _SIGNS)))
_ASCII_ENOUGH = re.compile(r"[\x00-\x7f]*\Z")
_COMMAND_NAMES = (
    r"(?:[dtc]?frac|boxed|text|mbox|mathrm|left|right|sqrt|leq?|geq?|neq?|in|infty|pi|cup|cap|pm|cdot|times|quad|qquad|"
    r"circ|theta|sin|cos|tan|log|ln|binom|begin|end|emptyset)(?![a-zA-Z])"
)


def _raised(found: re.Match[str]) -> str:
    sign = "^" if found.group()[0] in "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻" else "_"
    return sign + "{" + unicodedata.normalize("NFKC", found.group()).replace("−", "-") + "}"


_TRIM = re.compile(
    r"^(?:[\s,;:!?*\"'`#]|\.(?!\d|\\(?:overline|bar|dot))|\\(?:qed|blacksquare)\b)*(?<!\\)|(?:[\s,;:?*\"`#]|(?<!\\)\.(?!\d)|(?<![\d)\]}])(?<!\b[a-zA-Z])!)+$"
)

_LONGEST = 4_000  # characters of a numeral; Python itself reads no longer ones
_PLAIN = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d{1,3})?")
_RATIO = re.compile(r"([-+]?)\(?([-+]?\d+(?:\.\d+)?)\)?\s*[/:]\s*\(?([-+]?\d+(?:\.\d+)?)\)?")
_FRAC = re.compile(r"([-+]?)\s*(\d*)\s*\\frac\s*\{\s*([-+]?\s*\d+(?:\.\d+)?)\s*\}\s*\{\s*([-+]?\s*\d+(?:\.\d+)?)\s*\}")
_MIXED = re.compile(r"([-+]?)(\d+)\s+(\d+)\s*/\s*(\d+)")
_POWER = re.compile(r"([-+]?)(?:(\d+(?:\.\d+)?)\s*(?:\\times|\\cdot|x)\s*)?10\s*\^\s*\{?\s*([-+]?\d{1,3})\s*\}?")
_REPEATING = re.compile(r"([-+]?)(\d*)\.(\d*)\\(?:overline|bar|dot)\s*\{(\d+)\}")
_PERCENT = re.compile(
    r"\s*(?:\\?%|\\(?:text|mbox|mathrm)\s*\{\s*(?:percent(?:age)?|pct|%|\\%)\s*\}|\b(?:percent(?:age)?|pct)\b)\s*$",
    re.I,
)
_TIME = re.compile(r"\d{1,2}:[0-5]\d")
_DEGREES = re.compile(r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree|\\text\s*\{\s*degrees?\s*\}|\s+degrees?)\s*$")

_TEXT_UNIT = re.compile(
    r"\s*\\(?:text|mbox|mathrm|textbf|textit|textrm|rm|operatorname)\s*\{([^{}]*)\}\s*((?:\^\s*\{?\s*-?\d\s*\}?)?)\.?$"
)
_SHORT_UNIT = re.compile(
    r"[mk]?m|[cd]m|[km]?g|in|ft|yd|mi|ha|[mcd]?[lL]|lb|oz|s|ms|hr?|am|pm|Hz|N|J|W|V|°[CF]|k[WmV]|Mb|GB|MB|KB"
)
_NO_UNIT = re.compile(  # words behind a number that make another answer of it
    r"\s*(?:or|and|to|not|mod|plus|minus|times|if|when|unless|but|except|more|less|at|over|less|greater|above|below|squared|cubed|factorial|"
    r"hal(?:f|ves)|thirds?|choose|divided|through|up)\b",
    re.I,
)
_LETTERS = re.compile(r"[a-zA-Z](?: [a-zA-Z])+")  # a product of letters, which is no unit
_BARE_UNIT = re.compile(
    r"(?:(?<=[\d}%)])|(?<=\\pi))(?:\s+(?P<far>[^\W\d_][^\W\d_.]*(?:[ /-][^\W\d_]+)*\.?)|"
    r"(?P<near>[a-zA-Z]{2,}(?:/[a-z]+)?|[^\x00-\x7f]+|m))\s*(?P<power>(?:\^\s*\{?\s*\d\s*\}?)?)$"
)


def clean(text: str) -> str:
    r"""One way of writing for what LaTeX and Unicode write in many: no delimiters, sizes, thin spaces or currencies.

    >>> clean(r"$\left(\tfrac12,\, 10{,}000\right)$.")
    '(\\frac{1}{2}, 10000)'
    """
    text = text.replace("\x0c", "\\f").replace("\x08", "\\b")
    text = re.sub(r"\t(?=(?:ext|imes|frac|heta|o)\b)", r"\\t", text)
    if not _ASCII_ENOUGH.match(text):
        text = re.sub(r"√\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}", text)
        text = _RAISED.sub(_raised, text)
        text = unicodedata.normalize("NFKC", _SIGN.sub(lambda sign: _SIGNS[sign.group()], text))
        text = _SIGN.sub(lambda sign: _SIGNS[sign.group()], text)
    text = re.sub(r"\\\\\\(?=" + _COMMAND_NAMES + ")", r"\\\\ \\", text) if "\\begin" in text else text
    if "\\\\" in text:
        text = re.sub(r"(?<!\\)\\\\(?=" + _COMMAND_NAMES + r"|[{}])", r"\\", text)
        text = text if "\\begin" in text else text.replace("\\\\", " ")
    text = re.sub(r"\$\$|\\[\[\]()](?!\w*\})|(?<!\\)\$", " ", text)
    for rule in RULES:
        text = rule.apply(text)
    before = None
    while text != before:
        before = text
        text = _TRIM.sub("", text).strip()
    return re.sub(r"\s+(?=[,;)\]}^_])|(?<=[(\[{])\s+", "", text)


def numeral(text: str) -> tuple[Fraction, int | None, bool] | None:
    """The exact value of a numeral, its digits behind the point (None without one) and whether it is in percent.

    Knows signs, thousands separators, decimals, exponents, fractions, ratios, mixed numbers, powers of ten, repeating
    decimals, percent and degrees; None for anything else, such as `10:30`, a time or a ratio (clock.py).
    """
    text = text.strip()
    if len(text) > _LONGEST:
        return None
    percent = _PERCENT.search(text) is not None
    text = _DEGREES.sub("", _PERCENT.sub("", text)).strip() if not text[:1].isalpha() else text
    if re.fullmatch(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", text):
        text = text.replace(",", "")
    if _PLAIN.fullmatch(text):
        point = re.search(r"\.(\d*)", text)
        return Fraction(text.rstrip(".")), len(point.group(1)) if point else None, percent
    value = _fraction(text)
    return None if value is None else (value, None, percent)


def in_degrees(text: str) -> bool:
    """Whether a numeral has the sign or the word for degrees behind it."""
    return _DEGREES.search(text) is not None


def _fraction(text: str) -> Fraction | None:
    try:
        if (found := _RATIO.fullmatch(text)) and not _TIME.fullmatch(text):
            return _signed(found.group(1), Fraction(found.group(2)) / Fraction(found.group(3)))
        if found := _FRAC.fullmatch(text):
            part = Fraction(found.group(3).replace(" ", "")) / Fraction(found.group(4).replace(" ", ""))
            return _signed(found.group(1), int(found.group(2) or 0) + part)
        if found := _MIXED.fullmatch(text):
            return _signed(found.group(1), int(found.group(2)) + Fraction(int(found.group(3)), int(found.group(4))))
    except ZeroDivisionError:
        return None
    if found := _POWER.fullmatch(text):
        return _signed(found.group(1), Fraction(found.group(2) or 1) * Fraction(10) ** int(found.group(3)))
    if found := _REPEATING.fullmatch(text):
        whole, fixed, cycle = found.group(2) or "0", found.group(3), found.group(4)
        tail = Fraction(int(cycle), 10 ** len(fixed) * (10 ** len(cycle) - 1))
        return _signed(found.group(1), Fraction(f"{whole}.{fixed or 0}") + tail)
    return None


def _signed(sign: str, value: Fraction) -> Fraction:
    return -value if sign == "-" else value


def strip_unit(text: str) -> tuple[str, str]:
    r"""A clean answer without the unit at its end, and that unit in plain words; `""` where it has none.

    >>> strip_unit(r"15\mbox{ cm}^2")
    ('15', 'cm^2')
    """
    found = _TEXT_UNIT.search(text)
    if found and text[: found.start()].strip() and not _NO_UNIT.match(found.group(1)):
        power = re.sub(r"[\s{}]", "", found.group(2))
        return text[: found.start()].strip(), found.group(1).strip().lower().replace(".", "") + power
    degrees = _DEGREES.search(text)
    if degrees and text[: degrees.start()].strip():
        return text[: degrees.start()].strip(), "degree"
    found = _BARE_UNIT.search(text)
    if (
        found
        and re.search(r"\d", text[: found.start()])
        and not re.search(r"[=<>]", text)
        and not _LETTERS.fullmatch(found.group("far") or "")
        and not _NO_UNIT.match(found.group().strip())
    ):
        word = (found.group("far") or found.group("near")).rstrip(".")
        bare = text[: found.start()].strip()
        short = _SHORT_UNIT.fullmatch(word) and (len(word) > 1 or numeral(bare))
        if short or len(word) > 2 or not word.isascii():
            return bare, word.lower() + re.sub(r"[\s{}]", "", found.group("power"))
    return text, ""


def split_top(text: str, separators: str | tuple[str, ...], thousands: bool = True) -> list[str]:
    """The parts of a text between separators that stand outside of all brackets and environments, trimmed.

    A closing bracket need not be of the opening one's kind, as in the interval [0, 1). The sign "=" splits only where
    it is no part of another sign, and with `thousands` the comma of `1,000` splits nothing.
    """
    parts: list[str] = []
    depth, start, place = 0, 0, 0
    while place < len(text):
        if text.startswith("\\begin{", place):
            depth += 1
        elif text.startswith("\\end{", place):
            depth -= 1
        step = 2 if text[place] == "\\" and text[place + 1 : place + 2] in ("{", "}", "|") else 1
        sign = text[place + step - 1]
        depth = max(0, depth + (sign in "([{") - (sign in ")]}"))
        hit = next((s for s in separators if text.startswith(s, place)), "") if depth == 0 else ""
        if hit and not (_is_inner(text, place, hit) and (thousands or hit != ",")):
            parts.append(text[start:place].strip())
            start = place + len(hit)
            step = len(hit)
        place += step
    parts.append(text[start:].strip())
    return parts


def _is_inner(text: str, place: int, sign: str) -> bool:
    if sign == "=":
        return place > 0 and text[place - 1] in "!:<>"
    if sign == ",":
        left = re.search(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})*$", text[:place])
        right = re.match(r",\d{3}(?:,\d{3})*(?![\d,])", text[place:])
        return left is not None and right is not None
    if sign == "\\cup":
        return text[place + 4 : place + 5].isalpha()
    return False
