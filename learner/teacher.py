"""A teacher at an endpoint of the OpenAI kind: a frozen policy that another program serves, asked for the
log-probabilities of the tokens that were sampled. vLLM gives those of a prompt (`prompt_logprobs`)."""

import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from actors.errors import WinnowError
from rewards.models.endpoint import Failure, no_answer, posted, shown

PATIENCE = 600.0  # seconds for one request with all its tries: as long as an endpoint takes that is started anew
TRIES = 1000  # of one request: as many as there is time for

Scored = list[dict[int, float]]  # of each token of a prompt but the first: token -> its log-probability


class TeacherFailed(WinnowError):
    """The endpoint does not say what it was asked for."""


def is_endpoint(path: str) -> bool:
    """Whether `learner.teacher_path` is the address of an endpoint, and not a folder or the address of one."""
    return path.lower().startswith(("http://", "https://"))


class Teacher:
    """A model at an endpoint. All of it raises TeacherFailed where the endpoint has not answered in time, or not as it
    should."""

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        """
        Args:
            address: of the endpoint, such as "http://host:8000/v1"; "#NAME" behind it tells one of several models.
            patience: seconds for which a request is tried where the endpoint cannot be reached, is busy or fails.
        """
        url, _, name = address.partition("#")
        self._url, self._patience = url.rstrip("/"), patience
        (served,) = self._asked("models", [None])
        known = [model for model in _models(self._url, served) if name in ("", model["id"])]
        if len(known) != 1:
            found = ", ".join(str(model["id"]) for model in _models(self._url, served)) or "none"
            raise TeacherFailed(f"{self._url} serves {found}: name one of them behind the address, #NAME")
        self._model, length = known[0]["id"], known[0].get("max_model_len")
        self.holds: int | None = length if isinstance(length, int) else None  # most tokens of a prompt and one more

    def logprobs(self, sequences: Sequence[Iterable[int]]) -> Iterator[np.ndarray]:
        """Of each sequence the log-probabilities of all tokens but the first, float64[T - 1], at temperature 1."""
        prompts = [[int(token) for token in tokens] for tokens in sequences]
        with closing(self._scored([{"prompt": prompt} for prompt in prompts])) as found:
            for prompt, scored in zip(prompts, found, strict=True):
                own = [of.get(token) for token, of in zip(prompt[1:], scored, strict=False)]
                if len(scored) != len(prompt) - 1 or None in own:
                    raise TeacherFailed(f"{self._url} has scored other tokens than the {len(prompt)} that it was sent")
                yield np.array(own, np.float64)

    def ids_of(self, text: str) -> list[int]:
        """The tokens that the endpoint makes of a text, but for the first."""
        (scored,) = self._scored([{"prompt": text, "add_special_tokens": False}])
        return [next(iter(of)) for of in scored]

    def _scored(self, prompts: Sequence[Mapping[str, Any]]) -> Generator[Scored, None, None]:
        asked = {"model": self._model, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        for reply in self._asked("completions", [{**asked, **prompt} for prompt in prompts]):
            try:
                yield [
                    {int(token): float(told["logprob"]) for token, told in of.items()}
                    for of in reply["choices"][0]["prompt_logprobs"][1:]
                ]
            except (KeyError, IndexError, TypeError, ValueError, AttributeError):
                why = "gives no log-probabilities of a prompt's tokens (prompt_logprobs), as vLLM does"
                raise TeacherFailed(f"{self._url} {why}") from None

    def _asked(self, what: str, bodies: Sequence[Mapping[str, Any] | None]) -> Generator[Any, None, None]:
        """The JSON of each reply, in order."""
        with closing(posted(f"{self._url}/{what}", bodies, _json, self._patience, TRIES)) as replies:
            for reply in replies:
                if isinstance(reply, Failure):
                    raise TeacherFailed(reply.why)
                yield reply


def _json(target: str, reply: bytes) -> Any:
    try:
        return json.loads(reply)
    except (ValueError, RecursionError):
        return no_answer(f"{target} answered with no JSON: {shown(reply)}")


def _models(url: str, reply: Any) -> list[dict[str, Any]]:
    try:
        return [model for model in reply["data"] if model["id"]]
    except (KeyError, TypeError):
        raise TeacherFailed(f"{url}/models answered with no list of models") from None
