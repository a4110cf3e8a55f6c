"""Reinforced in-context learning in miniature: in which language does somebody name things?

Every language has one of two names for each thing, and the policy has read short dialogues in all of them. Which one
is spoken is said nowhere: the names that were given before tell it, each only in part, and one in ten is drawn at
random. So the policy names a new thing the better the more right names stand before the question. No weight changes
after the warm-up.
"""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from examples.papers.responses import Answered, answered
from examples.papers.run import Commands
from examples.papers.world import FOLDER, Said, conversation, write_model, write_rows

HERE = Path(__file__).parent
DATA = FOLDER / "many_shot"
LANGUAGES, NAMES = 4, 2
SPEAKERS = 12  # people, of whom each language has as many as any other
THINGS = "abcdefghijklmnopqr"
KNOWN, HELDOUT = THINGS[:10], THINGS[10:]  # things that may be shots, and those that are asked for in the end
GIVEN, SHOTS = 2, 8  # shots of a person, and most shots of the policy
ODD = 0.1  # share of the names in what the policy has read that are drawn at random
SAMPLES = "8"
WORDS = tuple(f"{thing}{number}" for thing in THINGS for number in range(NAMES))
KINDS = ("none", "given", "unfiltered", "right")  # of the shots before held-out questions


def name(speaker: int, thing: str) -> str:
    """What a speaker's language calls a thing."""
    return f"{thing}{random.Random(f'{speaker % LANGUAGES} {thing}').randrange(NAMES)}"


def dialogue(draw: random.Random) -> Said:
    """Somebody names things in a language, with a slip now and then."""
    speaker = draw.randrange(SPEAKERS)
    said: Said = []
    for thing in draw.sample(THINGS, SHOTS + 1):
        odd = draw.random() < ODD
        said += [("user", thing), ("assistant", f"{thing}{draw.randrange(NAMES)}" if odd else name(speaker, thing))]
    return said


def row(speaker: int, shots: Mapping[str, str], thing: str) -> dict[str, Any]:
    """A question behind shots, thing by thing what it was called."""
    said = [turn for shown, called in shots.items() for turn in (("user", shown), ("assistant", called))]
    messages = [{"role": role, "content": text} for role, text in [*said, ("user", thing)]]
    return {"prompt": messages, "answer": name(speaker, thing), "speaker": speaker, "thing": thing}


def given(speaker: int) -> dict[str, str]:
    """The shots that a person gives."""
    things = random.Random(f"given {speaker}").sample(KNOWN, GIVEN)
    return {thing: name(speaker, thing) for thing in things}


def heldout(shots: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Held-out questions of every speaker, each behind this one's shots."""
    return [row(speaker, shots[speaker], thing) for speaker in range(SPEAKERS) for thing in HELDOUT]


def shots_of(
    asked: Sequence[Mapping[str, Any]], own: Sequence[Answered]
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """The shots for each speaker that the policy's responses make: the first right one of every thing, and the first
    one whatever it is worth, of the same things.

    Args:
        asked: the rows of the questions.
        own: what was answered to them.
    """
    right: list[dict[str, str]] = [{} for _ in range(SPEAKERS)]
    unfiltered: list[dict[str, str]] = [{} for _ in range(SPEAKERS)]
    for each in own:
        speaker, thing = asked[each.row]["speaker"], asked[each.row]["thing"]
        if each.right and len(right[speaker]) < SHOTS:
            right[speaker][thing] = each.right[0]
            unfiltered[speaker][thing] = each.said[0].text
    return right, unfiltered


def write(folder: Path) -> None:
    """Writes what the policy reads, the questions whose right responses become shots, and held-out ones without shots
    and behind given ones; and the model."""
    draw = random.Random("many shots")
    people = [given(speaker) for speaker in range(SPEAKERS)]
    asked = [
        row(speaker, shots, thing) for speaker, shots in enumerate(people) for thing in KNOWN if thing not in shots
    ]
    write_rows(folder / "asked.jsonl", asked)
    write_rows(folder / "none.jsonl", heldout([{}] * SPEAKERS))
    write_rows(folder / "given.jsonl", heldout(people))
    write_rows(folder / "worked.jsonl", [conversation(dialogue(draw)) for _ in range(8000)])
    write_model(folder / "model", THINGS, WORDS)


def run(winnow: Commands) -> None:
    """Warms the policy up, has it answer questions behind the given shots, makes shots of its responses, and asks the
    held-out questions behind each kind of shots."""
    policy = winnow.train(HERE / "run.toml")
    own = answered(winnow.evaluate(policy, "--checkpoint", "start", f"asked={DATA}/asked.jsonl", "--samples", SAMPLES))
    asked = [json.loads(line) for line in (DATA / "asked.jsonl").read_text(encoding="utf-8").splitlines()]
    for kind, shots in zip(("right", "unfiltered"), shots_of(asked, own), strict=True):
        print(f"{kind} shots: {sum(map(len, shots)) / SPEAKERS:.1f} for a speaker")
        write_rows(DATA / f"{kind}.jsonl", heldout(shots))
    files = [f"{kind}={DATA}/{kind}.jsonl" for kind in KINDS]
    winnow.evaluate(policy, "--checkpoint", "start", *files, "--samples", SAMPLES)
