"""The command line: what `winnow COMMAND` does. Imports nothing heavy before it must."""

import argparse
import importlib.metadata
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeAlias

from cluster.commands.first import add_first_commands
from cluster.commands.pages import Page, complete, example_of, paragraph
from cluster.config.own_runs import DEMO
from cluster.config.run_files import CHECKPOINTS, METRICS, REPORT
from cluster.evaluating.commands import add_eval_command
from cluster.jobs.commands import add_job_commands
from cluster.placement.token import demand_token
from cluster.preparing.package_names import other_packages
from cluster.reporting.logs import LOGGER, log_to_terminal
from cluster.reporting.terminal import never_fail_to_encode, say
from cluster.reward_models.commands import add_reward_model_command
from cluster.showing import add_showing_commands

EXIT_MISTAKE, EXIT_BROKEN, EXIT_STARVED = 2, 1, 3
SETTING = "section.key=value"
AUTO = "auto"  # of --resume
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives the exit status: 0 done, 1 a part failed, 2 a mistake, 3 starved, 130 interrupted,
    143 and 129 ended by SIGTERM and SIGHUP."""
    parser = _parser()
    complete(parser)
    words = sys.argv[1:] if arguments is None else arguments
    options, rest = parser.parse_known_args([_at_home(word) for word in words])
    options.words = words
    names_files = getattr(options, "items_are_files", False)
    fits = [("=" in item or names_files) and not item.startswith("-") for item in rest]
    unknown = rest if "items" not in options else [item for item, ok in zip(rest, fits, strict=True) if not ok]
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        options.items += rest  # that stand behind an option
    never_fail_to_encode()
    log_to_terminal(options.verbose)
    for line in _repeated(getattr(options, "items", ())):
        say(line, sys.stderr)
    if others := other_packages(Path.cwd()):
        return _fail(EXIT_MISTAKE, _shadowed(others))
    return _run(options.run, options, options.kept)


def _at_home(word: str) -> str:
    """An option with its path, such as `--out=~/x`, with the home folder: shells put it in only where words begin."""
    option, equals, value = word.partition("=")
    return f"{option}={os.path.expanduser(value)}" if equals and word.startswith("--") else word


def _repeated(items: Sequence[str]) -> list[str]:
    """A line for each setting that the command line gives several values."""
    given: dict[str, dict[str, None]] = {}
    for name, _, value in (item.partition("=") for item in items):
        given.setdefault(name, {}).pop(value, None)
        given[name][value] = None  # the last in its place
    return [
        f"note: {name} is set to {', '.join(values)} here, and the last counts (a shell makes two words of {{a,b}})"
        for name, values in given.items()
        if "." in name and len(values) > 1
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="winnow",
        formatter_class=Page,
        description="Reinforcement learning of language models on checkable rewards.",
        epilog=example_of("winnow init MODEL_FOLDER train.jsonl -o my.toml\nwinnow train my.toml\nwinnow train --help"),
    )
    parser.add_argument("--version", action="version", version=f"winnow {version()}")
    parser.add_argument("--verbose", action="store_true", help="say on stderr what goes on, and show tracebacks")
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    add_first_commands(partial(_add, commands), SETTING)
    _add_running(commands)
    add_reward_model_command(partial(_add, commands), SETTING)
    add_eval_command(partial(_add, commands), SETTING)
    _add_grading(commands)
    add_showing_commands(partial(_add, commands))
    _add_doctor(commands)
    add_job_commands(partial(_add, commands), SETTING)
    return parser


def version() -> str:
    """Of the installed package; of a checkout that is not installed, as on Ray's workers, unknown."""
    try:
        return importlib.metadata.version("winnow-rl")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout that is not installed"


def _add(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    kept: str,
    help: str,
    description: str,
    example: str = "",
) -> argparse.ArgumentParser:
    """A command.

    Args:
        commands: of the parser.
        name: what a person types.
        run: gives the exit status.
        kept: what is said to be safe when a person interrupts it.
        help: a few words for the list of commands.
        description: a sentence for its own help.
        example: a command line, or several, for the end of its help.
    """
    parser = commands.add_parser(
        name, help=help, formatter_class=Page, description=paragraph(description), epilog=example_of(example)
    )
    parser.set_defaults(run=run, kept=kept)
    return parser


