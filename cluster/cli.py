"""The command line: what `winnow COMMAND` does. Imports nothing heavy before it must."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

EXIT_MISTAKE, EXIT_BROKEN, EXIT_STARVED, EXIT_INTERRUPTED = 2, 1, 3, 130
SETTING = "section.key=value"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit status: 0 done, 1 a part failed, 2 a mistake, 3 starved, 130 interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [item for item in rest if item.startswith("-") or "=" not in item or "items" not in options]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.items += rest  # settings that stand behind an option
    return options.command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="winnow", description="Reinforcement learning of language models on checkable rewards."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="train a model", description="Trains a model as a run file says.")
    train.add_argument("config", type=Path, metavar="CONFIG.toml", help="the run file")
    train.add_argument("items", nargs="*", metavar=SETTING, help="settings that replace the file's")
    train.add_argument("--plan", action="store_true", help="print sizes and layout, start nothing")
    train.set_defaults(command=_train)
    algorithms = commands.add_parser(
        "algorithms", help="list the algorithms", description="Prints each algorithm with its objective and its source."
    )
    algorithms.add_argument("names", nargs="*", metavar="NAME", help="only these")
    algorithms.set_defaults(command=_algorithms)
    compare = commands.add_parser(
        "compare",
        help="compare methods over seeds",
        description="Runs several run files with several seeds and one budget each; writes a table and a page.",
    )
    compare.add_argument(
        "items",
        nargs="+",
        metavar="CONFIG.toml|FOLDER|section.key=value",
        help="run files, folders of them, and settings that replace those of every file",
    )
    compare.add_argument(
        "--each",
        metavar="section.key=A,B,...",
        help="one method for each value, instead of one for each run file; a single run file then",
    )
    compare.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each method (3)")
    compare.add_argument("--name", default="compare", help="name of the folder")
    compare.add_argument("--title", default="", help="title of the page")
    compare.set_defaults(command=_compare)
    _add_grading(commands)
    report = commands.add_parser(
        "report",
        help="write a comparison's table and page anew",
        description="Reads a comparison's folder, finished or not, and writes table.md and report.html in it.",
    )
    report.add_argument("folder", type=Path, metavar="FOLDER")
    report.set_defaults(command=_report)
    return parser


def _add_grading(commands: Any) -> None:
    grade = commands.add_parser(
        "grade",
        help="grade the responses of a file",
        description="Grades each row (reward, response, reference), and says how many ended how.",
    )
    grade.add_argument("cases", type=Path, metavar="CASES.jsonl")
    grade.add_argument("items", nargs="*", metavar=SETTING, help="settings, such as reward.name=math")
    grade.add_argument("--out", type=Path, metavar="FILE", help="where the graded rows go (stdout)")
    grade.add_argument("--workers", type=int, default=0, metavar="N", help="processes (one for each core)")
    grade.set_defaults(command=_grade)
    check = commands.add_parser(
        "check",
        help="check data before training on it",
        description="Lengths, template and references, each through its own verifier; bad rows by file and line.",
    )
    check.add_argument("data", type=Path, metavar="DATA|CONFIG.toml", help="a data file, or a run file")
    check.add_argument("items", nargs="*", metavar=SETTING, help="settings, such as data.answer_column=solution")
    check.set_defaults(command=_check)


def _algorithms(options: argparse.Namespace) -> int:
    from learner.methods.algorithms import ALGORITHMS, algorithm_of
    from learner.methods.formula import objective_line

    unknown = [name for name in options.names if name not in ALGORITHMS]
    if unknown:
        print(f"winnow: there is no algorithm {unknown[0]!r}; there are {', '.join(ALGORITHMS)}", file=sys.stderr)
        return EXIT_MISTAKE
    for name in options.names or ALGORITHMS:
        print(f"{name}\n    {ALGORITHMS[name].about}\n    {objective_line(algorithm_of(name))}\n")
    return 0


def _compare(options: argparse.Namespace) -> int:
    return _guarded(lambda: _compare_as_asked(options), "what has finished is kept")


def _compare_as_asked(options: argparse.Namespace) -> int:
    from cluster.comparing.compare import compare, plan_comparison
    from cluster.config.errors import ConfigError
    from cluster.config.reading import load_methods

    overrides = [item for item in options.items if "=" in item]
    files = [Path(item) for item in options.items if "=" not in item]
    if options.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {options.seeds}")
    arms = load_methods(files, overrides, options.each or "")
    folder, failed = compare(plan_comparison(options.name, options.title or options.name, arms, options.seeds))
    print(f"done: {folder}" + (f", but {failed} runs failed" if failed else ""))
    return EXIT_BROKEN if failed else 0


def _grade(options: argparse.Namespace) -> int:
    return _guarded(lambda: _grade_as_asked(options), "the rows graded so far are written")


def _grade_as_asked(options: argparse.Namespace) -> int:
    from cluster.commands.grade import grade_file
    from cluster.config.errors import ConfigError
    from cluster.config.reading import grading_config

    if options.workers < 0:
        raise ConfigError(f"--workers must be at least 1, or 0 for one for each core, got {options.workers}")
    grade_file(options.cases, grading_config(options.items), options.out, options.workers)
    return 0


def _check(options: argparse.Namespace) -> int:
    return _guarded(lambda: _check_as_asked(options), "nothing was changed")


def _check_as_asked(options: argparse.Namespace) -> int:
    from cluster.commands.check import check_data
    from cluster.config.errors import ConfigError
    from cluster.config.reading import grading_config, load_config
    from cluster.config.run_config import GradingConfig, RunConfig
    from cluster.preparing.graders import Graders

    config: RunConfig | GradingConfig
    if options.data.suffix == ".toml":
        config = load_config(options.data, options.items)
        if not config.data.path:
            raise ConfigError(f"{options.data} sets no data.path: there is nothing to check")
    else:
        config = grading_config(options.items, data=str(options.data))
    with Graders() as graders:
        bad = check_data(config, print, graders)
    return EXIT_MISTAKE if bad else 0


def _report(options: argparse.Namespace) -> int:
    return _guarded(lambda: _report_as_asked(options), "nothing was written")


def _report_as_asked(options: argparse.Namespace) -> int:
    from cluster.comparing.results import write_results
    from cluster.config.errors import ConfigError

    if not (options.folder / "compare.json").is_file():
        raise ConfigError(f"{options.folder} is not the folder of a comparison: it holds no compare.json")
    write_results(options.folder)
    return 0


def _train(options: argparse.Namespace) -> int:
    return _guarded(lambda: _train_as_asked(options), "metrics, trajectories and checkpoints so far are kept")


def _train_as_asked(options: argparse.Namespace) -> int:
    from cluster.config.reading import load_config

    config = load_config(options.config, options.items)
    if options.plan:
        from cluster.commands.plan import plan

        print(plan(config))
        return 0
    from cluster.running.train import train

    print(_farewell(train(config)))
    return 0


def _guarded(work: Callable[[], int], kept: str) -> int:
    """The exit status of some work; what ends it early becomes a sentence."""
    from actors.errors import BrokenPart, Starved
    from cluster.config.errors import ConfigError

    try:
        return work()
    except ConfigError as mistake:
        status, sentence = EXIT_MISTAKE, str(mistake)
    except Starved as starved:
        status, sentence = EXIT_STARVED, f"stopped, with a checkpoint: {starved}"
    except BrokenPart as failure:
        status, sentence = EXIT_BROKEN, f"failed: {failure}"
    except KeyboardInterrupt:
        status, sentence = EXIT_INTERRUPTED, f"interrupted; {kept}"
    print(f"winnow: {sentence}", file=sys.stderr)
    return status


def _farewell(folder: Path) -> str:
    return "\n".join(
        [
            f"done: {folder}",
            "look next at",
            f"  metrics       {folder / 'metrics.jsonl'}",
            f"  curves        tensorboard --logdir {folder / 'tensorboard'}",
            f"  every response, its verdict and why   {folder / 'trajectories'} (Parquet)",
            f"  the model     {folder / 'checkpoints'} (from_pretrained)",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
