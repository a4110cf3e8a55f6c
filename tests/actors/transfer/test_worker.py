"""What each tensor-parallel worker counts of a model, so that all of them together count every weight once."""

import warnings
from typing import Any

import pytest
import torch

from actors.transfer.digest import bit_sums
from tests.tables import each

with warnings.catch_warnings(action="ignore"):  # torch warns of itself when vLLM imports it whole
    from vllm.model_executor.layers.layernorm import RMSNorm
    from vllm.model_executor.layers.linear import (
        MergedColumnParallelLinear,
        QKVParallelLinear,
        ReplicatedLinear,
        RowParallelLinear,
    )
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding

    from actors.transfer.worker import own_share

pytestmark = pytest.mark.ray
WHOLE = torch.arange(1, 129, dtype=torch.float32).reshape(16, 8)


def layer(kind: type, **attributes: Any) -> torch.nn.Module:
    """A layer of vLLM's without its engine: what is looked at are its class and these attributes."""
    made: torch.nn.Module = torch.nn.Module.__new__(kind)
    torch.nn.Module.__init__(made)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def counted(module: torch.nn.Module, parts: list[torch.Tensor], name: str = "weight") -> list[int]:
    """The sums of all workers together, each of which has one of the parts."""
    shares = [own_share(module, name, part, rank, len(parts)) for rank, part in enumerate(parts)]
    return torch.stack([bit_sums(share) for share in shares]).sum(0).tolist()


@each(("heads", "kv_heads", "workers"), [(8, 8, 4), (8, 4, 4), (8, 2, 4), (8, 1, 8), (8, 2, 1)])
def test_heads_of_keys_and_values_that_several_workers_share_are_counted_once(
    heads: int, kv_heads: int, workers: int
) -> None:
    q, k, v = (torch.randn(count, 2, 3) for count in (heads, kv_heads, kv_heads))
    replicas, own_kv = max(1, workers // kv_heads), max(1, kv_heads // workers)
    parts = []
    for rank in range(workers):
        queries = q.chunk(workers)[rank]
        shared = [one[rank // replicas * own_kv :][:own_kv] for one in (k, v)]
        parts.append(torch.cat([queries, *shared]).flatten(0, 1))
    module = layer(
        QKVParallelLinear, tp_size=workers, num_heads=heads // workers, head_size=2, num_kv_head_replicas=replicas
    )
    assert counted(module, parts) == bit_sums(torch.cat([q, k, v])).tolist()
    assert counted(module, [part[:, 0] for part in parts], "bias") == bit_sums(torch.cat([q, k, v])[..., 0]).tolist()


def test_matrices_that_are_cut_are_counted_by_every_worker_and_copies_by_the_first() -> None:
    wanted = bit_sums(WHOLE).tolist()
    columns, rows, copies = list(WHOLE.chunk(2)), list(WHOLE.chunk(2, 1)), [WHOLE, WHOLE]
    assert counted(layer(MergedColumnParallelLinear, tp_size=2), columns) == wanted
    assert counted(layer(RowParallelLinear, tp_size=2), rows) == wanted
    assert counted(layer(RowParallelLinear, tp_size=2), copies, "bias") == wanted
    assert counted(layer(ReplicatedLinear, tp_size=2), copies) == wanted
    assert counted(layer(RMSNorm), copies) == wanted
    assert counted(layer(MergedColumnParallelLinear, tp_size=1), copies) == wanted  # kept whole by every worker


def test_a_vocabulary_that_is_cut_and_filled_up_counts_as_the_one_that_was_sent() -> None:
    padded = torch.cat([WHOLE, torch.zeros(4, 8)])
    assert counted(layer(VocabParallelEmbedding, tp_size=4), list(padded.chunk(4))) == bit_sums(WHOLE).tolist()
