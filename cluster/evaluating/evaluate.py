"""`winnow eval` from its command line to its JSON file: finds what is evaluated, starts Ray and the generators, has
the prompts answered, and says what came of it."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.errors import BrokenPart
from actors.filtering.recorder import Recorder
from actors.types import Group
from cluster.blocking import run_blocking
from cluster.commands.merge import merge_folder
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, config_of, settings_of
from cluster.config.run_config import RunConfig
from cluster.config.run_files import TRAJECTORIES
from cluster.evaluating.against import RESULT, read_evaluation
from cluster.evaluating.answers import Answered, recorded_groups
from cluster.evaluating.progress import Told
from cluster.evaluating.result import Evaluation, write_result
from cluster.evaluating.sampling import Work, look_again, start_and_answer
from cluster.evaluating.subject import Subject, evaluation_config, find_subject
from cluster.evaluating.table import result_lines
from cluster.evaluating.words import Words
from cluster.placement.actors import sampling_actors
from cluster.placement.description import bundle_lines, reward_lines
from cluster.placement.session import ray_session, settled
from cluster.preparing.copies import revisions_of
from cluster.preparing.folders import held, make_run_folder, write_config
from cluster.preparing.preflight import prepare_evaluation
from cluster.preparing.revisions import read_revisions, write_revisions
from cluster.reporting.display import Display
from cluster.reporting.logs import log_file
from cluster.running.evaluate import requests_for
from cluster.running.left import left_at_end
from cluster.running.signals import undisturbed

NO_WORDS = Words.of(())
MERGED = "merged"  # in it while it lasts: the whole model of an adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a person asked for on the command line."""

    what: str  # MODEL|RUN|EVALUATION
    words: Words = NO_WORDS  # data, run files and settings
    samples: int | None = None  # --samples
    checkpoint: str = ""  # --checkpoint
    against: Path | None = None  # --against
    out: Path | None = None  # --out


def evaluate(asked: Asked) -> Path:
    """Evaluates to the end, and gives the folder of the evaluation. However it ends, what is done is on disk, and the
    same call with that folder goes on.

    Raises:
        ConfigError: it cannot start; nothing was sampled.
        BrokenPart: a part failed.
        OSError: a file cannot be written.
    """
    if asked.samples is not None and asked.samples < 1:
        raise ConfigError(f"--samples must be at least 1, got {asked.samples}")
    if asked.out is not None and (asked.out.is_dir() or not asked.out.parent.is_dir()):
        raise ConfigError(f"--out {asked.out} must be a file in a folder that is there")
    against = read_evaluation(asked.against) if asked.against is not None else None
    if (earlier := Path(asked.what).resolve()) and (earlier / RESULT).is_file():
        if asked.words != NO_WORDS or asked.samples is not None or asked.checkpoint:
            raise ConfigError(
                f"{asked.what} is an evaluation, which goes on by its own settings: leave out all but --against and "
                "--out"
            )
        subject, config = _begun(earlier)
        return _evaluate_in(earlier, subject, config, asked.out, against)
    with Display(0) as display:
        subject = find_subject(asked.what, asked.checkpoint, display.say)
    config = evaluation_config(subject, asked.words, asked.samples)
    base, name = subject.folder(config)
    folder = make_run_folder(name, base)
    try:
        return _evaluate_in(folder, subject, config, asked.out, against)
    except ConfigError:
        shutil.rmtree(folder)  # nothing was sampled
        raise


def _begun(folder: Path) -> tuple[Subject, RunConfig]:
    """An evaluation that has begun."""
    try:
        found = json.loads((folder / RESULT).read_text(encoding="utf-8"))["subject"]
        run = Path(found["run"]) if found["run"] else None
        subject = Subject(model=found["model"], run=run, step=found["step"], settings={})
    except (ValueError, KeyError, TypeError) as failure:
        raise ConfigError(f"{folder / RESULT} is not what winnow eval writes: {failure!r}") from failure
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"the evaluation in {folder} cannot go on: there is no {CONFIG} in it")
    return subject, config_of(settings_of(folder))


def _evaluate_in(
    folder: Path, subject: Subject, config: RunConfig, out: Path | None, against: Mapping[str, Any] | None
) -> Path:
    with held(folder), log_file(folder), Display(0) as display, _whole_model(subject, folder) as model:
        display.say(f"evaluation folder: {folder}")
        whole = config.model_copy(update={"model": config.model.model_copy(update={"path": model})})
        begun = read_revisions(subject.run) if subject.run is not None else {}
        inputs = prepare_evaluation(whole, display.say, begun | read_revisions(folder))
        write_revisions(folder, revisions_of(inputs.prepared.copies))
        most = max(len(each.prompts) for each in inputs.sets.values())
        config = _with_prompts(config, most)
        prepared = replace(inputs.prepared, config=_with_prompts(inputs.prepared.config, most), folder=folder)
        write_config(config, folder)
        evaluation = Evaluation(
            subject=subject, config=prepared.config, inputs=replace(inputs, prepared=prepared), folder=folder
        )
        _run(evaluation, display, out, against)
    return folder


