"""What can be found out about the training of a reward model before Ray starts: model, rows, and what they are of."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.data.labelled import RankedRow, SteppedRow, read_labelled
from actors.errors import DataError
from cluster.config.errors import ConfigError
from cluster.config.models import CAUSAL, check_folder
from cluster.config.run_config import RunConfig
from cluster.preparing.copies import NO_REVISIONS, with_copies
from cluster.preparing.models import check_policy, load_tokenizer, tensors_of
from cluster.preparing.preflight import Prepared
from cluster.reporting.words import counted
from cluster.reward_models.config import RewardModelConfig
from cluster.running.state import RunInputs
from learner.reward_models.examples import examples_of
from learner.reward_models.types import RewardModelKind, RewardModelTask, Rows
from rewards.models.texts import Texts, limit_of, steps

ENDS = {RewardModelKind.OUTCOME: "ForSequenceClassification", RewardModelKind.PROCESS: "ForTokenClassification"}
READERS = {RewardModelKind.OUTCOME: "reward.model", RewardModelKind.PROCESS: "reward.process"}
LabelledRows = list[RankedRow] | list[SteppedRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRewardModel:
    """The training of a reward model whose inputs have been checked."""

    prepared: Prepared  # as parts that all learners share take it
    task: RewardModelTask
    rows: int  # to train on
    digest: str  # of them: they must be the same when the run goes on
    about: tuple[str, ...]  # what a person should know of the data, a sentence each

    def inputs(self, settled: RunConfig) -> RunInputs:
        """What the run can only go on with, by its settings on the cluster."""
        return RunInputs(
            prompts=self.rows,
            prompts_digest=self.digest,
            stored=0,
            stored_digest="",
            ranks=settled.cluster.learner_ranks,
            zero_stage=settled.learner.stage_with(settled.model.settled_dtype),
            dtype=settled.model.settled_dtype,
        )


def prepare_reward_model(
    config: RewardModelConfig, say: Callable[[str], None], revisions: Mapping[str, str] = NO_REVISIONS
) -> PreparedRewardModel:
    """Reads and checks the model folder and all rows. What settings name by an address is fetched first.

    Args:
        config: the run.
        say: is told what was fetched.
        revisions: as of `with_copies`.

    Raises:
        ConfigError: something is missing or cannot be used; the message says what to do.
    """
    run, copies = with_copies(config.as_run, say, revisions)
    run = run.without_sampling()
    train, heldout = _rows(run.data.path, run.data.rows), None
    if run.eval.path or run.eval.rows:
        heldout = _rows(run.eval.path or run.data.path, run.eval.rows)
    labelled = _read(train, config, "data.path")
    kind = _kind_of(labelled)
    _check_labels(labelled, train)
    held = _read(heldout, config, "eval.path") if heldout else []
    if held and _kind_of(held) is not kind:
        raise ConfigError(
            f"the held-out rows (eval.path) are for a model of another kind than those in {train.path} (data.path): "
            "give rows with the same columns"
        )
    folder = Path(run.model.path)
    check_scorer(folder, kind)
    about = (
        _counts(labelled, "to train on"),
        *([_counts(held, "held out")] if held else []),
        *_lengths([*labelled, *held], folder),
        *_divided_otherwise(labelled),
        *_trained_and_held_out(labelled, held),
    )
    prepared = Prepared(
        config=run,
        prompts=(),
        shares=(),
        left_out=0,
        heldout=(),
        stored=None,
        max_model_len=0,
        positions=0,
        adapter_parameters=0,
        probe=(),
        judge_lengths={},
        control=(),
        copies=copies,
    )
    return PreparedRewardModel(
        prepared=prepared,
        task=RewardModelTask(
            kind=kind,
            train=train,
            heldout=heldout,
            prompt_column=str(config.data.prompt_column),
            batch=config.learner.batch,
            system_column=config.data.system_column,
            system=config.data.system,
        ),
        rows=len(labelled),
        digest=_digest(labelled),
        about=about,
    )


def check_scorer(folder: Path, kind: RewardModelKind) -> None:
    """Whether a folder holds a causal language model, or a reward model of this kind, that can be trained.

    Raises:
        ConfigError: it does not; the message says what it holds.
    """
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    )

    config, end = check_folder(folder), ENDS[kind]
    names = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith(CAUSAL) for name in names):
        check_policy(folder, "model.path")
    elif any(name.endswith(end) for name in names):
        labels = len(config["id2label"]) if "id2label" in config else 2
        if labels != 1:
            raise ConfigError(f"{folder} (model.path) has {labels} labels, and a reward model is trained with one")
        list(tensors_of(folder, "model.path"))
    else:
        raise ConfigError(
            f"{folder} (model.path) holds {names or 'no architecture'}: a reward model of this data is trained from a "
            f"causal language model, or goes on from a ...{end}"
        )
    known = {
        RewardModelKind.OUTCOME: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        RewardModelKind.PROCESS: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    }[kind]
    if config.get("model_type") not in known:
        raise ConfigError(
            f"transformers has no ...{end} for the architecture {config.get('model_type')!r} of {folder} (model.path): "
            "take another model"
        )


def _rows(path: object, rows: str) -> Rows:
    """Rows as settings name them, start:end."""
    start, _, end = (rows or ":").partition(":")
    return Rows(path=str(path), start=int(start) if start else None, end=int(end) if end else None)


def _read(rows: Rows, config: RewardModelConfig, setting: str) -> LabelledRows:
    try:
        return read_labelled(
            rows.path,
            str(config.data.prompt_column),
            rows.slice,
            system_column=config.data.system_column,
            system=config.data.system,
        )
    except DataError as failure:
        raise ConfigError(f"{failure} ({setting})") from failure


def _kind_of(rows: LabelledRows) -> RewardModelKind:
    return RewardModelKind.OUTCOME if isinstance(rows[0], RankedRow) else RewardModelKind.PROCESS


def _check_labels(rows: LabelledRows, rows_of: Rows) -> None:
    """Refuses steps that all have one label: a model that always says it agrees with all of them."""
    labels = {label for row in rows if isinstance(row, SteppedRow) for label in row.labels if label is not None}
    if len(labels) == 1:
        raise ConfigError(
            f"all steps in {rows_of.path} (data.path) have the label {labels.pop():g}, and a model learns from right "
            "and wrong ones: add rows of the other kind"
        )


def _counts(rows: LabelledRows, what: str) -> str:
    pairs = sum(row.pairs for row in rows if isinstance(row, RankedRow))
    labels = [label for row in rows if isinstance(row, SteppedRow) for label in row.labels if label is not None]
    right = sum(label > 0.5 for label in labels)
    inside = f"{counted(pairs, 'pair')}" if pairs else f"{counted(len(labels), 'labelled step')}, {right} of them right"
    return f"{counted(len(rows), 'row')} {what}: {inside}"


def _lengths(rows: list[Any], folder: Path) -> tuple[str, ...]:
    """The longest text, and whether some are longer than what the model reads.

    Raises:
        ConfigError: a row has nothing left to train on.
    """
    from transformers import AutoConfig

    tokenizer, config = load_tokenizer(folder), AutoConfig.from_pretrained(folder, local_files_only=True)
    limit = limit_of(config, tokenizer)
    try:
        examples = examples_of(rows, Texts(tokenizer, limit), None)
    except ValueError as problem:
        raise ConfigError(f"{problem} (data.path)") from problem
    lengths = [sample.inputs for example in examples for sample in example.samples]
    cut = sum(length >= limit for length in lengths)
    said = f"{counted(len(lengths), 'response')}, the longest with its question of {counted(max(lengths), 'token')}"
    return (
        said,
        *([f"{cut} of them are cut at their beginning to the {limit} tokens that the model reads"] if cut else []),
    )


def _divided_otherwise(rows: LabelledRows) -> tuple[str, ...]:
    stepped = [row for row in rows if isinstance(row, SteppedRow)]
    other = sum(steps("".join(row.steps)) != row.spans for row in stepped)
    if not other:
        return ()
    return (
        f"{other} of {len(stepped)} responses have other steps than reward.process would find in them: it divides at "
        'lines that begin with "Step N:", or else at blank lines, and what it is trained on should be divided so too',
    )


def _trained_and_held_out(rows: LabelledRows, held: LabelledRows) -> tuple[str, ...]:
    trained = {replace(row, place="") for row in rows}
    both = sum(replace(row, place="") in trained for row in held)
    if not both:
        return ()
    return (
        f"{both} of the {len(held)} held-out rows are trained on too, so what is said of them says little: take others "
        "(data.rows, eval.rows)",
    )


def _digest(rows: LabelledRows) -> str:
    """Of what the rows say, wherever they stand; a prompt that is one message has the digest of earlier versions."""
    found = hashlib.sha256()
    for row in rows:
        found.update(repr(replace(row, place="")).encode("utf-8", "surrogatepass"))
        if row.messages:
            found.update(repr(row.messages).encode("utf-8", "surrogatepass"))
    return found.hexdigest()
