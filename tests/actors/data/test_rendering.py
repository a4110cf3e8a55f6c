from pathlib import Path

import pytest

from actors.data.messages import Message, conversation_of, messages_in, question_of
from actors.data.rendering import Renderer, leading_tokens
from actors.errors import DataError
from actors.settings import DataSettings
from rewards import ChatMessage
from tests.tables import each
from tests.tokenizers import CHATML, NO_SYSTEM, chatty, letters

TURNS = (
    Message("system", "Be brief."),
    Message("user", "1+1"),
    Message("assistant", "2"),
    Message("user", "2+2"),
)


@each(
    ("cell", "found"),
    [
        ([{"role": "user", "content": "1+1"}], (Message("user", "1+1"),)),
        (
            [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "human", "value": "c"}],
            (Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
        ),
        ({"messages": [{"role": "user", "content": "x"}]}, (Message("user", "x"),)),
        ({"conversations": [{"from": "human", "value": "x"}], "id": 3}, (Message("user", "x"),)),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            (Message("user", "ab"),),
        ),
        ([{"role": "user", "content": "x", "name": None, "tool_calls": None}], (Message("user", "x"),)),
        ([{"role": "prompter", "content": "x", "function_call": None}], (Message("user", "x"),)),
        ([{"role": "user", "content": "x", "reasoning_content": "\n", "thinking": None}], (Message("user", "x"),)),
        ("text", None),
        ('[{"role": "user", "content": "x"}]', None),  # a text stays a text
        (["a", "b"], None),
        ({"a": 1}, None),
        ([], None),
        (3, None),
    ],
)
def test_messages_are_found_in_the_forms_of_datasets(cell: object, found: object) -> None:
    assert messages_in(cell) == found


@each(
    ("cell", "problem"),
    [
        ([{"role": "user", "content": "a"}, {"role": "user"}], "message 2 without 'role' and 'content'"),
        ([{"role": "user", "content": "a"}, "b"], "message 2 without 'role' and 'content'"),
        ([{"role": "", "content": "a"}], "whose role is ''"),
        ([{"role": None, "content": "a"}], "whose role is None"),
        ([{"role": "user", "content": None}], "whose content is 'None', expected a text"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], "a policy reads text only"),
        ([{"role": "system", "content": "a"}], "messages of the system alone"),
        ([{"role": "assistant", "content": "", "function_call": {"name": "f"}}], "message 1 with function_call: write"),
        (
            [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "reasoning_content": "c"}],
            "message 2 with reasoning_content: write the thoughts into its content, as the model writes them",
        ),
        ([{"role": "assistant", "content": "b", "thinking": "c"}], "message 1 with thinking: write"),
        (
            [{"from": "function_call", "value": "{}"}],
            "message 1 whose role is 'function_call': make it the assistant's",
        ),
    ],
)
def test_messages_that_are_none_are_refused(cell: object, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        messages_in(cell)


def test_the_question_is_what_the_user_said_or_all_turns() -> None:
    assert question_of("1+1") == "1+1"
    assert question_of(TURNS[:2]) == "1+1"
    assert question_of((Message("developer", "x"), Message("user", "1+1"), Message("assistant", "It"))) == "1+1"
    assert question_of(TURNS) == "user: 1+1\n\nassistant: 2\n\nuser: 2+2"


BEGUN = (Message("user", "1+1"), Message("assistant", "It"))
ODD = (Message("developer", "x"), Message("user", "a"), Message("observation", "b"), Message("critic", "c"))


@each(
    ("asked", "system", "messages"),
    [
        ("1+1", "", ()),
        ("1+1", "S", (("system", "S"), ("user", "1+1"))),
        (TURNS[1:2], "", ()),
        (BEGUN, "", ()),  # the beginning of the answer is no message of the prompt
        (BEGUN, "S", (("system", "S"), ("user", "1+1"))),
        (TURNS[:2], "", (("system", "Be brief."), ("user", "1+1"))),
        (TURNS, "S", (("system", "Be brief."), ("user", "1+1"), ("assistant", "2"), ("user", "2+2"))),
        (TURNS[1:], "", (("user", "1+1"), ("assistant", "2"), ("user", "2+2"))),
        (ODD, "S", (("system", "x"), ("user", "a"), ("tool", "b"), ("critic", "c"))),
    ],
)
def test_models_that_grade_get_all_messages_in_their_roles_where_there_are_several(
    asked: str | tuple[Message, ...], system: str, messages: tuple[tuple[str, str], ...]
) -> None:
    assert conversation_of(asked, system) == tuple(ChatMessage(*each) for each in messages)


def test_messages_go_through_the_chat_template() -> None:
    renderer = Renderer(DataSettings(template="Q: {prompt}"), chatty())
    assert renderer.render(TURNS) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1<|im_end|>\n"
        "<|im_start|>assistant\n2<|im_end|>\n<|im_start|>user\nQ: 2+2<|im_end|>\n<|im_start|>assistant\n"
    )
    assert renderer.tokens([renderer.render(TURNS)])[0].count(3) == 5  # <|im_start|>


