"""The ZeRO engine over real ranks: the same update whatever the stage, the number of ranks or the split."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import ray
from safetensors.numpy import load_file

from actors.arrow import packed
from actors.types import Group
from learner.actor import THREADS, LearnerRank
from learner.batches.packing import empty_batch, pack
from learner.batches.planning import plan_step
from learner.batches.types import StepPlan, TrainBatch
from learner.methods.algorithms import Algorithm, algorithm_of
from learner.settings import LearnerSettings, ModelSettings, WarmupSettings
from learner.types import LearnerSpec, Opened, Schedule, Written
from tests.builders import group, learner_spec, samples_of, summary_of

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("session")]
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test file
PROBE = [1, 2, 10, 3, 4, 11]
# Lengths are uneven, so that two ranks with a small budget have different numbers of micro-batches.
GROUPS = [group([1.0, -1.0, 1.0], [40 + 20 * number, 7, 3], id=number, seed=2) for number in range(3)]
# 470 tokens on one rank and 98 on the other, prompts of 3 tokens among them.
UNEVEN = [group([1.0, -1.0, 1.0, -1.0, 1.0], [92] * 5, id=0, seed=3), group([1.0, -1.0], [47, 47], id=1, seed=3)]


class RankOfTests(LearnerRank):
    """A rank whose shards are gathered at every use where logits come in chunks, small as they are: DeepSpeed would
    keep tiny ones whole."""

    def open_training(self, spec: LearnerSpec, path: Path, schedule: Schedule) -> Opened:
        from learner import engine

        plain = engine.deepspeed_config

        def always(*arguments: object) -> dict:
            config = plain(*arguments)
            return config | {
                "zero_optimization": config["zero_optimization"] | {"stage3_param_persistence_threshold": 0}
            }

        engine.deepspeed_config = always if spec.learner.logit_chunk < 1024 else plain
        try:
            return super().open_training(spec, path, schedule)
        finally:
            engine.deepspeed_config = plain

    def keep_apart(self) -> None:
        """Has every sequence computed whole from now on, whatever it has in common with others."""
        self._training()._trainer.policy.module.shares = False

    def norm(self, shares: Sequence[float]) -> float:
        """Norm of the gradient of a token's log-probability that is added up once with each of these weights."""
        from learner.engine import Measured

        def share(number: int, batch: TrainBatch, found: tuple) -> Measured:
            return Measured(loss=shares[number] * found[0].sum(), sums={"loss": 0.0})

        engine = self._training()._trainer.policy
        for parameters in engine._engine.optimizer.param_groups:
            parameters["lr"] = 0.0  # so that the next one is of the same weights
        engine.update([empty_batch()] * len(shares), share)
        return engine.grad_norm

    def save_in_shards(self, folder: Path, tokenizer: Path, shard_bytes: int) -> Written:
        """Writes a checkpoint in many files, and spoils the weights before the last of them is on disk."""
        import torch

        from learner.checkpoint import save_policy
        from learner.writing import Writer

        engine, writer = self._training()._trainer.policy, Writer()
        writer.begin(folder)
        save_policy(engine, folder, writer, tokenizer=tokenizer, dtype=torch.float32, shard_bytes=shard_bytes)
        with engine.gathered(list(engine.module.parameters())), torch.no_grad():
            for parameter in engine.module.parameters():
                parameter.zero_()
        return writer.finish()


LIVING: dict[int, list] = {}  # ranks that served other tests of this file, by their number


def ranks_of(settings: LearnerSettings, model: Path, ranks: int, algorithm: Algorithm) -> list:
    """New ranks with an open training."""
    return opened(started(ranks), settings, model, algorithm, "float32")


def used(settings: LearnerSettings, model: Path, ranks: int, algorithm: Algorithm, dtype: str = "float32") -> list:
    """Ranks with an open training that may have served other tests."""
    if ranks not in LIVING:
        LIVING[ranks] = started(ranks)
    return opened(LIVING[ranks], settings, model, algorithm, dtype)


def started(ranks: int) -> list:
    env = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1"}
    actor = ray.remote(concurrency_groups=THREADS)(RankOfTests).options(num_cpus=1, runtime_env={"env_vars": env})
    actors = [actor.remote(rank, ranks, 1) for rank in range(ranks)]
    address = ray.get(actors[0].address.remote())
    ray.get([one.join.remote(*address) for one in actors])
    return actors


