"""A run that is to be sent to a cluster: what its settings say, checked before anything is gathered or sent."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cluster.config.addresses import is_address
from cluster.config.errors import ConfigError
from cluster.config.reading import CONFIG, load_config, load_run, to_toml
from cluster.config.run_config import RunConfig
from cluster.config.run_files import CHECKPOINTS
from cluster.jobs.package import OWN
from cluster.preparing.storage import below

HERE = "cluster.address="  # a job runs on the cluster that it was sent to


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A run that can be sent."""

    run: str  # its name
    folder: str  # of the run, on the cluster
    train: tuple[str, ...]  # what follows `winnow train` on the cluster
    config: RunConfig | None  # None where the settings are on the cluster only
    texts: Mapping[str, str]  # files that are written for the job: path in its folder -> text
    lock: str = ""  # path in the job's folder of the lock file that Ray installs; "" for none


def of_run_file(file: Path, items: Sequence[str], retries: int) -> Submission:
    """A run that begins, or goes on where it has begun.

    Args:
        file: the run file.
        items: `section.key=value`.
        retries: tries more on the cluster.

    Raises:
        ConfigError: anything wrong with the settings.
    """
    config = load_config(file, [*items, HERE])
    base = config.run.folder
    if not base.startswith("/") and not is_address(base):
        raise ConfigError(
            f"run.folder = {base!r} would lie in the job's own folder on the cluster, which Ray removes: set it to a "
            "path that outlives the job and that all nodes see, such as run.folder=/shared/runs"
        )
    sent = f"{OWN}/{file.name}"
    return Submission(
        run=config.run.name,
        folder=below(base, config.run.name) if is_address(base) else f"{base.rstrip('/')}/{config.run.name}",
        train=(sent, "--resume", "auto", "--retries", str(retries)),
        config=config,
        texts={sent: to_toml(config)},
    )


def of_run(run: str, items: Sequence[str], retries: int) -> Submission:
    """A run on the cluster that goes on.

    Args:
        run: its folder there, or one of its checkpoints.
        items: `section.key=value`, settings that change.
        retries: tries more; 0 for a checkpoint.

    Raises:
        ConfigError: it can be no such folder; or its settings can be seen from here, and something is wrong with them.
    """
    if not run.startswith("/") and not is_address(run):
        raise ConfigError(
            f"--resume takes the absolute path of a run on the cluster, or auto with a run file, got {run!r}"
        )
    of_checkpoint = is_checkpoint(run)
    if of_checkpoint and retries:
        raise ConfigError(
            f"--retries goes with the folder of a run, whose newest checkpoint every try takes, got {run}"
        )
    place, options = _parted(run)
    folder = place.rsplit("/", 2)[0] if of_checkpoint else place
    seen = (Path(folder) / CONFIG).is_file()
    items = (*items, HERE)
    more = () if of_checkpoint else ("--retries", str(retries))
    return Submission(
        run=PurePosixPath(folder).name,
        folder=folder + options,
        train=(*items, "--resume", place + options, *more),
        config=load_run(Path(folder), items)[1] if seen else None,
        texts={},
    )


def is_checkpoint(run: str) -> bool:
    """Whether a path is that of one checkpoint, not of a run."""
    return PurePosixPath(_parted(run)[0]).parent.name == CHECKPOINTS


def _parted(run: str) -> tuple[str, str]:
    """The path of a run, without a slash at its end, and the options of its file system (`?...`), which only an address
    may have."""
    place, sign, options = run.partition("?") if is_address(run) else (run, "", "")
    return place.rstrip("/"), sign + options


def locked(submission: Submission, file: Path) -> Submission:
    """The run with a lock file, which travels under a name that its content gives: Ray keeps an environment for the
    next job that asks for it by the same name.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as failure:
        why = getattr(failure, "strerror", None) or failure
        raise ConfigError(f"cannot read the lock file {file} (--lock): {why}") from failure
    lock = f"{OWN}/requirements-{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
    return replace(submission, texts={**submission.texts, lock: text}, lock=lock)