def _add_running(commands: Commands) -> None:
    demo = _add(
        commands,
        "demo",
        _train,
        kept="metrics and trajectories so far are kept",
        help="teach a tiny model to add, on this machine",
        description="The whole pipeline on a laptop's CPU, without a model or data of your own: a tiny model learns to "
        "add in about five minutes. It is deploy/runs/demo.toml.",
        example="winnow demo\nwinnow demo run.steps=5",
    )
    demo.add_argument("items", nargs="*", metavar=SETTING, help="settings that replace the demo's")
    demo.add_argument("--plan", action="store_true", help="print sizes, layout and memory, start nothing")
    demo.set_defaults(config=str(DEMO), resume=None, retries=0, on="", earlier=None)
    train = _add(
        commands,
        "train",
        _train,
        kept="metrics and trajectories so far are kept",
        help="train a model",
        description="Trains a model as a run file says. What it leaves is in the folder run.folder/run.name: metrics, "
        "every response with its verdict, checkpoints and a report.",
        example="winnow train my.toml run.steps=50\nwinnow train my.toml --plan\nwinnow train --resume runs/my",
    )
    train.add_argument("config", nargs="?", default="", metavar="CONFIG.toml", help="the run file")
    train.add_argument("items", nargs="*", metavar=SETTING, help="settings that replace the file's")
    train.add_argument(
        "--resume",
        metavar="RUN|auto",
        help="instead of a run file: the folder of a run, or its address, that goes on from its newest checkpoint, or "
        "one checkpoint; auto, with a run file: whichever is right, begin the run of that name or have it go on",
    )
    train.add_argument(
        "--retries",
        type=int,
        default=0,
        metavar="N",
        help="with --resume: how often the run goes on by itself where it was killed or a part of it failed (0)",
    )
    train.add_argument("--plan", action="store_true", help="print sizes, layout and memory, start nothing")
    train.add_argument(
        "--on",
        default="",
        metavar="NODESxGPUSxGIB",
        help="with --plan: on a cluster that is not there, such as 8x8x80; the model's config.json is enough",
    )
    train.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="RUN",
        help="with --plan: how an earlier run's stage times would divide the GPUs; without it an estimate does",
    )
    compare = _add(
        commands,
        "compare",
        _compare,
        kept="what has finished is kept: the same command with --resume goes on",
        help="compare methods over seeds",
        description="Runs several run files with several seeds and one budget each; writes a table and a page.",
        example="winnow compare my.toml --each learner.algorithm=grpo,reinforce-rej --seeds 3",
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
    compare.add_argument(
        "--resume",
        action="store_true",
        help="go on with the comparison of this name: what failed or was cut short is run anew, and what is missing; "
        "begins it where there is none",
    )
    compare.add_argument("--title", default="", help="title of the page")
    compare.add_argument(
        "--plan", action="store_true", help="print what would be run, and how they differ; start nothing"
    )
    compare.add_argument(
        "--from",
        dest="earlier",
        type=Path,
        metavar="RUN",
        help="with --plan: an earlier run, whose speed says how long a budget of tokens takes",
    )
    merge = _add(
        commands,
        "merge",
        _merge,
        kept="the folder of --out is not complete: remove it",
        help="merge an adapter checkpoint into its model",
        description="Writes the whole model of a checkpoint that holds an adapter (learner.adapter), as a Hugging Face "
        "folder.",
        example="winnow merge runs/my/checkpoints/step-200 --out merged",
    )
    merge.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="an adapter folder")
    merge.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the model goes; a new folder")
    merge.add_argument("--base", type=Path, metavar="FOLDER", help="the adapter's model, where it was moved")


