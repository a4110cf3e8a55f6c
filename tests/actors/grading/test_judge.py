import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayTaskError

import actors.grading.judge
from actors.engines import Completion, Sampling
from actors.errors import EngineDied
from actors.grading.judge import REPLY_TOKENS, JudgeModel, _reply, ask_judge, fitting
from actors.types import Finish
from rewards import Budget, Case, JudgeSettings, Outcome
from rewards.models.judges import messages
from tests.doubles import Letters


class Echo:
    """An engine that answers yes and keeps what it was asked."""

    tokenizer, asked = Letters(), ""

    def __init__(self, room: int) -> None:
        self.max_model_len = room + REPLY_TOKENS
        self.most = 0  # tokens that a reply may have

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        self.asked, self.most = self.tokenizer.decode(list(tokens)), sampling.max_tokens
        said = np.array([ord(letter) for letter in "yes"], np.int32)
        return [
            Completion(
                tokens=said,
                logprobs=np.zeros(3, np.float32),
                versions=np.zeros(3, np.int32),
                finish=Finish.STOP,
                shown=(),
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


def test_of_a_small_context_half_is_for_the_reply() -> None:
    engine = Echo(room=256 - REPLY_TOKENS)
    case = Case(prompt="2+2?", reference="4", response="4")
    assert asyncio.run(_reply(engine, messages(case, JudgeSettings()))) == "yes"  # type: ignore[arg-type]
    assert (len(engine.asked), engine.most) == (128, 128)
    assert engine.asked.endswith("Answer with one word: yes or no.\n\n")


def test_of_too_many_tokens_the_middle_is_left_out() -> None:
    assert fitting([1, 2, 3], 3) == [1, 2, 3]
    assert fitting([1, 2, 3, 4, 5], 3) == [1, 2, 5]
    assert fitting([1, 2, 3, 4, 5], 1) == [1]


class Mortal(Echo):
    """An engine whose process may have ended."""

    dead = ended = False

    async def generate(self, tokens: Sequence[int], sampling: Sampling, seed: int) -> list[Completion]:
        if self.dead:
            raise EngineDied("the process of vLLM's engine has ended")
        return await super().generate(tokens, sampling, seed)

    def shutdown(self) -> None:
        self.ended = True


def test_a_judge_whose_engine_or_process_was_killed_is_started_again_by_who_asks_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engines = [Mortal(1500) for _ in range(3)]
    left = list(engines)
    monkeypatch.setattr(actors.grading.judge, "start_engine", lambda spec: left.pop(0))
    spec: Any = None
    judges = [JudgeModel(spec)]

    class Client:
        """Of the judge that Ray has started last."""

        def __init__(self, handle: Any, name: str) -> None:
            pass

        def replies(self, conversations: Any, seconds: float) -> list[str]:
            try:
                return asyncio.run(judges[-1].replies(conversations))
            except EngineDied as cause:
                raise RayTaskError("replies", "traceback", cause) from None

        def start_again(self, seconds: float) -> None:
            asyncio.run(judges[-1].start())

    monkeypatch.setattr(actors.grading.judge, "JudgeClient", Client)
    monkeypatch.setattr(actors.grading.judge.ray, "get_actor", lambda name: None)

    def ask() -> Outcome:
        case = Case(prompt="2+2?", reference="4", response="4")
        (result,) = ask_judge({"judge": "judge-0"}, "judge", [case], JudgeSettings(), Budget(seconds=5.0))
        return result.outcome

    asyncio.run(judges[-1].start())
    assert ask() is Outcome.CORRECT
    engines[0].dead = True
    assert ask() is Outcome.CORRECT
    assert engines[0].ended
    judges.append(JudgeModel(spec))  # Ray makes another one where the process is gone; its engine is not started
    assert ask() is Outcome.CORRECT
    assert not left


def test_of_a_judge_that_fails_the_reason_is_told_without_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "\x1b[36mray::JudgeModel.replies()\x1b[39m (pid=7, ip=192.0.2.2, actor_id=31c1)\n"
        '  File "judge.py", line 66, in _reply\n    return engine()\nValueError: no such template'
    )

    class Client:
        def __init__(self, handle: Any, name: str) -> None:
            pass

        def replies(self, conversations: Any, seconds: float) -> list[str]:
            raise RayTaskError("replies", said, ValueError("no such template"))

    monkeypatch.setattr(actors.grading.judge, "JudgeClient", Client)
    monkeypatch.setattr(actors.grading.judge.ray, "get_actor", lambda name: None)
    case = Case(prompt="2+2?", reference="4", response="4")
    (result,) = ask_judge({"judge": "judge-0"}, "judge", [case], JudgeSettings(), Budget(seconds=5.0))
    assert result.outcome is Outcome.ERROR
    assert result.why == (
        "judge (process 7, node 192.0.2.2) failed: ValueError: no such template (in _reply, judge.py:66)"
    )
