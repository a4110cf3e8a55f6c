"""Rewards that compare text, letters and plain numbers: `exact`, `choice` and `number`, and what their references need.

Each grades what stands behind a thinking part and inside answer tags, where there are any. Needs no algebra.
"""

import re
import unicodedata
from fractions import Fraction

from rewards.answers.final import MARKER, box, has_box, phrase, refuse_missing, spoken, tagged
from rewards.answers.notation import clean, numeral
from rewards.verdict import Case, Outcome, RewardResult

# A number as people write it: sign, thousands separators, decimals, exponent, a plain fraction or a mixed number.
_NUMBER = re.compile(
    r"""
    (?=[-.\d])
    (?:(?<![\w)])-)?
    (?:\d{1,3}(?:,\d{3})+|\d+)?        # whole part
    (?:\.\d+|(?<=\d)\.(?!\d))?        # decimals, or a full stop
    (?:[eE][+-]?\d{1,3})?
    (?:/\d+|(?<=\d)[ ]+\d+/\d+)?       # a fraction, or that of a mixed number
    """,
    re.VERBOSE,
)
_MARKER = re.compile(rf"{MARKER}|(?<=\S)(?<!#)#{{1,3}}(?!#)|(?:final\s+)?answer\s*(?:is|:)", re.IGNORECASE)
_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+.*$", re.MULTILINE)

# What makes a number a part of something else: a root or power, a name, a time or ratio, or one of several.
_BEFORE = re.compile(
    r"(?:\\sqrt(?:\[\d+\])?\s*\{?|\^\s*\{?\(?|_\s*\{?|\\(?:log|ln|sin|cos|tan|lg)(?:_\d)?\s*[{(]?|\d\s*:)\s*-?$"
)
_BEHIND = re.compile(r"\s*(?:\^|!(?=\s*\S*[\d$])|\*\*|:\d|\\(?:times|cdot|sqrt|pi|frac)(?![a-zA-Z])|\\choose)")
_ONE_OF = re.compile(
    r"[\s$*)}\]]*(?:(?:\b(?:or|and/or|ou|oder|to)\b|或|(?<=\d)\s*[-~])[\s$*({\[]*(?=-?\.?\d)|"
    r"(?:,?\s*\band\b|[,;])[\s$*({\[]*(?=-?\.?\d[\d.,;and ]*[\s$*)}\]]*(?:\Z|\n|\.(?!\d))))",
    re.IGNORECASE,
)
_OR = re.compile(r"[\s$*(){}\[\]]*(?:or|and/or|ou|oder|或)[\s$*(){}\[\]]*", re.IGNORECASE)
_DASHES = str.maketrans("−‐‑‒–﹣－", "-------")
_FRAC = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))")
_SCIENTIFIC = re.compile(r"(?<=\d)\s*(?:\\times|\\cdot|×|\*)\s*10\s*\^\s*\{?\s*(-?\d{1,3})\s*\}?")
_POWER = re.compile(r"(?<![\d.,/}^])(\d{1,4})\s*\^\s*\{?\s*(\d{1,2})\s*\}?(?!\s*[\^\d])")

_LONGEST = 1_000  # characters of a number; a longer one is none

_ARTICLES = frozenset(("a", "an", "the"))
_EDGES = ".,;:!?\"'`*()[]{}«»“”‘’。，！？、；："  # signs such as "-", "%" and "/" are part of a word

