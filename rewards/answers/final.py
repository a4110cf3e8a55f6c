r"""Where the final answer of a response stands. Text in, text out; what the answer means is read elsewhere.

After any thinking part, the first of these that is there holds the answer: the last pair of answer tags, the last box
(or a "final answer" sentence behind it), the last answer phrase, the last formula or number. An answer that was begun
and not ended (`\boxed{` without its brace, `<answer>` without its end, an empty box) is no answer.
"""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum

from rewards.answers.formulas import (
    behind_verb,
    first_formulas,
    is_refused,
    last_formulas,
    looks_like_formula,
    sentence_of,
    undelimited,
)
from rewards.answers.reading import choice

_THOUGHT = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_THINKING = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_BOX = re.compile(r"(?:\\{1,2}boxed|\\{1,2}fbox|\x08oxed)(?![a-zA-Z])\s*")
_NAME = r"(?:user|human|assistant|system|model|tool)"
_TURN = re.compile(  # where another turn begins: what stands behind it is no part of the response
    r"<\|(?:im_start|turn|start)\|?>\s*(?:user|human)\b|<\|start_header_id\|>\s*(?:user|human)\b|<\|(?:user|human)\|>|"
    r"<start_of_turn>\s*user\b|<[|｜](?:User|end_of_turn)[|｜]>\s*(?=\S)|\[INST\]|<\|START_OF_TURN_TOKEN\|><\|USER_TOKEN\|>",
    re.IGNORECASE,
)
_SPECIAL = re.compile(  # tokens of chat templates and of the end of a text
    rf"<[|｜][a-z0-9_▁ ]{{1,40}}[|｜]>(?:{_NAME}\b(?![ \t]*[,.:]?[ \t]*\w))?\s*|"
    r"</?s>|<(?:eos|bos|pad|eod|unk)>|\[/?INST\]|"
    rf"</?(?:start|end)_of_(?:turn|text|sentence|message)>(?:{_NAME}\b)?\s*|\[(?:EOS|PAD|SEP)\]|<<?/?SYS>?>",
    re.IGNORECASE,
)

# Digits and signs of East Asian width, and Arabic digits, as the plain ones.
_WIDE = {code: code - 0xFEE0 for code in map(ord, "０１２３４５６７８９．－＋％＝／＾")} | {
    start + digit: ord("0") + digit for start in (0x660, 0x6F0) for digit in range(10)
}
_PLACEHOLDER = re.compile(
    r"\s*(?:\.{2,}|…|\\(?:[lc]?dots|dotsc))\s*|\s*(?:your\s+)?(?:final\s+)?answer(?:\s+here)?\s*", re.IGNORECASE
)
_MISSING = frozenset(("NaN", "nan", "NAN", "null", "NULL", "None", "<NA>", "N/A", "n/a", "#N/A", "NaT"))
_LAST = 50_000  # characters of a text in which its last answer phrase is looked for
_MANY = 50  # a list of more boxes is no answer; only the last ones are read

# What may stand between two boxes of one list. A full stop, a sign or any other word separates two statements.
_BETWEEN = re.compile(
    r"(?:[\s,;$&、，；]|\\[()\[\],;:! \\]|\\q?quad|\*\*|[-+=~_*]{3,}|"
    r"\\(?:text|mathrm|mbox)\s*\{\s*(?:and|or|,|et|ou|und|oder|y|o|e)?\s*\}|"
    r"(?<![^\W\d_])(?:and|or|et|ou|und|oder|y|o|e|и|или)(?![^\W\d_])|和|或|与|及)*"
)

# "The final answer" may stand behind a box and then replaces it.
# What makes one list of boxes in one sentence, and what makes two statements of them.
_JOINS = re.compile(r"[,;&，、；]|(?<![^\W\d_])(?:and|et|und|y|e|и)(?![^\W\d_])|和|与|及", re.IGNORECASE)
_PARTS = re.compile(
    r"[.!?](?=\s|$)|[。！？]|\n\s*\n|(?<![^\W\d_])(?:so|therefore|thus|hence|then|but|not|no|wait|instead|or|rather|because|"
    r"since|which|gives?|implies|becomes?|actually)(?![^\W\d_])|\\(?:implies|Rightarrow|to)(?![a-zA-Z])|=>|≠",
    re.IGNORECASE,
)

