r"""Formulas and numbers in running text: where they begin and end, and which of them form one list.

A number of running text is given back with a decimal point and without separators (`1.000,99` and `1 000,99` become
`1000.99`), since behind this point a comma separates the parts of a list.
"""

import re
from dataclasses import dataclass

_DELIMITED = (
    re.compile(r"\$\$(?P<inner>(?:\\.|[^$\\])+?)\$\$", re.DOTALL),
    re.compile(r"\\\[(?P<inner>.+?)\\\]", re.DOTALL),
    re.compile(r"\$(?P<inner>(?:\\.|[^$\n\\])+?)\$"),  # inline formulas hold no line break
    re.compile(r"\\\((?P<inner>[^\n]+?)\\\)"),
)
_OPENER = re.compile(r"(?<!\\)(?:\$\$?|\\\[|\\\()")

_CURRENCY = "$€£¥₹₽₩₫₪₺元"
_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:[  ]\d{3})+(?:[.,]\d+)?|\d+[.,]\d+|\d+|\.\d+)"
)
_MONEY = rf"\\?[{re.escape(_CURRENCY)}]"
_EXPONENT = r"(?:[eE][-+]?\d+(?![A-Za-z0-9]))?(?:\^\{?-?\d+\}?|!(?=\s*[-+*/×÷=)]))?"
_SIGNED = rf"(?:(?<![A-Za-z0-9_)\]^])[-−])?(?:{_MONEY}\s?)?(?<![A-Za-z\d_.^])(?<!\^[-{{]){_DIGITS}{_EXPONENT}"
_OPERAND = rf"[(\[]{{0,4}}{_SIGNED}[)\]]{{0,4}}(?:\s?(?:{_MONEY}|%)(?=\s*[-+*/×÷=]))?"
_SIGN = r"(?:\s*[*/×÷^=+:]\s*|\s+[-−]\s+)"
_NAMED = r"(?:(?<![^\W_])[A-Za-z]\s*=\s*)?"
_RUN = re.compile(
    rf"{_NAMED}{_OPERAND}(?:{_SIGN}{_OPERAND})*(?:\s*(?:\\?%|percent|pct|[tb]rillion|[mb]illion|thousand|hundred|dozen)(?![A-Za-z]))?",
    re.IGNORECASE,
)
_BARE_LATEX = re.compile(  # a formula without delimiters: commands, their arguments, numbers, signs, lone letters
    r"(?:\\[a-zA-Z]+|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}|[\d.+\-*/^_()\[\]=|,]|"
    r"(?<![^\W_])[A-Za-z](?![^\W_])|(?<=\d)[A-Za-z]|[ ])+"
)
_NUMBER_TOKEN = re.compile(_DIGITS)