_LETTER = re.compile(r"(?<![^\W_])(?<!['’\\])(?:\((?P<round>[A-Za-z])\)|(?P<bare>[A-Z]))(?![^\W_]|['’]\w|\{)")
_LETTER_BESIDE_CJK = re.compile(
    r"(?:^\s*|(?<=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]))([A-Z])(?=[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af])"
)
_LABEL = re.compile(
    r"^[\s*_#>\"'$\\{(\[]*(?:(?:text(?:bf|it|rm)?|mathrm|mathbf|mbox)\s*\{[\s(]*)*([A-Za-z])(?![^\W_]|['’])"
)
_LINE_LABEL = re.compile(r"^[\s*(]*[A-Z]\**[.):。：、]", re.MULTILINE)
_OPTION = re.compile(
    r"\b(?:option|choice|select|choose|pick|opci[oó]n|op[cç][aã]o|opzione)\s*:?\s*\**\(?(?-i:([A-Z]))\)?(?![^\W_])|"
    r"(?-i:\b([A-Z]))\)?\**\s+is\s+(?:the\s+)?(?:correct|right|best)\b|"
    r"选(?:择|项)?\s*(?-i:([A-Z]))",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"(?:\bnot|n['’]t(?:\s+be)?|\bneither|\bnor|\brather\s+than|\binstead\s+of|\bnon|\bpas|\bnicht|\bkein|\bno|不是|不选|而非)\s*"
    r"(?:option\s+|choice\s+)?[\s(*]*$",
    re.IGNORECASE,
)
_SEVERAL = re.compile(  # a letter with another one beside it is no choice
    r"\(?([A-Z])[)*}\s$\"']*(?:[,/&、]\s*(?:and|or)?|\b(?:and|or|und|oder|et|ou|y|o|e)\b|和|或)[({*\s$\"']*(?!\1)[A-Z](?![^\W_]|['’])"
    r"(?!\)?\**\s+(?:is|are|was)\b)"
)
_REFUTED = re.compile(r"\**\s+(?:is|are|was)\s+(?:incorrect|wrong|false|not)\b", re.IGNORECASE)


def exact_said(response: str) -> str | None:
    """What a response says, as `exact` compares it; None where it holds no answer."""
    said = _inner(response)
    return _plain(said) or None if said is not None else None


def choice_said(response: str) -> str | None:
    """The letter that a response chooses; None where it chooses none."""
    said = _inner(response)
    letter = None if said is None else _chosen(said)
    return None if said is None or letter is None or _is_one_of_several(said, letter) else letter


def number_said(response: str) -> str | None:
    """The final number of a response, as a fraction; None where there is none."""
    said = _said_number(response)
    return None if said is None else str(said)


def exact(case: Case) -> RewardResult:
    """Correct when the response equals the reference as text.

    Case, articles, white space and the punctuation around words are ignored; signs such as - and / are not.

    Raises:
        ValueError: the reference is blank.
    """
    check_exact(case.reference)
    said = _inner(case.response)
    if said is None or not said.strip():
        return RewardResult(outcome=Outcome.UNPARSABLE, why="the response holds no answer")
    if _plain(said) == _plain(case.reference):
        return RewardResult(outcome=Outcome.CORRECT, why=f"equals {_cut(case.reference)!r}")
    return _wrong(repr(said.strip()[-80:]), repr(_cut(case.reference)))


def check_exact(reference: str) -> None:
    """Makes sure that a response could equal the reference.

    Raises:
        ValueError: the reference is blank.
    """
    refuse_missing(reference)
    if not reference.strip():
        raise ValueError(f"the reference {reference!r} is blank, which no answer equals; give the text that is wanted")


def choice(case: Case) -> RewardResult:
    """Correct when the letter that the response chooses is the reference's.

    The letter stands in the last box, behind the last answer phrase, behind a word such as "option", as the label that
    the response begins with, or else last in the text. Letters that the text rules out ("not A") are passed over.

    Raises:
        ValueError: the reference does not begin with a letter.
    """
    wanted = _wanted_letter(case.reference)
    letter = choice_said(case.response)
    if letter is None:
        return RewardResult(outcome=Outcome.UNPARSABLE, why="no letter found where the final answer should be")
    if letter == wanted:
        return RewardResult(outcome=Outcome.CORRECT, why=f"chose {wanted}")
    return _wrong(letter, wanted)


def check_choice(reference: str) -> None:
    """Makes sure that the reference names a choice, as `D`, `(D) Alina` or `D. Alina` do.

    Raises:
        ValueError: it does not begin with a letter that stands alone.
    """
    _wanted_letter(reference)


