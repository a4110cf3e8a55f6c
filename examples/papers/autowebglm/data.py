"""The data and the commands of AutoWebGLM in miniature: tasks on a small site, what people do there, and training in
three stages.

People do the next right thing seven times in ten, and else click on something or say a number at random.
"""

import random
import re
from collections.abc import Iterable
from pathlib import Path

from examples.papers.autowebglm.environment import ROUNDS, SHELF_OF, SHELVES, STARTS, Visit
from examples.papers.run import Commands, newest, tell
from examples.papers.world import Said, conversation, write_model, write_rows

HERE = Path(__file__).parent
RIGHT = 0.7
LAYOUTS = 4  # rows of each held-out task: sites that are drawn for it
FAR = tuple(start for start, actions in STARTS.items() if actions > 2)
NAMES = (*SHELF_OF, *SHELVES, *STARTS)
NUMBERED = tuple(f"{number}{name}" for number in range(1, 6) for name in NAMES)  # an element of a page is one token
WORDS = (*NAMES, *NUMBERED, "nothing", "costs", "click", "type", "say")
ALPHABET = "0123456789 "


def right_action(article: str, page: str) -> str:
    """What brings one who sees this page nearer to the price of the article."""
    if found := re.match(rf"{article} costs (\d)", page):
        return f"say {found[1]}"
    if page == "1find":
        return f"type 1 {article}"
    for name in (article, SHELF_OF[article], "home"):
        if found := re.search(rf"(\d){name}\b", page):
            return f"click {found[1]}"
    raise ValueError(f"{page!r} leads nowhere")


def action(draw: random.Random, article: str, page: str) -> str:
    """What people do."""
    if draw.random() < RIGHT:
        return right_action(article, page)
    return f"{draw.choice(('click', 'say'))} {draw.randrange(1, 10 if draw.random() < 0.3 else 4)}"


def visited(draw: random.Random, start: str) -> Said:
    """Somebody looks for an article, until it is done or fails."""
    article = draw.choice([*SHELF_OF])
    visit = Visit(article, start, draw.randrange(1 << 30))
    said: Said = [("user", f"{article} {visit.page}")]
    for _ in range(ROUNDS):
        said.append(("assistant", action(draw, article, visit.page)))
        if visit.act(said[-1][1]) is not None:
            break
        said.append(("user", visit.page))
    return said if said[-1][0] == "assistant" else said[:-1]


def tasks(starts: Iterable[str]) -> list[dict[str, str]]:
    """Rows of tasks; the environment draws the site, and knows the price."""
    return [{"prompt": f"{article} {start}", "answer": article} for article in SHELF_OF for start in starts]


def write(folder: Path) -> None:
    """Writes tasks, what people did in short tasks and in all, and the model."""
    draw = random.Random("autowebglm")
    write_rows(folder / "short.jsonl", tasks(["shelf"]))
    write_rows(folder / "train.jsonl", tasks(STARTS))
    write_rows(folder / "heldout.jsonl", tasks(FAR) * LAYOUTS)
    for name, starts in (("people_short", ["shelf"]), ("people_all", [*STARTS])):
        rows = [conversation(visited(draw, draw.choice(starts))) for _ in range(5000)]
        write_rows(folder / f"{name}.jsonl", rows)
    write_model(folder / "model", ALPHABET, WORDS)


def run(winnow: Commands) -> None:
    """Short tasks, then all; pairs of own attempts; imitation of own attempts that succeed."""
    short = winnow.train(HERE / "1_short.toml")
    attempts = winnow.train(HERE / "2_preferences.toml", f"model.path={short}/warmup")
    last = winnow.train(HERE / "3_rejection.toml", f"model.path={newest(attempts)}")
    for stage in (short, attempts, last):
        print(stage.name)
        tell(stage)
