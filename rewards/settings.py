"""What settings of rewards are made of: plain checked values that travel to the processes that grade."""

import os
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A section of the run file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


# The path of a file or folder; where it begins with ~ or ~NAME, that is the home folder, which shells put in only at
# the beginning of a word. Addresses and names are as they are.
PathText = Annotated[str, AfterValidator(os.path.expanduser)]


class KindSettings(Section):
    """The settings of one reward, [reward.NAME] in the run file. Each kind adds its own to these."""

    kind: str = ""  # a key of rewards.KINDS; not given, the name of the section


Partial = Annotated[float, Field(ge=0, le=0.5)]  # most reward that a wrong response may get


class AnswerSettings(KindSettings):
    """Rewards of a final answer: `exact`, `choice`, `number` and `math`."""

    partial: Partial = 0.0  # the reward of a final answer that is there and wrong


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the grading of one response may take; the same for all rewards of a run."""

    seconds: float = 10.0  # after these there is no verdict
    memory_mib: int = 2048  # of the process that grades, and of code that it runs
