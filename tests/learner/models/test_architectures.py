"""What the learner makes of other people's architectures, with tiny random models: log-probabilities and gradients are
those of each model's own forward pass with every sequence alone, or the model is refused by name."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, PreTrainedModel

from learner.batches.packing import pack
from learner.batches.types import Sample
from learner.models.examination import UnsupportedModel, examine
from learner.models.inputs import inputs_of
from learner.models.policy import Policy
from learner.models.shrunk import shrunk
from tests.tables import each

pytestmark = pytest.mark.usefixtures("one_thread")

LFM2 = {"num_hidden_layers": 6, "layer_types": ["conv", "conv", "full_attention"] * 2}
MAMBA2 = {"expand": 1, "num_heads": 64}
# model type, whether a row holds several sequences, whether logits are more than a product, further settings
QUICK = ("qwen2", "gemma2", "cohere", "granite", "opt", "falcon", "mamba", "lfm2")  # the others take a while to import
ARCHITECTURES = [
    ("qwen2", True, False, {}),
    ("qwen3", True, False, {}),
    ("qwen3_moe", True, False, {}),
    ("llama", True, False, {}),
    ("mistral", True, False, {}),
    ("mixtral", True, False, {}),
    ("phi", True, False, {}),
    ("phi3", True, False, {}),
    ("gpt2", True, False, {}),
    ("gpt_neox", True, False, {}),
    ("gptj", True, False, {}),
    ("codegen", True, False, {}),
    ("starcoder2", True, False, {}),
    ("stablelm", True, False, {}),
    ("olmo2", True, False, {}),
    ("gemma", True, False, {}),
    ("gemma3_text", True, False, {}),
    ("smollm3", True, False, {}),
    ("glm4", True, False, {}),
    ("gemma2", True, True, {}),
    ("gemma3_text", True, True, {"final_logit_softcapping": 30.0}),
    ("cohere", True, True, {}),
    ("cohere2", True, True, {}),
    ("granite", True, True, {"logits_scaling": 8.0}),
    ("granite", True, False, {"logits_scaling": 1.0}),
    ("granitemoe", True, True, {"logits_scaling": 8.0}),
    ("nanochat", True, True, {}),
    ("opt", False, False, {}),
    ("bloom", False, False, {}),
    ("mpt", False, False, {}),
    ("falcon", False, False, {}),
    ("falcon", False, False, {"alibi": True}),
    ("gpt_oss", False, False, {}),
    ("biogpt", False, False, {}),
    ("xglm", False, False, {}),
    ("llama4_text", False, False, {}),
    ("mamba", False, False, {}),
    ("mamba2", False, False, MAMBA2),
    ("falcon_mamba", False, False, {}),
    ("rwkv", False, False, {}),
    ("jamba", False, False, {}),
    ("bamba", False, False, {}),
    ("falcon_h1", False, True, {"lm_head_multiplier": 0.25}),
    ("lfm2", False, False, LFM2),
    ("qwen3_next", False, False, {}),
    ("recurrent_gemma", False, True, {}),
    ("granitemoehybrid", False, True, {"logits_scaling": 8.0}),
]
REFUSED = ["bert", "roberta", "electra"]  # they look ahead


def tiny(kind: str, settings: dict[str, Any]) -> PreTrainedModel:
    """A small random model of this type."""
    return shrunk(AutoConfig.for_model(kind, **settings))


def samples() -> list[Sample]:
    draw = np.random.default_rng(3)
    lengths = (11, 5, 8, 3)
    tokens = [draw.integers(16, 64, size).astype(np.int32) for size in lengths]
    tokens += [np.concatenate([tokens[0][:6], other]) for other in (tokens[1], tokens[2])]  # they begin alike
    return [Sample(tokens=t, trained=np.arange(t.size) > 1, sampler=None, advantage=1.0, weight=0.1) for t in tokens]


def own_logprobs(model: PreTrainedModel, sample: Sample) -> torch.Tensor:
    """Of the trained tokens, by the model's own forward pass over the sequence alone."""
    tokens = torch.from_numpy(sample.tokens).long()[None]
    logp = model(input_ids=tokens, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    return logp.gather(-1, tokens[0, 1:, None])[:, 0][torch.from_numpy(sample.trained)[1:]]


def gradient(model: PreTrainedModel) -> torch.Tensor:
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


COLUMNS = ("kind", "packs", "scales", "settings")


@each(COLUMNS, [row for row in ARCHITECTURES if row[0] in QUICK])
def test_common_architectures_are_trained_on_their_own_log_probabilities(
    kind: str, packs: bool, scales: bool, settings: dict[str, Any]
) -> None:
    is_trained_on_its_own(kind, packs, scales, settings)


@pytest.mark.slow
@each(COLUMNS, [row for row in ARCHITECTURES if row[0] not in QUICK])
def test_every_architecture_is_trained_on_its_own_log_probabilities(
    kind: str, packs: bool, scales: bool, settings: dict[str, Any]
) -> None:
    is_trained_on_its_own(kind, packs, scales, settings)


def is_trained_on_its_own(kind: str, packs: bool, scales: bool, settings: dict[str, Any]) -> None:
    model, given = tiny(kind, settings), samples()
    policy = Policy(model, logit_chunk=4)
    examined = examine(policy)
    assert (examined.packs, examined.scales) == (packs, scales)
    assert (policy.packs, policy.head.scales) == (packs, scales)
    assert len(policy.notes()) == (not packs) + scales + bool(policy.apart_because)
    batches = pack(given, 64, alone=not packs, width=policy.width)
    assert any(batch.shared for batch in batches) is policy.shares is examined.shares
    for batch in batches:
        assert packs or len(batch.tokens) == len(batch.members)
        logp = policy(**inputs_of(policy, batch, torch.device("cpu")), temperature=1.0)[0]
        own = torch.cat([own_logprobs(model, given[member]) for member in batch.members])
        torch.testing.assert_close(logp, own.detach(), atol=2e-4, rtol=0)
        (logp.exp() * torch.arange(1, logp.numel() + 1)).sum().backward()
        found = gradient(model)
        (own.exp() * torch.arange(1, own.numel() + 1)).sum().backward()
        wanted = gradient(model)
        assert (found - wanted).norm() <= 1e-3 * wanted.norm()


@each("kind", REFUSED)
def test_a_model_that_looks_ahead_is_refused_by_name(kind: str) -> None:
    model = tiny(kind, {})
    with pytest.raises(UnsupportedModel, match=f"{type(model).__name__} cannot be trained"):
        examine(Policy(model, logit_chunk=4))
