"""What a shell or a habit makes of a value on the command line is not taken for a text that nobody meant."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from cluster.config.errors import ConfigError
from cluster.config.overrides import override
from cluster.config.reading import load_config
from tests.tables import each

RUNS = Path(__file__).parents[3] / "deploy" / "runs"


def tree_with(item: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    override(tree, item)
    return tree


def as_typed(line: str) -> str:
    """The word that a shell hands over."""
    (word,) = shlex.split(line)
    return word


@each(
    ("line", "written"),
    [
        ('rollout.stop=["</answer>"]', """'rollout.stop=["[</answer>]"]'"""),
        ("model.control_tokens=[good]", """'model.control_tokens=["one", "two"]'"""),
        ('data.prompt_column=["question"]', """'data.prompt_column=["one", "two"]'"""),
        ('data.path={"a/b.jsonl"=3}', """'data.path={"one" = 1, "two" = 2}'"""),
        ("eval.path={m=m.jsonl}", """'eval.path="{m=m.jsonl}"'"""),
        ("reward.sum.weights={sql:1}", """'reward.sum.weights={"one" = 1, "two" = 2}'"""),
        ("rollout.rounds={size:4}", """'rollout.rounds={"one" = 1, "two" = 2}'"""),
        (r"rollout.stop='\n'", r"""'rollout.stop="\n"'"""),
        (r"'data.template={prompt}\nAnswer:'", r"""'data.template="{prompt}\nAnswer:"'"""),
        (r"'data.template={prompt}\tA'", r"""'data.template="{prompt}\tA"'"""),
        (r"'data.system=be brief\nuse \text{x}'", r"""'data.system="be brief\nuse \\text{x}"'"""),
        (r"'data.system=keep \\nabla'", r"""'data.system="keep \\\\nabla"'"""),
        (r"""'data.template="{prompt} \(x\)"'""", r"""'data.template="{prompt} \\(x\\)"'"""),
        ("data.chat_arguments.enable_thinking=False", """'data.chat_arguments.enable_thinking="False"'"""),
        ("data.system=None", """'data.system="None"'"""),
    ],
)
def test_a_value_that_is_hardly_meant_as_its_text_is_refused_with_how_to_write_it(line: str, written: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        override({}, as_typed(line))
    assert written in str(refusal.value)
    override({}, as_typed(written))


@each(
    ("line", "value"),
    [
        (r"'data.template={prompt}'", "{prompt}"),
        (r"'data.template=[INST] {prompt} [/INST]'", "[INST] {prompt} [/INST]"),
        (r"'data.template={prompt} in \boxed{}, as \text{x} \times \frac{1}{2}'", None),
        (r"'data.template={prompt} below C:\data'", r"{prompt} below C:\data"),
        (r"""'data.template="{prompt}\nA"'""", "{prompt}\nA"),
        ("'data.path=[ab]*.jsonl'", "[ab]*.jsonl"),
        ("""'rollout.stop=["\\n", "x"]'""", ["\n", "x"]),
        ("'rollout.stop={'", "{"),
        ("""'rollout.stop="'""", '"'),
        ("rollout.stop=a,b", "a,b"),
        ("cluster.env.LIST=[a]", "[a]"),
        ("cluster.env.NCCL_IB_DISABLE=1", "1"),  # a number where there are only texts
        ("run.name=2026-11-30", "2026-11-30"),
        ("cluster.generators=2", 2),
        ("data.chat=False", "False"),  # which is read as false
        ("filter.drop=none", "none"),
        ("reward.own.file=[a", "[a"),
        ("no.such=[a", "[a"),  # is said to be unknown
    ],
)
def test_other_texts_need_no_quotes(line: str, value: object) -> None:
    name, _, text = as_typed(line).partition("=")
    found: Any = tree_with(f"{name}={text}")
    for key in name.split("."):
        found = found[key]
    assert found == (text if value is None else value)


def test_a_line_break_in_the_word_itself_stays() -> None:
    assert tree_with("data.template={prompt}\nAnswer:") == {"data": {"template": "{prompt}\nAnswer:"}}


def test_a_table_sets_what_it_names_of_a_section_and_replaces_a_value(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        '[world]\nname = "addition"\n[learner]\nadapter = {rank = 16, targets = ["q_proj"]}\n'
        "[data]\nchat_arguments = {a = 1, b = 2}\n"
    )
    config = load_config(file, ["learner.adapter={alpha = 8}", "data.chat_arguments={c = 3}"])
    assert (config.learner.adapter.rank, config.learner.adapter.alpha) == (16, 8.0)
    assert config.data.chat_arguments == {"c": 3}
    one = load_config(file, ["data.chat_arguments.b=5"])
    assert one.data.chat_arguments == {"a": 1, "b": 5}
