"""What a learner rank holds while it trains a reward model: a session, as those of `learner.session`."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from transformers import AutoTokenizer

from actors.data.labelled import read_labelled
from learner.batches.dealing import shuffled_batches
from learner.batches.packing import balance
from learner.engine import Engine, all_reduced
from learner.reward_models.examples import Example, PackedExamples, examples_of, packed_examples
from learner.reward_models.objective import SUMS, RankingLoss, StepLoss, agreement_of
from learner.reward_models.scorer import load_scorer
from learner.reward_models.types import Agreement, RewardModelKind, RewardModelTask, RewardUpdateStats, Rows
from learner.session import Published
from learner.types import STATE, LearnerSpec, Opened, Place, Schedule
from learner.zero_state import restore_random_states, save_random_states, seed_all
from rewards.models.texts import Texts, limit_of

MODEL = "reward-model"  # its folder among the states of a checkpoint


class RewardModelSession:
    """A reward model that learns from judged rows. All ranks call every method together.

    Args:
        place: of this rank.
        spec: of the run.
        path: the model folder that it starts from.
        schedule: the learning rate of each update.
        task: what it learns from.
    """

    def __init__(self, place: Place, spec: LearnerSpec, path: Path, schedule: Schedule, task: RewardModelTask) -> None:
        seed_all(spec.seed)
        self._place, self._task, self._random = place, task, f"random-{place.rank}.json"
        build = partial(load_scorer, path, task.kind, spec.model, spec.learner.adapter)
        self._engine = Engine(build, spec, schedule)
        config, tokenizer = self._engine.module.lm.config, AutoTokenizer.from_pretrained(path, local_files_only=True)
        if config.pad_token_id is None:  # the class of transformers needs it to score several texts at once
            config.pad_token_id = tokenizer.pad_token_id
        self._texts, self._pad = Texts(tokenizer, limit_of(config, tokenizer)), config.pad_token_id
        self._train = self._examples(task.train)
        self._heldout = self._examples(task.heldout) if task.heldout else []
        self._deals: Iterator[list[int]] = shuffled_batches(len(self._train), task.batch, spec.seed)
        self.published = Published(self._engine, path, spec, place, merges=True)

    @property
    def opened(self) -> Opened:
        """What there is to say about the model."""
        module = self._engine.module
        return Opened(parameters=sum(export.size for export in module.exported()), notes=module.notes())

    def update(self) -> RewardUpdateStats:
        """One optimizer update on the next rows."""
        chosen = [self._train[index] for index in next(self._deals)]
        packed, lr = self._mine(chosen), self._engine.lr
        sums = self._engine.update(packed.batches, self._loss(packed, chosen))
        return RewardUpdateStats(
            agreement=agreement_of(sums),
            sequences=int(sums["sequences"]),
            computed=int(sums["computed"]),
            padding=int(sums["padding"]),
            grad_norm=self._engine.grad_norm,
            lr=lr,
        )

    def evaluate(self) -> Agreement:
        """How well the model agrees with the held-out rows now."""
        packed = self._mine(self._heldout)
        loss = self._loss(packed, self._heldout)
        sums = dict.fromkeys(SUMS, 0.0)
        for number, found in enumerate(self._engine.infer(packed.batches)):
            for name, value in loss(number, packed.batches[number], found).sums.items():
                sums[name] += float(value)
        total = all_reduced(torch.tensor(list(sums.values()), dtype=torch.float64), self._engine.device)
        return agreement_of(dict(zip(sums, total.tolist(), strict=True)))

    def save_checkpoint(self, folder: Path) -> None:
        """Has the model written for transformers, and in the folder `STATE` of it what this rank needs to go on.
        Returns when all is copied."""
        self.published.save_checkpoint(folder)
        self._engine.save(folder / STATE / MODEL, self.published.writer)
        save_random_states(folder / STATE / self._random, self.published.writer)

    def restore(self, folder: Path, updates: int) -> None:
        """Goes on from a folder of `save_checkpoint`, before the first update.

        Args:
            folder: the checkpoint.
            updates: that it had made.
        """
        self._engine.restore(folder / STATE / MODEL, self.published.writer)
        for _ in range(updates):
            next(self._deals)
        restore_random_states(folder / STATE / self._random)

    def close(self) -> None:
        """Frees the model."""
        self.published.close()
        self._engine.close()

    def _examples(self, rows: Rows) -> list[Example]:
        task = self._task
        labelled = read_labelled(
            rows.path, task.prompt_column, rows.slice, system_column=task.system_column, system=task.system
        )
        return examples_of(labelled, self._texts, self._pad)

    def _mine(self, examples: Sequence[Example]) -> PackedExamples:
        """This rank's part of some examples."""
        dealt = balance([example.tokens for example in examples], self._place.ranks)[self._place.rank]
        return packed_examples([examples[index] for index in dealt], self._engine.packing)

    def _loss(self, packed: PackedExamples, examples: Sequence[Example]) -> RankingLoss | StepLoss:
        """Of this rank's part of some examples."""
        if self._task.kind is RewardModelKind.OUTCOME:
            return RankingLoss(packed, len(examples))
        return StepLoss(packed, sum(example.labels.size for example in examples if example.labels is not None))