def _run(evaluation: Evaluation, display: Display, out: Path | None, against: Mapping[str, Any] | None) -> None:
    """Has what is left answered, and writes the result however that ends."""
    folder, answered, began = evaluation.folder, dict[int, Answered](), time.monotonic()
    earlier, spent = _earlier(evaluation), seconds_so_far(folder)
    if not (folder / RESULT).is_file():
        write_result(evaluation.result({}, 0.0), folder / RESULT)
    recorder = Recorder(folder / TRAJECTORIES, step=evaluation.subject.step or 0, takes_over=bool(earlier))
    with _told_how_to_go_on(folder, answered, len(evaluation.prompts)), left_at_end(folder, display.say):
        try:
            _answer_all(evaluation, display, recorder, earlier, answered)
        finally:
            with undisturbed():
                recorder.close(evaluation.subject.step or 0)
                seconds = spent if len(earlier) == len(evaluation.prompts) else spent + time.monotonic() - began
                result = evaluation.result(answered, seconds, against)
                for file in (folder / RESULT, *([out] if out else [])):
                    write_result(result, file)
                if answered:
                    display.say("\n".join(result_lines(result)))
    display.say(f"every response, its verdict and why: {folder / TRAJECTORIES} (Parquet)")
    display.say(f"done: {out or folder / RESULT}")


def seconds_so_far(folder: Path) -> float:
    """That the tries of an evaluation have taken which wrote their result; one that was killed wrote none."""
    try:
        return float(json.loads((folder / RESULT).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def _answer_all(
    evaluation: Evaluation,
    display: Display,
    recorder: Recorder,
    earlier: Sequence[Group],
    answered: dict[int, Answered],
) -> None:
    """Starts Ray and has it all answered; `answered` has what is done, also where this raises."""
    prepared = evaluation.inputs.prepared
    known = {group.id for group in earlier}
    requests = requests_for(prepared.heldout, prepared.config.eval.samples)
    left = [request for request in requests if request.group not in known]
    if earlier:
        display.say(f"{len(earlier)} of {len(requests)} prompts were answered before")

    def done(each: Answered) -> None:
        answered[each.number] = each

    work = Work(requests=left, earlier=earlier, recorder=recorder, done=done)
    told = Told(display, len(requests))
    if not left and not prepared.config.scoring_models:
        run_blocking(look_again(prepared.config, work, told))
        return
    told.status("starting Ray")
    with ray_session(prepared.config, evaluation.folder) as (layout, dashboard, until):
        settled_here = settled(prepared, layout)
        display.say("\n".join(_plan(evaluation, settled_here.config.model.settled_dtype)))
        display.say("\n".join(bundle_lines(layout)))
        display.say(f"Ray dashboard: http://{dashboard}")
        with sampling_actors(settled_here, layout, evaluation.folder.name, until) as actors:
            run_blocking(start_and_answer(actors, settled_here.config, work, told))


def _plan(evaluation: Evaluation, dtype: str) -> list[str]:
    config, sets = evaluation.inputs.prepared.config, evaluation.inputs.sets
    lines = [
        f"{evaluation.subject.model}: {config.eval.samples} responses to each of {len(evaluation.prompts)} prompts at "
        f"temperature {config.rollout.temperature:g}, at most {config.rollout.max_new_tokens} tokens, in {dtype}"
    ]
    named = [f"{name or 'held-out prompts'} {len(each.prompts)}" for name, each in sets.items()]
    left_out = sum(each.left_out for each in sets.values())
    lines.append(", ".join(named) + f"; {left_out} prompts are too long for the model and left out" * bool(left_out))
    return [*lines, *reward_lines(config)]


def _earlier(evaluation: Evaluation) -> list[Group]:
    """The groups that an earlier try has left on disk.

    Raises:
        ConfigError: they are of other prompts.
    """
    found = list(recorded_groups(evaluation.folder / TRAJECTORIES))
    for group in found:
        prompts = evaluation.prompts
        mine = prompts[group.id] if group.id < len(prompts) else None
        if mine is None or (mine.id, mine.text, mine.reference) != (
            group.prompt.id,
            group.prompt.text,
            group.prompt.reference,
        ):
            raise ConfigError(
                f"the data of the evaluation in {evaluation.folder} has changed: it holds responses to "
                f"{group.prompt.id}, which is another prompt now, or none. Evaluate anew"
            )
    return found


def _with_prompts(config: RunConfig, most: int) -> RunConfig:
    return config.model_copy(update={"eval": config.eval.model_copy(update={"prompts": most})})


@contextmanager
def _whole_model(subject: Subject, folder: Path) -> Iterator[str]:
    """The folder or address of the whole model; that of an adapter is merged for as long as it lasts."""
    model, merged = Path(subject.model), folder / MERGED
    if not (model / "adapter_config.json").is_file() or (model / "config.json").is_file():
        yield subject.model
        return
    shutil.rmtree(merged, ignore_errors=True)
    try:
        merge_folder(model, merged)
        yield str(merged)
    finally:
        shutil.rmtree(merged, ignore_errors=True)


@contextmanager
def _told_how_to_go_on(folder: Path, answered: Mapping[int, Answered], prompts: int) -> Iterator[None]:
    """Adds to whatever ends an evaluation early, as a note, what is done and what goes on from there."""
    try:
        yield
    except (BrokenPart, OSError, KeyboardInterrupt) as end:
        end.add_note(f"{len(answered)} of {prompts} prompts are done; what goes on from there: winnow eval {folder}")
        raise