_FINAL = re.compile(
    r"(?:final\s+answer|r[ée]ponse\s+finale|respuesta\s+final|resposta\s+final|risposta\s+finale|"
    r"endg[üu]ltige\s+antwort|最终答案)(?:\s+to\s+[^.\n:]{0,80}?)?\**\s*"
    r"(?:[^.\n:]{0,100}?\s+is|is|est|es|[ée]|ist|lautet|是|为|：|:)\**\s*:?",
    re.IGNORECASE,
)
_IS = (
    r"(?:[:：=]|is\b|was\b|(?:should|must|would|will)\s+be\b|est\b|es\b|è|é(?!\w)|ist\b|lautet\b|war\b|är\b|er\b|on\b|jest\b|to\b(?=\s*[$\d\\-])|"
    r"этo|это|равен|—|–|是|为|為|は|がは|은|는|:)"
)
# GSM8K's mark before the answer. With a title or a numbered one behind it, it is a heading of Markdown.
MARKER = (
    r"(?<!#)####(?!#)(?!\s*\d{1,2}[.):]\s+[A-Za-z*])"
    r"(?=[ \t]*(?:$|\n|[-−+*_(\[{\\$€£¥₹\"'`]|\.?\d"  # nothing, or a sign, bracket, quote, currency or number
    r"|[A-Za-z]\s*=|[a-zA-Z]{1,3}[ \t]*(?:$|\n)|[^\W\d_]+[ \t]*(?:\Z|\n\s*\Z)))"  # a name, or a last word alone
)
_WORD = (
    r"(?:\banswer|\b(?:correct|right|best)\s+(?:option|choice)|\br[ée]ponse|\brespuesta|\bresposta|\brisposta|\bantwort|\bantwoord|\bsvar(?:et)?|\bvastaus|"
    r"\bodpowied[zź]|\bodpověď|\brăspuns(?:ul)?|\bcevap|\bjawaban(?:nya)?|\bđáp\s+án|\bcâu\s+trả\s+lời|\bответ|"
    r"\bвідповідь|\bαπάντηση|答案|答え|答|정답|답|उत्तर|الجواب|الإجابة|اجابه|پاسخ|คำตอบ|תשובה|উত্তর|jibu)"
)
_PHRASE = re.compile(
    rf"(?:{_WORD}\**\s*(?:(?:to|of|for|à|de|a|finale?|correcte?|correcta|final)\b[^.\n:$\\]{{0,60}}?)?\**\s*{_IS}"
    rf"\**(?:\s*[:：])?|{_WORD}\**\s*(?=\$|\\\(|\\\[|\*\*)|{MARKER})",
    re.IGNORECASE,
)
_BOUND = re.compile(  # a bound is no value
    r"[\s:*$]*(?:at\s+(?:least|most)|between|up\s+to|over|under|above|below|not\s+(?:more|less)\s+than|"
    r"(?:more|less|greater|fewer|larger|smaller|higher|lower)\s+than)\b",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]+)\*\*")


class Found(StrEnum):
    """By which sign the final answer was found."""

    BOX = "box"  # \boxed{...}, or several in a row
    TAG = "tag"  # <answer>...</answer>
    PHRASE = "phrase"  # "the answer is ..."
    TEXT = "text"  # nothing but its place: the last formula or number


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """The final answer of a text as it is written, without delimiters.

    Example: ``Final(found=Found.BOX, texts=("1", "2"))`` for ``\\boxed{1} and \\boxed{2}``
    """

    found: Found
    texts: tuple[str, ...]  # more than one where several boxes or formulas form a list; never empty
    sentence: str = field(default="", compare=False)  # behind an answer phrase, where the answer may be words
    every: tuple[str, ...] = field(default=(), compare=False)  # all boxes of the last sentence with one, if several

    @property
    def shown(self) -> str:
        """The answer for a person to read, of at most 80 characters."""
        text = " and ".join(self.texts)
        return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    text: str | None  # None where the brace is never closed