def _add_grading(commands: Commands) -> None:
    grade = _add(
        commands,
        "grade",
        _grade,
        kept="the rows graded so far are written",
        help="grade the responses of a file",
        description="Grades the response in each row of a file as a run would, and says how many ended how.",
        example="winnow grade cases.jsonl --out graded.jsonl reward.name=math",
    )
    grade.add_argument(
        "cases",
        type=Path,
        metavar="CASES.jsonl",
        help="rows with response, and with reference where the reward compares with one; prompt and reward where they "
        "differ; expected (correct or wrong) is compared with what is found",
    )
    grade.add_argument("items", nargs="*", metavar=SETTING, help="settings, such as reward.name=math")
    grade.add_argument("--out", type=Path, metavar="FILE", help="where the graded rows go (stdout)")
    grade.add_argument("--workers", type=int, default=0, metavar="N", help="processes (one for each core)")
    check = _add(
        commands,
        "check",
        _check,
        kept="nothing was changed",
        help="check data before training on it",
        description="Looks at every row: its length, its template, its reference through its own verifier. Names bad "
        "rows by file and line.",
        example="winnow check my.toml\nwinnow check train.jsonl data.answer_column=solution reward.name=math",
    )
    check.add_argument("data", metavar="DATA|CONFIG.toml", help="a data file, or its address, or a run file")
    check.add_argument("items", nargs="*", metavar=SETTING, help="settings, such as data.answer_column=solution")
    label = _add(
        commands,
        "label",
        _label,
        kept="the rows labelled so far are written",
        help="label reasoning steps by rollouts",
        description="Completes each step of each response several times and writes how many completions were right, to "
        "train a process reward model on (arXiv 2312.08935).",
        example="winnow label steps.jsonl --out labels.jsonl model.path=MODEL reward.name=math",
    )
    label.add_argument(
        "steps", type=Path, metavar="STEPS.jsonl", help="rows of prompt, steps and reference, as of grade"
    )
    label.add_argument("items", nargs="*", metavar=SETTING, help="settings, such as model.path=MODEL reward.name=math")
    label.add_argument("--out", type=Path, required=True, metavar="FILE", help="where the labelled rows go")
    label.add_argument("--completions", type=int, default=8, metavar="N", help="to sample behind each step (8)")


def _add_doctor(commands: Commands) -> None:
    doctor = _add(
        commands,
        "doctor",
        _doctor,
        kept="nothing was changed",
        help="say what will not work on this machine, and why",
        description="Tries what runs are made of on this machine: packages, compiler, sandbox, memory, disk, Ray, GPUs "
        "and their links, an engine beside a learner. With a run file, whether that run can start. Two minutes.",
        example="winnow doctor my.toml",
    )
    doctor.add_argument("config", type=Path, nargs="?", metavar="CONFIG.toml", help="a run file, to look at it too")
    doctor.add_argument("items", nargs="*", metavar=SETTING, help="settings that replace the file's")
    doctor.add_argument("--json", action="store_true", help="a line of JSON for each check")


def _compare(options: argparse.Namespace) -> int:
    from cluster.comparing.plan import plan_comparison
    from cluster.comparing.plan_text import plan_text
    from cluster.config.errors import ConfigError
    from cluster.config.reading import load_methods
    from cluster.config.sections import check_folder_name

    overrides = [item for item in options.items if "=" in item]
    files = [Path(item) for item in options.items if "=" not in item]
    try:
        check_folder_name(options.name)
    except ValueError as failure:
        raise ConfigError(f"--name {failure}") from failure
    if options.seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, got {options.seeds}")
    methods = load_methods(files, overrides, options.each or "")
    plan = plan_comparison(options.name, options.title or options.name, methods, options.seeds)
    if options.earlier and not options.plan:
        raise ConfigError(f"--from names an earlier run, got {str(options.earlier)!r}: use it with --plan")
    if options.plan:
        say(plan_text(plan, options.earlier, options.resume))
        return 0
    demand_token(plan.first.cluster.address)
    from cluster.comparing.compare import compare

    folder, failed = compare(plan, options.resume)
    say(f"done: {folder}" + (f", but {failed} runs failed" if failed else ""))
    return EXIT_BROKEN if failed else 0


def _doctor(options: argparse.Namespace) -> int:
    from cluster.commands.doctor import examine, subject_of

    return 0 if examine(subject_of(options.config, options.items), options.json) else EXIT_BROKEN


