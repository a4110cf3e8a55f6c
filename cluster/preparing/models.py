"""Whether a model folder can be trained, found out before Ray starts: weights that are there and whole, a tokenizer
that belongs to them, an architecture that the learner computes rightly. Only headers of weights are read."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.types import Prompt
from cluster.config.errors import ConfigError
from cluster.config.models import MERGE, check_model
from learner.settings import AdapterSettings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

LFS = b"version https://git-lfs.github.com/spec"  # how the pointer begins that stands for a file before `git lfs pull`
INDEX = "model.safetensors.index.json"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight", "embeddings.weight")
SAMPLE = "12+3= The answer, and why? Ja."  # a tokenizer that knows nothing of it has no vocabulary
# Architectures that the tests train, so that a run need not try them before it starts.
TRIED = frozenset({"qwen2", "qwen3", "llama", "mistral", "phi3", "gemma", "gemma2", "gemma3_text", "olmo2", "gpt2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """What the header of a weights file says of a tensor."""

    name: str
    shape: tuple[int, ...]


def check_policy(folder: Path, setting: str) -> None:
    """Whether the folder of a policy can be loaded and trained.

    Args:
        folder: a Hugging Face folder.
        setting: that names it, for the message.

    Raises:
        ConfigError: something is missing, broken or not supported; the message says which file and what to do.
    """
    config = check_model(folder, setting)
    if "quantization_config" in config:
        held = config["quantization_config"]
        method = held.get("quant_method", "an unknown method") if isinstance(held, dict) else "an unknown method"
        raise ConfigError(
            f"{folder / 'config.json'} ({setting}) is of weights that are quantised ({method}), which cannot be "
            "trained: give the folder of the model in bfloat16 or float32"
        )
    tensors = tuple(tensors_of(folder, setting))
    _check_embedding(tensors, config, folder, setting)
    _check_generation_config(folder, setting)
    read = _read_config(folder, setting)
    if config.get("model_type") in TRIED:
        _check_shapes(read, {tensor.name: tensor.shape for tensor in tensors}, folder, setting)
    else:
        _check_architecture(read, folder, setting)


def check_adapter(folder: Path, adapter: AdapterSettings) -> int:
    """How many parameters the adapter of a policy has.

    Args:
        folder: of the policy, checked.
        adapter: of the run.

    Raises:
        ConfigError: the policy has no such layers; the message names those that it has.
    """
    from learner.models.adapter import UnknownTargets
    from learner.models.shapes import adapter_parameters

    try:
        return adapter_parameters(_read_config(folder, "model.path"), adapter)
    except UnknownTargets as problem:
        raise ConfigError(str(problem)) from problem


def tensors_of(folder: Path, setting: str) -> Iterator[Tensor]:
    """The tensors in the weights of a folder; all its files have been found whole.

    Raises:
        ConfigError: a file is missing or broken.
    """
    for file in weight_files(folder, setting):
        yield from _whole(file, setting)


def load_tokenizer(folder: Path, setting: str = "model.path") -> "PreTrainedTokenizerBase":
    """The tokenizer of a folder.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    for file in sorted(folder.glob("*token*")):
        _refuse_pointer(file, setting)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        ids = tokenizer(SAMPLE, add_special_tokens=False)["input_ids"]
    except Exception as failure:  # transformers raises what it likes at a broken file
        raise ConfigError(
            f"the tokenizer in {folder} ({setting}) cannot be read: {type(failure).__name__}: {failure}. Download its "
            "files (tokenizer.json, tokenizer_config.json) anew"
        ) from failure
    if not ids:
        raise ConfigError(
            f"{folder} ({setting}) holds no tokenizer that knows any text: put tokenizer.json and "
            "tokenizer_config.json of the model beside its weights"
        )
    if tokenizer.eos_token_id is None:
        raise ConfigError(
            f"the tokenizer in {folder} ({setting}) has no end-of-text token, so responses would never end: set "
            "eos_token in its tokenizer_config.json"
        )
    return tokenizer


def check_ids(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[Prompt], folder: Path) -> None:
    """Whether the model has an embedding for each token that a prompt or the end of a response may hold.

    Raises:
        ConfigError: there is a token that it does not have.
    """
    config = check_model(folder)
    size = (config.get("text_config") or config).get("vocab_size")
    if not isinstance(size, int):
        return
    added = set(tokenizer.get_added_vocab().values())
    beyond = {id: text for text, id in tokenizer.get_vocab().items() if id >= size}
    ordinary = sorted(id for id in beyond if id not in added)
    used = sorted({id for prompt in prompts for id in prompt.tokens[prompt.tokens >= size].tolist()})
    ends = [tokenizer.eos_token_id] if tokenizer.eos_token_id in beyond else []
    if found := [*used, *ends, *ordinary]:
        where = "a prompt holds" if used else "responses would end with" if ends else "the tokenizer has"
        raise ConfigError(
            f"{where} token {found[0]} ({beyond.get(found[0], '')!r}), and the model in {folder} (model.path) has "
            f"embeddings for {size} tokens, 0 to {size - 1}: the tokenizer is another model's, or was enlarged without "
            "the model (model.resize_token_embeddings)"
        )


def weight_files(folder: Path, setting: str) -> list[Path]:
    """The safetensors files with the weights of a folder.

    Raises:
        ConfigError: one is missing.
    """
    if (index := folder / INDEX).is_file():
        _refuse_pointer(index, setting)
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            names = [str(name) for name in names]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as failure:
            raise ConfigError(f"{index} ({setting}) is broken ({failure}): download it anew") from failure
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            raise ConfigError(
                f"{index} ({setting}) names {len(names)} files of weights and {len(missing)} of them are not there, "
                f"the first is {(missing or ['none'])[0]}: download them"
            )
        return [folder / name for name in names]
    if (single := folder / "model.safetensors").is_file():
        return [single]
    raise ConfigError(f"{folder} ({setting}) holds no weights: {_instead(folder)}")


