"""What an actor's process, and the processes that it started, printed last: Ray leads it into files."""

from collections.abc import Sequence
from pathlib import Path

RAYS, CRASH = (":job_id:", ":actor_name:", ":task_name:"), "*** SIG"  # lines for Ray; of its handler, before a stack
LINES, BYTES = 20, 16_384  # that are shown at most, and that are read of each file


def last_lines(streams: tuple[Path, ...] = (Path("/proc/self/fd/1"), Path("/proc/self/fd/2"))) -> str:
    """The last lines of stdout and stderr where these are files, behind one another; "" where they are not.

    Args:
        streams: links to the open files.
    """
    return last_lines_of(list(dict.fromkeys(stream.resolve() for stream in streams if stream.is_file())))


def last_lines_of(files: Sequence[Path]) -> str:
    """The last lines of these files, behind one another, without those that Ray writes for itself."""
    lines = [line for file in files for line in _tail(file)]
    return "\n".join(lines[-LINES:])


def with_last_lines(sentence: str) -> str:
    """The sentence, and below it what this process printed last."""
    lines = last_lines()
    return f"{sentence}. The last lines that it printed:\n{lines}" if lines else sentence


def _tail(file: Path) -> list[str]:
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - BYTES))
        text = stream.read().decode("utf-8", "replace")
    said = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith(RAYS)]
    crash = next((number for number, line in enumerate(said) if line.startswith(CRASH)), len(said))
    return said[: crash + 1][-LINES:]
