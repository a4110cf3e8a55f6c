"""The digest of all weights: the same however a model keeps them, another where one of them differs."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from actors.transfer.digest import REST, Digest, added, bit_sums, group_of, groups_of, share
from actors.types import LayerSums, WeightSums
from tests.tables import each

KINDS = (torch.float32, torch.bfloat16)


def digest_of(weights: dict[str, torch.Tensor], dtype: torch.dtype = torch.float32) -> WeightSums:
    digest = Digest(groups_of(weights), dtype, torch.device("cpu"))
    for name, tensor in weights.items():
        digest.add(name, tensor)
    return digest.result()


def model(dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Two layers of attention and a tied embedding, as checkpoints name them."""
    make = torch.Generator().manual_seed(1)
    shapes = {"embed.weight": (10, 8), "norm.weight": (8,)}
    for layer in range(2):
        shapes |= {f"layers.{layer}.{name}.weight": (6, 8) for name in ("q", "k", "v")}
    return {name: torch.randn(shape, generator=make).to(dtype) for name, shape in shapes.items()}


def test_the_sums_are_those_of_the_bit_patterns() -> None:
    assert bit_sums(torch.tensor([3, 0, -2], dtype=torch.int16)).tolist() == [2, 1, 13]
    assert bit_sums(torch.tensor([1.0, 0.0, 2.0])).tolist() == [2, 0x3F800000 + 0x40000000, 0x3F800000**2 + 2**60]
    assert bit_sums(torch.tensor([1.0], dtype=torch.bfloat16)).tolist() == [1, 0x3F80, 0x3F80**2]
    assert bit_sums(torch.empty(0)).tolist() == [0, 0, 0]


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=40), st.integers(1, 7))
def test_the_sums_are_exact_modulo_two_to_the_64_and_add_over_any_cut(numbers: list[int], parts: int) -> None:
    whole = torch.tensor(numbers, dtype=torch.int32)
    wanted = [sum(n != 0 for n in numbers), sum(numbers), sum(n * n for n in numbers)]
    assert [one % 2**64 for one in bit_sums(whole).tolist()] == [one % 2**64 for one in wanted]
    cuts = [share(whole, rank, parts) for rank in range(parts)]
    assert torch.equal(torch.cat(cuts), whole)
    assert torch.equal(torch.stack([bit_sums(cut) for cut in cuts]).sum(0), bit_sums(whole))


@each(("name", "group"), [
    ("model.layers.3.mlp.experts.7.w1", "layer 3"), ("transformer.h.11.attn.c_attn.weight", "layer 11"),
    ("model.embed_tokens.weight", REST), ("lm_head.weight", REST), ("model.norm2.weight", REST),
])  # fmt: skip
def test_a_weight_is_counted_in_the_layer_that_its_name_begins_with(name: str, group: str) -> None:
    assert group_of(name) == group


@each("dtype", KINDS)
def test_a_fused_permuted_sharded_and_padded_copy_has_the_same_digest(dtype: torch.dtype) -> None:
    weights = model(dtype)
    fused = {f"layers.{n}.qkv": torch.cat([weights[f"layers.{n}.{x}.weight"] for x in "kvq"]).T for n in (0, 1)}
    fused["embed"] = torch.cat([weights["embed.weight"], torch.zeros(6, 8, dtype=dtype)])  # a padded vocabulary
    fused["norm"] = weights["norm.weight"]
    assert digest_of(fused, dtype) == digest_of(weights, dtype)
    ranks = [{name: share(tensor, rank, 3) for name, tensor in weights.items()} for rank in range(3)]
    assert added(digest_of(part, dtype) for part in ranks) == digest_of(weights, dtype)


def test_what_an_engine_keeps_in_more_digits_is_the_number_that_was_sent() -> None:
    weights = model(torch.bfloat16)
    kept = {name: tensor.float() if "norm" in name else tensor for name, tensor in weights.items()}
    assert digest_of(kept, torch.bfloat16) == digest_of(weights, torch.bfloat16)


@each("dtype", KINDS)
@each("bit", [0, 7, 15])
def test_one_flipped_bit_changes_the_digest_of_its_layer_alone(dtype: torch.dtype, bit: int) -> None:
    weights = model(dtype)
    before = digest_of(weights, dtype)
    bits = weights["layers.1.k.weight"].view(torch.int16)
    bits[2, 3] ^= torch.tensor(-(2**15) if bit == 15 else 2**bit, dtype=torch.int16)
    after = digest_of(weights, dtype)
    assert [group for group in before if before[group] != after[group]] == ["layer 1"]
    assert before["layer 1"].total != after["layer 1"].total


def test_layers_that_have_changed_places_and_a_weight_that_is_missing_change_the_digest() -> None:
    weights = model()
    swapped = dict(weights)
    swapped["layers.0.q.weight"], swapped["layers.1.q.weight"] = (weights[f"layers.{n}.q.weight"] for n in (1, 0))
    assert digest_of(swapped) != digest_of(weights)
    lacking = weights | {"norm.weight": torch.zeros(8)}
    assert digest_of(lacking)[REST].nonzero == digest_of(weights)[REST].nonzero - 8


def test_two_changes_that_keep_the_sum_change_the_squares() -> None:
    weights = model()
    bits = weights["norm.weight"].view(torch.int32)
    before = digest_of(weights)[REST]
    bits[0] += 5
    bits[1] -= 5
    after = digest_of(weights)[REST]
    assert (after.nonzero, after.total) == (before.nonzero, before.total)
    assert after.squares != before.squares


def test_parts_add_up_as_64_bits_do() -> None:
    most = {"layer 0": LayerSums(1, 2**63 - 1, 0)}
    assert added([most, {"layer 0": LayerSums(1, 1, 5)}]) == {"layer 0": LayerSums(2, -(2**63), 5)}


def test_numbers_of_a_size_without_patterns_are_refused() -> None:
    strange: Any = torch.zeros(2, dtype=torch.complex128)
    with pytest.raises(KeyError):
        bit_sums(strange)