def spoken(response: str) -> str | None:
    """The response behind its thinking part and without tokens of chat templates and turns that it invents; None where
    the thinking never ends.
    """
    response = _without_tokens(response)
    ends = [match.end() for match in _THOUGHT.finditer(response)]
    rest = response[ends[-1] :] if ends else response
    return None if _THINKING.search(rest) else rest


def _without_tokens(response: str) -> str:
    if not response.isascii():  # half of a pair of UTF-16 is no character
        response = response.encode("utf-8", "replace").decode("utf-8").translate(_WIDE)
    if not any(sign in response for sign in ("<", "INST]", "EOS]", "PAD]", "SEP]")):
        return response
    turn = next(
        (found for found in _TURN.finditer(response) if _SPECIAL.sub("", response[: found.start()]).strip()), None
    )
    return _SPECIAL.sub(" ", response[: turn.start()] if turn else response)


def tagged(text: str) -> str | None:
    """What the last pair of answer tags holds; the whole text without tags; None where a last tag is never closed."""
    opened: int | None = None
    inner: str | None = text
    for tag in _TAG.finditer(text):
        if not tag.group(1) and opened is None:
            opened, inner = tag.end(), None
        elif tag.group(1) and opened is not None:
            inner, opened = text[opened : tag.start()], None
    return inner


def final(response: str) -> Final | None:
    """The final answer of a response, or None where it holds none or one that was begun and not ended."""
    said = spoken(response)
    inner = None if said is None else tagged(said)
    if said is None or inner is None or not inner.strip():
        return None
    whole = inner is said
    inner = _json_answer(inner)
    boxes = _boxes(inner)
    answer = _boxed(inner, boxes) if boxes else _phrased(inner)
    if answer is not None or whole or boxes or _PHRASE.search(inner[-_LAST:]):
        return answer
    return Final(found=Found.TAG, texts=(inner.strip(),))


def _json_answer(text: str) -> str:
    """What a JSON object says under a name that ends in "answer"; any other text as it is."""
    bare = re.sub(r"^\s*```(?:json)?|```\s*$", "", text).strip()
    try:
        found = json.loads(bare) if bare.startswith("{") and len(bare) < 100_000 else None
    except (ValueError, RecursionError):  # no JSON, an integer of too many digits, too many brackets
        return text
    if not isinstance(found, dict):
        return text
    return next((str(said) for name, said in found.items() if name.lower().endswith("answer")), text)


def final_of_reference(reference: str) -> Final | None:
    """The answer that a reference holds: like `final`, but a last box without its end reaches to the end of the text.

    A reference is what people typed, so a sloppy one is read as meant.
    """
    boxes = _boxes(reference)
    if choice(reference) and not boxes:
        return Final(found=Found.TEXT, texts=(reference.strip(),))
    if boxes and boxes[-1].text is None:
        reference += "}"
    if looks_like_formula(reference.strip()) and not boxes:
        return Final(found=Found.TEXT, texts=(undelimited(reference),))
    if "\\" in reference and not (boxes or _PHRASE.search(reference) or re.search(r"\$|\\[(\[]|\n|\.\s", reference)):
        return Final(found=Found.TEXT, texts=(reference.strip(),))
    answer = final(reference)
    if answer is not None and len(answer.every) > len(answer.texts):
        return Final(found=Found.BOX, texts=answer.every)
    if answer is None and reference.strip() and not boxes:
        return Final(found=Found.TEXT, texts=(reference.strip(),))
    return answer


def refuse_missing(reference: str) -> None:
    """Refuses a reference that is how a program writes that there is no value; `none` in small letters is a word.

    Raises:
        ValueError: it is one of these.
    """
    if reference.strip() in _MISSING:
        raise ValueError(
            f"the reference {reference.strip()!r} stands for a missing value; give the answer or leave the row out"
        )


def box(text: str) -> str | None:
    """The content of the last box of a text; None where there is no box, or it is empty or never closed."""
    boxes = _boxes(text)
    return (boxes[-1].text or "").strip() or None if boxes else None


