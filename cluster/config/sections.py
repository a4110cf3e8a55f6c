"""The sections of the run file that belong to the run as a whole and to its cluster."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from rewards.settings import Section

FOLDER_NAME_BYTES = 200  # of a name; file systems take 255, and a number may follow


def check_folder_name(name: str) -> None:
    """Raises ValueError unless the name can be a folder's on any machine, and a line on a terminal."""
    if not name or name != name.strip() or name.startswith(".") or set(name) & set("/\\") or not name.isprintable():
        raise ValueError(f"must be a plain folder name, got {name!r}")
    if len(name.encode()) > FOLDER_NAME_BYTES:
        raise ValueError(f"must be a folder name of at most {FOLDER_NAME_BYTES} bytes, got {len(name.encode())}")


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
        check_folder_name(value)
        return value

    @field_validator("folder")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        if not value or not value.isprintable():
            raise ValueError(f"must be a folder without line breaks and control characters, got {value!r}")
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
