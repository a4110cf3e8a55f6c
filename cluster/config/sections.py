"""The sections of the run file that belong to the run as a whole and to its cluster."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from rewards.settings import Section


class RunSettings(Section):
    """The run as a whole."""

    name: str = "run"  # of the folder; a number is added where it exists
    note: str = ""  # a sentence that stands beside the run in a comparison
    folder: str = "runs"  # where run folders are made
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    steps: Annotated[int, Field(ge=1)] = 100  # training steps, each on rollout.groups_per_step accepted groups
    tokens: Annotated[int, Field(ge=0)] = 0  # end after the step in which so many tokens have been sampled; 0 is never
    seconds: Annotated[float, Field(ge=0)] = 0.0  # end after the step in which so many seconds have passed; 0 is never
    checkpoint_every: Annotated[int, Field(ge=0)] = 0  # steps between checkpoints; 0 writes only the last

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, value: str) -> str:
        if not value or "/" in value or value.startswith("."):
            raise ValueError(f"must be a plain folder name, got {value!r}")
        return value


class ClusterSettings(Section):
    """What runs where."""

    address: str = ""  # of a Ray cluster; "" takes RAY_ADDRESS, and without it starts Ray on this machine
    device: Literal["auto", "cpu", "gpu"] = "auto"  # auto: GPUs where the cluster has any
    generators: Annotated[int, Field(ge=1)] = 1  # vLLM engines
    tensor_parallel: Annotated[int, Field(ge=1)] = 1  # GPUs of each engine
    learner_ranks: Annotated[int, Field(ge=1)] = 1  # ZeRO ranks, a GPU each
    verifiers: Annotated[int, Field(ge=1)] = 1  # verifier processes
    colocate: bool = False  # generator i shares the GPU of learner rank i