def number(case: Case) -> RewardResult:
    """Correct when the final number of the response has exactly the value of the reference's final number.

    The final number is the one in the last box; without a box the first one after the last marker (`####`,
    `answer is`, `answer:`), or without a marker the last one in the text. A marker or box with no number holds no
    answer. Headings of Markdown are no markers. A number that is a part of something else is none: of a time, a root or
    a power, one of several (`5 or 6`). Values are compared as fractions, so 0.50, 1/2 and .5 are one number, 1e2 is 100
    and 3 1/2 is 7/2.

    Raises:
        ValueError: the reference holds no number, which no response could ever match.
    """
    wanted = _wanted_number(case.reference)
    said = _said_number(case.response)
    if said is None:
        return RewardResult(outcome=Outcome.UNPARSABLE, why="no number found where the final answer should be")
    if said == wanted:
        return RewardResult(outcome=Outcome.CORRECT, why=f"equals {_cut(str(wanted))}")
    return _wrong(_cut(str(said)), _cut(str(wanted)))


def check_number(reference: str) -> None:
    """Makes sure that the reference holds a number.

    Raises:
        ValueError: it holds none.
    """
    _wanted_number(reference)


def final_number(text: str) -> Fraction | None:
    """The value of the final number of a text as `number` reads it, or None where there is none."""
    text = _uniform(text)
    markers = list(_MARKER.finditer(text))
    part = text[markers[-1].end() :] if markers else _HEADING.sub("", text)
    found = [match for match in _NUMBER.finditer(part) if _value(match.group()) is not None]
    if not found:
        return None if markers or part == text else final_number(part) or _last(text)
    chosen = found[0] if markers else found[-1]
    return None if _is_part(part, chosen, found) else _value(chosen.group())


def _last(text: str) -> Fraction | None:
    """The last number of a text that is nothing but headings."""
    found = [value for match in _NUMBER.finditer(text) if (value := _value(match.group())) is not None]
    return found[-1] if found else None


def _uniform(text: str) -> str:
    """The text with one kind of minus sign and with fractions, powers and thousands of LaTeX as plain numbers."""
    if not text.isascii():
        text = re.sub(r"(?<=\d)(?=[½¼¾⅓-⅞])", " ", text.translate(_DASHES))
        text = unicodedata.normalize("NFKC", text).replace("\u2044", "/")
    if "\\" not in text and "^" not in text and "{" not in text:
        return text
    text = re.sub(r"(?<=\d)(?:\{,\}|\\,|\\!)(?=\d{3}(?!\d))", ",", text)
    text = _FRAC.sub(lambda found: f" {found[1] or found[2]}/{found[3] or found[4]}", _SCIENTIFIC.sub(r"e\1", text))
    return _POWER.sub(lambda found: str(int(found[1]) ** int(found[2])), text)


def _is_part(text: str, chosen: re.Match[str], found: list[re.Match[str]]) -> bool:
    """Whether a number is a part of something else: a power, a time, or one of several, as in `5 or 6`."""
    if _BEFORE.search(text[max(0, chosen.start() - 40) : chosen.start()]) or _BEHIND.match(text, chosen.end()):
        return True
    place = found.index(chosen)
    before = text[found[place - 1].end() : chosen.start()] if place else ""
    return _ONE_OF.match(text, chosen.end()) is not None or _OR.fullmatch(before) is not None


def _wanted_number(reference: str) -> Fraction:
    refuse_missing(reference)
    wanted = _said_number(reference)
    if wanted is None:
        raise ValueError(f"the reference {reference[-80:]!r} holds no number; use the reward 'exact' for text answers")
    return wanted


def _said_number(text: str) -> Fraction | None:
    inner = _inner(text)
    if inner is None:
        return None
    if not has_box(inner):
        return final_number(inner)
    content = box(inner)
    if content is None:
        return None
    if re.search(r"\d\s*\}*\s*!", content):
        return None  # a factorial
    value = numeral(clean(content)) if len(content) <= _LONGEST else None
    return final_number(content) if value is None else value[0]


