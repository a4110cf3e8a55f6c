"""Ways to attend over packed rows, on the CPU: the code that GPUs will run, with a loop in place of the kernel."""

import pytest
import torch

from learner.checks import attention
from learner.checks.attention import SMALL, attend


def test_attention_told_where_sequences_begin_is_as_near_to_float32_as_attention_by_masks() -> None:
    found = attend("cpu", SMALL)
    assert found.problem == ""
    assert 0 < found.errors["varlen"]["output"] < 2.0**-7
    assert found.errors["alone"].keys() == {"output", "query", "key", "value"}


def test_an_attention_that_looks_into_the_sequence_before_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def across(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        states = tuple(each.transpose(0, 1)[None] for each in (query, key, value))
        return attention.by_masks(states, [query.shape[0]])[0]

    monkeypatch.setattr(attention, "by_hand", across)
    assert attend("cpu", SMALL).problem.startswith("varlen: output is off by")
