"""The sections of the run file that belong to the run as a whole and to its cluster."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from cluster.config.addresses import is_address
from rewards.settings import PathText, Section

# Environment variables of the actors that winnow sets itself, each for a reason that stands where it is set.
OWN_VARIABLES = frozenset(
    {"CUDA_VISIBLE_DEVICES", "DS_ACCELERATOR", "HF_HUB_OFFLINE", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS"}
    | {"PYTORCH_ALLOC_CONF", "TORCHDYNAMO_DISABLE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "TRITON_F32_DEFAULT"}
    | {"VLLM_ALLOW_INSECURE_SERIALIZATION", "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND"}
    | {"VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_FLOAT32_MATMUL_PRECISION", "VLLM_LOGGING_LEVEL"}
    | {"VLLM_NO_USAGE_STATS", "VLLM_WORKER_MULTIPROC_METHOD"}
    | {"LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"}  # each learner rank has its own
)
FOLDER_NAME_BYTES = 200  # of a name; file systems take 255, and a number may follow


def check_folder_name(name: str) -> None:
    """Raises ValueError unless the name can be a folder's on any machine, and a line on a terminal."""
    if not name or name != name.strip() or name.startswith(".") or set(name) & set("/\\") or not name.isprintable():
        raise ValueError(f"must be a plain folder name, got {name!r}")
    if len(name.encode()) > FOLDER_NAME_BYTES:
        raise ValueError(f"must be a folder name of at most {FOLDER_NAME_BYTES} bytes, got {len(name.encode())}")


READ_ONLY = ("hf://", "http://", "https://")  # addresses that a run is not written to
Logger = Literal["tensorboard", "wandb", "mlflow", "trackio"]


class RunSettings(Section):
    """The run as a whole."""

    name: str = "run"  # of the folder; a number is added where it exists
    note: str = ""  # a sentence that stands beside the run in a comparison
    folder: PathText = "runs"  # where run folders are made; an address (s3://, gs://) gets a copy of the local one
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0  # of sampling, of the order of prompts, of a built-in world
    steps: Annotated[int, Field(ge=1)] = 100  # training steps, each on rollout.groups_per_step accepted groups
    tokens: Annotated[int, Field(ge=0)] = 0  # end after the step in which so many tokens have been sampled; 0 is never
    seconds: Annotated[float, Field(ge=0)] = 0.0  # end after the step in which so many seconds have passed; 0 is never
    checkpoint_every: Annotated[int, Field(ge=0)] = 20  # steps between checkpoints; 0 writes only the last
    keep_checkpoints: Annotated[int, Field(ge=1)] = (
        2  # the newest, and the most accurate by evaluation besides; others go
    )
    restarts: Annotated[int, Field(ge=0)] = 3  # of a learner that dies, without a newer checkpoint; 0 ends the run
    loggers: tuple[Logger, ...] = ("tensorboard",)  # one or several that get the metrics beside metrics.jsonl and Ray

    @field_validator("loggers", mode="before")
    @classmethod
    def _is_one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

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
        if value.lower().startswith(READ_ONLY):
            raise ValueError(
                f"must be a folder, or the address of one that can be written to (s3://, gs://), got {value!r}"
            )
        return value.rstrip("/") if is_address(value) else value


Verifiers = Annotated[int, Field(ge=1)]
Kind = Literal["learner", "generator", "judge", "scorer", "verifier", "filter"]  # of actors
WORD = "[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
LABEL = re.compile(f"(?:[A-Za-z0-9.-]{{1,253}}/)?{WORD}")
SELECTOR = re.compile(rf"!?{WORD}|!?in\({WORD}(?:, ?{WORD})*\)")
PREDEFINED = ("CPU", "GPU", "memory", "object_store_memory")  # resources that are no custom ones


