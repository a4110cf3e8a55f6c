"""What generators and checkpoints get of a policy."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from actors.data.world import ALPHABET
from learner.models.policy import Policy, load_policy
from learner.models.shrunk import shrunk
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


def test_what_a_model_keeps_in_checkpoints_beside_its_parameters_is_exported_as_it_is() -> None:
    lm = shrunk(AutoConfig.for_model("glm4_moe")).to(torch.bfloat16)
    name = "model.layers.1.mlp.gate.e_score_correction_bias"
    lm.get_buffer(name).data = torch.tensor([0.5, 1.25, -0.75, 3.0])
    exports = {export.name: export for export in Policy(lm, logit_chunk=8).exported()}
    assert exports.keys() == lm.state_dict().keys()
    assert exports[name].parts == ()
    assert exports[name].dtype == torch.float32  # a router's biases keep their digits
    assert exports[name].tensor().tolist() == [0.5, 1.25, -0.75, 3.0]
    assert not any(export.name.endswith("inv_freq") for export in exports.values())  # made from the configuration
