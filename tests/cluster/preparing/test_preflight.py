import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.data.world import ALPHABET, write_addition
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of
from cluster.config.run_config import RunConfig
from cluster.placement.description import describe
from cluster.placement.layout import ENDLESS, Wanted, plan_layout
from cluster.preparing.folders import make_run_folder
from cluster.preparing.models import load_tokenizer
from cluster.preparing.preflight import prepare
from learner.models.tiny import write_tiny_model
from tests.rewards.models.test_models import write
from tests.tokenizers import CHATML, NO_SYSTEM


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_addition(folder, digits=2, prompts=20, worked=5, seed=0)
    write_tiny_model(folder / "model", alphabet=ALPHABET, seed=0)
    return folder


def config(world: Path, **sections: dict) -> RunConfig:
    tree: dict = {"model": {"path": str(world / "model")}, "data": {"path": str(world / "prompts.jsonl")}}
    tree["rollout"] = {"max_new_tokens": 32}
    for name, values in sections.items():
        tree[name] = tree.get(name, {}) | values
    return config_of(tree)


def test_prompts_are_tokenized_and_the_context_is_sized_before_anything_starts(world: Path) -> None:
    prepared = prepare(config(world))
    assert len(prepared.prompts) == 20
    longest = max(len(prompt.text) for prompt in prepared.prompts)
    assert prepared.max_model_len == max(longest + 32, 65)
    assert len(prepared.probe) == 64


def test_a_model_and_data_at_addresses_are_the_same_run(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WINNOW_CACHE", str(tmp_path))
    named = {"model": {"path": f"file://{world}/model"}, "data": {"path": f"file://{world}/prompts.jsonl"}}
    there, here = prepare(config(world, **named)), prepare(config(world))
    assert [prompt.tokens.tolist() for prompt in there.prompts] == [prompt.tokens.tolist() for prompt in here.prompts]
    assert [(copy.setting, copy.path) for copy in there.copies] == [
        ("model.path", there.config.model.path),
        ("data.path", there.config.data.path),
    ]
    assert Path(there.config.model.path).is_relative_to(tmp_path)
    assert capsys.readouterr().out.count(" fetched in ") == 2


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"path": "/nowhere"}}, "there is no model folder /nowhere (model.path)"),
        ({"data": {"path": "/nowhere.jsonl"}}, "there is no data file /nowhere.jsonl"),
        ({"data": {"prompt_column": "question"}}, "prompts.jsonl:1 has no text in column 'question'"),
        ({"rollout": {"max_new_tokens": 4096}}, "must be below the model's 2048 positions, got 4096"),
        ({"rollout": {"max_new_tokens": 2046}}, "longer than the 2 tokens that leave room for a response"),
        ({"warmup": {"updates": 1, "path": "/none.jsonl"}}, "there is no data file /none.jsonl"),
        (
            {"learner": {"adapter": {"rank": 2, "targets": ["c_attn"]}}},
            "Qwen2ForCausalLM has no linear layer 'c_attn' that an adapter can go into. It has q_proj, k_proj, ",
        ),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(world: Path, sections: dict, message: str) -> None:
    with pytest.raises(ConfigError) as failure:
        prepare(config(world, **sections))
    assert message in str(failure.value)