def _grade(options: argparse.Namespace) -> int:
    from cluster.commands.grade import grade_file
    from cluster.config.errors import ConfigError
    from cluster.config.reading import grading_config

    if options.workers < 0:
        raise ConfigError(f"--workers must be at least 1, or 0 for one for each core, got {options.workers}")
    left_out = grade_file(options.cases, grading_config(options.items), options.out, options.workers)
    return EXIT_MISTAKE if left_out else 0


def _check(options: argparse.Namespace) -> int:
    from cluster.commands.check import check_data
    from cluster.config.errors import ConfigError
    from cluster.config.reading import grading_config, load_config
    from cluster.config.run_config import GradingConfig, RunConfig
    from cluster.preparing.graders import Graders

    config: RunConfig | GradingConfig
    if options.data.endswith(".toml"):
        config = load_config(Path(options.data), options.items)
        if not config.data.path:
            raise ConfigError(f"{options.data} sets no data.path: there is nothing to check")
    else:
        config = grading_config(options.items, data=options.data)
    with Graders() as graders:
        bad = check_data(config, say, graders)
    return EXIT_MISTAKE if bad else 0


def _label(options: argparse.Namespace) -> int:
    demand_token("")
    from cluster.commands.label import label_file
    from cluster.config.errors import ConfigError
    from cluster.config.reading import grading_config
    from cluster.placement.layout import this_machine

    config = grading_config(options.items)
    if options.completions < 1:
        raise ConfigError(f"--completions must be at least 1, got {options.completions}")
    if not config.model.path:
        raise ConfigError("winnow label needs model.path=FOLDER: the model that completes the steps")
    on_cpu = not any(node.has("GPU") for node in this_machine().values())
    done = label_file(options.steps, config, options.out, completions=options.completions, on_cpu=on_cpu)
    say(f"done: {done.rows} rows with labels in {options.out}")
    return EXIT_MISTAKE if done.left_out else 0


def _merge(options: argparse.Namespace) -> int:
    from cluster.commands.merge import merge_folder

    base = merge_folder(options.checkpoint, options.out, options.base)
    say(f"done: {options.out} holds {base} with {options.checkpoint} merged into it (from_pretrained)")
    return 0


def _train(options: argparse.Namespace) -> int:
    from cluster.config.errors import ConfigError
    from cluster.config.reading import load_config

    auto = options.resume == AUTO
    if options.retries < 0 or (options.retries and options.resume is None):
        raise ConfigError(f"--retries goes with --resume and is at least 0, got {options.retries}")
    if options.resume is not None and not auto:
        return _resume(options)
    if not options.config:
        raise ConfigError("winnow train needs a run file, or --resume RUN for a run that is to go on")
    config = load_config(Path(options.config), options.items)
    if options.on and not options.plan:
        raise ConfigError(f"--on describes a cluster that is not there, got {options.on!r}: use it with --plan")
    if options.earlier and not options.plan:
        raise ConfigError(f"--from names an earlier run, got {str(options.earlier)!r}: use it with --plan")
    if options.plan:
        demand_token(config.cluster.address)
        from cluster.commands.plan import plan, plan_on
        from cluster.placement.imagined import ImaginedCluster

        earlier = options.earlier
        say(plan_on(config, ImaginedCluster.of(options.on), earlier) if options.on else plan(config, earlier))
        return 0
    demand_token(config.cluster.address)
    if options.retries:
        from cluster.running.resume import find_started

        return _supervise(options, find_started(config)[0])
    from cluster.running.train import train, train_or_resume

    folder = train_or_resume(config) if auto else train(config)
    say(_where_to_look(folder, adapted=config.learner.adapter.rank > 0))
    return 0


def _supervise(options: argparse.Namespace, folder: Path) -> int:
    from cluster.running.signals import ASKING, EXIT_OF_SIGNAL
    from cluster.running.supervise import supervise

    command = [sys.executable, "-m", "cluster.cli", *options.words, "--retries", "0"]
    final = (0, EXIT_MISTAKE, EXIT_STARVED, *(EXIT_OF_SIGNAL + number for number in ASKING))
    return supervise(command, folder, options.retries, final)


