"""Remote actors inside the test's own process: the real classes behind the real clients, without Ray.

FilterClient(lambda: InProcess(Filter()), put=lambda group: group)
"""

import asyncio
import inspect
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer, decoders, models


class InProcess:
    """The handle of an actor that is this object: `handle.method.remote(...)` starts the call."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> "Method":
        return Method(getattr(self.actor, name))


class Method:
    """One method of such an actor."""

    def __init__(self, method: Any) -> None:
        self._method = method

    def remote(self, *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._finished(*arguments))

    async def _finished(self, *arguments: Any) -> Any:
        result = self._method(*arguments)
        return await result if inspect.isawaitable(result) else result


class Letters:
    """A tokenizer of single characters: the id of a character is its code, 0 ends a text."""

    chat_template, eos_token_id = None, 0
    all_special_ids, all_special_tokens = (0,), ()

    def __call__(self, text: str | list[str], add_special_tokens: bool = True) -> dict[str, Any]:
        if isinstance(text, list):
            return {"input_ids": [self(each)["input_ids"] for each in text]}
        return {"input_ids": [ord(letter) for letter in text]}

    @cached_property
    def backend_tokenizer(self) -> Tokenizer:
        """The same as one of tokenizers, of the first 256 characters."""
        core = Tokenizer(models.WordLevel({chr(code): code for code in range(256)}, unk_token="?"))
        core.decoder = decoders.Fuse()
        core.add_special_tokens([chr(0)])
        return core

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:
        return "".join(chr(token) for token in tokens if token)