def spec_of(
    settings: LearnerSettings, algorithm: Algorithm, dtype: str = "float32", warmup: WarmupSettings | None = None
) -> LearnerSpec:
    return learner_spec(ModelSettings.model_validate({"dtype": dtype}), settings, algorithm, warmup)


def opened(actors: list, settings: LearnerSettings, model: Path, algorithm: Algorithm, dtype: str) -> list:
    spec = spec_of(settings, algorithm, dtype)
    schedule = Schedule(lr=1e-3, updates=4, warmup=0, end=0.25)
    ray.get([one.open_training.remote(spec, model, schedule) for one in actors])
    return actors


def plan_of(ranks: int, updates: int, algorithm: Algorithm, groups: Sequence[Group] = GROUPS) -> StepPlan:
    return plan_step([summary_of(one) for one in groups], algorithm, updates=updates, ranks=ranks, max_new_tokens=100)


def train(actors: list, updates: int, algorithm: Algorithm, groups: Sequence[Group] = GROUPS) -> list:
    plan = plan_of(len(actors), updates, algorithm, groups)
    ranks = zip(actors, plan.ranks, strict=True)
    ray.get([one.prepare.remote(own, *(packed(groups[index]) for index in own.groups)) for one, own in ranks])
    done = [one.train.remote() for one in actors]
    return ray.get(done, timeout=120)[0]  # ranks that are out of step would wait for ever