def _instead(folder: Path) -> str:
    """What lies in a folder without model.safetensors, and what to do about it."""
    if any(folder.glob("adapter_model*")):
        return f"it holds an adapter (LoRA). {MERGE.format(folder)}, and give that folder"
    if pickled := sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern)):
        return (
            f"only pickled ones, such as {pickled[0]}, which can run code when they are read. Write them anew: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    if other := sorted(file.name for pattern in ("*.gguf", "*.safetensors", "*.h5") for file in folder.glob(pattern)):
        return f"{other[0]} is not how transformers names or stores them. It takes model.safetensors or {INDEX}"
    return f"download model.safetensors, or {INDEX} and the files that it names"


def _whole(file: Path, setting: str) -> Iterator[Tensor]:
    """The tensors of a safetensors file that has all its bytes."""
    _refuse_pointer(file, setting)
    size = file.stat().st_size
    with file.open("rb") as weights:
        length = int.from_bytes(weights.read(8), "little")
        head = weights.read(length) if length < size else b""
    try:
        header: dict[str, dict[str, Any]] = json.loads(head)
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        found = [Tensor(name=name, shape=tuple(tensor["shape"])) for name, tensor in header.items()]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as failure:
        raise ConfigError(
            f"{file} ({setting}) is not a whole safetensors file ({size} bytes, no header that can be read): download "
            "it anew"
        ) from failure
    if 8 + length + end != size:
        raise ConfigError(
            f"{file} ({setting}) was cut or damaged: it has {size} bytes and its header tells of {8 + length + end}. "
            "Download it anew"
        )
    yield from found


def _refuse_pointer(file: Path, setting: str) -> None:
    if not file.is_file():
        return
    with file.open("rb") as start:
        if start.read(len(LFS)) == LFS:
            raise ConfigError(
                f"{file} ({setting}) is a pointer of Git LFS and not the file itself: run git lfs pull in its folder"
            )


def _check_embedding(tensors: Sequence[Tensor], config: Mapping[str, Any], folder: Path, setting: str) -> None:
    """Whether config.json and weights speak of the same model, as far as sizes tell."""
    wanted = (config.get("text_config") or config).get("vocab_size")
    found = [tensor for tensor in tensors if tensor.name.endswith(EMBEDDINGS) and len(tensor.shape) == 2]
    if not math.fsum(math.prod(tensor.shape) for tensor in tensors):
        raise ConfigError(f"the weights in {folder} ({setting}) are empty: download them anew")
    words = [tensor for tensor in found if "position" not in tensor.name and "type" not in tensor.name]
    if isinstance(wanted, int) and words and wanted not in {tensor.shape[0] for tensor in words}:
        raise ConfigError(
            f"{folder / 'config.json'} ({setting}) says vocab_size = {wanted} and {words[0].name} has "
            f"{words[0].shape[0]} rows: config.json and weights are of different models"
        )


def _check_generation_config(folder: Path, setting: str) -> None:
    """Whether generation_config.json, which the engine reads where it is there, can be read."""
    file = folder / "generation_config.json"
    _refuse_pointer(file, setting)
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (ValueError, RecursionError) as failure:
        raise ConfigError(f"{file} ({setting}) is not JSON ({failure}): download it anew, or remove it") from failure
    if not isinstance(found, dict):
        raise ConfigError(f"{file} ({setting}) must hold an object, got {type(found).__name__}")


def _read_config(folder: Path, setting: str) -> "PreTrainedConfig":
    from transformers import AutoConfig

    try:
        found: PreTrainedConfig = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as failure:  # transformers raises what it likes at settings that it does not know
        raise ConfigError(
            f"transformers does not take {folder / 'config.json'} ({setting}): {type(failure).__name__}: {failure}. "
            "Mend the file, or take a model of an architecture that this version of transformers knows"
        ) from failure
    return found


def _check_shapes(config: "PreTrainedConfig", found: Mapping[str, tuple[int, ...]], folder: Path, setting: str) -> None:
    """Whether the weights hold every parameter that config.json tells of, in its shape."""
    from learner.models.shapes import wanted_shapes

    try:
        wanted = wanted_shapes(config)
    except Exception as failure:  # transformers raises what it likes at sizes that do not go together
        raise ConfigError(
            f"no model can be made of {folder / 'config.json'} ({setting}): {type(failure).__name__}: {failure}. "
            "Download it anew"
        ) from failure
    for name, (short, shape) in wanted.items():
        has = found.get(name, found.get(short))
        if has != shape:
            what = "do not hold it" if has is None else f"hold it as {list(has)}"
            raise ConfigError(
                f"{folder / 'config.json'} ({setting}) tells of a parameter {name} of shape {list(shape)}, and the "
                f"weights {what}: config.json and weights are of different models, or a file is missing"
            )


def _check_architecture(config: "PreTrainedConfig", folder: Path, setting: str) -> None:
    """Tries a tiny random model of the architecture, where one can be made."""
    from learner.models.examination import UnsupportedModel, examine
    from learner.models.policy import Policy
    from learner.models.shrunk import shrunk

    try:
        model = shrunk(config)
    except Exception:  # sizes that do not go together; the learner examines the model itself when it starts
        return
    try:
        examine(Policy(model, logit_chunk=8))
    except UnsupportedModel as problem:
        raise ConfigError(f"{folder} ({setting}): {problem}") from problem
    except Exception:  # a tiny model may fail where the real one does not
        return
