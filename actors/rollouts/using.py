"""Tools in a conversation: which there are, what they make of calls, and how a turn is taken apart."""

import asyncio
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.data.messages import Call, Message
from actors.grading.tools import ToolRunner
from actors.rollouts.chat import TOOL, Chat, Results
from actors.rollouts.episode import Misuse
from actors.rollouts.lines import failure_in
from actors.rollouts.offers import AUTO
from actors.tools.calls import Calls, call_id
from actors.tools.functions import away
from actors.tools.schemas import schema_of
from actors.tools.tool import Kind, Limits, Result, Tool, by_name, failed, failure, result_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Waits(NamedTuple):
    """Tools that nobody has asked for what they offer."""

    kind: Kind
    limits: Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """The tools of one conversation."""

    tools: Mapping[str, Tool] = field(default_factory=dict)
    waits: tuple[Waits, ...] = ()
    form: str = AUTO  # in which calls are written

    def __bool__(self) -> bool:
        return bool(self.tools or self.waits)

    def plus(self, offered: Sequence[Any], form: str, limits: Limits, file: str) -> "Toolbox":
        """The same with more tools.

        Args:
            offered: functions, and ready tools.
            form: in which calls of all of them are written.
            limits: of these.
            file: of the environment.

        Raises:
            ValueError: one is no tool, has a name that another has, or another form than those before.
        """
        tools, waits = list(self.tools.values()), self.waits
        if (tools or waits) and form != self.form:
            if form != AUTO:
                raise ValueError(f"form = {form!r}, and the tools before have {self.form!r}: give all of them one form")
            form = self.form
        for each in offered:
            if isinstance(each, Kind) and not isinstance(each, type):
                waits += (Waits(each.placed(Path(file).parent), limits),)
            else:
                tools.append(Tool(schema=schema_of(each), limits=limits, work=away(each, file) or each))
        return Toolbox(tools=by_name(tools), waits=waits, form=form)

    async def ready(self, runner: ToolRunner) -> "Toolbox":
        """The same with what the ready tools offer.

        Raises:
            Misuse: one of them cannot be used.
        """
        tools = list(self.tools.values())
        for kind, limits in self.waits:
            found = await runner.ready(kind, limits.memory_mib)
            if found.problem:
                raise Misuse(f"offers a tool that cannot be used: {found.problem}")
            tools += [Tool(schema=schema, limits=limits, work=kind) for schema in found.schemas]
        try:
            return Toolbox(tools=by_name(tools), form=self.form)
        except ValueError as problem:
            raise Misuse(f"offers tools, and {problem}") from None


async def called_here(tool: Tool, call: Call, file: str) -> Result:
    """What a call gives whose tool belongs to the episode, in the event loop of the environment. Only what waits can be
    ended when its time is over."""
    function: Any = tool.work
    try:
        async with asyncio.timeout(tool.limits.seconds) as clock:
            value = function(**call.arguments)
            return result_of(await value if inspect.isawaitable(value) else value, tool.limits.max_characters)
    except Misuse:
        raise
    except Exception as problem:  # a person's function, whatever it breaks with
        if isinstance(problem, TimeoutError) and clock.expired():
            return failure(f"{tool.name} took longer than {tool.limits.seconds:g} s")
        return failed(problem, tool.name, tool.limits.max_characters, failure_in(problem, file))


class TakenApart(NamedTuple):
    """A turn, taken apart."""

    content: str  # what was said beside the calls
    calls: tuple[Call, ...]
    apart: bool  # whether its text alone is no turn that a template shows as it was: control tokens stand in it


def told(texts: Sequence[str], calls: Sequence[Call], chat: Chat, *, offered: bool) -> list[Message]:
    """What tools say behind a turn, as messages.

    Args:
        texts: of each tool, at least one.
        calls: of the turn; where they are as many, each text is the result of one.
        chat: the template. Where it knows no tools, a user tells of the results of those that were offered.
        offered: whether they were; else they are the environment's own affair.
    """
    if len(calls) != len(texts):
        calls = [Call(id=call_id(number), name=TOOL) for number in range(len(texts))]
    if offered and chat.results is Results.BY_USER:
        lines = "\n".join(f"{call.name or TOOL}: {text}" for call, text in zip(calls, texts, strict=True))
        return [Message("user", lines if chat.chats else f"\n{lines}\n")]
    return [Message(TOOL, text, result_of=call) for call, text in zip(calls, texts, strict=True)]


def taken_apart(
    ids: list[int], tokenizer: "PreTrainedTokenizerBase", calls: Calls, number: int, *, cut: bool
) -> TakenApart:
    """What was said in a turn beside calls of tools, and the calls.

    Args:
        ids: tokens of the turn.
        tokenizer: the model's.
        calls: finds them.
        number: of calls in the conversation before them.
        cut: whether the turn was cut by its length.
    """
    special, end = set(tokenizer.all_special_ids), len(ids)
    while end and ids[end - 1] in special:
        end -= 1
    text, shown = (str(tokenizer.decode(ids[:end], skip_special_tokens=skip)) for skip in (False, True))
    found = calls.of(text, number, cut=cut)
    content = found.content if found.calls else shown
    for token in tokenizer.all_special_tokens:
        content = content.replace(token, "")
    return TakenApart(content, found.calls, text != shown and not any(call.problem for call in found.calls))