def has_box(text: str) -> bool:
    """Whether a box is begun anywhere in the text."""
    return bool(_boxes(text))


def phrase(text: str) -> str | None:
    """The text behind the last answer phrase, or None where there is no such phrase."""
    text = text[-_LAST:]
    found = list(_PHRASE.finditer(text)) + list(_FINAL.finditer(text))
    return text[max(match.end() for match in found) :] if found else None


def _boxed(text: str, boxes: list[_Box]) -> Final | None:
    last = boxes[-1]
    if last.text is None or not last.text.strip():
        return None
    for match in reversed(list(_FINAL.finditer(text, last.end))):
        formulas = first_formulas(sentence_of(text[match.end() :]))
        if formulas:
            return Final(found=Found.PHRASE, texts=formulas)
    group = [last]
    for earlier in reversed(boxes[:-1]):
        between = text[earlier.end : group[0].start]
        if earlier.text is None or earlier.end > group[0].start or not _BETWEEN.fullmatch(between):
            break
        group.insert(0, earlier)
    texts = tuple(part.text.strip() for part in group if part.text and part.text.strip())
    return Final(found=Found.BOX, texts=texts, every=_of_one_sentence(text, boxes))


def _of_one_sentence(text: str, boxes: list[_Box]) -> tuple[str, ...]:
    """The boxes at the end that one sentence lists (`\\boxed{1} and then \\boxed{2}`); else empty."""
    group = boxes[-1:]
    for earlier in reversed(boxes[:-1]):
        between = text[earlier.end : group[0].start]
        listed = len(between) <= 200 and _JOINS.search(between) and not _PARTS.search(between)
        if not earlier.text or earlier.end > group[0].start or not listed:
            break
        group.insert(0, earlier)
    return tuple(part.text.strip() for part in group if part.text) if len(group) > 1 else ()


def _phrased(text: str) -> Final | None:
    behind = phrase(text)
    if behind is None:
        whole = text.strip()
        if looks_like_formula(whole):
            return Final(found=Found.TEXT, texts=(undelimited(whole),))
        formulas = last_formulas(whole)
        if not formulas:
            bold = [found.group(1) for found in _BOLD.finditer(whole) if not is_refused(whole[: found.start()])]
            formulas = (bold[-1],) if bold else (whole,) if len(whole.split()) <= 6 else ()
        brief = whole if len(whole.split()) <= 6 else ""
        return Final(found=Found.TEXT, texts=formulas, sentence=brief) if formulas else None
    sentence = sentence_of(behind)
    formulas = () if _BOUND.match(sentence) else first_formulas(behind_verb(sentence))
    if formulas:
        return Final(found=Found.PHRASE, texts=formulas, sentence=sentence)
    words = sentence.strip(" \t\n*_.,:;!$\"'`#")
    broken = words.count("{") != words.count("}")  # it broke off within a formula
    return Final(found=Found.PHRASE, texts=(words,)) if words and not broken else None


def _boxes(text: str) -> list[_Box]:
    boxes = [_box_at(text, match) for match in list(_BOX.finditer(text))[-_MANY:]]
    return [found for found in boxes if found is not None]


def _box_at(text: str, match: re.Match[str]) -> _Box | None:
    """The box that begins at a command; None where the command is only spoken of (`in \\boxed.`, `\\boxed{...}`)."""
    start = match.end()
    if text[start : start + 1] != "{":  # TeX: a command without a brace takes the next sign
        word = re.compile(r"[-+]?\d[\d.,/]*(?<=\d)|[A-Za-z](?![^\W_])").match(text, start)
        if word is None and text[start:].strip():
            return None
        return _Box(match.start(), word.end() if word else start, word.group() if word else None)
    depth = 0
    for sign in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(sign.group(), 0)
        if depth == 0:
            inside = text[start + 1 : sign.start()]
            return None if _PLACEHOLDER.fullmatch(inside) else _Box(match.start(), sign.end(), inside)
    return _Box(match.start(), len(text), None)
