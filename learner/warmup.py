"""Supervised fine-tuning on worked answers: the stage before reinforcement learning, on the same engine."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from actors.data.prompts import render
from actors.data.reading import read_rows
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
        columns = (warmup.prompt_column, warmup.response_column)
        rows = read_rows(Path(warmup.path), columns)
        self._pairs = [_tokenize(tok, data, row[columns[0]], row[columns[1]]) for row in rows]
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
            yield pack(samples, packing.tokens, alone=packing.alone)

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


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, data: DataSettings, prompt: str, response: str
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens int32[T], trained bool[T]): the response and its end are trained on, the prompt is not."""
    before = tokenizer(render(prompt, data, tokenizer), add_special_tokens=False)["input_ids"]
    after = tokenizer(response, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    return np.array(before + after, np.int32), np.arange(len(before) + len(after)) >= len(before)
