"""What is evaluated: a model's folder, or a run with one of its checkpoints, and by which settings."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, OF_WORLD, config_of, layered, settings_of
from cluster.config.run_config import RunConfig
from cluster.config.run_files import CHECKPOINTS
from cluster.evaluating.words import Words
from cluster.preparing.storage import base_of
from cluster.running.checkpoints import checkpoint_of, step_of
from cluster.running.mirror import brought_here, names_at
from learner.types import MARKER

START = "start"  # of --checkpoint: the model that the run began with
EVALUATIONS = "evaluations"  # in a run folder, where its evaluations lie
EVERY_PROMPT = 10**9  # of eval.prompts, where nobody says how many


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is evaluated, and where its evaluations go."""

    model: str  # folder, or address, of the weights
    run: Path | None  # the folder of the run that they are of
    step: int | None  # of that run; 0 is its start
    settings: Mapping[str, Any]  # of the run, or none

    def folder(self, config: RunConfig) -> tuple[Path, str]:
        """(where the folder of an evaluation is made, its name)."""
        if self.run is not None:
            return self.run / EVALUATIONS, f"step-{self.step}"
        name = re.sub(r"[^\w.-]", "_", self.model.rstrip("/").rpartition("/")[2]) or "model"
        return base_of(config.run), f"eval-{name}"


def find_subject(what: str, checkpoint: str, say: Callable[[str], None]) -> Subject:
    """What `winnow eval MODEL|RUN --checkpoint CHECKPOINT` names.

    Args:
        what: a model folder, a run folder or a checkpoint in one; or the address of one of them.
        checkpoint: of a run: `step-40`, START, or "" for the newest one.
        say: is told of what is fetched.

    Raises:
        ConfigError: it is none of these, or the run has no such checkpoint.
    """
    if is_address(what):
        names = {} if what.lower().startswith("hf://") else names_at(what)
        if CONFIG not in names and f"/{CHECKPOINTS}/" not in what:
            return _model(what, checkpoint)
        folder = brought_here(what, say)
    else:
        folder = Path(what)
    folder = folder.resolve()
    run = folder.parent.parent
    if folder.parent.name == CHECKPOINTS and (run / CONFIG).is_file():
        if checkpoint:
            raise ConfigError(f"{what} is a checkpoint already: leave --checkpoint {checkpoint} out, or name the run")
        return _of_run(run, folder.name)
    if (folder / CONFIG).is_file():
        return _of_run(folder, checkpoint)
    if not folder.is_dir():
        raise ConfigError(f"there is no {what}: give the folder of a model or of a run, or its address")
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise ConfigError(
            f"{what} is the folder of no model, which holds config.json, and of no run, which holds {CONFIG}"
        )
    return _model(str(folder), checkpoint)


def _model(folder: str, checkpoint: str) -> Subject:
    if checkpoint:
        raise ConfigError(f"--checkpoint {checkpoint} is of a run, and {folder} is a model")
    return Subject(model=folder, run=None, step=None, settings={"model": {"path": folder}})


def _of_run(run: Path, checkpoint: str) -> Subject:
    tree = settings_of(run)
    if tree.get("world", {}).get("name"):  # its files moved with the run folder
        for section, key in OF_WORLD:
            if isinstance(path := tree.get(section, {}).get(key), str) and path:
                tree[section][key] = str(run / "world" / Path(path).name)
    if checkpoint == START:
        warm = run / "warmup"
        path = str(warm) if (warm / MARKER).is_file() else tree.get("model", {}).get("path", "")
        return Subject(model=path, run=run, step=0, settings=tree)
    step = _step(run, checkpoint)
    return Subject(model=str(checkpoint_of(run, step)), run=run, step=step, settings=tree)


def _step(run: Path, checkpoint: str) -> int:
    """The step of a complete checkpoint: its weights are all that is needed, its `state` may be gone."""
    there = sorted(step_of(path.parent) for path in (run / CHECKPOINTS).glob(f"step-*/{MARKER}"))
    if not there:
        raise ConfigError(
            f"the run in {run} holds no complete checkpoint (run.checkpoint_every is how often it writes one). The "
            "model that it began with is evaluated with --checkpoint start"
        )
    if not checkpoint:
        return there[-1]
    step = int(checkpoint) if checkpoint.isdecimal() else step_of(Path(checkpoint.rstrip("/")))
    if step not in there:
        raise ConfigError(
            f"the run in {run} holds no complete checkpoint {checkpoint}; there are "
            f"{', '.join(f'step-{each}' for each in there)}, and {START}"
        )
    return step


def evaluation_config(subject: Subject, words: Words, samples: int | None) -> RunConfig:
    """The settings of an evaluation: those of the run, then the run files, then what the command line says.

    Where data is named, all of it is evaluated; a run's own held-out prompts are as many as in its training.

    Raises:
        ConfigError: anything wrong with them, or nothing says what is evaluated.
    """
    tree: dict[str, Any] = {name: dict(of) if isinstance(of, dict) else of for name, of in subject.settings.items()}
    named = layered({}, words.files, ())
    if not all(isinstance(section, dict) for section in named.values()):
        config_of(named)  # says which is no section
    if words.benchmarks or "path" in named.get("eval", {}):
        for key in ("path", "rows", "prompts"):
            tree.get("eval", {}).pop(key, None)
    tree = layered(tree, words.files, ())
    evaluation = tree.setdefault("eval", {})
    if words.benchmarks:
        evaluation["path"] = dict(words.benchmarks)
    tree = layered(tree, (), words.overrides)
    evaluation = tree["eval"]
    if not (evaluation.get("path") or evaluation.get("rows")):
        raise ConfigError(
            "nothing says what is evaluated: name a file of prompts and answers, as NAME=PATH, or a run file that sets "
            "eval.path"
        )
    if samples is not None:
        evaluation["samples"] = samples
    evaluation.setdefault("prompts", EVERY_PROMPT)
    tree["model"] = {**tree.get("model", {}), "path": subject.model}
    tree.pop("world", None)
    tree["warmup"] = {**tree.get("warmup", {}), "updates": 0}
    data = tree.setdefault("data", {})
    for key in ("stored", "stored_share"):
        data.pop(key, None)
    data["path"] = data.get("path") or _any_path(evaluation.get("path", ""))
    return config_of(tree)


def _any_path(path: Any) -> str:
    """The path of a benchmark, for a model without data of its own."""
    first = next(iter(path.values()), "") if isinstance(path, Mapping) else path
    return str(first.get("path", "")) if isinstance(first, Mapping) else str(first)
