"""The commands that show something and change nothing: `algorithms`, `metrics`, `look`, `rollouts` and `report`.
Imports nothing heavy before it must."""

import argparse
from collections.abc import Callable
from pathlib import Path

from cluster.config.errors import ConfigError
from cluster.config.run_files import REPORT
from cluster.reporting.terminal import say

COMPARISON = "compare.json"  # in the folder of a comparison
GROUPS = 3  # that `look` shows
ENDS = "correct, wrong, unparsable, late, timeout or error"  # the words of `rewards.Outcome`
WAYS = {  # how `look` chooses -> what that is
    "worst": "those with the lowest mean score",
    "best": "those with the highest mean score",
    "mixed": "those of which most nearly half is correct: the ones that teach most",
    "newest": "those of the last step",
    "flipped": "the prompts whose score changed most between two steps",
}


def add_showing_commands(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `add` makes the parser of one from its name and what it runs."""
    algorithms = add(
        "algorithms",
        _algorithms,
        kept="nothing was changed",
        help="list the algorithms",
        description="Prints each algorithm with its source, its objective and what it needs beside the policy.",
        example="winnow algorithms grpo dapo",
    )
    algorithms.add_argument("names", nargs="*", metavar="NAME", help="only these")
    algorithms.add_argument("--file", default="", metavar="FILE", help="a Python file with algorithms of your own")
    metrics = add(
        "metrics",
        _metrics,
        kept="nothing was changed",
        help="explain the metrics",
        description="Prints what each metric of a run is: of which sample, by which estimator, a mean or a maximum "
        "over what.",
        example="winnow metrics mismatch_kl",
    )
    metrics.add_argument(
        "names", nargs="*", metavar="NAME", help="only these, or those of a group, with what they are for"
    )
    look = add(
        "look",
        _look,
        kept="nothing was changed",
        help="print groups of a run",
        description="Prints groups of a run with prompt, responses, verdicts and why; while it runs, too. Without a "
        "choice the worst, or with --step, --outcome or --prompt the newest.",
        example="winnow look runs/demo --worst 5",
    )
    look.add_argument("folder", type=Path, metavar="RUN", help="the folder of a run")
    ways = look.add_mutually_exclusive_group()
    for way, about in WAYS.items():
        ways.add_argument(f"--{way}", nargs="?", type=int, const=GROUPS, metavar="N", help=f"{about} ({GROUPS})")
    look.add_argument("--step", type=int, metavar="N", help="only groups of this step")
    ended = f"only groups with a response that ended so: {ENDS}"
    look.add_argument("--outcome", default="", metavar="NAME", help=ended)
    look.add_argument("--prompt", default="", metavar="ID", help="only groups of this prompt")
    look.add_argument("--whole", action="store_true", help="whole texts, not cut to the terminal's width")
    rollouts = add(
        "rollouts",
        _rollouts,
        kept="nothing was changed",
        help="browse every response of a run",
        description="Serves a page on this machine: search every response, see a group side by side, a response token "
        "by token, and what became of a prompt over the steps. The run may be going on.",
        example="winnow rollouts runs/demo",
    )
    rollouts.add_argument("run_folder", metavar="RUN", help="the folder of a run, or a copy of it")
    rollouts.add_argument(
        "--port", type=int, metavar="P", help="of the page (8642, or the next free one); 0 is any free one"
    )
    rollouts.add_argument(
        "--host", default="127.0.0.1", metavar="H", help="to listen at, with a token in the URL (this machine only)"
    )
    rollouts.add_argument("--no-browser", action="store_true", help="print the URL and open no browser")
    rollouts.add_argument(
        "--tokenizer", type=Path, metavar="FOLDER", help="with a tokenizer.json, where the run's model is not here"
    )
    report = add(
        "report",
        _report,
        kept="nothing was written",
        help="write the report of runs, or of a comparison",
        description="Writes one page about a run or several, finished or not; of a comparison's folder its page, "
        "tables and charts anew.",
        example="winnow report runs/demo",
    )
    report.add_argument(
        "folders", type=Path, nargs="+", metavar="RUN|FOLDER", help="folders of runs, or a comparison's"
    )
    report.add_argument(
        "--out", type=Path, metavar="FILE", help=f"the page (RUN/{REPORT} of one run, {REPORT} of several)"
    )


def _algorithms(options: argparse.Namespace) -> int:
    from learner.methods.algorithms import algorithm_of
    from learner.methods.formula import needs_of, objective_line
    from learner.methods.own import known_algorithms

    try:
        known = known_algorithms(options.file)
    except ValueError as problem:
        raise ConfigError(f"--file: {problem}") from None
    unknown = [name for name in options.names if name not in known]
    if unknown:
        raise ConfigError(f"there is no algorithm {unknown[0]!r}; there are {', '.join(known)}")
    for name in options.names or known:
        needs = f"\n    needs {'; '.join(found)}" if (found := needs_of(known[name])) else ""
        say(f"{name}\n    {known[name].about}\n    {objective_line(algorithm_of(name, table=known))}{needs}\n")
    return 0


def _metrics(options: argparse.Namespace) -> int:
    from cluster.commands.metrics import all_metrics, told_of_metrics

    say(told_of_metrics(options.names) if options.names else all_metrics())
    return 0


def _look(options: argparse.Namespace) -> int:
    from cluster.commands.look import Asked, look

    chosen = {way: most for way in WAYS if (most := getattr(options, way)) is not None}
    narrowed = options.outcome or options.prompt or options.step is not None
    how, most = next(iter(chosen.items()), ("newest" if narrowed else "worst", GROUPS))
    if most < 1:
        raise ConfigError(f"--{how} takes how many groups to show, at least 1, got {most}")
    if how == "flipped" and narrowed:
        raise ConfigError("--flipped compares two steps of each prompt: leave --step, --outcome and --prompt out")
    asked = Asked(
        how=how,
        most=most,
        step=options.step,
        outcome=options.outcome,
        prompt=options.prompt,
        whole=options.whole,
    )
    look(options.folder, asked, say)
    return 0


def _rollouts(options: argparse.Namespace) -> int:
    from cluster.browsing.folder import run_folder

    if options.port is not None and not 0 <= options.port < 2**16:
        raise ConfigError(f"--port must be a number from 0 to {2**16 - 1}, got {options.port}")
    run = run_folder(options.run_folder)
    from cluster.browsing.serve import Place, serve

    place = Place(host=options.host, port=options.port, browser=not options.no_browser)
    serve(run, place, say, options.tokenizer)
    return 0


def _report(options: argparse.Namespace) -> int:
    compared = [folder for folder in options.folders if (folder / COMPARISON).is_file()]
    if compared:
        return _report_of_comparison(options, compared[0])
    from cluster.report.run_report import write_report

    if options.out is not None and options.out.is_dir():
        raise ConfigError(f"--out {options.out} is a folder: name the file of the page, such as {options.out / REPORT}")
    out = options.out or (options.folders[0] / REPORT if len(options.folders) == 1 else Path(REPORT))
    write_report(options.folders, out)
    say(f"done: {out}")
    return 0


def _report_of_comparison(options: argparse.Namespace, folder: Path) -> int:
    from cluster.comparing.results import write_results

    if len(options.folders) > 1 or options.out is not None:
        raise ConfigError(
            f"{folder} is the folder of a comparison, whose page lies in it: name it alone and without --out, or name "
            f"folders of runs in it, such as {folder}/METHOD/seed=0"
        )
    write_results(folder)
    return 0
