"""Supervised fine-tuning on worked answers: the stage before reinforcement learning, on the same engine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from transformers import AutoTokenizer, GenerationConfig

from actors.data.reading import read_worked
from actors.rollouts.chat import turn_ends
from actors.rollouts.worked import WorkedRenderer, WorkedStream
from actors.settings import DataSettings
from learner.batches.dealing import shuffled_batches
from learner.batches.packing import Packing, balance, pack
from learner.batches.samples import token_weight
from learner.batches.types import Sample, Totals, TrainBatch
from learner.methods.choices import Aggregation
from learner.settings import WarmupSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def add_taught_ends(config: GenerationConfig, tokenizer: "PreTrainedTokenizerBase", data: DataSettings) -> None:
    """Adds what ends a turn in the chat template to what ends a text of a model, which engines read beside its weights.
    A base model does not have it there, and is taught it by conversations."""
    known = config.eos_token_id if config.eos_token_id is not None else tokenizer.eos_token_id
    ends = [*(known if isinstance(known, list) else [known]), *turn_ends(data, tokenizer)]
    config.eos_token_id = list(dict.fromkeys(ends))


class WorkedAnswers:
    """Tokenized worked answers, dealt to ranks in a seeded order. When all have been dealt they are
    shuffled and dealt again.

    Where there are control tokens, half of the answers stand behind one of them, drawn by chance: so none of them means
    anything yet, and the model goes on as well behind each of them as without.
    """

    def __init__(
        self, tokenizer: Path | str, data: DataSettings, warmup: WarmupSettings, seed: int, control: Sequence[str] = ()
    ) -> None:
        tok = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        self._control = np.array(tok.convert_tokens_to_ids(list(control)), np.int32)
        rows = read_worked(warmup.path, warmup.prompt_column, warmup.response_column, data.system_column)
        self._streams = WorkedRenderer(data, tok).streams(rows)
        self._batch, self._seed = warmup.batch, seed

    def updates(
        self, *, rank: int, ranks: int, packing: Packing, aggregate: Aggregation = Aggregation.TOKEN_MEAN
    ) -> Iterator[list[TrainBatch]]:
        """This rank's micro-batches of one update after another, without end, weighted as the aggregation says."""
        draw = np.random.default_rng(self._seed)
        for members in shuffled_batches(len(self._streams), self._batch, self._seed):
            streams = [self._under_control(index, draw, packing.tokens) for index in members]
            lengths = [int(trained.sum()) for _, trained in streams]
            totals = Totals(tokens=sum(lengths), responses=len(members), max_new_tokens=max(lengths))
            mine = balance([tokens.size for tokens, _ in streams], ranks)[rank]
            samples = [
                Sample(
                    tokens=tokens,
                    trained=trained,
                    sampler=None,
                    advantage=1.0,
                    weight=token_weight(aggregate, int(trained.sum()), totals),
                )
                for tokens, trained in (streams[item] for item in mine)
            ]
            yield pack(samples, packing.tokens, 1, packing.alone, packing.one_row, packing.width)

    def _under_control(self, index: int, draw: np.random.Generator, most: int) -> WorkedStream:
        """A worked answer, maybe behind a control token; one of `most` tokens has no room for it."""
        tokens, trained = self._streams[index]
        if not self._control.size or draw.random() < 0.5 or tokens.size >= most:
            return self._streams[index]
        return WorkedStream(np.append(draw.choice(self._control), tokens).astype(np.int32), np.append(False, trained))