@pytest.fixture(scope="module")
def reference(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Two steps of two updates each, on one rank without ZeRO, with one large micro-batch and nothing shared."""
    return two_steps(model, 0, 1, 100_000, tmp_path_factory.mktemp("reference"), apart=True)


def two_steps(
    model: Path,
    stage: int,
    ranks: int,
    budget: int,
    folder: Path,
    name: str = "reinforce-rej",
    apart: bool = False,
    **more: object,
) -> dict:
    algorithm = algorithm_of(name)
    settings = LearnerSettings(
        zero_stage=stage, micro_batch_tokens=budget, grad_clip=0.5, lr_end=0.25, drift=True, **more
    )
    actors = used(settings, model, ranks, algorithm)
    if apart:
        ray.get([one.keep_apart.remote() for one in actors])
    stats = [train(actors, 2, algorithm) for _ in range(2)]
    assert all(bool(update.shared) is not apart for step in stats for update in step)
    probe = ray.get([one.probe.remote(PROBE) for one in actors])[0]
    ray.get([one.save_checkpoint.remote(folder / "saved") for one in actors])
    ray.get([one.finish_checkpoint.remote() for one in actors])
    return {"stats": stats, "probe": probe, "folder": folder / "saved"}


@pytest.mark.parametrize(("stage", "ranks"), [(0, 2), (1, 2), (2, 2), (3, 2)])
def test_the_update_is_the_same_for_every_stage_split_number_of_ranks_and_with_beginnings_shared(
    model: Path, reference: dict, stage: int, ranks: int, tmp_path: Path
) -> None:
    found = two_steps(model, stage, ranks, 64, tmp_path)
    np.testing.assert_allclose(found["probe"], reference["probe"], atol=1e-4)
    for step, wanted in zip(found["stats"], reference["stats"], strict=True):
        for one, other in zip(step, wanted, strict=True):
            for name in ("loss", "entropy", "grad_norm", "mismatch_kl"):
                assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-3, abs=1e-5), name
            assert (one.tokens, one.lr) == (other.tokens, other.lr)
    saved, wanted = (load_file(one["folder"] / "model.safetensors") for one in (found, reference))
    assert saved.keys() == wanted.keys()
    for name in saved:
        np.testing.assert_allclose(saved[name], wanted[name], atol=2e-4)


@pytest.mark.parametrize(("stage", "offload"), [(2, "optimizer"), (3, "weights")])
def test_offloading_changes_no_update(model: Path, reference: dict, stage: int, offload: str, tmp_path: Path) -> None:
    found = two_steps(model, stage, 1, 64, tmp_path, offload=offload)
    np.testing.assert_allclose(found["probe"], reference["probe"], atol=1e-4)


@pytest.mark.parametrize(("stage", "offload"), [(1, ""), (2, ""), (3, ""), (2, "optimizer"), (3, "weights")])
def test_many_small_gradients_in_bfloat16_count_behind_a_large_one(model: Path, stage: int, offload: str) -> None:
    algorithm = algorithm_of("reinforce")
    (rank,) = used(
        LearnerSettings.model_validate({"zero_stage": stage, "offload": offload}), model, 1, algorithm, "bfloat16"
    )
    alone = ray.get(rank.norm.remote([1.0]))
    # Each is below half a unit in the last of bfloat16's eight digits, and all of them are a tenth of the large one.
    assert ray.get(rank.norm.remote([1.0] + [1 / 600] * 60)) / alone == pytest.approx(1.1, rel=0.01)


def test_the_first_update_in_bfloat16_is_as_large_as_in_float32(model: Path) -> None:
    probes = []
    for dtype in ("float32", "bfloat16"):
        settings = LearnerSettings(zero_stage=0, grad_clip=0.5)
        (rank,) = used(settings, model, 1, algorithm_of("reinforce-rej"), dtype)
        before = ray.get(rank.probe.remote(PROBE))
        train([rank], 1, algorithm_of("reinforce-rej"))
        probes.append(np.subtract(ray.get(rank.probe.remote(PROBE)), before))
        moved = [float(np.linalg.norm(one)) for one in probes]
    assert moved[1] == pytest.approx(moved[0], rel=0.1)  # a third of bias correction would be missing at stage 0


def test_the_starting_policy_is_not_kept_where_nobody_asks_for_it(model: Path) -> None:
    (rank,) = used(LearnerSettings(zero_stage=0, drift=False), model, 1, algorithm_of("reinforce-rej"))
    assert train([rank], 1, algorithm_of("reinforce-rej"))[0].kl_start is None


def test_ranks_with_different_numbers_of_logit_chunks_stay_in_step_at_zero3(
    model: Path, reference: dict, tmp_path: Path
) -> None:
    found = two_steps(model, 3, 2, 64, tmp_path, logit_chunk=5)
    np.testing.assert_allclose(found["probe"], reference["probe"], atol=1e-4)
    for step, wanted in zip(found["stats"], reference["stats"], strict=True):
        assert [one.loss for one in step] == pytest.approx([one.loss for one in wanted], rel=1e-3, abs=1e-5)


def one_update(model: Path, stage: int, ranks: int, budget: int) -> dict:
    """Of the uneven groups, with the weights that it leaves, as a probe shows them."""
    algorithm = algorithm_of("reinforce-rej")
    settings = LearnerSettings(zero_stage=stage, micro_batch_tokens=budget, grad_clip=0.5)
    actors = used(settings, model, ranks, algorithm)
    stats = train(actors, 1, algorithm, UNEVEN)[0]
    probe = ray.get([one.probe.remote(PROBE) for one in actors])[0]
    return {"loss": stats.loss, "grad_norm": stats.grad_norm, "computed": stats.computed, "probe": probe}


def test_five_micro_batches_beside_one_give_the_same_update_at_zero_1_2_and_3(model: Path) -> None:
    found = [pack(samples, 100) for samples in samples_of(algorithm_of("reinforce-rej"), UNEVEN, 2, 100)]
    assert [sum(batch.tokens.size for batch in batches) for batches in found] == [470, 98]
    assert [len(batches) for batches in found] == [5, 1]
    wanted = one_update(model, 0, 1, 100_000)
    for stage in (1, 2, 3):
        found = one_update(model, stage, 2, 100)
        assert found["computed"] == 470 + 98 + 4 * empty_batch().tokens.size
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4, abs=1e-6)
        assert found["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=1e-4)
        np.testing.assert_allclose(found["probe"], wanted["probe"], atol=1e-5)


@pytest.mark.parametrize("name", ["ppo", "prime", "iterative-dpo", "gspo"])
def test_models_beside_the_policy_give_the_same_update_on_one_rank_and_on_two_at_zero3(
    name: str, model: Path, tmp_path: Path
) -> None:
    one = two_steps(model, 0, 1, 100_000, tmp_path / "one", name, apart=True)
    two = two_steps(model, 3, 2, 64, tmp_path / "two", name)
    np.testing.assert_allclose(two["probe"], one["probe"], atol=1e-4)
    for step, wanted in zip(two["stats"], one["stats"], strict=True):
        for found, other in zip(step, wanted, strict=True):
            assert found.loss == pytest.approx(other.loss, rel=1e-3, abs=1e-5)
            assert found.grad_norm == pytest.approx(other.grad_norm, rel=1e-3, abs=1e-5)


def test_the_learning_rate_counts_updates_and_ends_where_it_should(reference: dict) -> None:
    rates = [update.lr for step in reference["stats"] for update in step]
    assert rates == pytest.approx([1e-3, 0.75e-3, 0.5e-3, 0.25e-3])


def test_the_first_update_of_a_step_has_ratio_one_and_the_second_has_moved(reference: dict) -> None:
    first, second = reference["stats"][0]
    assert first.ratio_p99 == pytest.approx(1.0, abs=1e-5)
    assert second.ratio_p99 > 1.0001


def test_the_start_is_remembered(reference: dict) -> None:
    assert reference["stats"][0][0].kl_start == pytest.approx(0.0, abs=1e-6)
    assert reference["stats"][1][1].kl_start > 1e-6


def test_a_saved_folder_gives_the_learners_log_probabilities(reference: dict) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    lm = AutoModelForCausalLM.from_pretrained(reference["folder"])
    ids = torch.tensor([PROBE])
    logp = lm(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
    np.testing.assert_allclose(logp.detach(), reference["probe"], atol=1e-5)


@pytest.mark.parametrize(("stage", "ranks"), [(2, 1), (3, 2)])
def test_a_checkpoint_in_shards_holds_the_weights_of_when_it_was_saved(
    model: Path, stage: int, ranks: int, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    actors = used(LearnerSettings(zero_stage=stage, logit_chunk=64), model, ranks, algorithm_of("raft"))
    ray.get([one.save_in_shards.remote(tmp_path / "saved", model, 2_000_000) for one in actors])
    assert len(list((tmp_path / "saved").glob("model-*-of-*.safetensors"))) > 2
    assert not list((tmp_path / "saved").glob("shard-*"))
    saved, wanted = (AutoModelForCausalLM.from_pretrained(folder) for folder in (tmp_path / "saved", model))
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(saved.state_dict()[name], tensor), name


def test_what_cannot_be_written_is_said_and_ends_no_rank(model: Path, tmp_path: Path) -> None:
    (rank,) = used(LearnerSettings(zero_stage=0), model, 1, algorithm_of("raft"))
    (tmp_path / "tokenizer").mkdir()  # nothing is in it: the last step of writing fails
    written = ray.get(rank.save_in_shards.remote(tmp_path / "saved", tmp_path / "tokenizer", 2_000_000))
    assert "backend tokenizer" in written.problem
    (tmp_path / "file").touch()
    ray.get(rank.save_checkpoint.remote(tmp_path / "file" / "saved"))
    assert "NotADirectoryError" in ray.get(rank.finish_checkpoint.remote()).problem
    ray.get(rank.save_checkpoint.remote(tmp_path / "better"))
    better = ray.get(rank.finish_checkpoint.remote())
    assert not better.problem
    assert {name: (tmp_path / "better" / name).stat().st_size for name in better.files} == better.files
    assert {"model.safetensors", "tokenizer.json", "state/random-0.json"} <= set(better.files)


def test_shards_are_whole_layers_of_a_bounded_size() -> None:
    from learner.checkpoint import plan_shards

    names = ["embed.weight", "layers.0.a", "layers.0.b", "layers.1.a", "layers.10.a", "layers.10.b", "norm.weight"]
    assert plan_shards(names, [5, 2, 2, 3, 20, 20, 1], 8) == [1, 3, 2, 1]
    assert plan_shards(names, [1] * 7, 100) == [7]


def test_a_call_without_its_session_says_which_to_open(model: Path) -> None:
    (rank,) = used(LearnerSettings(zero_stage=0), model, 1, algorithm_of("raft"))
    with pytest.raises(RuntimeError, match="no warm-up is open on this learner rank: call open_warm_up first"):
        ray.get(rank.warm_up.remote(1))
    ray.get(rank.close_session.remote())
    with pytest.raises(RuntimeError, match="no training is open on this learner rank: call open_training first"):
        ray.get(rank.train.remote())
    with pytest.raises(RuntimeError, match="no session is open on this learner rank"):
        ray.get(rank.probe.remote(PROBE))
