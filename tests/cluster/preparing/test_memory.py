import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.preparing.budget import (
    CONTEXT,
    ENGINE_BESIDES,
    GIB,
    Budget,
    Device,
    During,
    Term,
    host_terms,
    learner_budget,
    page_locked,
)
from cluster.preparing.memory import (
    GPU,
    HERE,
    Host,
    Memory,
    MemoryPlan,
    beside_the_store,
    check_memory,
    checked_memory,
    memory_lines,
    memory_plan,
)
from learner.models.sizes import ModelSizes, Passes
from learner.settings import REDUCE_BUCKET

SIZES = ModelSizes(
    parameters=1000,
    trained=1000,
    largest=100,
    layers=2,
    heads=4,
    head_dim=8,
    key_value_heads=2,
    vocabulary=64,
    intermediate=32,
    varlen_problem="",
    passes=Passes(kept=50, above=70),
)
TINY = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
}


def config(algorithm: str = "reinforce-rej", ranks: int = 4, **sections: Any) -> RunConfig:
    """A run in bfloat16, with what is set here in place of the defaults."""
    tree: dict[str, Any] = {
        "model": {"path": "model", "dtype": "bfloat16"},
        "data": {"path": "x"},
        "rollout": {"groups_per_step": 8, "max_new_tokens": 64},
        "learner": {"algorithm": algorithm, "drift": False},
        "cluster": {"learner_ranks": ranks},
    }
    for section, values in sections.items():
        tree[section] = tree.get(section, {}) | values
    return config_of(tree)


def terms(run: RunConfig, on_gpu: bool = True, sizes: ModelSizes = SIZES) -> dict[str, int]:
    device = Device(on_gpu=on_gpu, size=80 * GIB, sequence_tokens=100)
    return {term.name: term.size for term in learner_budget(run.on_device(on_gpu), sizes, device).terms}


@pytest.mark.parametrize(
    ("stage", "weights", "gradients", "optimizer", "step", "buckets"),
    [
        (0, 2000, 4000, 3000, 1000, 4 * REDUCE_BUCKET),  # trains as stage 1
        (1, 2000, 4000, 3000, 1000, 4 * REDUCE_BUCKET),
        (2, 2000, 1000, 3000, 1000, 4 * REDUCE_BUCKET),  # two of them, of 2 bytes each
        (3, 500, 1000, 3000, 1000, 2 * REDUCE_BUCKET),
    ],
)
def test_each_stage_shards_what_it_says(
    stage: int, weights: int, gradients: int, optimizer: int, step: int, buckets: int
) -> None:
    found = terms(config(learner={"zero_stage": stage}))
    assert (found["weights"], found["gradients"], found["optimizer"]) == (weights, gradients, optimizer)
    assert (found["step temporaries"], found["buckets"]) == (step, buckets)
    assert ("gathered" in found) == (stage == 3)


def test_float32_without_zero_has_no_second_weights_and_no_buckets() -> None:
    found = terms(config(ranks=1, model={"dtype": "float32"}, learner={"zero_stage": 0}), on_gpu=False)
    assert (found["weights"], found["gradients"], found["optimizer"]) == (4000, 4000, 8000)
    assert not {"buckets", "step temporaries", "context"} & set(found)


def test_models_beside_the_policy_count_as_what_they_are() -> None:
    alone, with_critic = terms(config()), terms(config("ppo"))
    assert with_critic["optimizer"] == 2 * alone["optimizer"]
    assert "frozen models" not in alone
    assert terms(config(learner={"drift": True}))["frozen models"] == 2000
    with_reference = config("grpo", objective={"kl_loss": 0.1}, learner={"zero_stage": 3})
    assert terms(with_reference)["frozen models"] == 500
    assert terms(config("grpo", objective={"kl_loss": 0.1}, learner={"reference_every": 5}))["frozen models"] == 2000


def test_an_adapter_has_gradients_and_states_and_its_base_has_none() -> None:
    adapted = ModelSizes(**{name: getattr(SIZES, name) for name in SIZES.__slots__} | {"trained": 40})
    found = terms(config(learner={"adapter": {"rank": 4}, "drift": True}), sizes=adapted)
    assert (found["weights"], found["gradients"], found["optimizer"]) == (2 * 1040, 40, 120)
    assert "frozen models" not in found  # its base is the starting policy


