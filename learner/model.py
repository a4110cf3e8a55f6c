"""The policy as the learner sees it: tokens in, log-probability and entropy of the wanted tokens out."""

from pathlib import Path
from typing import cast

import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, PreTrainedModel

from learner.settings import ModelSettings


class Policy(torch.nn.Module):
    """A causal LM whose logits exist only `logit_chunk` tokens at a time, in the forward and the backward pass."""

    def __init__(self, lm: PreTrainedModel, logit_chunk: int) -> None:
        super().__init__()
        self.lm = lm
        self._chunk = logit_chunk

    def forward(
        self, tokens: torch.Tensor, positions: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(log-probability, entropy) of each target token, float32[M] both; the entropy carries no gradient.

        Args:
            tokens: int64[R, L], rows of whole sequences end to end.
            positions: int64[R, L], restarting at 0 with each sequence: attention stays within it.
            targets: int64[M], flat indices into tokens; never the first of a row.
            temperature: what the sampler divided its logits by.
        """
        body = self.lm.base_model(input_ids=tokens, position_ids=positions, use_cache=False)
        before = body.last_hidden_state.flatten(0, 1)[targets - 1]
        wanted = tokens.flatten()[targets]
        pieces = [
            checkpoint(self._score, *piece, temperature, use_reentrant=False)
            for piece in zip(before.split(self._chunk), wanted.split(self._chunk), strict=True)
        ]
        logprobs, entropies = zip(*pieces, strict=True)
        return torch.cat(logprobs), torch.cat(entropies)

    def _score(
        self, hidden: torch.Tensor, wanted: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.lm.get_output_embeddings()(hidden).float() / temperature
        log_z = logits.logsumexp(-1)
        with torch.no_grad():
            entropy = log_z - ((logits - log_z[:, None]).exp() * logits).sum(-1)
        return logits.gather(-1, wanted[:, None])[:, 0] - log_z, entropy


def load_policy(path: Path | str, settings: ModelSettings, logit_chunk: int) -> Policy:
    """Loads a Hugging Face causal-LM folder in the run's dtype."""
    lm = AutoModelForCausalLM.from_pretrained(
        path, dtype=getattr(torch, settings.dtype), attn_implementation=settings.attention, local_files_only=True
    )
    lm.config.use_cache = False
    if settings.checkpointing:
        lm.gradient_checkpointing_enable({"use_reentrant": False})
    return Policy(cast(PreTrainedModel, lm), logit_chunk)
