"""`winnow check`: whether data can be trained on, before any GPU is used. Every bad row is named by file and line."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from actors.data.prompts import render
from actors.errors import DataError
from cluster.config.errors import ConfigError
from cluster.config.models import positions_of
from cluster.config.run_config import GradingConfig, RunConfig
from cluster.preparing.graders import Graders, progress
from cluster.preparing.references import Row, bad_references, rows_of
from rewards import REWARDS, Case, Outcome, Question

SHOWN = 20  # bad rows that are named one by one


def check_data(config: GradingConfig | RunConfig, say: Callable[[str], None], graders: Graders) -> int:
    """Says what is there and what is wrong with it; the number of bad rows.

    Raises:
        ConfigError: the file cannot be read at all.
    """
    problems: list[str] = []
    try:
        rows = rows_of(config.data, config.reward.name, problems.append)
    except DataError as failure:
        raise ConfigError(str(failure)) from failure
    if problems and not rows:
        raise ConfigError(
            f"no row can be used: {problems[0]}. Set data.prompt_column and data.answer_column to columns of the file"
        )
    say(f"{config.data.path}: {len(rows) + len(problems)} rows")
    if config.model.path:
        for line in _lengths(config, rows):
            say(line)
    problems += bad_references(config.data.path, rows, config.reward, graders)
    bad = {problem.split(" ", 1)[0].rstrip(":") for problem in problems}
    good = [row for row in rows if f"{config.data.path}:{row.line}" not in bad]
    say(f"references that responses can be graded against: {len(good)} of {len(rows)}")
    problems += _gold(config, good, say, graders)
    for problem in problems[:SHOWN]:
        say(problem)
    if len(problems) > SHOWN:
        say(f"... and {len(problems) - SHOWN} more")
    return len(problems)


def _gold(
    config: GradingConfig | RunConfig, rows: Sequence[Row], say: Callable[[str], None], graders: Graders
) -> list[str]:
    """Grades each reference as if it were a response, where that must be right."""
    kinds = {name: config.reward.of(name).kind for name in config.reward.names}
    echoed = [row for row in rows if kinds[row.reward] in REWARDS and REWARDS[kinds[row.reward]].echoes]
    cases = [Case(response=row.reference, reference=row.reference) for row in echoed]
    questions = [Question(reward=r.reward, case=c, settings=config.reward) for r, c in zip(echoed, cases, strict=True)]
    verdicts = list(progress(graders.grade(questions), "references as responses", len(questions)))
    if verdicts:
        ends = Counter(verdict.outcome for verdict in verdicts)
        say("references graded as responses: " + ", ".join(f"{ends[end]} {end}" for end in Outcome if ends[end]))
    return [
        f"{config.data.path}:{row.line}: its own reference is graded {verdict.outcome}: {verdict.why}"
        for row, verdict in zip(echoed, verdicts, strict=True)
        if verdict.outcome is not Outcome.CORRECT
    ]


def _lengths(config: GradingConfig | RunConfig, rows: Sequence[Row]) -> list[str]:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(config.model.path, local_files_only=True)
    texts = [render(row.prompt, config.data, tokenizer) for row in rows]
    if not texts:
        return []
    sizes = np.array([len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]])
    low, middle, high, top = np.quantile(sizes, [0.0, 0.5, 0.99, 1.0]).astype(int)
    positions, new = positions_of(Path(config.model.path)), config.rollout.max_new_tokens
    long = int((sizes > positions - new).sum())
    return [
        f"prompt tokens: {low} to {top}, median {middle}, 99th percentile {high}",
        f"prompts that leave no room for {new} new tokens (rollout.max_new_tokens) in {positions} positions: {long}",
        f"the first prompt as the model sees it: {texts[0]!r}",
    ]
