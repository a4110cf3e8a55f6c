"""What generators and checkpoints get of a policy."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from actors.data.world import ALPHABET
from learner.models.policy import load_policy
from learner.models.tiny import write_tiny_model
from learner.settings import ModelSettings


def test_a_policy_exports_each_tensor_of_its_folder_once_tied_ones_under_their_first_name(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, alphabet=ALPHABET, seed=1)
    wanted = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    del wanted["lm_head.weight"]  # tied to the embedding
    exports = list(load_policy(tmp_path, ModelSettings(dtype="float32"), logit_chunk=8).exported())
    assert [export.name for export in exports] == list(wanted)
    for export in exports:
        assert export.shape == tuple(wanted[export.name].shape)
        assert export.size == wanted[export.name].numel()
        assert torch.equal(export.tensor(), wanted[export.name])
        assert all(part is export.tensor() for part in export.parts)
