"""How a reward model reads a prompt and a response, token for token; its training and its scoring share it."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.models.plain import plain
from rewards.verdict import Case, ChatMessage

SEPARATOR = "<extra_0>"  # behind each step, as the authors of Qwen2.5-Math-PRM publish their model
GOOD, BAD, STEP_TAG = "+", "-", "ки"  # as the authors of Math-Shepherd publish their model

_NUMBERED = re.compile(r"^[ \t]*Step \d+:", re.MULTILINE)
_BLANK = re.compile(r"\n[ \t]*\n\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A tokenized text, cut from the left to what the model reads."""

    ids: list[int]
    places: list[int]  # where in `ids` each step is scored; below 0 where that was cut off


class Texts:
    """The texts of one reward model.

    Args:
        tokenizer: of the model.
        limit: most tokens that it reads; of a longer text the end is read.
    """

    def __init__(self, tokenizer: Any, limit: int) -> None:
        self.tokenizer, self.limit = tokenizer, limit

    def whole(self, case: Case) -> Row:
        """The conversation with the response as its last message in the tokenizer's chat template; where it has none,
        question and response behind each other.

        Raises:
            ValueError: the chat template refuses the messages.
        """
        if self.tokenizer.chat_template is None:
            asked, response = plain(case.asked, self.tokenizer), plain(case.response, self.tokenizer)
            return self._row(self.tokenizer.encode(asked + response), [])
        text = self._templated([*case.conversation, ChatMessage("assistant", case.response)])
        return self._row(self.tokenizer.encode(text, add_special_tokens=False), [])

    def separated(self, case: Case, spans: Sequence[tuple[int, int]]) -> Row:
        """The conversation, or the question without a chat template, and steps, each step closed by the separator. Each
        is tokenized alone, so that its separator can never melt into it.

        Raises:
            ValueError: the chat template refuses the messages.
        """
        tokenizer = self.tokenizer
        encode = functools.partial(tokenizer.encode, add_special_tokens=False)
        if tokenizer.chat_template is None:
            question = encode(plain(case.asked, tokenizer, SEPARATOR))
            ids = [*([] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]), *question]
        else:
            ids = encode(self._templated(case.conversation, SEPARATOR, add_generation_prompt=True))
        separator = encode(SEPARATOR if SEPARATOR in tokenizer.get_vocab() else "\n")
        places = []
        for start, end in spans:
            ids += [*encode(plain(case.response[start:end], tokenizer, SEPARATOR)), *separator]
            places.append(len(ids) - 1)
        return self._row(ids, places)

    def tagged(self, case: Case, spans: Sequence[tuple[int, int]]) -> Row:
        """Question and steps in the format of Math-Shepherd, the whole text at once, as its authors tokenize it. Places
        come from characters: a response that writes the tag itself gets no step by it."""
        known_token(self.tokenizer, STEP_TAG)
        text, ends = f"{plain(case.asked, self.tokenizer)} ", []
        for start, end in spans:
            text += f"{plain(case.response[start:end], self.tokenizer)} {STEP_TAG}"
            ends.append(len(text) - 1)
            text += "\n"
        encoded = self.tokenizer(text[:-1], return_offsets_mapping=True)
        last = {
            character: place for place, edges in enumerate(encoded["offset_mapping"]) for character in range(*edges)
        }
        return self._row(encoded["input_ids"], [last[end] for end in ends])

    def _templated(self, messages: Sequence[ChatMessage], *more: str, **arguments: Any) -> str:
        """Messages in the chat template, as text; `more` are strings that mean something to the model."""
        said = [
            {name: plain(text, self.tokenizer, *more) for name, text in each._asdict().items()} for each in messages
        ]
        try:
            return str(self.tokenizer.apply_chat_template(said, tokenize=False, **arguments))
        except Exception as failure:  # a template is a program and raises what it likes
            roles = ", ".join(message.role for message in messages)
            raise ValueError(
                f"has messages that the reward model's chat template refuses ({roles}): {failure}. Leave out what it "
                "does not take, such as the system message, or give the model's folder a template that takes it"
            ) from failure

    def _row(self, ids: list[int], places: Sequence[int]) -> Row:
        cut = max(0, len(ids) - self.limit)
        return Row(ids=ids[cut:], places=[place - cut for place in places])


def limit_of(config: Any, tokenizer: Any) -> int:
    """Most tokens that a model reads, by its config, or by its tokenizer where that does not say."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or tokenizer.model_max_length)


def steps(response: str) -> list[tuple[int, int]]:
    """(first character, character behind the last) of each step, without the white space around it.

    Steps begin at the lines that begin with "Step N:", and what stands before the first is one, too; without such
    lines they are what blank lines divide.
    """
    numbered = [match.start() for match in _NUMBERED.finditer(response)]
    cuts = numbered or [match.end() for match in _BLANK.finditer(response)]
    pieces = zip([0, *cuts], [*cuts, len(response)], strict=True)
    found = []
    for start, end in pieces:
        text = response[start:end]
        if text.strip():
            found.append((start + len(text) - len(text.lstrip()), start + len(text.rstrip())))
    return found


def known_token(tokenizer: Any, text: str) -> int:
    """The one token of a text that Math-Shepherd's format needs.

    Raises:
        ValueError: the tokenizer has none.
    """
    token = tokenizer.encode(text, add_special_tokens=False)[-1:]
    if not token or token[0] == tokenizer.unk_token_id or tokenizer.decode(token).strip() != text:
        raise ValueError(
            f"a causal process reward model needs {GOOD!r}, {BAD!r} and the step tag {STEP_TAG!r} as tokens, and the "
            f"tokenizer in the reward's path does not know {text!r}; use a token-classification model"
        )
    return int(token[0])
