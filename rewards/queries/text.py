"""SQL in texts: its tokens and statements, and the query in a response."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<quoted>'(?:[^']|'')*+(?:'|\Z)|"(?:[^"]|"")*+(?:"|\Z)|`[^`]*(?:`|\Z)|\[[^\]]*(?:\]|\Z)
        |\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z))
    |(?P<word>[^\W\d]\w*)|(?P<other>\d[\w.]*|.)""",
    re.DOTALL | re.VERBOSE,
)
_FENCE = re.compile(
    r"(?<![`~])(`{3,}+|~{3,}+)(?:((?:sql|sqlite3?|duckdb|mysql|postgres(?:ql)?)\b)|[^\n`~]*\n)(.*?)(?:\1|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_QUOTE = re.compile(r"^[ \t]*(?:>[ \t]?)+", re.MULTILINE)
_QUOTED_FENCE = re.compile(rf"{_QUOTE.pattern}(?:`{{3}}|~{{3}})", re.MULTILINE)  # Markdown's, of a whole block
_CODE = re.compile(r"(?<!`)(`+)(?!`)([^`]+)\1(?!`)")
_CHAT = re.compile(
    r"<\|[\w ]{1,40}\|>|<｜[^｜\n]{1,40}｜>|</?s>|<(?:(?:start|end)_of_turn|[be]os|pad)>|\[/(?:INST|SQL)\]", re.I
)
_QUERY = r"(?:SELECT\b(?=\s*\S)|WITH\s+(?:RECURSIVE\s+)?[\w\"`\[\]]+\s*(?:\([^()]*\)\s*)?AS\b)"
_START = re.compile(rf"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*+{_QUERY}", re.IGNORECASE | re.DOTALL)
# A query begins a line, behind signs of Markdown or the prompt of a shell, or stands behind words that announce it.
_BARE = re.compile(
    r"(?:^[ \t>#]*(?:sqlite>|D\b|/\*[^*\n]*\*/)?|(?<=:)|(?<=\bis)|(?<==))[ \t]*(\*\*|__)?"
    rf"[ \t]*(\((?=[\s(]*SELECT\b)|{_QUERY})",
    re.IGNORECASE | re.MULTILINE,
)
_STATEMENT = re.compile(
    r"\s*(SELECT|WITH|INSERT|UPDATE|DELETE|REPLACE|DROP|CREATE|ALTER|ATTACH|DETACH|PRAGMA|VACUUM|COPY)\b",
    re.IGNORECASE,
)
_CLAUSES = frozenset(
    re.findall(
        r"\w+",
        """SELECT FROM WHERE GROUP ORDER HAVING LIMIT OFFSET FETCH WINDOW QUALIFY UNION INTERSECT EXCEPT VALUES WITH ON
        USING JOIN LEFT RIGHT INNER OUTER FULL CROSS NATURAL ASOF POSITIONAL SEMI ANTI LATERAL AND OR NOT AS IN IS LIKE
        ILIKE GLOB REGEXP MATCH RLIKE BETWEEN CASE WHEN THEN ELSE END OVER PARTITION ROWS RANGE FILTER WITHIN ASC DESC
        NULLS COLLATE ESCAPE SIMILAR EXISTS DISTINCT ALL ANY SOME BY NULL ISNULL NOTNULL INDEXED AT TABLESAMPLE SAMPLE
        PIVOT UNPIVOT INTERVAL""",
    )
)
_AROUND = "\ufeff\u200b \t\r\n"  # white space, and the mark of byte order, that may stand around a text
_OPERATORS = frozenset("+-*/%<>=|&^~!([{:")
_OPEN = _CLAUSES - {
    "END",
    "ASC",
    "DESC",
    "NULL",
    "ISNULL",
    "NOTNULL",
    "ALL",
}  # words that a complete query cannot end with


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A word, a quoted text, a number or a sign of SQL."""

    text: str
    start: int  # characters before it
    end: int
    depth: int  # of parentheses and braces around it
    word: str  # in capitals; "" where it is no bare word


def query_of(response: str) -> str | None:
    """The SQL of a response without its closing semicolon, or None where it holds none.

    Thoughts, up to the last </think>, are left out, and so is what stands behind a token that ends a turn of a chat.
    The text is then what stands in the last <answer> or <sql>, or all of it where there is none. The SQL is the last
    block of the text that is fenced as SQL, with back ticks or tildes; without one the last fenced block that begins
    like SQL; without one the last whole query (one with FROM or a semicolon; without one, the last begun) in inline
    code, at the beginning of a line, or behind a colon, "is" or "=". Prose behind it is left out.
    """
    text = _turn(response.rpartition("</think>")[2].partition("<think>")[0])
    if _QUOTED_FENCE.search(text):
        text = _QUOTE.sub("", text)
    tagged = False
    for tag in ("answer", "sql"):
        inner = _tagged(text, tag)
        text, tagged = (text, tagged) if inner is None else (inner, True)
    blocks = [(match[2], match[3]) for match in _FENCE.finditer(text)]
    fenced = [code for language, code in blocks if language] or [code for _, code in blocks if _begins_statement(code)]
    if fenced:
        text = fenced[-1]
    elif (found := _loose(text)) is not None:
        text = found
    elif not tagged and not blocks:
        return None
    elif blocks:
        text = blocks[-1][1]
    return ";\n".join(statements(text)) or None


def statements(text: str) -> list[str]:
    """The statements of a text of SQL, without the semicolons between them and without comments around them."""
    parts: list[list[Token]] = [[]]
    text = text.lstrip(_AROUND)
    for token in tokens(text):
        if token.text == ";":
            parts.append([])
        else:
            parts[-1].append(token)
    return [text[part[0].start : part[-1].end] for part in parts if part]


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text of SQL; white space and comments are none."""
    depth = 0
    for match in _TOKEN.finditer(text):
        if match["blank"]:
            continue
        depth -= match.group() in (")", "}") and depth > 0
        word = (match["word"] or "").upper()
        yield Token(text=match.group(), start=match.start(), end=match.end(), depth=depth, word=word)
        depth += match.group() in ("(", "{")


def _turn(text: str) -> str:
    """A text up to the token that ends its turn; those that begin it are left out."""
    text = text.strip(_AROUND)
    while (opening := _CHAT.match(text)) is not None:
        text = text[opening.end() :].removeprefix("assistant").lstrip()
    ending = _CHAT.search(text)
    return text[: ending.start()] if ending else text


def _tagged(text: str, tag: str) -> str | None:
    """What stands in the last pair of a tag, or behind its last opening where none is closed."""
    closings = [match.start() for match in re.finditer(f"</{tag}>", text, re.IGNORECASE)]
    before = text[: closings[-1]] if closings else text
    openings = [match.end() for match in re.finditer(f"<{tag}>", before, re.IGNORECASE)]
    return before[openings[-1] :] if openings else None


def _begins_statement(code: str) -> bool:
    return any(_STATEMENT.match(statement.lstrip("(")) for statement in statements(code)[:1])


def _loose(text: str) -> str | None:
    """The last query of a text without fences, with the statements that follow it."""
    found, at = list[str](), 0
    starts = [(match.start(2), match) for match in _BARE.finditer(text)]
    starts += [(match.start(2), match) for match in _CODE.finditer(text) if _START.match(match[2])]
    for start, match in sorted(starts, key=lambda one: one[0]):
        if start < at:  # within the last one
            continue
        query = match[2] if match.re is _CODE else _without_prose(text[start:])
        at = start + len(query)
        bold = match[1] if match.re is _BARE else None
        found.append(query.partition(bold)[0] if bold else query)
    whole = [query for query in found if any(token.word == "FROM" or token.text == ";" for token in tokens(query))]
    written = [query for query in whole if not _capitalized(query)]  # "Select the names from ..." may be prose
    chosen = written or whole or found
    return chosen[-1] if chosen else None


def _capitalized(text: str) -> bool:
    return next(tokens(text)).text.istitle()


def _without_prose(text: str) -> str:
    """A text that begins with a query up to where its statements end.

    That is a semicolon behind which no statement follows, or a line behind a complete one that begins with a word that
    continues no query. Words that are capitalized, such as "From", continue only a query that is so, too.
    """
    capitalized, before = _capitalized(text), None
    for token in tokens(text):
        if token.text == ";":
            following = _STATEMENT.match(text, token.end)
            if following is None or (following[1].istitle() and not capitalized):
                return text[: token.end]
        elif before is not None and token.depth == 0 and _begins_prose(text, before, token, capitalized):
            return text[: before.end]
        before = token
    return text


def _begins_prose(text: str, before: Token, token: Token, capitalized: bool) -> bool:
    """Whether a token begins a line as prose, a list or a table does, and the query is complete before it."""
    lines = text.count("\n", before.end, token.start)
    if not lines or before.text in (";", ",", *_OPERATORS) or before.word in _OPEN:
        return False
    if token.word == "SELECT":
        return before.text != ")" and before.word != "ALL"
    if token.word:
        return token.word not in _CLAUSES or (token.text.istitle() and not capitalized)
    return token.text[0] in "#|`" or (lines > 1 and token.text[0] in "*-0123456789>\"'[")