class ClusterSettings(Section):
    """What runs where."""

    address: str = ""  # of a Ray cluster; "" takes RAY_ADDRESS, and without it starts Ray on this machine
    device: Literal["auto", "cpu", "gpu"] = "auto"  # auto: GPUs where the cluster has any
    generators: int | str = 1  # vLLM engines; "2..16" starts with 2 and adds others while the cluster has room for them
    tensor_parallel: Annotated[int, Field(ge=1)] = 1  # GPUs of each engine
    learner_ranks: Annotated[int, Field(ge=1)] = 1  # ZeRO ranks, a GPU each
    # Unset: one for each two CPUs that are left, at most 64, or 4 a generator up to 512; without GPUs one for each 8.
    verifiers: Verifiers | None = None  # verifier processes; unset: as many as the CPUs suggest
    colocate: bool = False  # generator i shares the GPU of learner rank i, and rests while that one trains
    env: dict[str, str] = Field(
        default={}
    )  # environment variables of all actors, {NCCL_SOCKET_IFNAME = "eth0"}; no secrets
    # Such as {generator = {"ray.io/market-type" = "spot"}, learner = {"ray.io/accelerator-type" = "H100", fast = 1}}.
    nodes: dict[Kind, dict[str, str | float]] = Field(
        default={}
    )  # for a kind of actor: their labels, resources it takes
    wait_minutes: Annotated[float, Field(ge=0)] = 0.0  # for room in a cluster that others hold or that grows
    # Longer than the longest pass of an engine, which on the CPU may take minutes with a large model.
    silent_seconds: Annotated[float, Field(ge=1)] = (
        300.0  # an actor without a sign of life is killed then, and replaced
    )

    @property
    def fewest_generators(self) -> int:
        """Generators that a run starts with, and keeps."""
        return int(str(self.generators).partition("..")[0])

    @property
    def most_generators(self) -> int:
        """Generators that it may come to have."""
        return int(str(self.generators).rpartition("..")[2])

    @property
    def seconds_to_wait(self) -> float:
        """For room in the cluster."""
        return 60.0 * self.wait_minutes

    @field_validator("generators", mode="before")
    @classmethod
    def _is_a_number_or_a_range(cls, value: object) -> int | str:
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        found = (
            re.fullmatch(r"([0-9]{1,6})\.\.([0-9]{1,6})", value.replace(" ", "")) if isinstance(value, str) else None
        )
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f'must be a number, at least 1, or a range such as "2..16", got {value!r}')
        return found[0]

    @field_validator("nodes")
    @classmethod
    def _are_labels_and_resources(cls, value: dict[str, dict[str, str | float]]) -> dict[str, dict[str, str | float]]:
        for kind, wanted in value.items():
            for name, said in wanted.items():
                if problem := _node_problem(name, said):
                    raise ValueError(f"must hold {problem}, got {kind} = {{{name!r} = {said!r}}}")
        return value

    @field_validator("env")
    @classmethod
    def _leaves_ours_alone(cls, value: dict[str, str]) -> dict[str, str]:
        if taken := sorted(OWN_VARIABLES & set(value)):
            raise ValueError(f"must not hold {', '.join(taken)}: winnow sets that itself")
        if wrong := [name for name in value if not name or "=" in name or not name.isprintable()]:
            raise ValueError(f"must hold names of environment variables, got {wrong[0]!r}")
        return value


def _node_problem(name: str, said: str | float) -> str:
    """What is wrong with a label or a resource of `cluster.nodes`; "" where nothing is."""
    if not LABEL.fullmatch(name):
        return "names of Ray's labels, such as ray.io/market-type, or of custom resources"
    if isinstance(said, str):
        return "" if SELECTOR.fullmatch(said) else 'values of labels: "spot", "!spot", "in(a, b)" or "!in(a, b)"'
    if name in PREDEFINED:
        return f"labels and custom resources alone, and {name} is what winnow counts itself"
    if said <= 0 or (said > 1 and said != int(said)):
        return "amounts of custom resources that Ray can give: above 0, and whole numbers above 1"
    return ""
