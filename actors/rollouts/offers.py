"""How a policy is told of its tools, and how its calls are read: as the model's chat template does both, where it does;
else in words and JSON."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from actors.errors import DataError
from actors.rollouts.chat import CALLED, CALLED_TOOL, Chat
from actors.tools.calls import Calls
from actors.tools.formats import FORMATS, JSON, Read, Schema, described, read_json, with_problems
from actors.tools.parsers import reader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AUTO = "auto"  # the format that the chat template shows


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a conversation begins with where the policy has tools."""

    tools: tuple[Schema, ...]  # that the chat template shows
    before: str  # in front of everything else: what is said of them in words
    calls: Calls


class Offers:
    """Those of a run, each of which is made once."""

    def __init__(self, chat: Chat, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._chat, self._tokenizer = chat, tokenizer
        self._made: dict[str, Offer] = {}

    def of(self, tools: Mapping[str, Schema], form: str = AUTO) -> Offer:
        """How these tools are offered.

        Args:
            tools: their schemas by name.
            form: AUTO, JSON, or one of FORMATS.

        Raises:
            DataError: the model cannot write this format.
        """
        key = json.dumps([form, tools])
        if key not in self._made:
            self._made[key] = self._offer(tools, form)
        return self._made[key]

    @cached_property
    def own(self) -> str:
        """The format in which the chat template shows calls: the first that reads back one that the template has shown.
        JSON where there is none."""
        shown = self._chat.called
        for form in FORMATS if shown else ():
            try:
                found = self._reader(form, {CALLED.name: CALLED_TOOL})(shown)
            except DataError:
                continue
            if [*found.calls] == [(CALLED.name, CALLED.arguments)]:
                return form
        return JSON

    def _offer(self, tools: Mapping[str, Schema], form: str) -> Offer:
        if form not in (AUTO, JSON, *FORMATS):
            raise DataError(f"there is no format of calls {form!r}: take {AUTO}, {JSON}, {', '.join(FORMATS)}")
        form = self.own if form == AUTO else form
        schemas = tuple(tools.values())
        if form != JSON and not self._chat.shows_tools:
            raise DataError(f"the calls are to be in the format {form}, and no chat template shows tools: take {JSON}")
        try:
            calls = Calls(tools, read_json if form == JSON else self._reader(form, tools))
        except ValueError as problem:
            raise DataError(str(problem)) from None
        return Offer(tools=() if form == JSON else schemas, before=described(schemas) * (form == JSON), calls=calls)

    def _reader(self, form: str, tools: Mapping[str, Schema]) -> Read:
        try:
            return with_problems(FORMATS[form], reader(FORMATS[form].parser, self._tokenizer, list(tools.values())))
        except ValueError as problem:
            raise DataError(f"the model cannot write calls in the format {form}: {problem}") from None
