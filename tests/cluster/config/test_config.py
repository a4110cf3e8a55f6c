from pathlib import Path

import pytest

from actors.settings import DataSettings
from cluster.config.described import described
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, load_config, load_methods, to_toml
from cluster.config.renamed import SETTINGS
from rewards import JudgeSettings
from tests.tables import each

RUNS = Path(__file__).parents[3] / "deploy" / "runs"
WORLD = {"world": {"name": "addition"}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"learner": {"algoritm": "grpo"}}, "unknown setting learner.algoritm, did you mean learner.algorithm?"),
        ({"lerner": {}}, "unknown setting lerner, did you mean learner?"),
        ({"learner": {"algorithm": "grop"}}, "learner.algorithm must be one of raft, raft++, reinforce"),
        ({"rollout": {"group_size": 1}}, "rollout.group_size must be at least 2 for learner.algorithm"),
        ({"rollout": {"group_size": "many"}}, "rollout.group_size: input should be a valid integer"),
        ({"rollout": {"groups_per_step": 0}}, "rollout.groups_per_step must be at least 1, got 0"),
        ({"rollout": {"top_p": 0.9}}, "rollout.top_p must stay 1 for training, got 0.9"),
        ({"rollout": {"top_k": 5}}, "rollout.top_k must stay 0 for training, got 5"),
        ({"rollout": {"min_p": 0.1}}, "rollout.min_p must stay 0 for training, got 0.1"),
        ({"reward": {"name": "sum"}}, "reward.sum.weights is empty"),
        ({"reward": {"name": "length", "wrong": 0.0}}, "reward.wrong must be minus reward.correct"),
        ({"reward": {"score_weight": 0.0}}, "set reward.span_weight"),
        ({"reward": {"span_weight": 0.5}}, "reward.name = 'number' gives none"),
        (
            {
                "reward": {"name": "process", "process": {"path": "x"}, "span_weight": 0.5},
                "learner": {"algorithm": "raft"},
            },
            "has no use for rewards of steps",
        ),
        ({"reward": {"name": "vibes"}}, "reward.name must be one of exact, choice, number, math, names"),
        ({"data": {"template": "no place"}}, "data.template must contain {prompt}, got 'no place'"),
        ({"data": {"path": "x.jsonl"}}, "world.name = 'addition' brings its own data and model"),
        (
            {"world": {"name": "addition", "digits": 2, "slips": [0.1]}},
            "world.slips must be one number, or one for each number of digits up to world.digits = 2, got 1",
        ),
        ({"world": {"slips": 1.5}}, "world.slips must be a number from 0 to 1 or a list of such, got 1.5"),
        ({"world": {"slips": [0.1, "x", 0.3]}}, "a number from 0 to 1 or a list of such, got [0.1, 'x', 0.3]"),
        ({"world": {"name": ""}}, "model.path must be set"),
        ({"world": {"name": ""}, "model": {"path": "m"}}, "data.path must be set"),
        ({"learner": {"updates_per_step": 65}}, "learner.updates_per_step must be at most"),
        ({"cluster": {"learner_ranks": 65}}, "cluster.learner_ranks x learner.updates_per_step must be at most"),
        ({"cluster": {"colocate": True, "generators": 2}}, "cluster.colocate needs one single-GPU generator"),
        (
            {"cluster": {"colocate": True}, "eval": {"every": 2, "generators": 1}},
            "eval.generators = 1 wants GPUs of their own, and with cluster.colocate",
        ),
        ({"cluster": {"colocate": True, "generators": "1..2"}}, "for each learner rank, got 1..2 generators of 1 GPUs"),
        ({"cluster": {"generators": 0}}, 'must be a number, at least 1, or a range such as "2..16", got 0'),
        ({"cluster": {"generators": "3..2"}}, """a range such as "2..16", got '3..2'"""),
        ({"cluster": {"generators": "some"}}, """a range such as "2..16", got 'some'"""),
        ({"data": {"answer_column": []}}, "data.answer_column must name a column, got ()"),
        ({"data": {"answer_column": 3}}, "data.answer_column must be a text, a list of texts, a table, got 3"),
        ({"data": {"answer_column": [1]}}, "data.answer_column.0: input should be a valid string, got 1"),
        ({"data": {"path": ["a", "b"]}}, "data.path must be a text, a table, got ['a', 'b']"),
        ({"data": {"path": {"a.jsonl": 0}}}, "data.path.a.jsonl must be above 0.0, got 0"),
        (
            {"data": {"chat_arguments": {"x": [1]}}},
            "data.chat_arguments.x must be true or false, a number, a text, got",
        ),
        ({"data": {"chat_arguments": {"tokenize": True}}}, "winnow itself says what 'tokenize' is"),
        ({"data": {"seed": -1}}, "data.seed must be at least 0, got -1"),
        ({"data": {"rows": "9" * 30 + ":"}}, "data.rows must be start:end"),
        (
            {"learner": {"adapter": {"rnak": 4}}},
            "unknown setting learner.adapter.rnak, did you mean learner.adapter.rank?",
        ),
        ({"learner": {"adapter": {"rank": -1}}}, "learner.adapter.rank must be at least 0, got -1"),
        ({"learner": {"adapter": {"alpha": 0}}}, "learner.adapter.alpha must be above 0.0, got 0"),
        (
            {"learner": {"adapter": {"targets": "q_proj"}}},
            'learner.adapter.targets must be "linear" or a list of names',
        ),
        ({"learner": {"adapter": {"targets": []}}}, 'learner.adapter.targets must be "linear" or a list of names'),
        ({"learner": {"adapter": {"targets": 3}}}, "learner.adapter.targets must be a text, a list of texts, got 3"),
        (
            {"learner": {"adapter": 16}},
            "learner.adapter must be a section, [learner.adapter] with a line for each of its settings, got 16",
        ),
        ({"run": {"name": "a/b"}}, "run.name must be a plain folder name, got 'a/b'"),
    ],
)
def test_a_mistake_is_named_with_its_value(tree: dict, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        config_of(WORLD | tree)
    assert message in str(failure.value)


def test_an_adapter_is_read_from_one_line_and_from_overrides(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[world]\nname = "addition"\n[learner]\nadapter = { rank = 16, targets = ["q_proj", "v_proj"] }\n')
    adapter = load_config(file, ["learner.adapter.alpha=8"]).learner.adapter
    assert (adapter.rank, adapter.alpha, adapter.targets) == (16, 8.0, ("q_proj", "v_proj"))
    assert load_config(file, ["learner.adapter.rank=0"]).learner.adapter.rank == 0
    assert load_config(file, ["learner.adapter.targets=linear"]).learner.adapter.targets == "linear"


def test_an_override_is_read_like_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[world]\nname = "addition"\n')
    config = load_config(file, ["rollout.group_size=4", "learner.lr=3e-4", "run.name=night", "cluster.colocate=false"])
    assert (config.rollout.group_size, config.learner.lr, config.run.name) == (4, 3e-4, "night")


def test_generators_are_a_number_or_a_range(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[world]\nname = "addition"\n[cluster]\ngenerators = 3\n')
    cluster = load_config(file).cluster
    assert (cluster.fewest_generators, cluster.most_generators) == (3, 3)
    config = load_config(file, ["cluster.generators=2..16"])
    assert (config.cluster.fewest_generators, config.cluster.most_generators) == (2, 16)
    file.write_text(to_toml(config))
    assert load_config(file) == config


@pytest.mark.parametrize("override", ["group_size=4", "rollout.group_size", "=3", "rollout.=3"])
def test_an_override_of_another_form_is_refused(override: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(RUNS / "demo.toml", [override])


@each(
    ("override", "problem"),
    [
        ("run.steps=" + "9" * 5000, r"run\.steps: unable to parse input string as an integer, .*9\.\.\.$"),
        ('run.steps=1\n[model]\npath = "z"', "run.steps: input should be a valid integer"),
        ("run.steps=" + "[" * 5000, "run.steps: input should be a valid integer"),
    ],
)
def test_an_override_is_one_value(override: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_config(RUNS / "demo.toml", [override])


def test_a_number_or_a_section_that_is_none_is_named_in_a_run_file(tmp_path: Path) -> None:
    (tmp_path / "huge.toml").write_text("run.steps = " + "9" * 5000)
    with pytest.raises(ConfigError, match=r"huge\.toml cannot be read: .* digits"):
        load_config(tmp_path / "huge.toml")
    (tmp_path / "value.toml").write_text('model = "m"\n')
    (tmp_path / "over.toml").write_text('extends = "value.toml"\n[model]\npath = "m"\n')
    with pytest.raises(ConfigError, match=r"data\.path must be set"):
        load_config(tmp_path / "over.toml")


def test_a_missing_or_broken_run_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no run file .*none\.toml"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[run\n")
    with pytest.raises(ConfigError, match=r"bad\.toml is not TOML"):
        load_config(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", sorted(RUNS.glob("**/[!_]*.toml")), ids=lambda path: path.name)
def test_every_run_file_is_valid_and_the_resolved_config_reads_back_equal(path: Path, tmp_path: Path) -> None:
    inputs = (
        []
        if path.name == "demo.toml" or {"paper", "sources"} & set(path.relative_to(RUNS).parts)
        else ["model.path=somewhere", "data.path=train.jsonl"]
    )
    config = load_config(path, inputs)
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "config.toml") == config


def test_there_are_at_most_110_settings_beside_those_of_objective_and_reward() -> None:
    sections = dict(type(load_config(RUNS / "demo.toml")).model_fields)
    del sections["objective"], sections["reward"]
    assert sum(len(section.annotation.model_fields) for section in sections.values()) <= 110


@pytest.mark.parametrize(
    ("rounds", "most", "found"),
    [
        ({}, 0, None),
        ({"size": 4}, 0, None),
        ({"size": 4, "most": 2}, 0, None),
        ({"size": 4, "most": 3}, 0, 8),
        ({}, 4, 4),
    ],
)
def test_all_siblings_are_trained_on_unless_there_are_more_than_a_group_has_or_the_run_says_how_many(
    rounds: dict[str, int], most: int, found: int | None
) -> None:
    config = config_of(WORLD | {"rollout": {"rounds": rounds}, "filter": {"most_siblings": most}})
    assert config.most_siblings == found


NEEDS = [
    (
        {"learner": {"algorithm": "ppo"}, "rollout": {"rounds": {"size": 8, "most": 2}}},
        "no response but those that are trained on, at most 8 of a set of siblings: set filter.most_siblings = 0",
    ),
    (
        {"learner": {"algorithm": "reinforce"}, "objective": {"kl_reward": 0.1}, "filter": {"most_siblings": 4}},
        "learner.algorithm = 'reinforce' makes advantages on the learner's ranks",
    ),
    ({"filter": {"most_siblings": 9}}, "must be 0, or at least 2 and at most rollout.group_size = 8, got 9"),
    ({"learner": {"algorithm": "nlpo"}}, "set rollout.top_p below 1"),
    ({"learner": {"algorithm": "nlpo"}, "rollout": {"top_p": 0.9, "max_staleness": 1}}, "rollout.max_staleness = 0"),
    ({"learner": {"algorithm": "raft"}, "sync": {"in_flight": "keep"}}, "would be biased unseen"),
    (
        {"objective": {"mismatch": "none"}, "learner": {"algorithm": "grpo"}, "sync": {"in_flight": "keep"}},
        'Set sync.in_flight = "continue", or objective.mismatch',
    ),
    ({"learner": {"algorithm": "rto"}}, "set learner.tuned_path to a model folder"),
    ({"learner": {"algorithm": "echo"}}, "asked single questions: set rollout.environment"),
    ({"learner": {"algorithm": "distill"}}, "set learner.teacher_path to the folder of a model"),
    ({"learner": {"algorithm": "self-critical"}, "data": {"stored": "x"}}, "a dataset has no greedy samples"),
    ({"learner": {"algorithm": "raft"}, "objective": {"kl_reward": 0.1}}, "use objective.kl_loss"),
    (
        {"learner": {"algorithm": "grpo"}, "objective": {"clip_dual": 0.5}},
        "objective.clip_dual must be 0 (off) or above 1",
    ),
    (
        {"learner": {"algorithm": "grpo"}, "objective": {"loss": "preferred"}},
        "pairs are of a correct and a wrong response",
    ),
    ({"learner": {"algorithm": "ppo"}, "objective": {"credit": "raw"}}, "would have no effect"),
    ({"learner": {"algorithm": "grpo"}, "objective": {"thresholds": [0.5]}}, "belong to objective.credit"),
    ({"learner": {"algorithm": "iterative-dpo"}, "objective": {"mismatch": "truncate"}}, "is a mean over pairs"),
    (
        {"learner": {"algorithm": "reinforce"}, "objective": {"credit": "leave-one-out"}, "rollout": {"group_size": 1}},
        "2",
    ),
    ({"reward": {"wrong": 0.5}}, "reward.wrong must be at most 0 and reward.correct above 0, got 0.5 and 1"),
    ({"learner": {"algorithm": "rloo"}, "rollout": {"group_size": 1}}, "rollout.group_size must be at least 2"),
]


@pytest.mark.parametrize(("tree", "message"), NEEDS)
def test_what_an_algorithm_needs_and_the_run_lacks_is_said_before_anything_starts(tree: dict, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        config_of(WORLD | tree)
    assert message in str(failure.value)


OWN = {"model": {"path": "m"}, "data": {"path": "d"}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"learner": {"algorithm": "self-critical"}}, "set warmup.path to a file of prompts and responses"),
        ({"learner": {"algorithm": "quark"}}, "set model.control_tokens to two or more tokens"),
        ({"eval": {"every": 2}}, "eval.path must be set when eval.every is above 0"),
    ],
)
def test_without_a_built_in_world_its_gifts_must_be_brought(tree: dict, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        config_of(OWN | tree)
    assert message in str(failure.value)


def test_stored_data_alone_needs_no_prompts_and_samples_nothing() -> None:
    config = config_of({"model": {"path": "m"}, "data": {"stored": "runs/demo/trajectories"}})
    assert not config.samples
    assert config_of({"model": {"path": "m"}, "data": {"path": "d", "stored": "s", "stored_share": 0.5}}).samples


def test_thresholds_are_shares_between_the_scores_of_wrong_and_correct() -> None:
    tree = {"learner": {"algorithm": "rest"}, "objective": {"thresholds": [0.0, 0.75], "passes": 2}}
    assert config_of(WORLD | tree).algorithm.thresholds == (-1.0, 0.5)
    assert config_of(WORLD | tree | {"reward": {"wrong": 0.0}}).algorithm.thresholds == (0.0, 0.75)


def test_a_run_file_may_build_on_another(tmp_path: Path) -> None:
    (tmp_path / "_base.toml").write_text('[world]\nname = "addition"\n[learner]\nlr = 0.5\nzero_stage = 0\n')
    (tmp_path / "a.toml").write_text('extends = "_base.toml"\n[learner]\nlr = 0.25\n')
    (tmp_path / "b.toml").write_text('extends = "_base.toml"\n[learner]\nalgorithm = "raft"\n')
    found = load_config(tmp_path / "a.toml", ["learner.weight_decay=0"])
    assert (found.learner.lr, found.learner.zero_stage, found.learner.weight_decay) == (0.25, 0, 0)
    assert list(load_methods([tmp_path], [])) == ["a", "b"]
    (tmp_path / "c.toml").write_text('extends = "d.toml"\n')
    (tmp_path / "d.toml").write_text('extends = "c.toml"\n')
    with pytest.raises(ConfigError, match="which extends it in turn"):
        load_config(tmp_path / "c.toml")


def test_one_run_file_may_be_varied_by_the_values_of_a_setting() -> None:
    arms = load_methods([RUNS / "demo.toml"], ["run.steps=2"], "learner.algorithm=raft, grpo")
    assert {name: (arm.learner.algorithm, arm.run.steps) for name, arm in arms.items()} == {
        "raft": ("raft", 2),
        "grpo": ("grpo", 2),
    }
    with pytest.raises(ConfigError, match="--each takes one run file"):
        load_methods([RUNS / "demo.toml", RUNS / "gsm8k.toml"], [], "learner.algorithm=raft")
    with pytest.raises(ConfigError, match="a comparison needs run files"):
        load_methods([], [])


@pytest.mark.parametrize(
    ("override", "new"),
    [
        ("filter.keep=mixed", "filter.drop = 'both'"),
        ("filter.keep=x", "filter.drop"),
        ("reward.steps=0.5", "reward.span_weight"),
        ("reward.databases=/data", "reward.sql.databases"),
        ("reward.model=/models/safe", "reward.model.path"),
        ("reward.judge_url=http://host/v1", "reward.judge.url"),
        ("reward.parts={sql = 0.9}", "reward.sum.weights"),
        ("reward.file=mine.py", "reward.own.file"),
        ("reward.rows=5", "reward.sql.rows"),
        ("reward.aggregate=min", "reward.process.aggregate"),
        ("reward.unsandboxed=true", "reward.code.unsandboxed"),
        ("reward.partial=0.1", "reward.math.partial"),
        ("learner.algorithm=reinforce-no-wrong", "'reinforce-drop-all-wrong'"),
    ],
)
def test_a_setting_or_value_that_was_renamed_is_refused_with_its_new_name(override: str, new: str) -> None:
    with pytest.raises(ConfigError, match="has another name now") as refusal:
        load_config(RUNS / "demo.toml", [override])
    assert new in str(refusal.value).split(": write ")[1]


def test_every_new_name_is_a_setting() -> None:
    known = {one.name for one in described()}
    for new in (name for names in SETTINGS.values() for name in names.split(" or ")):
        assert new in known, new


@pytest.mark.parametrize("text", ["🙂 {prompt}", 'a "quoted" \\ {prompt}\n\ttab', "\x07{prompt}\u2028é"])
def test_the_config_that_a_run_writes_reads_back_whatever_its_texts_hold(tmp_path: Path, text: str) -> None:
    config = load_config(RUNS / "demo.toml", []).model_copy(update={"data": DataSettings(template=text, system=text)})
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert load_config(file) == config


REWARDS = """
[world]
name = "addition"
[reward]
name = "total"
[reward.total]
kind = "sum"
weights = {safe = 0.3, helpful = 0.7}
[reward.safe]
kind = "judge"
path = "/models/safe"
prompt = "few-shot"
[reward.helpful]
kind = "judge"
url = "http://host:8000/v1"
model = "m"
"""


def test_rewards_of_a_run_file_read_back_equal_and_tell_which_judges_the_run_hosts(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(REWARDS)
    config = load_config(tmp_path / "run.toml", ["reward.sql.databases=/data/db"])
    assert config.hosted_judges == {"safe": "/models/safe"}
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(tmp_path / "config.toml") == config
    (tmp_path / "other.toml").write_text('extends = "run.toml"\n[reward.safe]\npath = "/models/other"\n')
    other = load_config(tmp_path / "other.toml", ["reward.total.weights={safe = 1.0}"])
    assert other.reward.of("safe") == JudgeSettings(kind="judge", path="/models/other", prompt="few-shot")
    assert list(other.reward.leaves("total")) == ["safe"]


def test_rows_may_name_any_judge_of_the_run_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(REWARDS)
    by_rows = load_config(tmp_path / "run.toml", ["reward.name=math", "data.reward_column=kind"])
    assert by_rows.hosted_judges == {"safe": "/models/safe"}
    assert load_config(tmp_path / "run.toml", ["reward.name=math"]).hosted_judges == {}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("reward.sql.database=/data", "unknown setting reward.sql.database, did you mean reward.sql.databases?"),
        ("reward.nam=math", "unknown setting reward.nam, did you mean reward.name?"),
        ("reward.own.path=mine.py", "unknown setting reward.own.path: reward.own has kind, file"),
        ("reward.own.fil=mine.py", "unknown setting reward.own.fil, did you mean reward.own.file?"),
        ("reward.math.timeout=none", "unknown setting reward.math.timeout, did you mean reward.timeout?"),
        (
            'reward.mine={kind="sql", file="x"}',
            "unknown setting reward.mine.file: reward.mine has kind, databases, rows",
        ),
        ("reward.sql.rows=0", "reward.sql.rows must be at least 1, got 0"),
        ("reward.safe.path=x", "reward.safe needs a kind"),
    ],
)
def test_a_mistake_in_the_settings_of_a_reward_is_named_in_full(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        load_config(RUNS / "demo.toml", [override])
    assert str(failure.value).startswith(message)


SAMPLING = {
    "temperature": [(0, "at least 0.01"), (-1, "at least 0.01"), (0.001, "at least 0.01"), (2.5, "at most 2"),
                    (float("nan"), "finite"), (float("inf"), "finite"), (0.01, ""), (2.0, "")],
    "top_p": [(0, "above 0"), (-0.5, "above 0"), (1.5, "at most 1"), (float("nan"), "finite"), (1.0, "")],
    "min_tokens": [(-1, "at least 0"), (1025, "must be at most rollout.max_new_tokens = 1024, got 1025"), (1024, "")],
    "stop": [([""], "empty text"), (["a", ""], "empty text"), (["x"] * 17, "at most 16, got 17"), ([3], "string"),
             ("\n\n", ""), (["</answer>", "<|im_end|>"], ""), ([], "")],
    "stop_token_ids": [([-1], "at least 0"), ([1.5], "integer"), ([7] * 17, "at most 16, got 17"), ([0, 7], "")],
    "max_new_tokens": [(0, "at least 1")],
}  # fmt: skip


def test_what_the_engine_would_refuse_or_change_is_refused_with_its_value() -> None:
    for setting, cases in SAMPLING.items():
        for value, message in cases:
            tree = WORLD | {"rollout": {setting: value}}
            if not message:
                config_of(tree)
                continue
            with pytest.raises(ConfigError, match=rf"rollout\.{setting}") as refusal:
                config_of(tree)
            assert message in str(refusal.value), (setting, value)


def test_one_text_that_ends_responses_needs_no_list() -> None:
    assert config_of(WORLD | {"rollout": {"stop": "\n\n"}}).rollout.stop == ("\n\n",)


@pytest.mark.parametrize(
    ("on_gpu", "dtype", "wanted"),
    [
        (True, "auto", ("bfloat16", "varlen", True)),
        (True, "float32", ("float32", "sdpa", True)),
        (False, "auto", ("float32", "sdpa", False)),
        (False, "bfloat16", ("bfloat16", "sdpa", False)),
    ],
)
def test_attention_and_checkpointing_are_settled_by_device_and_dtype(
    on_gpu: bool, dtype: str, wanted: tuple[str, str, bool]
) -> None:
    model = config_of({"world": {"name": "addition"}, "model": {"dtype": dtype}}).on_device(on_gpu).model
    assert (model.dtype, model.attention, model.checkpointing) == wanted


def test_what_a_person_sets_of_attention_and_checkpointing_stays(tmp_path: Path) -> None:
    model = {"attention": "sdpa", "checkpointing": False}
    settled = config_of({"world": {"name": "addition"}, "model": model}).on_device(True).model
    assert (settled.attention, settled.checkpointing) == ("sdpa", False)
    asked = config_of({"world": {"name": "addition"}, "model": {"attention": "varlen"}})
    assert asked.on_device(True).model.attention == "varlen"
    with pytest.raises(ConfigError, match=r'"varlen" is for bfloat16 on GPUs, and the run computes in float32 on CPUs'):
        asked.on_device(False)
    with pytest.raises(ConfigError, match=r"write model\.attention = 'varlen'"):
        config_of({"world": {"name": "addition"}, "model": {"attention": "flash_attention_2"}})