def test_what_is_offloaded_lies_on_the_host() -> None:
    run = config(learner={"offload": "optimizer"}).on_device(True)
    budget = learner_budget(run, SIZES, Device(on_gpu=True, size=0, sequence_tokens=100))
    assert not {"gradients", "optimizer", "step temporaries"} & {term.name for term in budget.terms}
    # Moments and a second sum of gradients; page-locked, which are powers of two: weights and gradients of 1000 bytes
    # each, and the new weights of 500.
    assert budget.host == 2000 + 500 + 1024 + 1024 + 512
    away = config(learner={"offload": "weights", "zero_stage": 3}).on_device(True)
    budget = learner_budget(away, SIZES, Device(on_gpu=True, size=0, sequence_tokens=100))
    assert "weights" not in {term.name for term in budget.terms}
    # Moments, float32 weights and gradients, the page-locked sum of gradients, and the weights.
    assert budget.host == 2000 + 1000 + 1000 + 1024 + 500
    assert learner_budget(config().on_device(True), SIZES, Device(on_gpu=True, size=0, sequence_tokens=100)).host == 0


def test_a_page_locked_buffer_takes_the_next_power_of_two() -> None:
    assert [page_locked(size) for size in (0, 1, 4, 5, 2**30, 2**30 + 1)] == [0, 1, 4, 8, 2**30, 2**31]


def test_a_node_holds_what_its_ranks_offload_and_two_shards_of_a_checkpoint() -> None:
    run = config(learner={"offload": "weights", "zero_stage": 3}).on_device(True)
    found = {term.name: term for term in host_terms(run, SIZES, Budget(terms=(), host=3 * GIB), 2)}
    assert (found["offloaded"].size, found["checkpoint"].size) == (6 * GIB, 2 * 2000)
    assert (
        "3.0 GiB for each of 2 ranks: AdamW's moments, float32 weights, gradients, weights" in found["offloaded"].about
    )
    large = ModelSizes(**{name: getattr(SIZES, name) for name in SIZES.__slots__} | {"parameters": 10**11})
    assert [term.size for term in host_terms(config().on_device(True), large, Budget(terms=()), 2)] == [8 * GIB]


def test_masks_grow_with_the_square_and_varlen_attention_has_none() -> None:
    assert "attention masks" not in terms(config())
    run = config(model={"attention": "sdpa"}, learner={"micro_batch_tokens": 400})
    assert terms(run)["attention masks"] == 400 * 100 * (1 + 2) + 2 * 2 * 8 * 2 * 400
    kept = config(model={"attention": "sdpa", "checkpointing": False}, learner={"micro_batch_tokens": 400})
    assert terms(kept)["attention masks"] == 400 * 100 * (1 + 2 * 2) + 2 * (2 * 2 * 8 * 2 * 400)


def test_a_colocated_engine_is_counted_resting_while_training_and_whole_while_sampling() -> None:
    run = config(ranks=1, cluster={"colocate": True}, generator={"memory_share": 0.5}).on_device(True)
    budget = learner_budget(run, SIZES, Device(on_gpu=True, size=80 * GIB, sequence_tokens=100))
    found = {term.name: term for term in budget.terms}
    assert found["engine"].size == 2000 + ENGINE_BESIDES
    assert found["engine"].size + found["engine's cache"].size == 40 * GIB
    assert budget.worst is During.SAMPLING
    assert budget.most == 40 * GIB + CONTEXT + sum(
        found[name].size for name in ("weights", "gradients", "optimizer", "buckets")
    )


def plan(memory: Memory, *held: Term) -> MemoryPlan:
    return MemoryPlan(memory=memory, learner=Budget(terms=held), engine=None)


def term(name: str, gib: float, during: During = During.ALWAYS) -> Term:
    return Term(name=name, size=int(gib * GIB), during=during, about=f"what {name} is", change=f"less {name}")


def test_what_does_not_fit_is_a_sentence_with_the_largest_term_and_its_remedy() -> None:
    held = (term("weights", 3), term("activations", 5, During.PASSES), term("flat", 7, During.STEP))
    check_memory(config(), plan(Memory(where=GPU, size=10 * GIB), *held))
    with pytest.raises(ConfigError) as failure:
        check_memory(config(), plan(Memory(where=GPU, size=9 * GIB), *held))
    assert str(failure.value).startswith(
        "a learner rank needs about 10.0 GiB (optimizer step), and a GPU has 9.0 GiB. Most of it is the term 'flat' "
        "with 7.0 GiB: what flat is. What makes it smaller: less flat. "
    )
    check_memory(config(), plan(Memory(where=GPU, size=0), *held))  # of unknown size: nothing is refused


def test_ranks_on_the_cpu_share_the_memory_of_the_machine() -> None:
    here = Memory(where=HERE, size=10 * GIB)
    check_memory(config(ranks=3), plan(here, term("weights", 3)))
    with pytest.raises(ConfigError, match=r"about 3\.0 GiB .*, 4 of them 12\.0 GiB, and this machine has 10\.0 GiB"):
        check_memory(config(ranks=4), plan(here, term("weights", 3)))


