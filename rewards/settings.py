"""The settings of rewards: plain checked values that travel to the processes that judge."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A section of the run file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RewardSettings(Section):
    """How a response is graded, and what the outcome is worth."""

    name: str = "number"  # a key of rewards.REWARDS
    parts: dict[str, float] = {}  # what "sum", "product", "shaped" and "consistent" are made of, with weights
    wrong: float = -1.0  # the score of a wrong or unparsable response
    correct: float = 1.0  # the score of a correct response
    partial: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # most that a wrong response may get, as a share of the range
    seconds: Annotated[float, Field(gt=0)] = 10.0  # one verdict may take so long; then there is none
    memory_mib: Annotated[int, Field(ge=64)] = 2048  # of the process that judges, and of code that it runs
    file: str = ""  # a Python file with your own reward, for the name "own"
    unsandboxed: bool = False  # run model-written code without bubblewrap: only on a machine that may be lost
    databases: str = ""  # the folder in which "sql" finds the databases that its references name
    rows: Annotated[int, Field(ge=1)] = 10_000  # most rows that "sql" reads of a result
    model: str = ""  # a model folder, for the rewards "model" and "process" (and "judge" without judge_url)
    aggregate: Literal["min", "max", "product", "mean", "geometric", "last", "max-change"] = "min"  # of "process" steps
    judge_url: str = ""  # of an OpenAI-compatible endpoint, such as http://host:8000/v1
    judge_model: str = ""  # the name that the endpoint knows its model by
    judge_prompt: str = "zero-shot"  # "zero-shot", "few-shot", "spans", or a text file of your own
    span_weight: Annotated[float, Field(ge=0)] = 0.0  # weight of span rewards, on their own tokens
    score_weight: Annotated[float, Field(ge=0)] = 1.0  # weight of the score on the last token, beside them

    @model_validator(mode="after")
    def _tells_right_from_wrong(self) -> Self:
        if not self.wrong <= 0 < self.correct:
            raise ValueError(
                f"reward.wrong must be at most 0 and reward.correct above 0, got {self.wrong:g} and {self.correct:g}: "
                "a score above 0 is what filters and algorithms take for correct"
            )
        if self.score_weight != 1.0 and not self.span_weight:
            raise ValueError(
                f"reward.score_weight weighs the score beside span rewards, got {self.score_weight:g}: "
                "set reward.span_weight"
            )
        return self
