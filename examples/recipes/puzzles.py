"""Puzzles of reasoning-gym, which makes as many as are asked for and grades their answers: the data, and the reward.

    python examples/recipes/puzzles.py        from the root of the repository

writes runs/puzzles/train.jsonl and heldout.jsonl. Their seeds are far apart, since reasoning-gym makes entry n of a set
from the set's seed + n.
"""

from pathlib import Path

import reasoning_gym

from actors.rollouts.others import MadeData

FOLDER = Path("runs/puzzles")  # below runs/, which git ignores
ROWS = {"train": (20_000, 0), "heldout": (500, 1_000_000)}  # how many, and the seed
SETS = {  # each with what makes it neither trivial nor hopeless for a model of 1.5B parameters
    "chain_sum": {"min_terms": 3, "max_terms": 6},
    "simple_equations": {"max_value": 50},
    "leg_counting": {"max_animals": 6},
    "countdown": {"max_numbers": 4},
    "letter_counting": {},
    "spell_backward": {"max_word_len": 8},
    "family_relationships": {},
    "knights_knaves": {},
    "syllogism": {},
    "mini_sudoku": {"min_empty": 4, "max_empty": 8},
}
puzzles = MadeData(reasoning_gym.create_dataset, SETS)
reward = puzzles.reward

if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (rows, seed) in ROWS.items():
        count = puzzles.write(FOLDER / f"{name}.jsonl", rows, seed)
        print(f"written: {count} puzzles in {FOLDER / name}.jsonl")