def test_messages_that_end_with_the_assistants_are_continued() -> None:
    renderer = Renderer(DataSettings(), chatty())
    asked = (Message("user", "1+1"), Message("assistant", "It is"))
    assert renderer.render(asked) == "<|im_start|>user\n1+1<|im_end|>\n<|im_start|>assistant\nIt is"


@each(
    ("asked", "row", "run", "system"),
    [
        ("1+1", "", "", None),
        ("1+1", "", "of the run", "of the run"),
        ("1+1", "of the row", "of the run", "of the row"),
        (TURNS, "of the row", "of the run", "Be brief."),
    ],
)
def test_a_system_message_comes_from_messages_row_or_run(
    asked: str | tuple[Message, ...], row: str, run: str, system: str | None
) -> None:
    text = Renderer(DataSettings(system=run), chatty()).render(asked, row)
    assert text.count("system") == (0 if system is None else 1)
    assert system is None or text.startswith(f"<|im_start|>system\n{system}<|im_end|>")


def test_template_and_chat_template_stand_around_the_prompt() -> None:
    data = DataSettings(template="Q: {prompt}\nA:", system="Be brief.")
    around = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ: 1+1\nA:<|im_end|>\n<|im_start|>assistant\n"
    plain = data.model_copy(update={"system": ""})
    assert Renderer(plain, letters()).render("1+1") == "Q: 1+1\nA:"
    assert Renderer(data, chatty()).render("1+1") == around
    assert Renderer(plain.model_copy(update={"chat": False}), chatty()).render("1+1") == "Q: 1+1\nA:"
    with pytest.raises(DataError, match=r"there is a system message .* and no chat template is in use"):
        Renderer(data, letters()).render("1+1")


