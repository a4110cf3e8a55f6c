"""The code in a response: which of its blocks is the program.

1. What stands behind the last </think> is read, and of that the last <answer>, <code> or [PYTHON] with code.
2. Blocks are fenced by three or more backticks or tildes, also
   within a quote (>) or behind the sign of a list. Those of Python count; without one, those without a language;
   without any fence all of the text is the block.
3. The program is the last block that defines all that the tests call; the last block that reads input, for a program
   with inputs; the last one with a function or class where the tests do not say what they call; else the last block. So
   an example of its use behind it is left out.
4. Where no single block defines all that the tests call but the blocks together do, all are the program. Earlier
   blocks are put before it where they define a name that it uses and does not define.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

_FENCE = re.compile(
    r"((?:[ \t]*>)*[ \t]*(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?)(`{3,}|~{3,})[ \t]*\{?\.?([\w+#.-]*)[^`]*", re.ASCII
)
_PYTHON = ("python", "python3", "py", "py3", "ipython", "sage")
_OPENED_LATE = re.compile(r".*?(`{3,})(python3?|py)[ \t]*", re.IGNORECASE)  # behind words on the same line
_TOKENS = re.compile(r"(?:<[^<>`]*>\s*)*")  # of a chat template or an answer's end, behind the closing fence
_ANSWER = re.compile(r"<(answer|code)>(.*?)(?:</\1>|\Z)|\[PYTHON\](.*?)(?:\[/PYTHON\]|\Z)", re.S | re.I)
_CODE_LINE = re.compile(
    r"^\s*(?:(?:async\s+)?def\s|class\s|import\s|from\s+\S+\s+import\s|print\(|@\w|\w+\s*=[^=])", re.M
)
_READS = re.compile(r"\binput\s*\(|\bstdin\b|\bopen\(\s*0|\bfileinput\b|\bos\.read\(\s*0")
_WORD = re.compile(r"[^\W\d]\w*")
_DEFINED = re.compile(
    r"^(?:(?:async[ \t]+)?def[ \t]+|class[ \t]+)(?P<definition>[^\W\d]\w*)"
    r"|^(?P<assigned>[^\W\d]\w*)[ \t]*(?::[^=\n]*)?=(?!=)"
    r"|^(?:from[ \t]+\S+[ \t]+)?import[ \t]+(?P<imported>[^\n#;]+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class _Block:
    text: str
    language: str  # in lower case; "" where the fence names none
    start: int  # line of the opening fence, from 0
    end: int  # line behind the block


def response_code(response: str, needed: Collection[str] = (), *, reads: bool = False) -> str:
    """The code in a response; "" where it holds none.

    Args:
        response: all of it.
        needed: the names that the tests call; empty where nobody knows them.
        reads: whether the program is given inputs.
    """
    text = re.sub("^\ufeff+", "", response.rpartition("</think>")[2], flags=re.MULTILINE)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    inner = _in_answer_tags(text)
    if inner is None:
        return _program(text, needed, reads=reads)
    return _program(inner, needed, reads=reads)


def _in_answer_tags(text: str) -> str | None:
    """What the last <answer> outside of any block holds, where that is code; else None."""
    blocks, lines = _blocks(text), text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    inside = [(starts[block.start], starts[min(block.end, len(lines))]) for block in blocks]
    for found in reversed(list(_ANSWER.finditer(text))):
        if any(start <= found.start() < end for start, end in inside):
            continue
        content = found.group(2) or found.group(3) or ""
        if _blocks(content) or _CODE_LINE.search(content) or (content.strip() and not blocks):
            return content.strip("\n")
        return None
    return None


def _program(text: str, needed: Collection[str], *, reads: bool) -> str:
    blocks = _blocks(text)
    if not blocks:
        return text
    labelled = [block.text for block in blocks if block.language in _PYTHON]
    sources = labelled or [block.text for block in blocks if not block.language]
    if len(sources) < 2:
        return sources[0] if sources else ""
    if needed:
        whole = _last(sources, lambda source: set(needed) <= _defined(source, imports=False))
        if whole is None:
            whole = _last(sources, lambda source: set(needed) <= _defined(source))
        if whole is None and set(needed) <= set().union(*map(_defined, sources)):
            return "\n\n".join(sources)
        return _with_helpers(sources, len(sources) - 1 if whole is None else whole)
    chosen = _last(sources, lambda source: bool(_READS.search(source) if reads else _definitions(source)))
    return _with_helpers(sources, len(sources) - 1 if chosen is None else chosen)


def _last(sources: Sequence[str], fits: Callable[[str], bool]) -> int | None:
    return next((place for place in reversed(range(len(sources))) if fits(sources[place])), None)


def _with_helpers(sources: Sequence[str], chosen: int) -> str:
    """A block behind the earlier ones that define names which it, or one of those, uses and does not define."""
    program = [sources[chosen]]
    defined, used = _defined(sources[chosen]), set(_WORD.findall(sources[chosen]))
    for earlier in reversed(sources[:chosen]):
        new = _definitions(earlier)
        if (new & used) - defined and not new & defined:
            program.insert(0, earlier)
            defined |= _defined(earlier)
            used |= set(_WORD.findall(earlier))
    return "\n\n".join(program)


def _definitions(source: str) -> set[str]:
    """The names of the functions and classes of a source."""
    return {found["definition"] for found in _DEFINED.finditer(source) if found["definition"]}


def _defined(source: str, *, imports: bool = True) -> set[str]:
    """The global names of a source: its functions, classes and assignments, and what it imports."""
    names: set[str] = set()
    for found in _DEFINED.finditer(source):
        names |= {found["definition"] or "", found["assigned"] or ""}
        for part in re.sub(r"[()]", "", found["imported"] or "").split(",") if imports else ():
            names.add(part.split()[-1] if part.split() else "")
    return names - {""}


def _blocks(text: str) -> list[_Block]:
    """The fenced blocks; one that was cut off ends with the text, and an open fence of tildes has to name Python."""
    blocks: list[_Block] = []
    lines, place = text.split("\n"), 0
    while place < len(lines):
        opening, late = _FENCE.fullmatch(lines[place]), _OPENED_LATE.fullmatch(lines[place])
        place += 1
        if not opening and not late:
            continue
        indent, fence, language = opening.groups() if opening else ("", *late.groups())  # type: ignore[union-attr]
        quotes = indent.count(">")
        end = next((i for i in range(place, len(lines)) if _closes(_unquoted(lines[i], quotes), fence)), None)
        if end is None and fence[0] == "~" and language.lower() not in _PYTHON:
            continue
        last = len(lines) if end is None else end
        width = len(_unquoted(indent, quotes))
        content = [_dedented(_unquoted(line, quotes), width) for line in lines[place:last]]
        if end is None and content and not content[-1]:
            content.pop()  # the line break at the end of the text
        if end is None and content:
            content[-1] = content[-1].removesuffix(fence)
        blocks.append(_Block("\n".join(content), language.lower(), place - 1, last + 1))
        place = last + 1
    return blocks


def _unquoted(line: str, quotes: int) -> str:
    """A line without so many signs of a quote, and the blank behind the last."""
    found = re.match(rf"(?:[ \t]*>){{1,{quotes}}} ?", line) if quotes else None
    return line[found.end() :] if found else line


def _closes(line: str, fence: str) -> bool:
    bare = line.strip()
    return bare.startswith(fence) and bool(_TOKENS.fullmatch(bare.lstrip(fence[0]).lstrip()))


def _dedented(line: str, indent: int) -> str:
    return line[indent:] if not line[:indent].strip() else line
