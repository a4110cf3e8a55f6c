"""Whether a person's own reward gives verdicts: before anything starts, it is asked about a few responses."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.preparing.graders import Graders
from cluster.reporting.words import counted
from rewards import Case, Question, Verdict
from rewards.own import OwnSettings

TRIED = 3  # rows, evenly from all over
SHOWN = 80  # characters of a text
# Has the reference wherever a function may look for an answer.
ANSWER = "<think>\nSo it is {0}.\n</think>\n<answer>\nThe answer is \\boxed{{{0}}}.\n</answer>\n#### {0}"


def try_own_rewards(rows: Sequence[Question], graders: Graders) -> list[str]:
    """A line on each own reward that gives no verdict on some responses, which a run could not train on.

    Args:
        rows: what is asked of each row, whatever its response.
        graders: that grade.

    Raises:
        ConfigError: an own reward gives a verdict on no response that it is asked about.
    """
    asked: dict[str, list[Question]] = defaultdict(list)
    for row in rows:
        asked[row.reward].append(row)
    lines = []
    for reward, of_it in asked.items():
        some = of_it[:: max(1, len(of_it) // TRIED)][:TRIED]
        for name, settings in some[0].settings.leaves(reward).items():
            if isinstance(settings, OwnSettings):
                lines += _try(settings.file, [replace(row, reward=name) for row in some], graders)
    return lines


def _try(file: str, rows: Sequence[Question], graders: Graders) -> list[str]:
    """The line on the own reward of these rows; none where it gives every verdict."""
    tries = _tries(rows, graders)
    failed = [(case, verdict) for case, verdict in tries if not verdict.outcome.scored]
    if not failed:
        return []
    setting, many = f"reward.{rows[0].reward}.file", counted(len(tries), "response")
    case, verdict = failed[0]
    first = f"{case.response[:SHOWN]!r} to the reference {case.reference[:SHOWN]!r}: {_reason(verdict.why, file)}"
    if len(failed) == len(tries):
        raise ConfigError(
            f"{setting} must give verdicts, and gave none on any of {many} that it was tried on; mend it. The first is "
            f"{first}"
        )
    return [
        f"warning: {setting} gave no verdict on {len(failed)} of {many} that it was tried on; a run learns nothing "
        f"from such responses. The first is {first}"
    ]


def _reason(why: str, file: str) -> str:
    """Why there is no verdict, with the line of the file in place of the frames."""
    lines = re.findall(rf'File "{re.escape(str(Path(file).absolute()))}", line (\d+)', why)
    return why.partition("\n")[0] + (f" ({file}, line {lines[-1]})" if lines else "")


def _tries(rows: Sequence[Question], graders: Graders) -> list[tuple[Case, Verdict]]:
    """What a reward says of a few responses to each row: none, the reference, and one that says more."""
    groups = list[list[Question]]()
    for row in rows:
        answer = ANSWER.format(row.case.reference)
        responses = [["", row.case.reference, answer]]
        if row.settings.wants_group(row.reward):
            responses.append([answer, answer])  # of siblings, one on which it fails costs all of them their verdicts
        groups += [[replace(row, case=replace(row.case, response=each)) for each in group] for group in responses]
    verdicts = list(graders.grade_groups(groups))
    return [
        (question.case, verdict)
        for group, of_group in zip(groups, verdicts, strict=True)
        for question, verdict in zip(group, of_group, strict=True)
    ]
