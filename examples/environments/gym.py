"""An environment with `reset` and `step`, as Gymnasium's have them: a number is to be found in three guesses."""

import random

from actors.rollouts.others import from_steps


class Guess:
    def reset(self, seed=None):
        self.number, self.left = random.Random(seed).randint(1, 7), 3
        return "1 to 7", {}

    def step(self, action):
        self.left -= 1
        found = action == str(self.number)
        seen = "more" if action < str(self.number) else "less"
        return seen, float(found), found or not self.left, False, {}


play = from_steps(Guess, opening="{observation}")
