"""A reward model as the learner trains it: a model's body under a head that gives one number for a token. What is
written is a folder of transformers' own classes, which the rewards `model` and `process` read."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from learner.models.adapter import adapt, exports, is_adapted
from learner.models.examination import ODD, UNLIKE_BFLOAT16, UNLIKE_FLOAT32, short_texts
from learner.models.export import Export
from learner.models.policy import WHOLE, Critic, ValueHead, hidden_of, prepared_model
from learner.models.varlen import leave_varlen
from learner.reward_models.types import RewardModelKind
from learner.settings import AdapterSettings, ModelSettings

CLASSES: dict[RewardModelKind, Any] = {
    RewardModelKind.OUTCOME: AutoModelForSequenceClassification,
    RewardModelKind.PROCESS: AutoModelForTokenClassification,
}
HEADS = ("score", "classifier")  # how transformers calls them


class Scorer(Critic):
    """The classes of transformers, with a head that computes in float32.

    Args:
        lm: a classifier with one label.
        begun: whether its head was trained before; otherwise it begins with zeros.
    """

    def __init__(self, lm: PreTrainedModel, begun: bool) -> None:
        super().__init__(lm.base_model)  # type: ignore[arg-type]
        name = head_name(lm)
        own = getattr(lm, name)
        self.head = ValueHead(own.in_features, bias=own.bias is not None)
        if begun:
            _copy(own, self.head)
        setattr(lm, name, self.head)
        self._lm = (lm,)  # in a tuple, so that no parameter is there twice
        self.adapted = is_adapted(lm)

    @property
    def lm(self) -> PreTrainedModel:
        """The model of transformers' own class, with the weights that are trained."""
        return self._lm[0]

    def exported(self) -> Iterator[Export]:
        """What is written: all weights under their checkpoint names, an adapter merged into them."""
        return exports(self.lm)

    def notes(self) -> tuple[str, ...]:
        """What a person should know of how this model is trained, a sentence each."""
        name = type(self.lm).__name__
        alone = f"{name} does not keep the sequences of a row apart: each has a row of its own, with padding behind it"
        return () if self.packs else (alone,)


def load_scorer(
    path: Path | str, kind: RewardModelKind, settings: ModelSettings, adapter: AdapterSettings = WHOLE
) -> Scorer:
    """A reward model from the folder of a causal language model, whose head begins with zeros, or from that of a reward
    model of this kind, which goes on with its own."""
    lm, report = CLASSES[kind].from_pretrained(
        path, num_labels=1, dtype=getattr(torch, settings.dtype), local_files_only=True, output_loading_info=True
    )
    prepared_model(lm, settings, WHOLE)
    if adapter.rank:
        adapt(lm.base_model, adapter)
    return Scorer(lm, begun=f"{head_name(lm)}.weight" not in report["missing_keys"])


def head_name(lm: torch.nn.Module) -> str:
    """The name of a classifier's head."""
    found = next((name for name in HEADS if isinstance(getattr(lm, name, None), torch.nn.Linear)), None)
    if found is None:
        raise ValueError(f"{type(lm).__name__} cannot be trained as a reward model: it has no linear head")
    return found


@torch.no_grad()
def settle_rows(scorer: Scorer) -> None:
    """Sets `packs` to whether the model computes the same for a text that lies in one row with another one; leaves
    varlen attention where that does not. Where weights are sharded, all ranks call it together."""
    scorer.eval()
    first, second, _ = short_texts(scorer.lm)
    own = [scorer.body(input_ids=text, use_cache=False).last_hidden_state[0] for text in (first, second)]
    limit = UNLIKE_FLOAT32 if own[0].dtype == torch.float32 else UNLIKE_BFLOAT16
    scorer.packs = True
    if scorer.one_row and not _packed_gap(scorer, (first, second), own) <= limit:
        leave_varlen(scorer.body)
    scorer.packs = _packed_gap(scorer, (first, second), own) <= limit


def _packed_gap(scorer: Scorer, texts: tuple[torch.Tensor, torch.Tensor], own: list[torch.Tensor]) -> float:
    """Largest difference that lying in one row makes to hidden states, as a share of their size; infinite where the
    model takes no positions."""
    if getattr(scorer.lm.config.get_text_config(), "attention_chunk_size", None):  # counted along the row, and long
        return math.inf
    positions = torch.cat([torch.arange(text.shape[1], device=text.device)[None] for text in texts], 1)
    try:
        packed = hidden_of(scorer.body, torch.cat(texts, 1), positions)
    except ODD:
        return math.inf
    alone = torch.cat(own)
    return float((packed - alone).abs().max() / alone.abs().max())


@torch.no_grad()
def _copy(source: torch.nn.Module, target: torch.nn.Module) -> None:
    """Copies a head's parameters, which ZeRO may have sharded."""
    import deepspeed

    kept = list(source.parameters())
    with deepspeed.zero.GatheredParameters(kept, enabled=any(hasattr(each, "ds_id") for each in kept)):
        for old, new in zip(kept, target.parameters(), strict=True):
            new.copy_(old)