def test_an_own_reward_is_tried_with_the_prompts_as_the_policy_sees_them(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepared(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        reward = {"name": "own", "own": {"file": str(tmp_path / name)}}
        prepare(config(world, reward=reward, data={"template": "Q: {prompt}"}))
        return capsys.readouterr().out

    assert prepared("all.py", "def reward(prompt, response):\n    return 1 / prompt.startswith('Q: ')\n") == ""
    said = prepared("some.py", "def reward(response):\n    return 1 / ('boxed' in response)\n")
    assert "warning: reward.own.file gave no verdict on 6 of 9 responses" in said
    with pytest.raises(ConfigError, match="does every way through it return something"):
        prepared("none.py", "def reward(response):\n    return None\n")


@pytest.mark.parametrize("environment", ["", "actors/rollouts/question.py"])
def test_a_reward_model_whose_chat_template_refuses_the_messages_is_named_with_the_row(
    world: Path, tmp_path: Path, environment: str
) -> None:
    write(tmp_path / "scorer", "whole")
    (tmp_path / "scorer/chat_template.jinja").write_text(NO_SYSTEM)
    reward = {"name": "sum", "sum": {"weights": {"model": 1.0}}, "model": {"path": str(tmp_path / "scorer")}}
    (tmp_path / "policy.jinja").write_text(CHATML)
    data = {"chat_template": str(tmp_path / "policy.jinja"), "answer_column": ""}
    rollout = {"environment": environment} if environment else {}
    prepare(config(world, reward=reward, data=data, rollout=rollout))
    problem = (
        r"prompts\.jsonl:1 has messages that the reward model's chat template refuses \(system, user, assistant\): "
        r"System role not supported\. .* \(reward\.model\.path = '.*'\)\nand 19 more rows"
    )
    with pytest.raises(ConfigError, match=problem):
        prepare(config(world, reward=reward, data=data | {"system": "Be brief."}, rollout=rollout))


def test_a_plan_says_what_an_adapter_trains_and_what_is_sent(world: Path) -> None:
    def planned(**learner: object) -> str:
        prepared = prepare(config(world, learner=learner))
        return describe(prepared, plan_layout(Wanted(cluster=prepared.config.cluster, on_gpu=False), ENDLESS))

    assert "adapter" not in planned()
    told = planned(adapter={"rank": 8})
    # rank times the sum of both sides: of four matrices of 160 x 160 and three of 160 x 480 in each of 4 blocks
    assert (
        f"rank 8 in all linear layers but the head is trained, {8 * 4 * (4 * 320 + 3 * 640) / 1e6:.3g} million" in told
    )
    assert "generators get whole weights with the adapter merged, checkpoints hold the adapter alone" in told
    assert "learner.lr = 1e-06 suits whole weights, an adapter takes about ten times as much" in told
    told = planned(adapter={"rank": 8, "targets": ["q_proj", "o_proj"]}, lr=1e-5)
    assert f"rank 8 in q_proj, o_proj is trained, {8 * 4 * 2 * 320 / 1e6:.3g} million parameters" in told
    assert "ten times" not in told


ENDED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("sections", "is_taught"),
    [
        ({"warmup": {"updates": 1}}, True),
        ({"warmup": {"updates": 0}}, False),
        ({"warmup": {"updates": 1}, "data": {"chat": False}}, False),
    ],
)
def test_what_a_warm_up_teaches_as_the_end_of_a_turn_ends_a_response(
    sections: dict, is_taught: bool, world: Path, tmp_path: Path
) -> None:
    control = ("<user>", "<assistant>", "<end>")
    write_tiny_model(tmp_path / "model", alphabet=ALPHABET, control=control, chat_template=ENDED, seed=0)
    warmup = sections["warmup"] | {"path": str(world / "worked.jsonl")}
    given = config(world, **sections | {"model": {"path": str(tmp_path / "model")}, "warmup": warmup})
    prepared = prepare(given)
    tokenizer = load_tokenizer(tmp_path / "model")
    ends = (tokenizer.convert_tokens_to_ids("<end>"),) if is_taught else ()
    assert prepared.config.rollout.stop_token_ids == ends
    assert prepare(prepared.config).config.rollout.stop_token_ids == ends


def test_worked_answers_whose_prompts_no_template_takes_are_named(world: Path, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    (tmp_path / "worked.jsonl").write_text(json.dumps({"prompt": turns, "response": "2"}))
    with pytest.raises(ConfigError, match=r"worked\.jsonl:1: the prompt is 3 chat messages .*data\.chat_template"):
        prepare(config(world, warmup={"updates": 1, "path": str(tmp_path / "worked.jsonl")}))


def test_a_prompt_of_which_the_tokenizer_knows_nothing_is_named(world: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "\\u65e5", "answer": "2"}')
    with pytest.raises(ConfigError, match=r"a\.jsonl:1 is no token of the tokenizer"):
        prepare(config(world, data={"path": str(tmp_path / "a.jsonl")}))


def test_a_folder_without_a_causal_language_model_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        prepare(config(world, model={"path": str(tmp_path)}))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"]}))
    with pytest.raises(ConfigError, match="not a causal language model"):
        prepare(config(world, model={"path": str(tmp_path)}))


def test_a_reference_that_its_own_reward_cannot_read_is_named_by_line(world: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "1+1=", "answer": "2"}, {"prompt": "1+2=", "answer": "three"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(
        ConfigError, match=r"a\.jsonl:2 cannot be graded against: the reference 'three' holds no number"
    ):
        prepare(config(world, data={"path": str(tmp_path / "a.jsonl")}))


def test_a_second_run_of_the_same_name_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    assert [make_run_folder("x", tmp_path).name for _ in range(3)] == ["x", "x-2", "x-3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["deploy/runs/demo.toml", "learner.algoritm=grpo"], "did you mean learner.algorithm?"),
        (["nothing.toml"], "there is no run file nothing.toml"),
        (["deploy/runs/demo.toml", "data.rows=0:64", "cluster.generators=64"], "the layout wants"),
    ],
)
def test_the_command_ends_with_a_sentence_and_status_2_before_ray_starts(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "cluster.cli", "train", *arguments]
    command += [f"run.folder={tmp_path}"] if "nothing.toml" not in arguments else []
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=os.environ, timeout=600)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


PLAY = "async def play(task, talk):\n    await talk(task)\n    return 1.0\n"


def environment(world: Path, **rollout: object) -> dict:
    """The section [rollout] of a run with an environment."""
    (world / "mine.py").write_text(PLAY)
    return {"environment": str(world / "mine.py"), **rollout}


def test_a_conversation_has_room_for_what_is_said_in_it(world: Path) -> None:
    longest = max(prompt.tokens.size for prompt in prepare(config(world)).prompts)
    assert prepare(config(world, rollout=environment(world))).max_model_len == max(longest + 64, 65)
    assert prepare(config(world, rollout=environment(world, episode_tokens=500))).max_model_len == 500
    most = prepare(config(world, rollout=environment(world, max_new_tokens=1500))).max_model_len
    assert most == 2048  # the model's positions


def test_an_environment_may_take_the_answers_of_the_data_for_what_it_likes(world: Path) -> None:
    rows = [json.dumps({"prompt": "1+1=", "answer": "a game"})] * 4
    (world / "games.jsonl").write_text("\n".join(rows))
    data = {"path": str(world / "games.jsonl")}
    assert len(prepare(config(world, data=data, rollout=environment(world))).prompts) == 4
    with pytest.raises(ConfigError, match="a game"):
        prepare(config(world, data=data))


ONE_TURN = "{{ messages[0].content }}{% if messages | length > 1 %}{{ raise_exception('one turn') }}{% endif %}"
LEAVES_THOUGHTS = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content if loop.last else m.content.split('</think>')[-1] }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"rollout": {"episode_tokens": 4096}}, "rollout.episode_tokens must be at most the model's 2048 positions"),
        ({"rollout": {"episode_tokens": 2}}, "must be above the 6 tokens of the longest prompt, got 2"),
        (
            {"rollout": {"episode_seconds": 1800}},
            "rollout.episode_seconds must be below rollout.timeout_seconds = 1800",
        ),
        (
            {"rollout": {"environment": "/nowhere.py"}},
            "rollout.environment file must be a Python file, and there is no",
        ),
        (
            {"learner": {"algorithm": "self-critical"}, "objective": {"imitation": 0}},
            "needs greedy of a single question",
        ),
        (
            {"data": {"chat_template": ONE_TURN}},
            "the chat template refuses the messages (user, assistant, user): one t",
        ),
        (
            {"data": {"chat_template": LEAVES_THOUGHTS}, "learner": {"algorithm": "iterative-dpo"}},
            "shows past turns otherwise than they were",
        ),
        (
            {"reward": {"name": "own", "own": {"file": "GROUP"}}},
            "reward.own compares the responses of a group, and an environment has each graded alone",
        ),
    ],
)
def test_what_does_not_go_with_an_environment_is_refused_with_what_to_do(
    world: Path, sections: dict, message: str
) -> None:
    (world / "group.py").write_text(
        "def reward_group(responses, reference, prompt):\n    return [1] * len(responses)\n"
    )
    template = world / "template.jinja"
    template.write_text(sections.get("data", {}).get("chat_template", ""))
    known = {"data": {"chat_template": str(template)}, "reward": {"own": {"file": str(world / "group.py")}}}
    tree = {name: values | known.get(name, {}) for name, values in sections.items()}
    rollout = environment(world) | tree.pop("rollout", {})
    with pytest.raises(ConfigError) as failure:
        prepare(config(world, **tree, rollout=rollout))
    assert message in str(failure.value)