def test_a_template_is_a_file_or_one_of_the_tokenizers_and_takes_arguments(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{{ messages[0].content }}!")
    own = DataSettings(chat_template=str(tmp_path / "mine.jinja"))
    assert Renderer(own, letters()).render("1+1") == "1+1!"  # the tokenizer has none
    assert Renderer(own, chatty()).render("1+1") == "1+1!"
    several = {"default": CHATML, "short": "{{ messages[0].content }}?"}
    assert Renderer(DataSettings(chat_template="short"), chatty(several)).render("1+1") == "1+1?"
    assert Renderer(DataSettings(), chatty(several)).render("1+1").startswith("<|im_start|>")
    quick = DataSettings(chat_arguments={"enable_thinking": False})
    assert Renderer(quick, chatty()).render("1+1").endswith("assistant\n<think></think>")


@each(
    ("data", "template", "problem"),
    [
        ({"chat": True}, None, "the tokenizer has no chat template"),
        ({"chat_template": "none.jinja"}, None, "'none.jinja' is no file with a chat template"),
        ({"chat_template": "long"}, {"a": CHATML, "b": CHATML}, "the tokenizer names a, b"),
        ({}, "hello", "the chat template leaves out what the user says"),
        ({}, "{{ messages[0].role }}", "the chat template leaves out what the user says"),
        ({}, {"a": CHATML, "b": CHATML}, "has the chat templates a, b: choose by data.chat_template"),
    ],
)
def test_a_chat_template_that_is_not_there_is_refused(
    data: dict[str, object], template: str | dict[str, str] | None, problem: str
) -> None:
    tokenizer = letters() if template is None else chatty(template)
    with pytest.raises(DataError, match=problem):
        Renderer(DataSettings(**data), tokenizer)  # type: ignore[arg-type]


def test_an_empty_template_and_one_that_leaves_out_a_system_message_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("")
    with pytest.raises(DataError, match=r"mine\.jinja \(data\.chat_template\) is empty"):
        Renderer(DataSettings(chat_template=str(tmp_path / "mine.jinja")), chatty())
    users = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    assert Renderer(DataSettings(), chatty(users)).render("1+1") == "1+1"
    with pytest.raises(DataError, match=r"leaves out the system message: put its text into data\.template"):
        Renderer(DataSettings(), chatty(users)).render((Message("system", "a"), Message("user", "b")))
    with pytest.raises(DataError, match=r"leaves out the system message"):
        Renderer(DataSettings(system="Be brief."), chatty(users)).render("1+1")


KNOWN = (
    "{% for m in messages %}"
    "{% if m.role in ['user', 'assistant', ROLES] and not (m.role == 'system' and loop.index > 1) %}"
    "<{{ m.role }}>{{ m.content | trim }}{% endif %}{% endfor %}"
)
SPOKEN = (Message("user", "1"), Message("assistant", "2"))


def knowing(*roles: str) -> Renderer:
    """With a template that shows these roles beside user and assistant, of system messages the first one."""
    return Renderer(DataSettings(), chatty(KNOWN.replace("ROLES", ", ".join(map(repr, roles)) or "''")))


@each(
    ("roles", "asked", "text"),
    [
        (("tool",), (*SPOKEN, Message("observation", "3")), "<user>1<assistant>2<tool>3"),
        (("tool",), (*SPOKEN, Message("function", "3")), "<user>1<assistant>2<tool>3"),
        (("observation",), (*SPOKEN, Message("observation", "3")), "<user>1<assistant>2<observation>3"),
        (("system",), (Message("developer", "0"), *SPOKEN), "<system>0<user>1<assistant>2"),
        (("developer",), (Message("developer", "0"), *SPOKEN), "<developer>0<user>1<assistant>2"),
        ((), (Message("system", " "), Message("user", "1")), "<user>1"),
    ],
)
def test_a_role_has_the_name_that_the_template_knows(
    roles: tuple[str, ...], asked: tuple[Message, ...], text: str
) -> None:
    assert knowing(*roles).render(asked) == text


@each(
    ("roles", "asked", "problem"),
    [
        (("tool",), (*SPOKEN, Message("critic", "3")), "leaves out the critic message: give it a role that is shown"),
        (
            (),
            (*SPOKEN, Message("observation", "3")),
            "leaves out the tool message: give it a role that is shown, or set",
        ),
        ((), (Message("critic", "3"), *SPOKEN[:1]), "leaves out the critic message"),
        (
            ("system",),
            (*SPOKEN, Message("system", "3"), *SPOKEN[:1]),
            "leaves out the system message: put its text into",
        ),
    ],
)
def test_a_message_of_which_the_template_shows_nothing_is_refused(
    roles: tuple[str, ...], asked: tuple[Message, ...], problem: str
) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl:7: the chat template {problem}"):
        knowing(*roles).render_asked("a.jsonl:7", asked)


def test_an_order_of_roles_is_looked_at_once() -> None:
    renderer, rendered = knowing("tool"), []
    templated = renderer.templated
    renderer.templated = lambda *asked: rendered.append(asked) or templated(*asked)  # type: ignore[method-assign, func-returns-value]
    for number in range(5):
        renderer.render((*SPOKEN, Message("tool", str(number))))
    assert len(rendered) == 6


def test_what_a_template_refuses_is_said_with_the_way_out() -> None:
    renderer = Renderer(DataSettings(system="Be brief."), chatty(NO_SYSTEM))
    with pytest.raises(DataError, match=r"refuses the messages \(system, user\): System role not supported\. Where it"):
        renderer.render("1+1")


def test_turns_for_a_model_without_a_chat_template_are_refused_and_a_single_one_is_its_text() -> None:
    renderer = Renderer(DataSettings(template="Q: {prompt}"), letters())
    assert renderer.render((Message("user", "1+1"),)) == "Q: 1+1"
    with pytest.raises(DataError, match=r"4 chat messages \(system, user, assistant, user\), and no chat template"):
        renderer.render(TURNS)


@each(
    ("tokenizer", "leading"),
    [
        (letters(), []),
        (letters(bos=True), [0]),
        (letters(bos=True, eos_behind=True), [0]),
        (letters(eos_behind=True), []),
    ],
)
def test_plain_text_has_the_tokenizers_bos_before_it_and_nothing_behind(tokenizer: object, leading: list[int]) -> None:
    assert leading_tokens(tokenizer) == leading  # type: ignore[arg-type]
    renderer = Renderer(DataSettings(), tokenizer)  # type: ignore[arg-type]
    (plain,) = letters()(["12"], add_special_tokens=False)["input_ids"]
    assert renderer.tokens(["12"]) == [[*leading, *plain]]
    assert renderer.tokens(["<s>12"]) == [[0, *plain]]  # the template wrote it: there is no second one


def test_a_chat_template_writes_its_own_bos() -> None:
    renderer = Renderer(DataSettings(), chatty(NO_SYSTEM, bos=True))
    assert renderer.tokens([renderer.render("12")])[0].count(0) == 1
    without = Renderer(DataSettings(), chatty(CHATML, bos=True))
    assert without.tokens([without.render("12")])[0].count(0) == 0
