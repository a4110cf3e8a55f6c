"""An environment with `reset` and `step`, as Gymnasium's have them: five steps to reach a place on a line."""

import random

from actors.rollouts.others import from_steps


class Walk:
    def reset(self, seed=None):
        self.way, self.left = random.Random(seed).choice([-4, -3, -2, -1, 1, 2, 3, 4]), 5
        return str(self.way), {}

    def step(self, action):
        self.left -= 1
        self.way -= {"+": 1, "-": -1}.get(action, 0)
        return str(self.way), float(not self.way), not self.way or not self.left, False, {}


play = from_steps(Walk, opening="{observation}")
