"""Tools in a conversation: which there are, what they make of calls, and how a turn is taken apart."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from actors.data.messages import Call, Message
from actors.rollouts.chat import TOOL, Chat, Results
from actors.rollouts.offers import AUTO
from actors.tools.calls import Calls, call_id
from actors.tools.tool import Limits, Result, Tool, failure, is_coroutine, result_of, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolbox:
    """The tools of one conversation."""

    tools: Mapping[str, Tool]
    form: str  # in which calls are written
    limits: Limits  # of each call

    async def use(self, call: Call) -> Result:
        """What a call gives; it fails by a text.

        Raises:
            KeyError: there is no such tool.
        """
        if call.problem:
            return failure(call.problem)
        found = await _called(self.tools[call.name], call.arguments, self.limits.seconds)
        return Result(text=shortened(found.text, self.limits.longest), failed=found.failed, why=found.why)


class Apart(NamedTuple):
    """A turn, taken apart."""

    content: str  # what was said beside the calls
    calls: tuple[Call, ...]
    apart: bool  # whether its text alone is no turn that a template shows as it was: control tokens stand in it


NONE = Toolbox(tools={}, form=AUTO, limits=Limits(seconds=0, memory_mib=0, longest=0))


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
        return [Message("user", "\n".join(f"{c.name or TOOL}: {text}" for c, text in zip(calls, texts, strict=True)))]
    return [Message(TOOL, text, result_of=call) for call, text in zip(calls, texts, strict=True)]


def taken_apart(ids: list[int], tokenizer: "PreTrainedTokenizerBase", calls: Calls, number: int, *, cut: bool) -> Apart:
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
    return Apart(content, found.calls, text != shown and not any(call.problem for call in found.calls))


async def _called(tool: Tool, arguments: Mapping[str, Any], seconds: float) -> Result:
    try:
        async with asyncio.timeout(seconds):
            value = tool.function(**arguments)
            return result_of(await value if is_coroutine(tool.function) else value)
    except TimeoutError:
        return failure(f"{tool.name} took longer than {seconds:g} s")
    except Exception as problem:  # a person's function raises what it likes
        return failure(f"{tool.name} failed: {type(problem).__name__}: {problem}")
