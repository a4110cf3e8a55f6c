"""Supervised fine-tuning on worked answers: the stage before reinforcement learning, on the same engine."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from actors.data.reading import read_worked
from actors.data.rendering import Renderer
from actors.settings import DataSettings
from learner.batches.packing import Packing, balance, pack
from learner.batches.samples import token_weight
from learner.batches.types import Sample, Totals, TrainBatch
from learner.methods.choices import Aggregation
from learner.settings import WarmupSettings


class WorkedAnswers:
    """Tokenized prompts with worked answers, dealt to ranks in a seeded order. When all have been dealt they are
    shuffled and dealt again."""

    def __init__(self, tokenizer: Path | str, data: DataSettings, warmup: WarmupSettings, seed: int) -> None:
        tok = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        rows = read_worked(warmup.path, warmup.prompt_column, warmup.response_column)
        renderer = Renderer(data, tok)
        prompts = renderer.tokens([renderer.render(row.prompt) for row in rows])
        answers = tok([row.response for row in rows], add_special_tokens=False)["input_ids"]
        end = [tok.eos_token_id]
        self._pairs = [_pair(prompt, answer + end) for prompt, answer in zip(prompts, answers, strict=True)]
        self._batch, self._seed = warmup.batch, seed

    def updates(
        self, *, rank: int, ranks: int, packing: Packing, aggregate: Aggregation = Aggregation.TOKEN_MEAN
    ) -> Iterator[list[TrainBatch]]:
        """This rank's micro-batches of one update after another, without end, weighted as the aggregation says."""
        for members in self._batches():
            lengths = [int(self._pairs[index][1].sum()) for index in members]
            totals = Totals(tokens=sum(lengths), responses=len(members), max_new_tokens=max(lengths))
            mine = balance([self._pairs[index][0].size for index in members], ranks)[rank]
            samples = [
                Sample(
                    tokens=tokens,
                    trained=trained,
                    sampler=None,
                    advantage=1.0,
                    weight=token_weight(aggregate, int(trained.sum()), totals),
                )
                for tokens, trained in (self._pairs[members[item]] for item in mine)
            ]
            yield pack(samples, packing.tokens, alone=packing.alone, one_row=packing.one_row)

    def _batches(self) -> Iterator[list[int]]:
        """Indices of the pairs of one update after another."""
        shuffle, queue = random.Random(self._seed), list[int]()
        while True:
            while len(queue) < self._batch:
                epoch = list(range(len(self._pairs)))
                shuffle.shuffle(epoch)
                queue += epoch
            yield queue[: self._batch]
            del queue[: self._batch]


def _pair(before: list[int], after: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """(tokens int32[T], trained bool[T]): the response and its end are trained on, the prompt is not."""
    return np.array(before + after, np.int32), np.arange(len(before) + len(after)) >= len(before)
