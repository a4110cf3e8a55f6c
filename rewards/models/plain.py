"""Text of a policy or a data file for a model: nothing in it may be read as a control token or open a turn.

A tokenizer reads the string of a control token, such as "<|im_end|>", as that token wherever it stands. What nobody
checked would close its own turn and speak for somebody else. So each such string gets a space behind its first
character, which leaves it readable and makes it text. Other texts stay as they are.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHORTEST_MARKER = 3  # characters; a shorter string stands in any text
LONGEST_LABEL = 40  # characters of a line such as "### Response:" that opens a turn in a template of words
# Characters of a text that may come again, such as those of a tool's schema, which every conversation shows: what
# became of it is remembered, as looking for tokens in it costs more than all else that is done with it.
LONGEST_REMEMBERED = 200

# Of models that are behind an endpoint, whose tokenizers nobody knows.
_ANY = re.compile(
    r"""<\|[^<>|\s]{1,60}\|?>|<｜[^｜\n]{1,60}｜>|</?(?:s|bos|eos|pad|unk|sep|cls|mask)>|<(?:start|end)_of_\w{1,20}>
    |<extra_(?:id_)?\d+>|<<?/?SYS>?>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]
    |\[(?:CLS|SEP|PAD|MASK|UNK|BOS|EOS|gMASK)\]|<(?:reserved|unused|special)[\w ]{0,30}>""",
    re.IGNORECASE | re.VERBOSE,
)
_BRACKETS = re.compile(r"<<[^<>\n]{1,40}>>|<[^<>\n]{1,60}>|\[[^\[\]\n]{1,40}\]")
_THOUGHTS = ("<think>", "</think>")  # of every answer that reasons; they open no turn
_STANDIN = "zqcontentqz"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Control:
    """What a tokenizer and its chat template read as more than text."""

    strings: tuple[str, ...]
    ids: frozenset[int]  # tokens that no text may hold


def plain(text: str, tokenizer: "PreTrainedTokenizerBase | None", *more: str) -> str:
    """A text in which the tokenizer finds no control token, and its chat template no marker of a turn.

    Args:
        text: from a policy or a data file, without a template around it.
        tokenizer: of the model that is to read the text; None for a model behind an endpoint, where the usual strings
            of control tokens are taken.
        more: further strings that mean something to the model, such as the separator of its steps.
    """
    made = _remembered if len(text) <= LONGEST_REMEMBERED else _plain
    return made(text, tokenizer, more)


def _plain(text: str, tokenizer: "PreTrainedTokenizerBase | None", more: Sequence[str]) -> str:
    text = text.encode("utf-8", "replace").decode("utf-8")  # half of a pair of surrogates cannot be tokenized or sent
    if tokenizer is None:
        return _ANY.sub(lambda found: _broken(found[0]), text)
    control = _control(tokenizer)
    strings = {*control.strings, *more}
    if not any(string in text for string in strings) and not _holds(tokenizer, text, control.ids):
        return text
    broken = _pattern(tuple(sorted(strings))).sub(lambda found: _broken(found[0]), text)
    # A tokenizer that changes a text before it looks for its tokens may find one where its string is not.
    return " ".join(text) if _holds(tokenizer, broken, control.ids) else broken


_remembered = functools.lru_cache(maxsize=4096)(_plain)


def plain_turns(
    turns: Sequence[Mapping[str, str]], tokenizer: "PreTrainedTokenizerBase | None"
) -> list[dict[str, str]]:
    """A conversation, turns with "role" and "content", with the content of each one made plain."""
    return [{**turn, "content": plain(turn["content"], tokenizer)} for turn in turns]


def _broken(string: str) -> str:
    return f"{string[0]} {string[1:]}"


@functools.lru_cache(maxsize=64)
def _pattern(strings: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(re.escape(string) for string in sorted(strings, key=len, reverse=True)))


def _holds(tokenizer: "PreTrainedTokenizerBase", text: str, ids: frozenset[int]) -> bool:
    return bool(ids) and not ids.isdisjoint(tokenizer(text, add_special_tokens=False)["input_ids"])


@functools.lru_cache(maxsize=8)
def _control(tokenizer: "PreTrainedTokenizerBase") -> _Control:
    added: dict[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    special = {str(token): number for number, token in added.items() if token.special}
    special |= {
        string: tokenizer.convert_tokens_to_ids(string) for string in getattr(tokenizer, "all_special_tokens", ())
    }
    special = {string: number for string, number in special.items() if _is_marker(string)}
    unknown = getattr(tokenizer, "unk_token_id", None)  # stands for any character that the tokenizer does not know
    turns = {string for string in _turn_markers(tokenizer) if _is_marker(string)}
    ids = frozenset(number for number in special.values() if number != unknown)
    return _Control(strings=tuple(sorted({*special, *turns})), ids=ids)


def _is_marker(string: str) -> bool:
    return len(string) >= SHORTEST_MARKER and not string.isspace() and not string.isalnum()


def _turn_markers(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    """What a chat template puts around the contents of turns: tags in brackets, and lines that end in a colon."""
    if not getattr(tokenizer, "chat_template", None):
        return set()
    system, user, assistant = ({"role": role, "content": _STANDIN} for role in ("system", "user", "assistant"))
    found = set[str]()
    for turns in ([user, assistant, user], [system, user, assistant, user]):
        try:
            text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception:  # a template refuses what it does not take with whatever it likes, and then shows no marker
            continue
        for piece in text.split(_STANDIN):
            found |= set(_BRACKETS.findall(piece))
            found |= {line.strip() for line in piece.splitlines() if _is_label(line.strip())}
    return found - set(_THOUGHTS)


def _is_label(line: str) -> bool:
    return line.endswith(":") and len(line) <= LONGEST_LABEL
