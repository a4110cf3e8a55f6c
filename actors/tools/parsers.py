"""vLLM's parsers of calls of tools: the one home of their interface. vLLM is loaded by the first use."""

import json
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from actors.tools.formats import Found, Read, Schema, Written

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def reader(parser: str, tokenizer: "PreTrainedTokenizerBase", tools: Sequence[Schema]) -> Read:
    """Reads calls by a parser of vLLM's.

    Args:
        parser: its name there.
        tokenizer: of the model that writes the calls.
        tools: that it may call; where a format says nothing of types, the parser takes them from here.

    Raises:
        ValueError: the tokenizer lacks a token of the format.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest, ChatCompletionToolsParam
    from vllm.tokenizers import TokenizerLike
    from vllm.tool_parsers import ToolParserManager

    for part in ("vllm.tool_parsers", "vllm.parser"):  # they log each turn that cannot be read, with its traceback
        logging.getLogger(part).setLevel(logging.CRITICAL)
    offered = [ChatCompletionToolsParam.model_validate(tool) for tool in tools]
    asked = {"messages": [{"role": "user", "content": ""}], "tools": list(tools)}
    request, words = ChatCompletionRequest.model_validate(asked), cast(TokenizerLike, tokenizer)
    try:
        found = ToolParserManager.get_tool_parser(parser)(words, list(offered))
    except RuntimeError as failure:
        raise ValueError(str(failure)) from None

    def read(text: str) -> Found:
        said = found.extract_tool_calls(text, request)
        calls = [Written(call.function.name, _arguments(call.function.arguments)) for call in said.tool_calls]
        return Found(content=(said.content or "") if calls else text, calls=tuple(calls))

    return read


def _arguments(written: str) -> Any:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return written
