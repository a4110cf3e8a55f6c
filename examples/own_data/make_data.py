"""Writes the data of this example and a tiny model for it.

    python examples/own_data/make_data.py        from the root of the repository

The problem is to sort digits: `sort:4712=` has the answer `1247`. train.jsonl and heldout.jsonl hold prompts with
answers, worked.jsonl prompts with responses to imitate, of which three in ten have two neighbouring digits swapped. A
seed decides everything, so the files are always the same.
"""

import json
import random
import sys
from pathlib import Path

HERE = Path(__file__).parent
MODEL = Path("runs/own-data-model")  # below runs/, which git ignores
ALPHABET = "0123456789=sort:"  # what the model's tokenizer knows, one token a character
ROWS = {"train": 500, "heldout": 100, "worked": 1000}


def write_data(folder: Path, seed: int = 0) -> None:
    """Writes train.jsonl, heldout.jsonl and worked.jsonl into a folder."""
    draw = random.Random(seed)
    for name, count in ROWS.items():
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(count):
                digits = [draw.choice("0123456789") for _ in range(draw.randint(3, 6))]
                answer = sorted(digits)
                row = {"prompt": f"sort:{''.join(digits)}="}
                if name == "worked":
                    if draw.random() < 0.3:
                        place = draw.randrange(len(answer) - 1)
                        answer[place : place + 2] = reversed(answer[place : place + 2])
                    row["response"] = "".join(answer)
                else:
                    row["answer"] = "".join(answer)
                file.write(json.dumps(row) + "\n")


def write_model(folder: Path) -> None:
    """Writes a Hugging Face folder with random weights and 1.3 million parameters."""
    from learner.models.tiny import write_tiny_model

    write_tiny_model(folder, alphabet=ALPHABET, seed=0)


if __name__ == "__main__":
    write_data(HERE)
    write_model(MODEL)
    print(f"written: {', '.join(f'{name}.jsonl' for name in ROWS)} in {HERE}, and the model {MODEL}")
    sys.exit(0)
