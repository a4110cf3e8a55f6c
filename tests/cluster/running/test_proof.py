"""What the proof of a sync lets pass, what it says and what ends the run."""

import pytest

from actors.errors import BrokenPart
from actors.types import HeldWeights, LayerSums, WeightSums
from cluster.running.proof import FLOAT32_GAP, LARGEST_GAP, MEAN_GAP, Gap, Proof
from tests.tables import each

SENT: WeightSums = {"layer 0": LayerSums(10, 20, 30), "layer 1": LayerSums(10, 21, 31), "rest": LayerSums(5, 6, 7)}
OTHER = {**SENT, "layer 1": LayerSums(10, 99, 31)}


def held(sums: WeightSums = SENT, version: int = 1, sha256: str = "") -> HeldWeights:
    return HeldWeights(version=str(version), sums=sums, sha256=sha256)


def proof(*, exact: bool = False) -> tuple[Proof, list[str]]:
    said: list[str] = []
    return Proof(exact, said.append), said


def test_generators_that_hold_what_was_sent_pass_in_silence() -> None:
    judge, said = proof()
    for version in (1, 2):
        judge.weights(version, SENT, {"a": held(version=version), "b": held(version=version)})
    assert said == []


@each(("wrong", "message"), [
    (held(version=0), "b holds weight version 0 after the sync of version 1"),
    (held(OTHER), "b holds other weights than a after version 1: layer 1"),
    (held({k: v for k, v in SENT.items() if k != "rest"}), "b holds other weights than a after version 1: rest"),
    (held(sha256="f00d"), "b holds other weights than a after version 1: which only the hashes show"),
])  # fmt: skip
def test_a_generator_that_holds_something_else_than_the_others_ends_the_run(wrong: HeldWeights, message: str) -> None:
    judge, _ = proof()
    with pytest.raises(BrokenPart, match=message):
        judge.weights(1, SENT, {"a": held(), "b": wrong})


def test_a_layer_that_has_agreed_once_must_agree_from_then_on() -> None:
    judge, said = proof()
    judge.weights(1, SENT, {"a": held()})
    with pytest.raises(BrokenPart, match=r"a does not hold the weights of version 2 .*1 group .* layer 1"):
        judge.weights(2, SENT, {"a": held(OTHER, version=2)})
    assert said == []


def test_a_layer_that_never_agrees_is_said_once_and_the_others_are_still_compared() -> None:
    judge, said = proof()
    for version in (1, 2):
        judge.weights(version, SENT, {"a": held(OTHER, version=version), "b": held(OTHER, version=version)})
    assert len(said) == 1
    assert "keeps 1 group of weights of 3 in another form than they are sent in (layer 1)" in said[0]
    with pytest.raises(BrokenPart, match="layer 0"):
        judge.weights(3, {**SENT, "layer 0": LayerSums(1, 1, 1)}, {"a": held(OTHER, version=3)})


def test_float32_has_one_tight_bound_on_every_token() -> None:
    judge, said = proof(exact=True)
    judge.computation(1, {"a": Gap(mean=FLOAT32_GAP / 9, largest=FLOAT32_GAP)})
    with pytest.raises(BrokenPart, match="a does not compute what the learner computes after version 2"):
        judge.computation(2, {"a": Gap(mean=FLOAT32_GAP / 9, largest=FLOAT32_GAP * 1.01)})
    assert said == []


@each("gap", [
    Gap(mean=MEAN_GAP * 1.1, largest=0.2), Gap(mean=0.01, largest=LARGEST_GAP * 1.1),
    Gap(mean=float("nan"), largest=float("nan")), Gap(mean=float("inf"), largest=float("inf")),
])  # fmt: skip
def test_in_lower_precision_a_gap_out_of_bounds_is_said_and_the_second_in_a_row_ends_the_run(gap: Gap) -> None:
    judge, said = proof()
    judge.computation(1, {"a": gap, "b": Gap(mean=MEAN_GAP, largest=LARGEST_GAP)})
    assert judge.doubts == 1
    assert len(said) == 1
    assert said[0].startswith("a after version 1: log-probabilities of the probe text differ by")
    with pytest.raises(BrokenPart, match="a does not compute what the learner computes after version 2"):
        judge.computation(2, {"a": gap})


def test_doubts_that_are_apart_or_of_different_generators_are_only_counted() -> None:
    judge, said = proof()
    fine, wide = Gap(mean=0.01, largest=0.1), Gap(mean=0.5, largest=0.9)
    for version, gaps in enumerate([(wide, fine), (fine, wide), (fine, fine), (wide, fine)]):
        judge.computation(version, dict(zip("ab", gaps, strict=True)))
    assert judge.doubts == len(said) == 3


def test_a_gap_is_the_mean_and_the_largest_distance() -> None:
    assert Gap.between([-1.0, -2.0, -3.0], [-1.0, -2.5, -2.0]) == Gap(mean=0.5, largest=1.0)
