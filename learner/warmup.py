"""Supervised fine-tuning on worked answers: the stage before reinforcement learning, on the same engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoTokenizer, GenerationConfig

from actors.data.reading import read_worked
from actors.rollouts.chat import turn_ends
from actors.rollouts.worked import WorkedRenderer
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
    shuffled and dealt again."""

    def __init__(self, tokenizer: Path | str, data: DataSettings, warmup: WarmupSettings, seed: int) -> None:
        tok = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
        rows = read_worked(warmup.path, warmup.prompt_column, warmup.response_column)
        self._streams = WorkedRenderer(data, tok).streams(rows)
        self._batch, self._seed = warmup.batch, seed

    def updates(
        self, *, rank: int, ranks: int, packing: Packing, aggregate: Aggregation = Aggregation.TOKEN_MEAN
    ) -> Iterator[list[TrainBatch]]:
        """This rank's micro-batches of one update after another, without end, weighted as the aggregation says."""
        for members in shuffled_batches(len(self._streams), self._batch, self._seed):
            lengths = [int(self._streams[index].trained.sum()) for index in members]
            totals = Totals(tokens=sum(lengths), responses=len(members), max_new_tokens=max(lengths))
            mine = balance([self._streams[index].tokens.size for index in members], ranks)[rank]
            samples = [
                Sample(
                    tokens=tokens,
                    trained=trained,
                    sampler=None,
                    advantage=1.0,
                    weight=token_weight(aggregate, int(trained.sum()), totals),
                )
                for tokens, trained in (self._streams[members[item]] for item in mine)
            ]
            yield pack(samples, packing.tokens, 1, packing.alone, packing.one_row, packing.width)
