"""Looks at a model folder and a data file, and makes a run file of what it finds. Nothing is started."""

import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.data.files import BadRow, FileRow, files_of, read_files
from actors.data.reading import DataRow, data_row
from actors.errors import DataError
from cluster.commands.drafting.columns import FINAL, Reading, columns_of, first_solution, options_beside, readings
from cluster.commands.drafting.fitting import Machine, Tree, fit, machine
from cluster.commands.drafting.lengths import MEASURED, Lengths, measure, new_tokens, template_for
from cluster.commands.drafting.splits import Split, is_held_out, split, training_path
from cluster.commands.drafting.trial import ENOUGH, TRIED, Trial, evenly, places_of, trials
from cluster.commands.drafting.writing import Line, written
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, grading_config, tree_of
from cluster.config.run_config import GradingConfig
from cluster.preparing.copies import with_copies
from cluster.preparing.graders import Graders
from cluster.preparing.models import check_policy, load_tokenizer
from rewards.answers.reference import answers_of

SHOWN = 3  # bad rows that are named
PASSES, FEWEST_STEPS, MOST_STEPS, MOST_STEPS_ON_CPU = 3, 20, 200, 50
EVAL_PROMPTS, EVAL_PROMPTS_ON_CPU = 128, 32
PLAIN_STEM = re.compile(r"(?:train|training|data|test|dev|valid|questions)\b.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a person asks `winnow init` for."""

    model: str  # a folder, or its address
    data: str  # a file, a folder, a pattern, or its address
    items: tuple[str, ...] = ()  # settings that are not to be guessed
    on: str = ""  # where the run is to be, as for --on; "" is this machine
    file: Path  # that is to be written, for the commands in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A run file, and what to say of it."""

    text: str
    said: tuple[str, ...]
    bad: tuple[BadRow, ...]  # rows that a run would stumble over


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found in the data."""

    path: str  # that is trained on
    path_why: str
    rows: tuple[FileRow, ...]
    best: Trial
    others: tuple[Trial, ...]
    unread: tuple[BadRow, ...]  # rows that cannot be read at all


def draft(wanted: Wanted, say: Callable[[str], None]) -> Draft:
    """A run file that has been checked as far as settings, the rows that were tried, and memory go.

    Args:
        wanted: what is asked for.
        say: is told what is done now, and of copies that were fetched.

    Raises:
        ConfigError: the model or the data cannot be used, or nothing fits; the message says what to do.
    """
    tree = tree_of(wanted.items)
    ours = [item for item in wanted.items if item.partition(".")[0] in GradingConfig.model_fields]
    asked = grading_config([*ours, f'model.path="{wanted.model}"'], data=wanted.data)
    here, _ = with_copies(asked, say)
    say(f"looking at {wanted.model}")
    check_policy(Path(here.model.path), "MODEL")
    tokenizer = load_tokenizer(Path(here.model.path), "MODEL")
    say(f"reading {wanted.data}, and trying rewards on it")
    looked = _look(here, wanted)
    reading = looked.best.reading
    rows = _usable(looked)
    template, why = template_for(looked.best.reward, rows, tokenizer)
    if "template" not in asked.data.model_fields_set:
        reading = _with_template(reading, template)
    say("measuring lengths, and what fits the machine")
    answers = _answers(looked, rows)
    lengths = measure(reading.data, rows, answers, tokenizer, Path(here.model.path))
    place = machine(wanted.on)
    lines = [*_data_lines(wanted, looked, reading, why, bool(tokenizer.chat_template)), *_reward_lines(looked)]
    lines += _length_lines(lengths, looked, place)
    lines = _with_asked(lines, tree)
    held = split(looked.path, len(looked.rows), reading.data)
    lines += _machine_lines(lines, tree, place, lengths, len(looked.rows), here.model.path)
    lines = _with_asked([*lines, *_eval_lines(held, place)], tree)
    lines = _with_asked([*_run_lines(wanted, lines, len(looked.rows), place), *lines], tree, complete=True)
    text = written(_about(wanted, place), lines)
    config_of(tomllib.loads(text))
    return Draft(text=text, said=_said(looked, lengths, place, held), bad=(*looked.unread, *looked.best.bad))


# ------------------------------------------------------------------------------------- what is in the data


def _look(config: GradingConfig, wanted: Wanted) -> Looked:
    unread: list[BadRow] = []
    if len(config.data.paths) > 1:
        raise ConfigError(
            f"winnow init looks at one file or folder, got {len(config.data.paths)} in data.path: name one as DATA, "
            "and write the others into the run file, each with its weight"
        )
    (given,) = config.data.paths
    try:
        path, why = training_path(given)
    except DataError as problem:
        raise ConfigError(str(problem)) from problem
    try:
        rows = tuple(read_files(path, unread.append))
        folder = files_of(path)[0].parent
    except DataError as problem:
        several = ". Of a folder every data file is read: give the file that is meant" if Path(given).is_dir() else ""
        raise ConfigError(f"{problem}{several}") from problem
    if not rows:
        raise ConfigError(f"{path} holds no row that can be read" + (f": {unread[0]}" if unread else ""))
    sample = evenly(rows, TRIED)
    found = readings(sample, config.data, folder)
    if not found:
        raise ConfigError(_nothing_to_read(path, sample, wanted))
    with Graders() as graders:
        made = trials(found, rows, tree_of(wanted.items).get("reward", {}), graders)
    if not made or made[0].share < ENOUGH:
        raise ConfigError(_nothing_fits(path, sample, made, found))
    return Looked(
        path=wanted.data if path == given else path,
        path_why=why,
        rows=rows,
        best=made[0],
        others=tuple(made[1:]),
        unread=tuple(unread),
    )


def _nothing_to_read(path: str, rows: Sequence[FileRow], wanted: Wanted) -> str:
    return (
        f"{path}: no column was recognised that asks and one that answers. Its columns: "
        f"{', '.join(columns_of(rows))}. Name them: winnow init {wanted.model} {wanted.data} data.prompt_column=COLUMN "
        "data.answer_column=COLUMN; dots reach into objects, as in extra.question. Where nothing answers, a model "
        'grades, in a run file with data.answer_column = "" and reward.name = "model" or "judge"'
    )


def _nothing_fits(path: str, rows: Sequence[FileRow], made: Sequence[Trial], found: Sequence[Reading]) -> str:
    """Why no reward can grade the data, and what to do."""
    options = options_beside(rows)
    columns = [one.data.answer_column for one in found if isinstance(one.data.answer_column, str)]
    if options and (place := next((one for one in columns if places_of(rows, options, one)), "")):
        return (
            f"{path}: the answer in {place} is the place of an option in {options}, and the reward choice reads "
            f'letters: write the letter into a column, such as row["letter"] = "ABCD"[row["{place}"]], and give '
            "data.answer_column=letter"
        )
    tried = "\n".join(f"  {trial}; first {trial.bad[0]}" if trial.bad else f"  {trial}" for trial in made)
    lacks = "\n  no folder beside it holds all databases: give reward.sql.databases=FOLDER" * any(
        "sql" in one.rewards and not one.settings for one in found
    )
    answers = ", ".join(dict.fromkeys(one.about for one in found))
    return (
        f"{path}: no reward finds at least {ENOUGH:.0%} of the references right.\n"
        + (tried or f"  {answers}: too long, or of too many forms, for choice, number, math or exact")
        + lacks
        + "\nMend or remove the rows that are named, name another column (data.answer_column=COLUMN; there are "
        + f"{', '.join(columns_of(rows))}), or write a reward of your own and train with reward.name=own "
        + "reward.own.file=FILE"
    )


def _usable(looked: Looked) -> list[DataRow]:
    """Rows over the whole file as the best reading has them, without those that it cannot read."""
    rows = []
    for row in evenly(looked.rows, MEASURED):
        try:
            rows.append(data_row(row, looked.best.reading.data, looked.best.reward))
        except ValueError:
            continue
    return rows


def _answers(looked: Looked, rows: Sequence[DataRow]) -> list[str]:
    """Worked answers, whose lengths tell how long responses are: solutions, else references of final answers."""
    names = (*looked.best.reading.solutions, "solution", "rationale", "reasoning", "worked_solution")
    solutions = [first_solution(row, names) for row in evenly(looked.rows, MEASURED)]
    if any(solutions):
        return [text for text in solutions if text]
    return [answers_of(row.reference)[0] for row in rows] if looked.best.reward in FINAL else []


def _with_template(reading: Reading, template: str) -> Reading:
    return replace(reading, data=reading.data.model_copy(update={"template": template}))


# ----------------------------------------------------------------------------------------------- its lines


def _about(wanted: Wanted, place: Machine) -> list[str]:
    on = f" --on {wanted.on}" if wanted.on else ""
    return [
        f"Written by `winnow init` from {wanted.model} and {wanted.data},",
        f"for {place.about}.",
        "What is not set has its default: `winnow settings` prints them all.",
        "",
        f"  winnow check {wanted.file}",
        f"  winnow train {wanted.file} --plan{on}",
        f"  winnow train {wanted.file}",
    ]


def _data_lines(wanted: Wanted, looked: Looked, reading: Reading, why: str, chats: bool) -> list[Line]:
    data, best = reading.data, looked.best
    chat = (
        "no data.chat is set: the tokenizer has a chat template, and every prompt is a user's message in it"
        if chats
        else "no data.chat is set: the tokenizer has no chat template, and every prompt is plain text"
    )
    path = _rows(len(looked.rows)) + (f"; {looked.path_why}" if looked.path_why else "")
    dtype = "no model.dtype is set: bfloat16 on GPUs, float32 on the CPU"
    lines = [Line(section="model", key="path", value=wanted.model, why=dtype)]
    lines.append(Line(section="data", key="path", value=looked.path, why=path))
    joined = not isinstance(data.prompt_column, str)
    asks = "what is asked stands in several columns, which are joined" if joined else "what is asked"
    lines.append(Line(section="data", key="prompt_column", value=data.prompt_column, why=asks))
    lines.append(Line(section="data", key="answer_column", value=data.answer_column, why=best.reading.about))
    if data.system_column:
        about = "the first message is the system's"
        lines.append(Line(section="data", key="system_column", value=data.system_column, why=about))
    lines.append(Line(section="data", key="template", value=data.template, why=why))
    return [*lines, Line(section="data", why=chat)]


def _reward_lines(looked: Looked) -> list[Line]:
    best = looked.best
    equal = [one.reward for one in looked.others if one.share == best.share and one.reading == best.reading]
    tried = "all" if best.tried == len(looked.rows) else f"{best.tried} of {len(looked.rows)}"
    why = f"tried on {tried} rows: {best}"
    if equal:
        why += f", and so {'does' if len(equal) == 1 else 'do'} {' and '.join(equal)}: it is the strictest of them"
    elif lower := next((one for one in looked.others if one.reading == best.reading), None):
        why += f", {lower.reward} {lower.accepted}"
    lines = [Line(section="reward", key="name", value=best.reward, why=why)]
    for key, value in best.reading.settings.items():
        about = "the folder that holds every database that was looked for"
        lines.append(Line(section=f"reward.{best.reward}", key=key, value=value, why=about))
    return lines


def _length_lines(lengths: Lengths, looked: Looked, place: Machine) -> list[Line]:
    new, why = new_tokens(lengths, place.on_gpu)
    prompts = (
        f"Prompts have {lengths.median} tokens in the median, {lengths.high} at the 99th percentile and at most "
        f"{lengths.most}"
    )
    lines = [Line(section="rollout", key="max_new_tokens", value=new, why=f"{why}. {prompts}")]
    if (share := lengths.too_long(new)) > looked.best.reading.data.too_long_share:
        allowed = min(1.0, round(share * 1.5 + 0.01, 2))
        why = f"{share:.1%} of the prompts leave no room for a response in {lengths.positions} positions: left out"
        lines.append(Line(section="data", key="too_long_share", value=allowed, why=why))
    return lines


def _machine_lines(
    lines: Sequence[Line], asked: Tree, place: Machine, lengths: Lengths, rows: int, model: str
) -> list[Line]:
    tree = _tree(lines)
    tree["model"]["path"] = model
    longest = min(lengths.most, lengths.positions - tree["rollout"]["max_new_tokens"])
    found = fit(tree, asked, place, longest + tree["rollout"]["max_new_tokens"], rows)
    return [_line(name, value, found.why[name]) for name, value in found.settings.items()]


def _eval_lines(held: Split, place: Machine) -> list[Line]:
    if not (held.eval_path or held.eval_rows):
        return [
            Line(
                section="eval",
                why=f"no eval.every is set: {held.why}. Without evaluation nothing tells how "
                "good the policy is on prompts that it was not trained on",
            )
        ]
    lines = [Line(section="eval", key="every", value=20, why="steps; it costs as much sampling as it has responses")]
    if held.eval_path:
        lines.append(Line(section="eval", key="path", value=held.eval_path, why=held.why))
    else:
        lines.append(Line(section="eval", key="rows", value=held.eval_rows, why=held.why))
        lines.append(Line(section="data", key="rows", value=held.rows, why="the others are held out: eval.rows"))
    count = EVAL_PROMPTS if place.on_gpu else EVAL_PROMPTS_ON_CPU
    lines.append(Line(section="eval", key="prompts", value=count, why="the first of its rows"))
    return lines


def _run_lines(wanted: Wanted, lines: Sequence[Line], rows: int, place: Machine) -> list[Line]:
    groups = next(line.value for line in lines if line.key == "groups_per_step")
    most = MOST_STEPS if place.on_gpu else MOST_STEPS_ON_CPU
    steps = min(most, max(FEWEST_STEPS, PASSES * rows // groups))
    passes = f"{steps * groups / rows:.2g} times through {_rows(rows)}"
    why = f"{steps} steps of {groups} prompts go {passes}; more where groups are rejected"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", wanted.file.stem).strip(".-") or "run"
    return [
        Line(section="run", key="name", value=name, why="of the folder in runs/"),
        Line(section="run", key="steps", value=steps, why=why),
    ]


def _line(name: str, value: Any, why: str) -> Line:
    section, _, key = name.rpartition(".")
    return Line(section=section, key=key, value=value, why=why)


def _tree(lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    tree: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line.key:
            *sections, last = line.section.split(".")
            inner = tree
            for section in sections:
                inner = inner.setdefault(section, {})
            inner.setdefault(last, {})[line.key] = line.value
    return tree


def _with_asked(lines: Sequence[Line], tree: dict[str, Any], *, complete: bool = False) -> list[Line]:
    """The lines with what the command line asks for in place of what was found; with `complete`, the rest behind."""
    asked = dict(_flat(tree))
    why = "as asked for on the command line"
    kept = []
    for line in lines:
        name = f"{line.section}.{line.key}"
        kept.append(_line(name, asked.pop(name), why) if line.key and name in asked else line)
    return [*kept, *(_line(name, value, why) for name, value in asked.items())] if complete else kept


def _flat(tree: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Every setting of a tree by its whole name; a table that is a value is one where its section knows it as such."""
    found = []
    for key, value in tree.items():
        name = f"{before}{key}"
        if isinstance(value, dict) and (not before or before == "reward."):
            found += _flat(value, f"{name}.")
        else:
            found.append((name, value))
    return found


# ------------------------------------------------------------------------------------------ what is said


def _said(looked: Looked, lengths: Lengths, place: Machine, held: Split) -> tuple[str, ...]:
    best = looked.best
    lines = [
        f"{looked.path}: {_rows(len(looked.rows))}",
        f"prompt   {_named(best.reading.data.prompt_column)}: {lengths.median} tokens in the median, at most "
        f"{lengths.most}",
        f"answer   {best.reading.about}",
        f"reward   {best}",
        f"held out {held.why}",
        f"machine  {place.about}",
    ]
    if is_held_out(looked.path):
        lines.append(f"note: {looked.path} bears the name of a test file: do not report accuracy on it after training")
    if bad := (*looked.unread, *best.bad):
        lines.append(f"rows that a run would refuse, of those tried: {len(bad)}")
        lines += [f"  {row}" for row in bad[:SHOWN]]
        lines.append("mend or remove them; winnow check names all of the file")
    return tuple(lines)


def _rows(count: int) -> str:
    return f"{count} rows" if count > 1 else "a single row"


def _named(column: str | tuple[str, ...]) -> str:
    return column if isinstance(column, str) else " + ".join(column)


def file_for(data: str) -> Path:
    """How the run file is called where nobody says: by the data, or by its folder where that tells more."""
    name = data.rstrip("/").split("://")[-1]
    *folders, last = [part for part in name.split("/") if part not in (".", "..")] or ["run"]
    stem = last.partition(".")[0].strip("*-_") or "run"
    if folders and PLAIN_STEM.fullmatch(stem):
        stem = folders[-1]
    return Path(re.sub(r"[^A-Za-z0-9_-]+", "-", stem) + ".toml")


def write_draft(wanted: Wanted, *, force: bool, say: Callable[[str], None]) -> Draft:
    """Writes the run file and says what was found and what to do next.

    Raises:
        ConfigError: see `draft`; or the file is there already and `force` is off.
    """
    if wanted.file.exists() and not force:
        raise ConfigError(f"{wanted.file} is there already: give another name with -o, or --force to write it anew")
    made = draft(wanted, say)
    wanted.file.parent.mkdir(parents=True, exist_ok=True)
    wanted.file.write_text(made.text, encoding="utf-8")
    on = f" --on {wanted.on}" if wanted.on else ""
    for line in ("", *made.said, ""):
        say(line)
    say(f"written: {wanted.file}, every line with its reason. Next:")
    for command in ("check {}", f"train {{}} --plan{on}", "train {}"):
        say(f"  winnow {command.format(wanted.file)}")
    return made
