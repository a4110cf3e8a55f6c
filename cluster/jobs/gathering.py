"""Gathers what travels with a run: a person's folder, winnow's own code, and what is written for the job."""

from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.jobs.named import on_nodes, travelling
from cluster.jobs.package import Package, mib, own_code, own_distribution, write_package
from cluster.jobs.selection import Selection, select
from cluster.jobs.submission import Submission
from cluster.reporting.terminal import say
from cluster.reporting.words import counted

SHOWN = 8  # of what is left out


def gather(submission: Submission, folder: Path, target: Path) -> Package:
    """Packs what travels with a run, and says what that is.

    Args:
        submission: the run.
        folder: a person's, absolute; it is sent.
        target: the zip file that is written.

    Raises:
        ConfigError: a file of the run is not there, or all of it is more than Ray takes.
    """
    config = submission.config
    selection = select(folder, travelling(config, folder) if config else ())
    code, texts = own_code(folder), {**submission.texts, **own_distribution()}
    if both := [name for name in code if name in selection.files]:
        raise ConfigError(
            f"{folder / both[0]} would lie where winnow's own {both[0]} travels: rename it, or submit from elsewhere"
        )
    files = {name: path for name, path in selection.files.items() if name not in texts}
    package = write_package(target, {**files, **code}, texts)
    say(_sent(package, selection, folder))
    for named in on_nodes(config, folder) if config else ():
        say(
            f"note: {named.setting} = {named.value!r} is absolute, so it is looked for at this path on the nodes; a "
            "relative path would have it travel"
        )
    return package


def _sent(package: Package, selection: Selection, folder: Path) -> str:
    shown = sorted(selection.left_out, key=lambda name: name.rstrip("/").count("/"))[:SHOWN]
    rest = len(selection.left_out) - len(shown)
    without = f"; without {', '.join(shown)}" + (f" and {rest} more" if rest else "") if shown else ""
    return (
        f"sends {counted(package.files, 'file')}, {mib(package.bytes)}, packed {mib(package.packed)}: {folder} and "
        "winnow's own "
        f"code{without}"
    )
