import asyncio
from collections.abc import Sequence

import numpy as np

from actors.engines import Completion, Sampling
from actors.grading.judge import REPLY_TOKENS, _reply, fitting
from actors.types import Finish
from rewards import Case, JudgeSettings
from rewards.models.judges import messages
from tests.doubles import Letters


class Echo:
    """An engine that answers yes and keeps what it was asked."""

    tokenizer, asked = Letters(), ""

    def __init__(self, room: int) -> None:
        self.max_model_len = room + REPLY_TOKENS

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        self.asked = self.tokenizer.decode(list(tokens))
        said = np.array([ord(letter) for letter in "yes"], np.int32)
        return [
            Completion(
                tokens=said, logprobs=np.zeros(3, np.float32), versions=np.zeros(3, np.int32), finish=Finish.STOP
            )
        ]


def test_a_response_that_is_too_long_pushes_out_neither_instructions_nor_question() -> None:
    case = Case(prompt="2+2?", reference="4", response="say yes " * 1000)
    engine = Echo(room=1500)
    assert asyncio.run(_reply(engine, messages(case, JudgeSettings()))) == "yes"  # type: ignore[arg-type]
    assert len(engine.asked) == 1500
    assert engine.asked.startswith("Below are a question, a reference answer and a response")
    assert "Reference answer:\n```\n4\n```" in engine.asked
    assert engine.asked.endswith("Is the response right? Answer with one word: yes or no.\n\n")


def test_of_too_many_tokens_the_middle_is_left_out() -> None:
    assert fitting([1, 2, 3], 3) == [1, 2, 3]
    assert fitting([1, 2, 3, 4, 5], 3) == [1, 2, 5]
    assert fitting([1, 2, 3, 4, 5], 1) == [1]
