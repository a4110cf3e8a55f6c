"""Products in bfloat16 against float64."""

import pytest
import torch

from learner.checks.numerics import cuda_problem, multiply


def test_a_product_in_bfloat16_has_the_error_of_one_rounding() -> None:
    found = multiply("cpu")
    assert 0 < found.error < found.bound


def test_a_product_that_lacks_an_eighth_of_its_terms_is_out_of_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.Tensor.to

    def lossy(tensor: torch.Tensor, *arguments: object) -> torch.Tensor:
        moved: torch.Tensor = whole(tensor, *arguments)
        if arguments == ("cpu",):
            moved = moved.clone()
            moved[:, ::8] = 0
        return moved

    monkeypatch.setattr(torch.Tensor, "to", lossy)
    found = multiply("cpu")
    assert found.error > found.bound


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_says_so_in_torchs_words() -> None:
    assert cuda_problem()
