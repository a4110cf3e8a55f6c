"""The process of one logger: reads a run's metrics.jsonl as it grows and hands each step to the client. It ends when
its standard input is closed, as it is when the run ends, however that ends. What it and the client print lies in the
run folder, which may be copied to an address: secrets in it are hidden."""

import io
import json
import select
import sys
import tomllib
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, TextIO

from actors.secrets import hidden
from cluster.config.reading import CONFIG
from cluster.config.run_files import EVALUATIONS, METRICS
from cluster.reporting.clients import CLIENTS, Client, LoggedRun
from cluster.reporting.loggers import FOLDER

POLL_SECONDS, RETRY_SECONDS = 1.0, 30.0  # between two looks at the file; after a failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a logger keeps in the run folder."""

    id: str = ""  # of the run in the logger, by which it goes on there
    step: int = 0  # the last that the logger has
    evaluated: int = -1  # the last evaluation beside training that it has, by its step
    problem: str = ""  # why it does not get on


class Waits(Protocol):
    """How the process waits; gives whether the run has ended."""

    def __call__(self, seconds: float) -> bool: ...


class HidingStream(io.TextIOWrapper):
    """A stream without secrets; each must be written in one piece."""

    def write(self, text: str) -> int:
        """As every stream's."""
        super().write(hidden(text))
        return len(text)


def follow(folder: Path, name: str, run: LoggedRun, waits: Waits, client_of: Callable[[LoggedRun], Client]) -> None:
    """Hands the steps of a run to a logger until the run has ended. A step that fails is tried again. The accuracy of
    an evaluation beside training comes after the line of its step, from evals.jsonl.

    Args:
        folder: of the run.
        name: of the logger.
        run: what the logger is told of it; its id is settled here.
        waits: see there.
        client_of: connects with the logger.
    """
    file = folder / FOLDER / f"{name}.json"
    kept = _read(file)
    run = replace(run, id=kept.id or uuid.uuid4().hex[:8], known=bool(kept.id))
    # later steps are trained again
    kept = replace(kept, step=min(kept.step, run.step), evaluated=min(kept.evaluated, run.step), problem="")
    client: Client | None = None
    position, evaluations, over = 0, 0, False

    def send(numbers: Mapping[str, float], then: Kept) -> None:
        nonlocal client, kept
        if client is None:
            client = client_of(run)
            kept = replace(kept, id=client.id, problem="")
            _write(file, kept)  # whatever becomes of this process, the run goes on there under its id
        client.log(numbers)
        kept = replace(then, id=client.id, problem="")
        _write(file, kept)

    while not over:
        over = waits(RETRY_SECONDS if kept.problem else POLL_SECONDS)
        try:
            for line, end in _lines(folder / METRICS, position):
                if line["step"] > kept.step:
                    numbers = {key: float(value) for key, value in line.items() if isinstance(value, int | float)}
                    send(numbers, replace(kept, step=int(line["step"])))
                position = end
            for line, end in _lines(folder / EVALUATIONS, evaluations):
                if line.get("evaluators") and line["step"] > kept.evaluated:
                    numbers = {"step": float(line["step"]), "eval_accuracy": float(line["accuracy"])}
                    send(numbers, replace(kept, evaluated=int(line["step"])))
                evaluations = end
        except Exception as failure:  # of whatever kind: clients raise what they like
            traceback.print_exc()
            kept = replace(kept, problem=f"has a problem: {type(failure).__name__}: {_first_line(failure)}")
            _write(file, kept)
    if client is not None:
        client.close()


def _lines(file: Path, position: int) -> list[tuple[dict[str, float], int]]:
    """The whole lines behind a position of a file, each with the position of its end."""
    if not file.is_file():
        return []
    found = []
    with file.open("rb") as stream:
        stream.seek(position)
        for raw in stream:
            position += len(raw)
            if raw.endswith(b"\n"):
                found.append((json.loads(raw), position))
    return found


def _read(file: Path) -> Kept:
    try:
        return Kept(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Kept()


def _write(file: Path, kept: Kept) -> None:
    scratch = file.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(kept)), encoding="utf-8")
    scratch.replace(file)


def _first_line(failure: Exception) -> str:
    return next(iter(hidden(str(failure)).splitlines()), "").rstrip(".")


def _wait_for_end(seconds: float) -> bool:
    """Waits for so long, or until standard input is closed."""
    return bool(select.select([sys.stdin], [], [], seconds)[0])


def _hiding(stream: TextIO) -> TextIO:
    return HidingStream(stream.buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def main(name: str, folder: Path, shown: str, step: int) -> None:
    """Follows a run; see the arguments of `Loggers`."""
    sys.stdout, sys.stderr = _hiding(sys.stdout), _hiding(sys.stderr)
    config = tomllib.loads((folder / CONFIG).read_text(encoding="utf-8"))
    run = LoggedRun(id="", known=False, name=shown, folder=folder, config=config, step=step)
    follow(folder, name, run, _wait_for_end, CLIENTS[name])


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
