"""`winnow check`: whether data can be trained on, before any GPU is used. Every bad row is named by file and line."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from actors.data.files import BadRow, files_of
from actors.data.messages import question_of
from actors.data.prompts import no_tokens
from actors.data.reading import DataRow, read_data, read_worked
from actors.data.rendering import Renderer
from actors.errors import DataError
from actors.rollouts.worked import WorkedRenderer
from actors.settings import DataSettings
from cluster.config.errors import ConfigError
from cluster.config.models import positions_of
from cluster.config.run_config import GradingConfig, RunConfig
from cluster.preparing.asking import asked_about, refused_messages
from cluster.preparing.copies import with_copies
from cluster.preparing.data import heldout_sets
from cluster.preparing.graders import Graders, progress
from cluster.preparing.models import load_tokenizer
from cluster.preparing.references import bad_references, right_without_answer, takes_text
from cluster.preparing.trying import try_own_rewards
from cluster.reporting.words import counted
from rewards import REWARDS, Case, Outcome, Question, RewardSettings
from rewards.answers.reference import answers_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHOWN = 20  # bad rows that are named one by one
SAMPLES = 3  # references that are shown of each reward
WIDE = 100  # letters of a text that is shown

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenPrompt:
    """A prompt as the model sees it."""

    row: DataRow
    text: str  # in its templates
    tokens: int  # how many


def check_data(config: GradingConfig | RunConfig, say: Say, graders: Graders) -> int:
    """Says what is there and what is wrong with it; the number of bad rows.

    Looks at the prompts, and of a run file at the held-out prompts and the worked answers of the warm-up as well.

    Raises:
        ConfigError: a file cannot be read at all.
    """
    config, _ = with_copies(config, say)
    tokenizer = load_tokenizer(Path(config.model.path)) if config.model.path else None
    try:
        bad, rows = _check_prompts(config, config.data, tokenizer, say, graders)
        if isinstance(config, RunConfig):
            if config.eval.path or config.eval.rows:
                for data in heldout_sets(config).values():
                    more, heldout = _check_prompts(config, data, tokenizer, say, graders)
                    bad += more
                    say(f"held-out prompts that are trained on, too: {_shared(rows, heldout)} of {len(heldout)}")
            if config.warmup.path:
                bad += _check_worked(config, tokenizer, say)
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    for row in bad[:SHOWN]:
        say(str(row))
    if len(bad) > SHOWN:
        say(f"... and {len(bad) - SHOWN} more")
    return len(bad)


def _check_prompts(
    config: GradingConfig | RunConfig,
    data: DataSettings,
    tokenizer: "PreTrainedTokenizerBase | None",
    say: Say,
    graders: Graders,
) -> tuple[list[BadRow], list[DataRow]]:
    """(the bad rows of a data file, its good ones), having said what is there."""
    bad: list[BadRow] = []
    rows = []
    for path, found in read_data(data, config.reward.name, bad.append).items():
        rows += found
        files = len(files_of(path))
        say(f"{path}: {counted(len(found), 'row')}" + f" in {files} files" * (files > 1))
    if bad:
        say(f"rows that cannot be read: {len(bad)}")
    if not rows:
        advice = ". Set data.prompt_column and data.answer_column to columns of the file; dots reach into objects"
        raise ConfigError(
            f"no row of {', '.join(data.paths)} can be used"
            + (f": {bad[0]}" if bad else ", there is none")
            + advice * any("column" in one.problem and "data.answer_column" not in one.problem for one in bad)
        )
    texts = {row.place: question_of(row.prompt) for row in rows}  # without a model, prompts as the data has them
    if tokenizer is not None:
        seen = _rendered(Renderer(data, tokenizer), rows, bad)
        rows = [prompt.row for prompt in seen]
        texts = {prompt.row.place: prompt.text for prompt in seen}
        for line in _as_the_model_sees(config, seen, tokenizer, bad) if rows else ():
            say(line)
    asked = {row.place: asked_about(row, data, config.reward, texts[row.place]) for row in rows}
    refused = refused_messages(asked.items())
    bad += refused
    places = {row.place for row in refused}
    rows = [row for row in rows if row.place not in places]
    if config.rollout.environment:
        say("references are the environment's to read: none is tried on a reward")
        for line in _repeated(rows):
            say(line)
        return bad, rows
    unusable = bad_references(rows, config.reward, graders)
    places = {row.place for row in unusable}
    good = [row for row in rows if row.place not in places]
    say(f"references that responses can be graded against: {len(good)} of {len(rows)}")
    tried = _tried(config, [asked[row.place] for row in good], graders)
    own = _own_without_answer(config, good, graders)
    for line in (*_samples(good, config.reward), *_repeated(good), *tried, *own):
        say(line)
    return [*bad, *unusable, *_gold(config, good, say, graders)], good


def _rendered(renderer: Renderer, rows: Sequence[DataRow], bad: list[BadRow]) -> list[SeenPrompt]:
    """The prompts that the templates take and the tokenizer knows something of; the others are added to `bad`."""
    taken, texts = [], []
    for row in rows:
        try:
            texts.append(renderer.render(row.prompt, row.system))
            taken.append(row)
        except DataError as problem:
            bad.append(BadRow(place=row.place, problem=f"cannot be rendered: {problem}"))
    seen = []
    for row, text, ids in zip(taken, texts, renderer.tokens(texts), strict=True):
        if ids:
            seen.append(SeenPrompt(row=row, text=text, tokens=len(ids)))
        else:
            bad.append(BadRow(place=row.place, problem=no_tokens(text)))
    return seen


def _samples(rows: Sequence[DataRow], settings: RewardSettings) -> list[str]:
    """What the first references of each reward were taken to be."""
    by_reward: dict[str, list[DataRow]] = {}
    for row in rows:
        by_reward.setdefault(row.reward, []).append(row)
    return [
        f"  {row.place}: {row.reward} expects {_expected(row, settings)} for "
        f"{_short(question_of(row.prompt), end=True)}"
        for of_reward in by_reward.values()
        for row in of_reward[:SAMPLES]
    ]


def _expected(row: DataRow, settings: RewardSettings) -> str:
    answers = answers_of(row.reference)
    if len(answers) > 1 and takes_text(row.reward, settings):
        return f"any of {len(answers)} answers, the first {_short(answers[0])},"
    return _short(row.reference) if row.reference else "no given answer"


def _repeated(rows: Sequence[DataRow]) -> list[str]:
    """How many prompts come more than once, and of these how many with another answer."""
    first: dict[object, DataRow] = {}
    again, other = 0, list[str]()
    for row in rows:
        before = first.setdefault((row.prompt, row.system, row.reward), row)
        again += before is not row
        if before.reference != row.reference:
            other.append(f"{before.place} and {row.place}")
    lines = [f"prompts that came before: {again} of {len(rows)}"] if again else []
    if other:
        lines.append(f"of these with another answer, so that one of two is wrong: {len(other)}, first {other[0]}")
    return lines


def _tried(config: GradingConfig | RunConfig, questions: Sequence[Question], graders: Graders) -> list[str]:
    """What own rewards give no verdict on."""
    try:
        return try_own_rewards(questions, graders)
    except ConfigError as problem:
        bare = "" if config.model.path else ". Without model.path, prompts have no chat template around them"
        raise ConfigError(f"{problem}{bare}") from None


def _own_without_answer(config: GradingConfig | RunConfig, rows: Sequence[DataRow], graders: Graders) -> list[str]:
    """How many references an own reward finds right without any answer, which may be meant."""
    lines = []
    for reward in dict.fromkeys(row.reward for row in rows):
        if config.reward.of(reward).kind == "own":
            references = list(dict.fromkeys(row.reference for row in rows if row.reward == reward))
            if right := right_without_answer(reward, references, config.reward, graders):
                lines.append(f"{reward} finds an empty response right for {len(right)} of {len(references)} references")
    return lines


def _gold(config: GradingConfig | RunConfig, rows: Sequence[DataRow], say: Say, graders: Graders) -> list[BadRow]:
    """Grades each reference as if it were a response, where that must be right."""
    kinds = {name: config.reward.of(name).kind for name in config.reward.names}
    echoed = [row for row in rows if kinds[row.reward] in REWARDS and REWARDS[kinds[row.reward]].echoes]
    cases = [Case(response=answers_of(row.reference)[0], reference=row.reference) for row in echoed]
    questions = [Question(reward=r.reward, case=c, settings=config.reward) for r, c in zip(echoed, cases, strict=True)]
    verdicts = list(progress(graders.grade(questions), "references as responses", len(questions)))
    if verdicts:
        ends = Counter(verdict.outcome for verdict in verdicts)
        say("references graded as responses: " + ", ".join(f"{ends[end]} {end}" for end in Outcome if ends[end]))
    return [
        BadRow(place=row.place, problem=f"has a reference that is itself graded {verdict.outcome}: {verdict.why}")
        for row, verdict in zip(echoed, verdicts, strict=True)
        if verdict.outcome is not Outcome.CORRECT
    ]


def _shared(rows: Sequence[DataRow], heldout: Sequence[DataRow]) -> int:
    trained = {row.prompt for row in rows}
    return sum(row.prompt in trained for row in heldout)


def _check_worked(config: RunConfig, tokenizer: "PreTrainedTokenizerBase | None", say: Say) -> list[BadRow]:
    """The bad rows of the warm-up's file, having said what is there."""
    bad: list[BadRow] = []
    warmup, system = config.warmup, config.data.system_column
    rows = read_worked(warmup.path, warmup.prompt_column, warmup.response_column, system, bad.append)
    say(f"{warmup.path}: {len(rows) + len(bad)} worked answers")
    if not rows:
        raise ConfigError(f"no row of {warmup.path} (warmup.path) can be used" + (f": {bad[0]}" if bad else ""))
    if tokenizer is not None:
        worked = WorkedRenderer(config.data, tokenizer)
        for row in rows:
            if fault := worked.fault(row):
                bad.append(BadRow(place=row.place, problem=f"cannot be rendered: {fault}"))
        for line in _unknown(tokenizer, "worked answers", [turn for row in rows for turn in row.turns]):
            say(line)
    return bad


