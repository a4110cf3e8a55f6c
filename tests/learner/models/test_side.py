"""Models beside the policy that teach it: one of another size and architecture, and the policy itself."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

from actors.data.world import ALPHABET
from learner import engine
from learner.batches.packing import Packing, pack
from learner.batches.types import UpdateBatch
from learner.methods.algorithms import ALGORITHMS
from learner.models.inputs import inputs_of
from learner.models.policy import Policy
from learner.models.side import SIDE_MODELS, Elsewhere, Informed, SideModel, Surroundings, informed
from learner.models.tiny import write_tiny_model
from learner.settings import LearnerSettings, ModelSettings
from learner.types import Schedule
from tests.builders import group, in_sets, learner_spec, planned, trained_samples
from tests.learner.models.small import small_lm
from tests.teachers import served

CPU, DISTILL, SELF = torch.device("cpu"), ALGORITHMS["distill"], ALGORITHMS["self-distill"]
SETTINGS = ModelSettings.model_validate({"dtype": "float32", "attention": "sdpa"})


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "all_reduced", lambda tensor, device, op=None: tensor)


def update_of(algorithm, one, packing: Packing) -> UpdateBatch:
    samples = trained_samples(one, algorithm)
    batches = pack(samples, packing.tokens, 1, packing.alone, packing.one_row, packing.width)
    return UpdateBatch(totals=planned(one, algorithm)[1], samples=tuple(samples), batches=tuple(batches))


def alone(lm, tokens: np.ndarray, trained: np.ndarray) -> torch.Tensor:
    """log p of the trained tokens of a sequence, from a pass over it alone."""
    ids = torch.from_numpy(tokens.astype(np.int64))
    with torch.no_grad():
        logp = lm(ids[None]).logits[0].log_softmax(-1)
    places = np.flatnonzero(trained)
    return logp[places - 1, ids[places]]


def write(kind: str, folder: Path) -> None:
    if kind == "larger":
        write_tiny_model(folder, alphabet=ALPHABET, heads=7, seed=1)
    else:  # alibi, which needs a row for each sequence
        config = BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            BloomForCausalLM(config).save_pretrained(folder)


def teacher_at(path: str, folder: Path, packing: Packing) -> SideModel:
    spec = learner_spec(SETTINGS, LearnerSettings(algorithm="distill", teacher_path=path), DISTILL)
    policy, schedule = SimpleNamespace(packing=packing, device=CPU), Schedule(lr=1e-3, updates=1, warmup=0, end=1.0)
    return SIDE_MODELS[DISTILL.teacher](
        Surroundings(path=folder, spec=spec, schedule=schedule, policy=policy, start=None)
    )


@pytest.mark.parametrize("kind", ["larger", "alibi"])
def test_a_teacher_of_another_size_and_architecture_says_what_it_says_alone(kind: str, tmp_path: Path) -> None:
    from learner.models.policy import load_policy

    write(kind, tmp_path)
    packing = Packing(tokens=64)
    teacher = teacher_at(str(tmp_path), tmp_path, packing)
    assert isinstance(teacher, Elsewhere)
    assert teacher._frozen.packs is (kind == "larger")
    update = update_of(DISTILL, group([1.0, -1.0, 1.0], [4, 9, 2]), packing)
    lm = load_policy(tmp_path, SETTINGS, 64).lm
    for batch, found in zip(update.batches, teacher.infer(update), strict=True):
        samples = [update.samples[member] for member in batch.members]
        torch.testing.assert_close(found, torch.cat([alone(lm, s.tokens, s.trained) for s in samples]))


def test_a_teacher_at_an_endpoint_says_what_it_says_in_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("larger", tmp_path)
    packing = Packing(tokens=64)
    update = update_of(DISTILL, group([1.0, -1.0, 1.0], [4, 9, 2]), packing)
    control = replace(update, samples=tuple(replace(sample, hidden=1) for sample in update.samples))
    with served(tmp_path, monkeypatch) as server:
        here, there = (teacher_at(path, tmp_path, packing) for path in (str(tmp_path), server.url))
        for asked in (update, control):  # the same, and behind a token that only the policy sees
            torch.testing.assert_close(there.infer(asked), here.infer(asked))
    settled = {"model": "teacher", "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    assert all(body.items() >= settled.items() for body in server.asked)
    most = {sample.inputs + 1 for sample in update.samples}
    assert {len(body["prompt"]) for body in server.asked} == most | {size - 1 for size in most}


@pytest.mark.parametrize(
    ("scores", "sets", "read"),
    [
        ([1, -1, 1, -1], "aaaa", [2, 2, 0, 0]),  # of the next correct one, and behind the last of the first
        ([1, -1, -1, -1], "aaaa", [None, 0, 0, 0]),
        ([1, 1, -1, -1], "aabb", [1, 0, None, None]),  # siblings only
    ],
)
def test_the_policy_reads_a_correct_response_of_a_sibling_first(scores: list, sets: str, read: list) -> None:
    one = in_sets(group([float(score) for score in scores], [2, 3, 4, 5]), sets)
    samples = trained_samples(one, ALGORITHMS["reinforce"])
    for sample, found, number in zip(samples, informed(samples), read, strict=True):
        before = [] if number is None else samples[number].tokens.tolist()
        assert found.tokens.tolist() == before + sample.tokens.tolist()
        assert np.flatnonzero(found.trained).tolist() == (np.flatnonzero(sample.trained) + len(before)).tolist()


def test_a_continued_response_is_read_as_its_last_stream_and_never_by_itself() -> None:
    one = in_sets(group([1.0, 1.0, -1.0], [2, 3, 4]), "aaa", continued=[1])
    samples = trained_samples(one, ALGORITHMS["reinforce"])
    found = [sample.tokens.size for sample in informed(samples)]
    assert found == [5, 6, 7 + samples[1].tokens.size]


def test_what_the_informed_policy_says_is_what_it_says_behind_the_other_response() -> None:
    policy, packing = Policy(small_lm(), logit_chunk=64), Packing(tokens=32)

    def infer(batches, restrict=None):
        with torch.no_grad():
            return [policy(**inputs_of(policy, batch, CPU), temperature=1.0) for batch in batches]

    model = Informed(SimpleNamespace(policy=SimpleNamespace(packing=packing, device=CPU, infer=infer)))
    update = update_of(SELF, group([1.0, -1.0, 1.0], [4, 6, 2]), packing)
    for batch, found in zip(update.batches, model.infer(update), strict=True):
        behind = [informed(update.samples)[member] for member in batch.members]
        torch.testing.assert_close(found, torch.cat([alone(policy.lm, s.tokens, s.trained) for s in behind]))
