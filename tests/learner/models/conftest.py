"""What several tests of models need."""

import pytest
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from learner.models.varlen import VARLEN, VarlenAttention
from tests.learner.models.kernels import HalvesByHand, by_hand


@pytest.fixture
def varlen_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """varlen attention that works on this machine."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS, VARLEN, VarlenAttention(by_hand, HalvesByHand()))