def _as_the_model_sees(
    config: GradingConfig | RunConfig,
    seen: Sequence[SeenPrompt],
    tokenizer: "PreTrainedTokenizerBase",
    bad: list[BadRow],
) -> list[str]:
    """Lengths of the prompts, the first one, and what of the texts the tokenizer does not know or takes for control.
    Prompts that are too long are added to `bad`, where they are more than a run leaves out."""
    rows, texts = [prompt.row for prompt in seen], [prompt.text for prompt in seen]
    sizes = np.array([prompt.tokens for prompt in seen])
    low, middle, high, top = np.quantile(sizes, [0.0, 0.5, 0.99, 1.0]).astype(int)
    positions, new = positions_of(Path(config.model.path)), config.rollout.max_new_tokens
    long = int((sizes > positions - new).sum())
    if long > config.data.too_long_share * len(seen):
        problem = (
            f"leaves no room for a response: more such rows than data.too_long_share = {config.data.too_long_share}"
        )
        bad += [
            BadRow(place=prompt.row.place, problem=f"has {prompt.tokens} tokens and {problem}")
            for prompt in seen
            if prompt.tokens > positions - new
        ]
    lines = [
        f"prompt tokens: {low} to {top}, median {middle}, 99th percentile {high}",
        f"prompts that leave no room for {new} new tokens (rollout.max_new_tokens) in {positions} positions: {long}",
        f"the first prompt as the model sees it: {texts[0]!r}",
    ]
    special = [token for token in tokenizer.get_added_vocab() if token in tokenizer.all_special_tokens]
    holding = [row.place for row in rows if any(token in question_of(row.prompt) for token in special)]
    if holding:
        lines.append(
            f"prompts whose text holds special tokens, read by the model as such: {len(holding)}, first {holding[0]}"
        )
    ending = [row.place for row in rows if not isinstance(row.prompt, str) and row.prompt[-1].role == "assistant"]
    if ending:
        lines.append(
            "prompts that end with what the assistant says, which the policy reads and continues (does it hold the "
            f"answer?): {len(ending)}, first {ending[0]}"
        )
    answers = ["".join(answers_of(row.reference)) for row in rows]
    return [*lines, *_unknown(tokenizer, "prompts", texts), *_unknown(tokenizer, "answers", answers)]


def _unknown(tokenizer: "PreTrainedTokenizerBase", where: str, texts: Sequence[str]) -> list[str]:
    """A line on the characters of texts that the tokenizer does not know; none where it knows all."""
    whole = re.compile("|".join(map(re.escape, tokenizer.get_added_vocab())) or "(?!)")  # texts that are one token each
    counts = Counter(letter for text in texts for letter in set(whole.sub("", text)))
    known = zip(counts, tokenizer(list(counts), add_special_tokens=False)["input_ids"], strict=True) if counts else ()
    lost = sorted(
        (letter for letter, ids in known if not ids or tokenizer.unk_token_id in ids),
        key=lambda letter: -counts[letter],
    )
    if not lost:
        return []
    shown = ", ".join(f"{letter!r} (in {counts[letter]} of {len(texts)})" for letter in lost[:8])
    more = f" and {len(lost) - 8} more" if len(lost) > 8 else ""
    return [f"characters of {where} that the tokenizer does not know, and no response can hold: {shown}{more}"]


def _short(text: str, *, end: bool = False) -> str:
    """A text in quotes, cut to the width that is shown."""
    if len(text) <= WIDE:
        return repr(text)
    return "..." + repr(text[-WIDE:]) if end else repr(text[:WIDE]) + "..."
