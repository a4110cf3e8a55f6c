"""When a run ends, saves and evaluates."""

from dataclasses import dataclass

from cluster.config.run_config import RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """What is due after a step, by the settings of the run."""

    config: RunConfig

    def is_last(self, step: int, tokens: int, seconds: float) -> bool:
        """Whether the run ends after this step: its number of steps or its budget is reached.

        Args:
            step: counted from 1.
            tokens: sampled for training so far.
            seconds: since training began.
        """
        run = self.config.run
        return step == run.steps or 0 < run.tokens <= tokens or 0 < run.seconds <= seconds

    def is_over(self, step: int, tokens: int, seconds: float) -> bool:
        """Whether a run that is so far has nothing left to do."""
        return step > 0 and (step >= self.config.run.steps or self.is_last(step, tokens, seconds))

    def saves(self, step: int, last: bool) -> bool:
        """Whether a checkpoint is due."""
        return last or _due(self.config.run.checkpoint_every, step)

    def evaluates(self, step: int, last: bool) -> bool:
        """Whether an evaluation is due; after step 0, the start, too."""
        every = self.config.eval.every
        return every > 0 and (last or _due(every, step))

    def evaluated_before(self, step: int) -> int:
        """The last step before this one whose evaluation was due; some are (`eval.every`)."""
        every = self.config.eval.every
        return (step - 1) // every * every


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0
