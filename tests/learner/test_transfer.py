"""Which back end a run takes."""

import pytest

from learner.transfer import BACKENDS, choose_backend


@pytest.mark.parametrize(
    ("on_gpu", "colocate", "name"),
    [(False, False, "gloo"), (False, True, "gloo"), (True, True, "ipc"), (True, False, "nccl")],
)
def test_weights_travel_as_the_hardware_suits_unless_a_run_says_otherwise(
    on_gpu: bool, colocate: bool, name: str
) -> None:
    assert choose_backend("auto", on_gpu, colocate) == name
    for asked in BACKENDS:
        assert choose_backend(asked, on_gpu, colocate) == asked


def test_exactly_one_back_end_suits_each_kind_of_hardware() -> None:
    for on_gpu in (False, True):
        for colocate in (False, True):
            assert sum(backend.suits(on_gpu, colocate) for backend in BACKENDS.values()) == 1


def test_only_weights_that_travel_as_handles_of_memory_are_unpickled() -> None:
    assert [name for name, backend in BACKENDS.items() if backend.pickles] == ["ipc"]