# Words that formulas are made of; any other run of letters makes a text prose.
_FORMULA_WORDS = re.compile(
    r"(?:arc)?(?:sin|cos|tan|cot)h?|sec|csc|log|ln|exp|sqrt|frac|pi|b?mod|gcd|lcm|max|min|lim|det|deg|and|or|inf|infty|"
    r"infinity|binom|cdot|times|theta|alpha|beta",
    re.IGNORECASE,
)
_UNIT_WORD = re.compile(
    r"(?:square|cubic|sq|cu|per|degrees?|percent|pct|units?|[bm]illion|trillion|thousand|hundred|dozen|dollars?|cents?|euros?|pounds?|feet|foot|ft|inch(?:es)?|"
    r"miles?|mph|yards?|(?:centi|milli|kilo)?(?:met(?:er|re)s?|grams?|lit(?:er|re)s?)|hours?|minutes?|seconds?|days?|"
    r"weeks?|months?|years?|am|pm|hz|km|cm|mm|kg|mg|ml|hr|min|sec|rad(?:ians?)?)",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|operatorname|hbox)\s*\{[^{}]*\}|\\begin\{\w+\*?\}(?:\{[^{}]*\})?|\\end\{\w+\*?\}|\\[a-zA-Z]+"
)
_ALONE = re.compile(r"(?<![\w\\])(?<![=+*/^])(?<![=+*/^] )[^\W\d_]{2,}(?![\w(]|\s*[=+*/^])")
_TAIL = 4_000  # characters of a text in which its last formula is looked for
_GAP = re.compile(
    r"\s*(?:,?\s*(?:(?:and|or)\s+(?:maybe|perhaps|possibly|else|even|also)|and|or|et|ou|und|oder|y|o|e|и|或|和)(?![^\W\d_])|"
    r"[,;、，])\s*",
    re.IGNORECASE,
)
_REFUSED = re.compile(  # words before a formula that say that it is not the answer
    r"(?:\bnot|n['’]t|\brather\s+than|\binstead\s+of|\bnicht|\bno\s+es|\bnão\s+é|\bn['’]est\s+pas|不是|而非)"
    r"(?:\s+(?:be|equal(?:\s+to)?|just|simply|exactly))?[\s:*]*$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"\s+(?:squared|cubed|factorial|halves|thirds|and\s+a\s+(?:half|third|quarter))\b", re.IGNORECASE)
_VERB = re.compile(
    r"\b(?:is|are|was|equals?|be)\b\s*:?\s*(?:(?:exactly|simply|just|only|therefore|thus|indeed|equal\s+to)\s+)*\**"
    r"(?=\s*\**(?:\$|\\\(|\\\[|\\[dtc]?frac|\\sqrt|\\pi|[-−+]?[\d.(\[{]|[€£¥]))",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r",?\s+(?:which|since|because|as|where|when|if|so)\b")
_SUBJECT = re.compile(r"[A-Za-z](?:_?\{?\w{0,9}\}?)?(?:\([^()]{0,20}\))?|[A-Z]{2,12}|\\[a-z]+\s?[A-Za-z]{0,3}")
_SENTENCE_END = re.compile(r"(?<!\\)[.!?](?=\s|$|[\"'*])|[。！？]|\n")


@dataclass(frozen=True, slots=True)
class _Formula:
    start: int
    end: int
    text: str


def looks_like_formula(text: str) -> bool:
    """Whether a whole text is one formula (or number, or list of them): no word of prose, some digit or letter."""
    if len(text) > 400 or not re.search(r"\w", text) or "\n\n" in text or _SENTENCE_END.search(text.rstrip(". \n!")):
        return False
    if any(found.start() != found.end() for found in _OPENER.finditer(text)):
        return _is_one_delimited(text)
    bare = _COMMAND.sub(" ", text)
    return not any(_is_prose(word.group()) for word in _ALONE.finditer(bare)) and not re.search(
        r"[^\x00-\u036f\u2000-\u2bff\u0370-\u03ff]", bare
    )


def sentence_of(text: str) -> str:
    """The first sentence or displayed formula of a text, blank lines before it and marks of emphasis aside."""
    text = (
        re.sub(r"^[\s*_:：#>\"'`\\]*\n\s*(?:[-*•]\s+)?", "", text, count=1)
        if re.match(r"^[\s*_:：>#]*\n", text)
        else text
    )
    text = text[:_TAIL].lstrip(" \t\n*_")
    formulas = _delimited(text)
    for end in _SENTENCE_END.finditer(text):
        if not any(part.start < end.start() < part.end for part in formulas):
            return text[: end.start()]
    return text


def first_formulas(text: str) -> tuple[str, ...]:
    """The first formula or number of a text and the formulas that follow it as a list (`$1$ and $2$`); or empty.

    A text that is a formula as a whole is given back as it is.
    """
    if looks_like_formula(text.strip()) and re.search(r"\w", text):
        return (undelimited(text),)
    found = _formulas(text)
    size = 1
    while size < len(found) and _GAP.fullmatch(text[found[size - 1].end : found[size].start]):
        size += 1
    if found and re.fullmatch(r"\s*(?:[-+*/=^×÷]\s*|\{[^{}]*)", text[found[size - 1].end :]):
        return ()  # broken off in the middle of a formula
    return tuple(part.text for part in found[:size])


def behind_verb(sentence: str) -> str:
    """What the verb of a sentence says of its subject, where the subject has formulas of its own, as in `the volume of
    $ABC$ is 120` and `$n$ is 34`; else the whole sentence.
    """
    found = _formulas(sentence) if _VERB.search(sentence) else []
    if not found or looks_like_formula(sentence.strip()):
        return sentence
    clause = _CLAUSE.split(sentence, maxsplit=1)[0]
    first = found[0]
    lead = sentence[: first.start].strip(" *:_-(")
    verbs = [verb for verb in _VERB.finditer(clause) if not any(p.start < verb.start() < p.end for p in found)]
    if not lead and not _SUBJECT.fullmatch(first.text):
        return sentence
    if not verbs or verbs[0].start() < first.start:
        return sentence
    return sentence[verbs[0].end() :]


def last_formulas(text: str) -> tuple[str, ...]:
    """The last formula or number of a text and the formulas before it that make a list with it; empty without any."""
    text = text[-_TAIL:]
    found = _formulas(text)
    first = len(found) - 1
    while first > 0 and _GAP.fullmatch(text[found[first - 1].end : found[first].start]):
        first -= 1
    return tuple(part.text for part in found[max(first, 0) :])


def undelimited(text: str) -> str:
    """A formula without the delimiters around it and the full stop behind them."""
    found = _delimited(text)
    alone = len(found) == 1 and not text[: found[0].start].strip() and not text[found[0].end :].strip(" .\n")
    return found[0].text if alone else text.strip()


def plain_number(token: str) -> str:
    """A number of running text with a decimal point and no separators; `0,111` is 0.111 and `1,000` is 1000."""
    if re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", token):
        return token.replace(",", "")
    if re.fullmatch(r"\d{1,3}(?:\.\d{3})+,\d+", token):
        token = token.replace(".", "")
    return re.sub(r"[  ]", "", token).replace(",", ".")


def is_refused(before: str) -> bool:
    """Whether the words before an answer say that it is not the answer, as in `it is not 8`."""
    return _REFUSED.search(before[-40:]) is not None


def _stands(text: str, part: _Formula) -> bool:
    """Whether a formula is the whole of what is said: not ruled out, no `5 squared`, no exponent of `cm$^2$`."""
    return not is_refused(text[: part.start]) and not _GOES_ON.match(text, part.end) and part.text[:1] not in "^_"


def _is_prose(word: str) -> bool:
    return not _FORMULA_WORDS.fullmatch(word) and not _UNIT_WORD.fullmatch(word.rstrip("²³"))


def _is_one_delimited(text: str) -> bool:
    found = _delimited(text)
    rest, last = [], 0
    for part in found:
        rest.append(text[last : part.start])
        last = part.end
    rest.append(text[last:])
    return (
        bool(found)
        and all(re.fullmatch(r"[\s.,;%]*", part) or _GAP.fullmatch(part) for part in rest)
        and len(found) == 1
    )


def _delimited(text: str) -> list[_Formula]:
    found: list[_Formula] = []
    position = 0
    while opener := _OPENER.search(text, position):
        match = next((m for p in _DELIMITED if (m := p.match(text, opener.start()))), None)
        if match and _is_formula(match.group("inner")):
            found.append(_Formula(match.start(), match.end(), match.group("inner").strip()))
            position = match.end()
        else:
            position = opener.end()
    return found


def _is_formula(inner: str) -> bool:
    """Tells a formula from prose between two currency signs, as in `$5 and not $6`."""
    bare = _COMMAND.sub(" ", inner)
    words = [word.group() for word in _ALONE.finditer(bare) if _is_prose(word.group())]
    has_math = "\\" in inner or re.search(r"[=^_+]", inner) is not None
    if re.search(r"[=+*/×÷<>-]\s*$", inner):  # `$2/egg = $18` is two prices
        return False
    return bool(inner.strip()) and (not words or has_math or re.fullmatch(r"\s*[A-Za-z]+\s*", inner) is not None)


def _formulas(text: str) -> list[_Formula]:
    found = _delimited(text)
    covered = [(part.start, part.end) for part in found]

    def free(start: int, end: int) -> bool:
        return all(end <= low or start >= high for low, high in covered)

    for match in _BARE_LATEX.finditer(text):
        inner = match.group().strip(" .,")
        if re.search(r"\\[a-zA-Z]", inner) and re.search(r"\w\}?", inner) and free(match.start(), match.end()):
            start = match.start() + match.group().index(inner)
            found.append(_Formula(start, start + len(inner), inner))
            covered.append((start, start + len(inner)))
    for match in _RUN.finditer(text):
        if free(match.start(), match.end()):
            found.append(_Formula(match.start(), match.end(), _plain_run(match.group())))
    found = [part for part in found if _stands(text, part)]
    return sorted(found, key=lambda part: part.start)


def _plain_run(run: str) -> str:
    run = _NUMBER_TOKEN.sub(lambda token: plain_number(token.group()), run.strip())
    for closing, opening in ((")", "("), ("]", "[")):
        while run.endswith(closing) and run.count(closing) > run.count(opening):
            run = run[:-1]
        while run.startswith(opening) and run.count(opening) > run.count(closing):
            run = run[1:]
    return run
