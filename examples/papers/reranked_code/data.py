"""The data and the commands of reinforced re-ranking of programs: a generator and a reranker, each trained on what the
other does, in rounds.

    prompt    +3*2            first plus 3, then times 2
    program   f=lambda x:(x+3)*2

The generator has read programs of people who get them right 57 times in 100, and else forget the brackets or take a
number that is one off.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from examples.papers.reranked_code.program_tests import INPUTS
from examples.papers.responses import answered, pairs
from examples.papers.run import Commands, newest
from examples.papers.world import FOLDER, Said, conversation, dealt, write_model, write_rows

HERE = Path(__file__).parent
DATA = FOLDER / "reranked_code"
OPERATIONS = "+-*"
NUMBERS = range(2, 10)
ROWS = {"first": 300, "train": 100, "second": 100, "heldout": 60}
RIGHT, SAMPLES = 0.3, "8"
HEAD = "f=lambda x:"
ALPHABET = "0123456789+-*()x"
Step = tuple[str, int]  # an operation and its number
Task = tuple[Step, Step]


def prompts() -> list[Task]:
    """All that can be asked for."""
    steps = [(operation, number) for operation in OPERATIONS for number in NUMBERS]
    return [(first, second) for first in steps for second in steps]


def asked(task: Task) -> str:
    """The prompt of a task."""
    return "".join(f"{operation}{number}" for operation, number in task)


def program(task: Task, *, brackets: bool = True) -> str:
    """A program; without brackets it is right where the second operation is no product, or both are."""
    (one, left), (two, right) = task
    inner = f"x{one}{left}"
    return f"{HEAD}({inner}){two}{right}" if brackets else f"{HEAD}{inner}{two}{right}"


def result(task: Task, x: int) -> int:
    """What a right program gives."""
    for operation, number in task:
        x = {"+": x + number, "-": x - number, "*": x * number}[operation]
    return x


def tests(task: Task) -> str:
    """What a right program gives for the inputs."""
    return " ".join(str(result(task, x)) for x in INPUTS)


def written(draw: random.Random, task: Task) -> str:
    """A program as people write it."""
    if draw.random() < RIGHT:
        return program(task)
    if draw.random() < 0.5:
        return program(task, brackets=False)
    off = [(operation, number + draw.choice((-1, 1))) for operation, number in task]
    return program((off[0], task[1]) if draw.random() < 0.5 else (task[0], off[1]))


def sets() -> dict[str, list[Task]]:
    """The tasks of each set."""
    return dealt(prompts(), ROWS, "reranked code")


def write(folder: Path) -> None:
    """Writes the tasks, what the generator has read, and the model."""
    draw, tasks_of = random.Random("programs"), sets()
    for name, tasks in tasks_of.items():
        write_rows(folder / f"{name}.jsonl", [{"prompt": asked(task), "answer": tests(task)} for task in tasks])
    read = [task for task in prompts() if task not in tasks_of["heldout"]]
    worked: list[Said] = [
        [("user", asked(task)), ("assistant", written(draw, task))] for task in draw.choices(read, k=8000)
    ]
    write_rows(folder / "worked.jsonl", [conversation(each) for each in worked])
    write_model(folder / "model", ALPHABET, [HEAD])


def run(winnow: Commands) -> None:
    """Two rounds: programs of the generator, tested, train the reranker, which is the reward of the generator's
    training; programs of the next generator that fail, first of all those that the reranker likes, train it again. Then
    both rerankers choose one of eight programs for held-out tasks."""

    def programs(of: Path, names: Sequence[str], *words: str) -> Path:
        return winnow.evaluate(of, *(f"{name}={DATA}/{name}.jsonl" for name in names), "--samples", SAMPLES, *words)

    worked = {name: [program(task) for task in tasks] for name, tasks in sets().items()}
    base = winnow.train(HERE / "generator_0.toml")
    tried = programs(base, ["first", "heldout"], "--checkpoint", "start")
    first = pairs(answered(tried, "first"), worked["first"])
    write_rows(DATA / "pairs_1.jsonl", first)
    begin = f"model.path={base}/warmup"
    reranker = newest(
        winnow.train(HERE / "reranker.toml", begin, f"data.path={DATA}/pairs_1.jsonl", command="reward-model")
    )
    generator = winnow.train(HERE / "generator_1.toml", begin, f"reward.model.path={reranker}")
    second = pairs(answered(programs(generator, ["second"], "reward.name=shaped")), worked["second"])
    write_rows(DATA / "pairs_2.jsonl", [*first, *second])
    words = (f"model.path={reranker}", f"data.path={DATA}/pairs_2.jsonl")
    again = newest(winnow.train(HERE / "reranker.toml", *words, command="reward-model"))
    heldout = programs(generator, ["heldout"], "reward.name=own")
    for each in (reranker, again):
        winnow("eval", "--reward-model", each, heldout)