def test_what_does_not_fit_beside_gpus_is_refused_with_its_terms_and_what_to_do() -> None:
    held = (term("offloaded", 30), replace(term("checkpoint", 2), change=""))

    def on_node(gib: int, gpu: int = 80) -> MemoryPlan:
        memory = Memory(where=GPU, size=gpu * GIB, host=Host(size=gib * GIB, ranks=4))
        return replace(plan(memory, term("weights", 3)), host=held)

    check_memory(config(), on_node(32))
    check_memory(config(), on_node(0))  # unknown
    for gpu in (80, 0):  # whether the GPU's own memory is known or not
        with pytest.raises(ConfigError) as failure:
            check_memory(config(), on_node(31, gpu))
        assert str(failure.value) == (
            "the learner needs about 32.0 GiB of the CPU's memory on a node, and processes have 31.0 GiB of it there "
            "beside Ray's object store: offloaded 30.0 GiB (what offloaded is); checkpoint 2.0 GiB (what checkpoint "
            "is). What makes it smaller: less offloaded"
        )


def test_a_run_that_offloads_more_than_the_node_has_is_refused_by_its_config_json(folder: Path) -> None:
    run = config(ranks=4, model={"path": str(folder)}, learner={"micro_batch_tokens": 64, "offload": "optimizer"})
    there = Memory(where=GPU, size=80 * GIB, host=Host(size=GIB, ranks=4))
    found = checked_memory(run, there, sequence_tokens=100)
    assert found is not None
    assert [each.name for each in found.host] == ["offloaded", "checkpoint"]
    assert found.host[0].size == 4 * found.learner.host
    assert "memory of the CPU on the node of rank 0, GiB (processes have 1.0 GiB there):" in memory_lines(found, run)
    with pytest.raises(ConfigError, match=r"the learner needs about .* of the CPU's memory on a node"):
        checked_memory(run, replace(there, host=Host(size=2**20, ranks=4)), sequence_tokens=100)
    fewer = memory_plan(run, replace(there, host=Host(size=2**20, ranks=1)), sequence_tokens=100)
    assert fewer is not None
    assert fewer.host[0].size == found.learner.host


def test_ray_keeps_a_share_of_a_machine_for_its_store_and_at_most_200_gb() -> None:
    assert beside_the_store(100 * 10**9) == 70 * 10**9
    assert beside_the_store(2000 * 10**9) == 1800 * 10**9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    return tmp_path


def test_a_config_json_without_weights_is_enough(folder: Path) -> None:
    run = config(model={"path": str(folder)}, learner={"micro_batch_tokens": 64})
    found = memory_plan(run, Memory(where=GPU, size=80 * GIB), sequence_tokens=100)
    assert found is not None
    parameters = 2 * 512 * 64 + 2 * (64 * (64 + 32 + 32) + 128 + 64 * 64 + 3 * 64 * 96 + 2 * 64) + 64
    assert {each.name: each.size for each in found.learner.terms}["weights"] == 2 * parameters
    assert found.engine is not None
    assert found.engine.sequence == 2 * 2 * 2 * 2 * 16 * 100
    assert found.engine.limit == int(0.85 * 80 * GIB)
    text = "\n".join(memory_lines(found, run.on_device(True)))
    assert "memory of a learner rank, GiB (a GPU has 80.0 GiB):" in text
    assert "kept for the backward pass, of 100 tokens (the longest sequence)" in text


def test_an_engine_without_room_for_one_response_is_refused(folder: Path) -> None:
    run = config(ranks=1, model={"path": str(folder)}, learner={"micro_batch_tokens": 64})
    with pytest.raises(ConfigError, match=r"an engine may have 3\.0 GiB of a GPU .*raise generator.memory_share"):
        checked_memory(run, Memory(where=GPU, size=int(3.5 * GIB)), sequence_tokens=200)


def test_a_model_that_cannot_have_varlen_attention_is_planned_with_masks(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(TINY | {"attention_dropout": 0.1}))
    run = config(ranks=1, model={"path": str(folder)}, learner={"micro_batch_tokens": 64})
    found = memory_plan(run, Memory(where=GPU, size=80 * GIB), sequence_tokens=100)
    assert found is not None
    assert "attention masks" in {each.name for each in found.learner.terms}
    assert any("attention_dropout = 0.1" in line for line in memory_lines(found, run.on_device(True)))


def test_where_no_model_can_be_made_memory_is_unknown_and_nothing_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(TINY | {"model_type": "none-such"}))
    run = config(model={"path": str(folder)})
    assert checked_memory(run, Memory(where=GPU, size=1), sequence_tokens=100) is None
    assert memory_lines(None, run.on_device(True)) == [
        "memory: unknown, as no model can be made of config.json without its weights"
    ]