def _resume(options: argparse.Namespace) -> int:
    from cluster.config.errors import ConfigError
    from cluster.config.reading import load_run

    items = [item for item in (options.config, *options.items) if item]
    if others := [item for item in items if "=" not in item]:
        raise ConfigError(
            f"--resume takes the settings of the run itself, and those that change as {SETTING}, got {others[0]!r}"
        )
    if options.plan or options.on or options.earlier:
        raise ConfigError("--plan shows a run that begins: use it with a run file, not with --resume")
    from cluster.config.addresses import is_address
    from cluster.running.mirror import brought_here

    there = is_address(options.resume)
    run = (brought_here(options.resume, say) if there else Path(options.resume)).resolve()
    folder = run.parent.parent if run.parent.name == CHECKPOINTS else run
    config = load_run(folder, items)[1]
    demand_token(config.cluster.address)
    if options.retries:
        if folder != run:
            raise ConfigError(
                f"--retries goes with the folder of a run, whose newest checkpoint every try takes, got {run}"
            )
        return _supervise(options, folder)
    from cluster.running.train import resume

    say(_where_to_look(resume(run, items), adapted=config.learner.adapter.rank > 0))
    return 0


def _run(command: Callable[[argparse.Namespace], int], options: argparse.Namespace, kept: str) -> int:
    """The exit status of a command; what ends it early becomes a sentence on stderr."""
    from actors.errors import BrokenPart, ClusterEnded, Starved, Stopped
    from cluster.config.errors import ConfigError
    from cluster.running.signals import EXIT_OF_SIGNAL, Terminated, sigterm_interrupts

    try:
        with sigterm_interrupts():
            return command(options)
    except ConfigError as mistake:
        return _fail(EXIT_MISTAKE, str(mistake))
    except Starved as starved:
        return _fail(EXIT_STARVED, _with_notes(f"stopped, with a checkpoint: {starved}", starved))
    except Stopped as stopped:
        return _fail(EXIT_OF_SIGNAL + stopped.number, f"stopped as asked: {stopped}")
    except ClusterEnded as failure:
        os._exit(_fail(EXIT_BROKEN, _with_notes(f"failed: {failure}", failure)))  # Ray would still look for the cluster
    except BrokenPart as failure:
        return _fail(EXIT_BROKEN, _with_notes(f"failed: {failure}", failure))
    except OSError as failure:
        if not failure.strerror:
            raise
        what = f"failed: {failure.strerror}" + (f": {failure.filename}" if failure.filename else "")
        return _fail(EXIT_BROKEN, _with_notes(what, failure))
    except Terminated as ended:
        return _fail(EXIT_OF_SIGNAL + ended.signal, _with_notes(f"ended by {ended.signal.name}; {kept}", ended))
    except KeyboardInterrupt as ended:
        return _fail(EXIT_OF_SIGNAL + signal.SIGINT, _with_notes(f"interrupted; {kept}", ended))


def _with_notes(sentence: str, end: BaseException) -> str:
    return "\n".join([sentence, *(note[:1].upper() + note[1:] for note in getattr(end, "__notes__", ()))])


def _fail(status: int, sentence: str) -> int:
    LOGGER.debug("ended with status %d", status, exc_info=sys.exc_info()[0] is not None)
    with suppress(OSError):  # of a terminal that is gone
        say(f"winnow: {sentence}", file=sys.stderr)
    return status


def _shadowed(others: Sequence[Path]) -> str:
    return (
        f"{', '.join(map(str, others))} would be imported in place of winnow's own package of that name: rename it (a "
        "reward of your own may have any file name), or start winnow from another folder"
    )


def _where_to_look(folder: Path, adapted: bool) -> str:
    how = "adapters: peft, or winnow merge" if adapted else "from_pretrained"
    return "\n".join(
        [
            f"done: {folder}",
            "look next at",
            f"  the report    {folder / REPORT} (anew, or while it runs: winnow report {folder})",
            f"  metrics       {folder / METRICS}",
            f"  curves        tensorboard --logdir {folder / 'tensorboard'}",
            f"  every response, its verdict and why   winnow rollouts {folder} (in the terminal: winnow look {folder})",
            f"  the model     {folder / 'checkpoints'} ({how})",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
