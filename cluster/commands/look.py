"""`winnow look`: groups of a run as plain text, chosen by what a person asks for."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len, set_cell_size

from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG
from cluster.config.run_files import TRAJECTORIES
from cluster.report.trajectories import Change, SeenGroup, SeenResponse, Trajectories
from cluster.report.words import counted, number
from cluster.reporting.terminal import plain

LEAST_WIDTH = 40  # columns of a terminal
REASON_SHARE = 3  # a reason takes at most a third of a line


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which groups a person wants to see."""

    how: str = "worst"  # "worst", "best", "mixed", "newest", or "flipped"
    most: int = 3
    step: int | None = None
    outcome: str = ""
    prompt: str = ""  # id of one
    whole: bool = False  # whether texts are shown whole


def look(folder: Path, asked: Asked, say: Callable[[str], None]) -> int:
    """Says the groups; gives how many.

    Raises:
        ConfigError: the folder holds no groups, or none is such.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}: name the folder of a run, such as runs/demo")
    if not (folder / CONFIG).is_file() and not (folder / TRAJECTORIES).is_dir():
        raise ConfigError(f"{folder} is not the folder of a run: it holds neither {CONFIG} nor {TRAJECTORIES}/")
    try:
        trajectories = Trajectories(folder)
    except ValueError as failure:
        raise ConfigError(str(failure)) from failure
    width = max(LEAST_WIDTH, shutil.get_terminal_size((100, 24)).columns)
    with trajectories:
        if asked.outcome and asked.outcome not in (known := trajectories.outcomes()):
            raise ConfigError(f"no response ended as {asked.outcome!r}; outcomes here are {', '.join(known)}")
        texts = _flipped(trajectories, asked, width) if asked.how == "flipped" else _chosen(trajectories, asked, width)
    if not texts:
        raise ConfigError(_none(asked))
    for text in texts:
        say(text)
    return len(texts)


def _chosen(trajectories: Trajectories, asked: Asked, width: int) -> list[str]:
    found = trajectories.chosen(asked.how, asked.most, step=asked.step, outcome=asked.outcome, prompt=asked.prompt)
    return [group_text(group, width, whole=asked.whole) for group in trajectories.groups(found)]


def _flipped(trajectories: Trajectories, asked: Asked, width: int) -> list[str]:
    return [change_text(change, width, whole=asked.whole) for change in trajectories.changed(asked.most)]


def _none(asked: Asked) -> str:
    if asked.how == "flipped":
        return "no prompt was sampled in two steps with another score: there is none to compare"
    wanted = [f"step {asked.step}"] if asked.step is not None else []
    wanted += [f"outcome {asked.outcome}"] if asked.outcome else []
    wanted += [f"prompt {asked.prompt}"] if asked.prompt else []
    return f"there is no graded group{' with ' + ' and '.join(wanted) if wanted else ''}"


def change_text(change: Change, width: int, *, whole: bool = False) -> str:
    """A prompt at two steps."""
    first, last = change.first, change.last
    head = f"prompt {first.prompt_id}: {first.correct} of {len(first.responses)} correct in step {first.step}, "
    head += f"{last.correct} of {len(last.responses)} in step {last.step}"
    return "\n".join([head, group_text(first, width, whole=whole), group_text(last, width, whole=whole)])


def group_text(group: SeenGroup, width: int, *, whole: bool = False) -> str:
    """A group: what it came to, its prompt, and a line for each response with its verdict and why.

    Args:
        group: with its responses.
        width: columns of a line; texts are cut to it.
        whole: texts are not cut.
    """
    fate = "trained on" if not group.rejected else group.rejected.replace("_", " ")
    head = [f"group {group.group}", f"step {group.step}", f"prompt {group.prompt_id}", fate]
    head += [f"{group.correct} of {counted(len(group.responses), 'response')} correct"]
    head += [f"mean score {number(group.score)}"] if group.score is not None else []
    lines = [cut(", ".join(head), width), _text("  prompt     ", group.prompt, width, whole)]
    lines += [_text("  reference  ", group.reference, width, whole)] if group.reference else []
    lines += [_response(response, width, whole) for response in group.responses]
    return "\n".join(lines) + "\n"


def _response(response: SeenResponse, width: int, whole: bool) -> str:
    score = "" if response.score is None else f"{response.score:+.3g}"
    head = f"  {response.outcome:<10} {score:>5}  "
    if whole:
        why = f"\n{' ' * len(head)}why: {response.why}" if response.why else ""
        return f"{head}{response.text}{why}"
    why = f"  ({cut(response.why, max(12, width // REASON_SHARE))})" if response.why else ""
    room = width - len(head) - cell_len(why)
    return f"{head}{cut(response.text, room)}{why}"


def _text(head: str, text: str, width: int, whole: bool) -> str:
    return head + (text if whole else cut(text, width - len(head)))


def cut(text: str, width: int) -> str:
    """A text in one line of at most so many columns; its line ends are shown as ⏎."""
    line = plain(text).strip().replace("\n", "⏎").replace("\t", " ")
    return line if cell_len(line) <= width else f"{set_cell_size(line, max(1, width) - 1)}…"
