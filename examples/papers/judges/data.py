"""Judges in miniature: the data, and the commands that train a judge, and then a policy on its verdicts: once with a
yes or no for each response, once with the spans that it names beside it.

The judge is a small language model that has read verdicts of people who know. It is asked in the words of the reward
`judge` and answers in its form; of these words its tokenizer knows the signs, digits and answers alone.
"""

import json
import random
from pathlib import Path

from examples.papers.additions import ALPHABET, divided, graded, steps, write_additions
from examples.papers.run import Commands, tell
from examples.papers.world import FOLDER, ROLES, write_rows
from learner.models.tiny import write_tiny_model
from rewards import Case, JudgeSettings
from rewards.models.judges import fenced, messages

HERE, DATA = Path(__file__).parent, FOLDER / "judges"
PROMPTS = ("zero-shot", "spans")  # of the reward `judge`
JUDGED, HELDOUT = 24_000, 400  # responses with verdicts
PIECES = ('{"verdict": "', '", "spans": [{"text": "', '", "value": 1}', '", "value": -1}', ', {"text": "', "]}")
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def columns(result: int, held_out: bool) -> dict[str, str]:
    """What a row has beside its prompt. The judge grades what is trained on, without a reference; what is held out is
    graded by its answer."""
    return {"reward": "number", "answer": str(result)} if held_out else {"reward": "judge"}


def verdict(said: list[str], true: list[str], prompt: str) -> str:
    """What one who knows answers to a prompt: the right steps, behind each whether the response has it; then whether it
    has all of them, and with "spans" which, as the JSON object in a fence."""
    words = ["yes" if one == other else "no" for one, other in zip(said, true, strict=True)]
    worked = "".join(f"{step}\n{word}\n" for step, word in zip(true, words, strict=True))
    word = "yes" if said == true else "no"
    if prompt != "spans":
        return worked + word
    spans = [{"text": one, "value": 1 if word == "yes" else -1} for one, word in zip(said, words, strict=True)]
    return worked + fenced(json.dumps({"verdict": word, "spans": spans}))


def write(folder: Path) -> None:
    """Writes the data of judge and policy, and both models."""
    write_additions(folder, divided, columns)
    draw = random.Random("judges")
    rows = []
    for number in range(JUDGED + HELDOUT):
        left, right, prompt = draw.randrange(10, 100), draw.randrange(10, 100), PROMPTS[number % 2]
        said = graded(left, right, draw)
        case = Case(response=divided(said), reference="", question=f"{left}+{right}=")
        asked = messages(case, JudgeSettings(path="of the run", prompt=prompt))
        rows.append((asked, verdict(said, steps(left, right), prompt)))
    told = [{"messages": [*asked, {"role": "assistant", "content": said}]} for asked, said in rows[:JUDGED]]
    write_rows(folder / "verdicts.jsonl", told)
    write_rows(folder / "judged.jsonl", [{"prompt": asked, "answer": said} for asked, said in rows[JUDGED:]])
    write_tiny_model(
        folder / "judge_model",
        alphabet=f"{ALPHABET}`",
        words=("yes", "no", *PIECES),
        control=ROLES,
        chat_template=TEMPLATE,
        seed=0,
        positions=256,  # of which what it is asked takes 100: one that has learned little yet would say 500 tokens
    )


def run(winnow: Commands) -> None:
    """Has the judge read verdicts and tells how often it says what it should; warms the policy up; trains it twice."""
    judge = winnow.train(HERE / "judge.toml")
    tell(judge)
    policy = winnow.train(HERE / "policy.toml")
    for file in ("yes_or_no", "spans"):
        tell(winnow.train(HERE / f"{file}.toml", f"model.path={policy}/warmup", f"reward.judge.path={judge}/warmup"))