def _value(token: str) -> Fraction | None:
    if len(token) > _LONGEST:
        return None
    whole, mixed, rest = token.replace(",", "").rpartition(" ")
    over, _, under = rest.rstrip(".").partition("/")
    try:
        part = Fraction(over) / Fraction(under or 1)
        return part if not mixed else Fraction(whole) + (-part if whole.startswith("-") else part)
    except (ValueError, ZeroDivisionError):  # a lone sign or point, or a division by zero, is no number
        return None


def _inner(response: str) -> str | None:
    said = spoken(response)
    return None if said is None else tagged(said)


def _plain(text: str) -> str:
    words = unicodedata.normalize("NFKC", text).casefold().split()
    bare = [re.sub(r"^\.+(?=\d)", ".", word.rstrip(_EDGES).lstrip(_EDGES.replace(".", ""))) for word in words]
    kept = [re.sub(r"^\.+(?!\d)", "", word) for word in bare if word not in _ARTICLES]
    return " ".join(filter(None, kept)) or " ".join(filter(None, bare)) or " ".join(words)


def _wanted_letter(reference: str) -> str:
    refuse_missing(reference)
    inner = box(reference) if has_box(reference) else reference
    found = _LABEL.match(inner or "")
    if found is None:
        raise ValueError(f"the reference {reference[:80]!r} names no choice; begin it with a letter, as in '(D) Alina'")
    return found.group(1).upper()


def _chosen(text: str) -> str | None:
    if has_box(text):
        found = _LABEL.match(box(text) or "")
        return found.group(1).upper() if found else None
    behind = phrase(text)
    if behind is not None:
        label = re.match(r"[\s*(\"'$\\{]*([A-Za-z])(?=[\s*)\"'$}]*(?:[.,;:。，]|$|\n))", behind)
        return label.group(1).upper() if label else next(iter(_letters(behind)), None)
    options = [found for found in _OPTION.finditer(text) if not _REFUSED.search(text[: found.start()])]
    if options:
        return next(group for group in options[-1].groups() if group)
    label = re.match(r"[\s*(\"'$\\{]*([A-Za-z])(?=[\s*)\"'$}]*(?:[.,;:。，、：]|$|\n))", text)
    if label and len(_LINE_LABEL.findall(text)) <= 1:
        return label.group(1).upper()
    return next(reversed(_letters(text)), None)


def _is_one_of_several(text: str, letter: str) -> bool:
    """Whether the answer begins with two letters, `A or C`, or the text ends with them, of which the letter is one."""
    behind = box(text) if has_box(text) else phrase(text) or text
    starts = re.match(r"[\s*({$\\\"'a-z]*", behind or "")
    if starts and _SEVERAL.match(behind or "", starts.end()):
        return True
    plain = not has_box(text) and phrase(text) is None and not _OPTION.search(text)
    return plain and any(
        letter in found.group() and not text[found.end() :].strip(" .)*}$\"'\n")
        for found in _SEVERAL.finditer(text, max(0, len(text) - 200))
    )


def _letters(text: str) -> list[str]:
    """The letters that stand alone and are not ruled out, in order; the words "I" and "A" of prose are none."""
    found = []
    for match in sorted([*_LETTER.finditer(text), *_LETTER_BESIDE_CJK.finditer(text)], key=lambda match: match.start()):
        letter = next(group for group in match.groups() if group)
        prose = (
            letter in "IA" and not match.group().startswith("(") and re.match(r"\s+[a-z]+\s+[a-z]", text[match.end() :])
        )
        refused = _REFUSED.search(text[: match.start()]) or _REFUTED.match(text, match.end())
        if not refused and not (prose and letter == "I"):
            found.append(letter.upper())
    return found


def _wrong(said: str, wanted: str) -> RewardResult:
    return RewardResult(outcome=Outcome.WRONG, why=f"answered {said}, expected {wanted}")


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
