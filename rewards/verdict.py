"""What is graded, and what a reward says of it. That there is no verdict is an outcome of its own, never a score.

None of these classes has slots: Python pickles classes with slots at three times the cost, and they all travel between
processes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

UNREAD = "unread"  # the part that is 1 where a judge gave no verdict that can be read, else 0
MOST_TEXT = 4000  # characters of a sentence in a verdict
_UNSHOWN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def valid_text(text: str) -> str:
    """Text from outside as any file, terminal or other process can take it.

    Halves of surrogate pairs, control characters and those that turn the direction of writing become their escapes,
    such as \\udcff; line breaks and tabs stay. Of a long text the middle is left out.
    """
    if len(text) > MOST_TEXT:
        half = MOST_TEXT // 2 - 20
        text = f"{text[:half]} [{len(text) - 2 * half} more] {text[-half:]}"
    return _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


class Outcome(StrEnum):
    """How the grading of one response ended."""

    CORRECT = "correct"  # the final answer equals the reference
    WRONG = "wrong"  # a final answer was found and differs from the reference
    UNPARSABLE = "unparsable"  # the response holds no final answer; scored like a wrong one
    TIMEOUT = "timeout"  # the reward did not finish in time: there is no verdict
    ERROR = "error"  # the reward failed: there is no verdict
    LATE = "late"  # the response made its grading take too long; scored like a wrong one (reward.timeout)

    @property
    def scored(self) -> bool:
        """Whether there is a score; time-outs and errors have none and teach nothing."""
        return self not in (Outcome.TIMEOUT, Outcome.ERROR)


class ChatMessage(NamedTuple):
    """One message of a prompt, as models that grade are shown it."""

    role: str  # system, user, assistant, tool, or what else the data has
    content: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """One response to grade.

    Example: ``Case(response="so it is 4", reference="4", prompt="2+2=")``
    """

    response: str
    reference: str  # text, or a JSON object where a reward asks for several fields
    prompt: str = ""  # as the policy saw it
    question: str = ""  # the prompt without templates around it; "" where it is not known apart
    messages: tuple[ChatMessage, ...] = ()  # the same in its roles, a system message first; () where it is one message
    tokens: int = 0  # sampled tokens of the response; 0 where nobody counted
    max_new_tokens: int = 0  # the most tokens that the response could have had; 0 where nobody knows

    @property
    def asked(self) -> str:
        """The question, or the whole prompt where the question is not known apart."""
        return self.question or self.prompt

    @property
    def conversation(self) -> tuple[ChatMessage, ...]:
        """All messages of the prompt; what is asked is the user's where nothing stands beside it."""
        return self.messages or (ChatMessage("user", self.asked),)


@dataclass(frozen=True, kw_only=True)
class SpanReward:
    """A reward for a part of the response: every token that reaches into [start, end) gets it."""

    start: int  # characters of the response before it
    end: int  # characters of the response up to its end, above start
    value: float


@dataclass(frozen=True, kw_only=True)
class RewardResult:
    """What a reward says of one response. The reward is above one half exactly when the outcome is correct.

    Example: ``RewardResult(outcome=Outcome.WRONG, why="two of three tests pass", reward=0.1, parts={"passed": 2 / 3})``
    """

    outcome: Outcome
    why: str  # one sentence for the person who reads the trajectory; of a failure, with its traceback
    reward: float | None = None  # in [0, 1]; not given, 1 when correct, else 0. None exactly when not scored
    parts: Mapping[str, float] = field(default_factory=dict)  # named components and measurements
    span_rewards: tuple[SpanReward, ...] = ()  # rewards of parts of the response, where the reward gives any

    def __post_init__(self) -> None:
        _make_texts_valid(self)
        if self.reward is None:
            filled = float(self.outcome is Outcome.CORRECT) if self.outcome.scored else None
            object.__setattr__(self, "reward", filled)  # the class is frozen
            return
        if not self.outcome.scored or not 0.0 <= self.reward <= 1.0:
            raise ValueError(f"a reward in [0, 1] comes with a scored outcome, got {self.reward} with {self.outcome}")
        if (self.reward > 0.5) != (self.outcome is Outcome.CORRECT):
            raise ValueError(f"a reward above one half is a correct response's, got {self.reward} with {self.outcome}")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of one response with its score.

    Example: ``Verdict(outcome=Outcome.WRONG, score=-1.0, why="answered 12, expected 13")``
    """

    outcome: Outcome
    score: float | None  # the reward on the run's scale; None exactly when the outcome is not scored
    why: str  # one sentence for the person who reads the trajectory
    parts: Mapping[str, float] = field(default_factory=dict)  # named components of the reward
    span_rewards: tuple[SpanReward, ...] = ()  # rewards of parts of the response

    def __post_init__(self) -> None:
        _make_texts_valid(self)
        if self.outcome.scored != (self.score is not None):
            raise ValueError(f"a verdict has a score exactly when it is scored, got {self.outcome} with {self.score}")

    @property
    def unread(self) -> bool:
        """Whether a judge, alone or as a part of a combination, gave no verdict that can be read."""
        return any(value > 0 for name, value in self.parts.items() if name.rpartition(".")[2] == UNREAD)


def _make_texts_valid(made: RewardResult | Verdict) -> None:
    """Whatever a program, query, answer or model says comes into a verdict here and nowhere else."""
    object.__setattr__(made, "why", valid_text(str(made.why)))  # the classes are frozen
    if any(isinstance(name, str) and valid_text(name) != name for name in made.parts):
        object.__setattr__(made, "parts", {valid_text(name): value for name, value in made.parts.items()})
