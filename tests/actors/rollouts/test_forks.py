"""Forks of a conversation, and turns that are sampled step by step: what they hold, and what of them is trained on."""

from pathlib import Path

import pytest

from actors.sampled import check_turns
from actors.types import Finish, Group
from rewards import Outcome, RewardSettings
from tests.environments import CUT, Paper, played
from tests.tokenizers import FORMS, family

STEPS = "import asyncio\nasync def to_end(seat):\n    while not (await seat.more(stop=';')).ended:\n        pass\n"


def code(body: str, before: str = "") -> str:
    return f"{before}\nasync def play(task, talk):\n    " + body.replace("\n", "\n    ")


async def group_of(tmp_path: Path, body: str, engine: Paper, *, before: str = "", **more: object) -> Group:
    """A group of the environment. Each sampled stretch of it is what the engine said behind exactly what it was shown
    then, or the beginning of that."""
    file = tmp_path / str(len(list(tmp_path.iterdir()))) / "mine.py"
    file.parent.mkdir()
    group = (await played(file, code(body, before), engine, **more)).group  # type: ignore[arg-type]
    said = list(zip(engine.shown, engine.said, strict=True))
    for one in group.trajectories:
        check_turns(one.tokens, one.sampled, one.turns)
        ids = one.tokens.tolist()
        for turn in one.turns:
            own = ids[turn.start : turn.end]
            assert any(ids[: turn.start] == shown and own == whole[: len(own)] for shown, whole in said)
    return group


def paths(group: Group) -> dict[str, str]:
    return {one.seat: one.text for one in group.trajectories}


def failure(group: Group) -> str:
    assert {verdict.outcome for verdict in group.verdicts} == {Outcome.ERROR}
    return group.verdicts[0].why


# ------------------------------------------------------------------------------------------------ step by step


async def test_the_policy_goes_on_with_its_turn_where_it_left_off(tmp_path: Path) -> None:
    engine = Paper(["one;never", "two;", "three"])
    body = (
        "one = await talk(task, stop=';')\nassert (one.text, one.finish, one.ended) == ('one;', 'stop', False)\n"
        "two = await talk.more(stop=(';', '!'))\nassert (two.text, two.tokens, two.ended) == ('two;', 4, False)\n"
        "three = await talk.more(stop=';')\nassert (three.text, three.ended) == ('three', True)\n"
        "assert (talk.turn.text, talk.turn.tokens) == ('one;two;three', 13)\n"
        "assert (await talk.more()).tokens == 0\nreturn 1.0"
    )
    group = await group_of(tmp_path, body, engine, rollout={"max_turns": 1})
    (only,) = group.trajectories
    assert (only.text, only.finish) == ("one;two;three", Finish.STOP)
    assert "".join(map(chr, only.tokens)) == "?one;two;three"
    assert only.sampled.tolist() == [False] + [True] * 13
    assert only.versions.tolist() == [-1] + [1] * 4 + [2] * 4 + [3] * 5
    assert [(turn.start, turn.end, turn.after) for turn in only.turns] == [
        (1, 5, "opening"),
        (5, 9, "assistant"),
        (9, 14, "assistant"),
    ]
    assert [asked.stop for asked in engine.asked] == [(";",), (";", "!"), (";",)]
    assert len(set(engine.seeds)) == 3


async def test_a_turn_that_was_cut_goes_on_and_is_followed_as_any_other(tmp_path: Path) -> None:
    body = (
        "first = await talk('x', max_tokens=2)\nassert (first.finish, first.ended) == ('length', False)\n"
        "await talk.more()\nnext = await talk('y')\nassert talk.turn.text == next.text == 'ef'\nreturn 1.0"
    )
    group = await group_of(tmp_path, body, Paper(["abc", "cd", "ef"]))
    assert "".join(map(chr, group.trajectories[0].tokens)) == "xabcdyef"
    assert group.trajectories[0].sampled.tolist() == [False, True, True, True, True, False, True, True]


async def test_a_text_of_the_run_ends_the_turn(tmp_path: Path) -> None:
    body = "turn = await talk('x', stop=';')\nassert turn.ended and turn.text == 'a.'\nreturn 1.0"
    group = await group_of(tmp_path, body, Paper(["a.b;"]), rollout={"stop": ("\n", ".")})
    assert group.verdicts[0].score == 1.0


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"max_new_tokens": 5}, "abcde"), ({"episode_tokens": 5}, "abcd")],  # of these the question is one
)
async def test_steps_end_where_no_room_is_left(limits: dict[str, int], said: str, tmp_path: Path) -> None:
    body = (
        "await talk(task, stop='b')\nwhile not talk.turn.ended:\n    await talk.more(max_tokens=2)\n"
        "assert talk.turn.finish == 'length'\nreturn 1.0"
    )
    group = await group_of(tmp_path, body, Paper(["abz", "cd", "efg"]), rollout=limits)
    assert (group.trajectories[0].text, group.trajectories[0].finish) == (said, Finish.LENGTH)


async def test_the_fewest_tokens_are_those_of_the_whole_turn(tmp_path: Path) -> None:
    engine = Paper(["abc" + CUT, "d"])
    await group_of(tmp_path, "await talk('x')\nawait talk.more()\nreturn 1.0", engine, rollout={"min_tokens": 4})
    assert [asked.min_tokens for asked in engine.asked] == [4, 1]


async def test_a_reward_of_a_step_lies_on_its_last_token(tmp_path: Path) -> None:
    judged = RewardSettings(**{"span_weight": 1.0, "name": "own", "own": {"file": "x"}})
    body = "await talk('x', stop=';')\ntalk.reward(0.5)\nawait talk.more()\ntalk.reward(-1)\nreturn 1.0"
    group = await group_of(tmp_path, body, Paper(["ab;", "cd"]), reward=judged)
    found = {place: value for place, value in enumerate(group.span_rewards[0].tolist()) if value == value}
    assert found == {3: 0.5, 5: -1.0}


# ------------------------------------------------------------------------------------------------------- forks


async def test_leaves_are_siblings_that_hold_their_whole_path(tmp_path: Path) -> None:
    body = (
        "await talk(task, stop=';')\na, b = talk.fork(), talk.fork()\n"
        "await asyncio.gather(a.more(stop=';'), b.more(stop=';'))\n"
        "c, d = a.fork(), a.fork()\nawait c.more()\nawait d.more()\n"
        "return {b.name: -1.0, c.name: 1.0, d.name: 0.5}"
    )
    engine = Paper(["r;", "a;", "b;", "c", "d"])
    group = await group_of(tmp_path, body, engine, before=STEPS)
    assert paths(group) == {"policy.2": "r;b;", "policy.1.1": "r;a;c", "policy.1.2": "r;a;d"}
    assert {one.siblings for one in group.trajectories} == {"policy"}
    assert [verdict.score for verdict in group.verdicts] == [-1.0, 1.0, 0.5]
    assert all(one.sampled.tolist() == [False] + [True] * (len(one.tokens) - 1) for one in group.trajectories)
    assert group.trajectories[1].versions.tolist() == [-1, 1, 1, 2, 2, 4]


async def test_what_was_sampled_once_is_counted_once(tmp_path: Path) -> None:
    body = (
        "await talk(task, stop=';')\nleaves = [talk.fork() for _ in range(3)]\n"
        "for leaf in leaves:\n    await leaf.more()\nlabel = leaves[0].fork(at=1, trained=False)\nawait label.more()\n"
        "return 1.0"
    )
    engine = Paper(["aa;", "b", "cc", "ddd", "xxxx"])
    graded = await played(tmp_path / "mine.py", code(body), engine)
    assert graded.summary.lengths == (4, 5, 6)
    assert sum(graded.summary.lengths) + graded.summary.extra_tokens == sum(map(len, engine.said)) == 13
    assert graded.summary.episodes is not None
    assert graded.summary.episodes.turns == 1  # steps are none


async def test_a_trunk_that_goes_on_is_a_response_of_its_own(tmp_path: Path) -> None:
    body = "await talk(task, stop=';')\nfork = talk.fork()\nawait fork.more()\n{}return 1.0"
    group = await group_of(tmp_path, body.format(""), Paper(["r;", "a"]))
    assert paths(group) == {"policy.1": "r;a"}
    group = await group_of(tmp_path, body.format("await talk.more()\n"), Paper(["r;", "a", "b"]))
    assert paths(group) == {"policy": "r;b", "policy.1": "r;a"}


@pytest.mark.parametrize(
    "made", ["talk.fork()", "await talk.fork(trained=False).more()", "await talk.fork(at=1).more()"]
)
async def test_a_trunk_stays_a_response_where_no_trained_fork_went_on_from_its_end(made: str, tmp_path: Path) -> None:
    group = await group_of(tmp_path, f"await talk(task, stop=';')\n{made}\nreturn 1.0", Paper(["r;", "a"]))
    found = paths(group)
    assert found.pop("policy") == "r;"
    assert found == ({"policy.1": "ra"} if "at=1" in made else {})


async def test_a_fork_goes_on_from_any_place_of_the_turn(tmp_path: Path) -> None:
    body = (
        "await talk(task)\nsteps = talk.steps(';')\nassert [s.text for s in steps] == ['a;', 'bc;', 'd']\n"
        "assert [step.end for step in steps] == [2, 5, 6]\n"
        "for at in (0, steps[0].end, steps[1].end, 6):\n"
        "    fork = talk.fork(at=at)\n    assert fork.turn.text == 'a;bc;d'[:at]\n    await fork.more()\n"
        "assert talk.turn.text == 'a;bc;d'\nreturn 1.0"
    )
    engine = Paper(["a;bc;d", "1", "2", "3"])
    group = await group_of(tmp_path, body, engine)
    assert paths(group) == {"policy.1": "1", "policy.2": "a;2", "policy.3": "a;bc;3", "policy.4": "a;bc;d"}
    assert [engine.read(shown) for shown in engine.shown] == ["?", "?", "?a;", "?a;bc;"]
    assert [turn.after for turn in group.trajectories[0].turns] == ["opening"]


async def test_a_place_in_a_later_step_keeps_the_steps_before_it(tmp_path: Path) -> None:
    body = (
        "await talk('x')\nawait talk('y', stop=';')\nawait talk.more()\n"
        "fork = talk.fork(at=3)\nassert fork.turn.text == 'a;b'\nawait fork.more()\nreturn 1.0"
    )
    group = await group_of(tmp_path, body, Paper(["0", "a;", "bc", "z"]))
    assert paths(group) == {"policy": "0a;bc", "policy.1": "0a;bz"}
    spans = [(turn.start, turn.end, turn.after) for turn in group.trajectories[1].turns]
    assert spans == [(1, 2, "opening"), (3, 5, "user"), (5, 6, "assistant"), (6, 7, "assistant")]


async def test_forks_may_open_the_conversation_and_say_things_of_their_own(tmp_path: Path) -> None:
    body = (
        "a, b = talk.fork(), talk.fork()\nawait a(task)\nawait b('other')\nawait a('more?')\n"
        "return {a.name: 1, b.name: -1}"
    )
    group = await group_of(tmp_path, body, Paper(["1", "2", "3"]), rollout={"max_turns": 2})
    assert {one.seat: "".join(map(chr, one.tokens)) for one in group.trajectories} == {
        "policy.1": "?1more?3",
        "policy.2": "other2",
    }


async def test_turns_are_bounded_on_each_path(tmp_path: Path) -> None:
    body = (
        "await talk('x')\nforks = [talk.fork() for _ in range(5)]\n"
        "for fork in forks:\n    assert (await fork('y')).text == 'a'\n"
        "    assert (await fork('z')).finish == 'length'\n"
        "return 1.0"
    )
    group = await group_of(tmp_path, body, Paper(lambda shown: "a"), rollout={"max_turns": 2})
    assert [one.text for one in group.trajectories] == ["aa"] * 5


async def test_seeds_do_not_follow_the_order_in_which_forks_are_asked(tmp_path: Path) -> None:
    def says(shown: str) -> str:
        return "s;" if shown == "?" else "b"

    found = []
    for order in ("a, b", "b, a"):
        body = (
            "await talk(task, stop=';')\na, b = talk.fork(), talk.fork()\n"
            f"for fork in ({order}):\n    await fork.more()\nreturn 1.0"
        )
        await group_of(tmp_path, body, engine := Paper(says))
        found.append(engine.seeds)
    assert len(set(found[0])) == 3
    assert found[1] == [found[0][0], found[0][2], found[0][1]]


async def test_a_fork_has_the_tools_of_the_seat_and_reads_calls_of_the_whole_turn(tmp_path: Path) -> None:
    said = '"""Adds.\n\n    Args:\n        a: one\n        b: two\n    """'
    before = f"def add(a: int, b: int) -> int:\n    {said}\n    return a + b\n"
    call = '{"name": "add", "arguments": {"a": 2, "b": 3}}'
    body = (
        "talk.tools([add])\nawait talk(task, max_tokens=20)\nfork = talk.fork()\nstep = await fork.more()\n"
        "assert len(step.calls) == len(fork.turn.calls) == 1\n"
        "turn = await fork(await fork.run(fork.turn.calls), role='tool')\nreturn turn.text == '5'"
    )
    engine = Paper([call, call[20:], "5"])
    group = await group_of(tmp_path, body, engine, before=before)
    assert (group.verdicts[0].score, group.verdicts[0].why) == (1.0, "the score of the environment")
    assert paths(group) == {"policy.1": call + "5"}


async def test_grade_of_a_fork_sees_its_whole_path(tmp_path: Path) -> None:
    body = "await talk(task, stop=';')\nfork = talk.fork()\nawait fork.more()\nreturn await fork.grade()"
    group = await group_of(tmp_path, body, Paper(["4+1;", "is five"]), prompt=None)
    assert group.verdicts[0].outcome is Outcome.WRONG
    group = await group_of(tmp_path, body, Paper(["it is 5;", "so"]))
    assert group.verdicts[0].outcome is Outcome.CORRECT


@pytest.mark.parametrize("name", FORMS)
async def test_steps_are_one_turn_for_a_chat_template(name: str, tmp_path: Path) -> None:
    whole, stepped = family(name), family(name)
    talked = "await talk('one')\nawait talk('two')\nreturn 1.0"
    plain = await group_of(tmp_path, talked, Paper(["a;b", "c"], whole))
    body = (
        "await talk('one', stop=';')\nfork = talk.fork()\nassert (await fork.more()).ended\nawait fork('two')\n"
        "back = fork.fork(at=0)\nassert back.turn.text == ''\nawait back.more()\nreturn 1.0"
    )
    forked = await group_of(tmp_path, body, Paper(["a;", "b", "c", "d"], stepped))
    tokens = {one.seat: one.tokens.tolist() for one in forked.trajectories}
    assert tokens["policy.1"] == plain.trajectories[0].tokens.tolist()
    assert whole.decode(tokens["policy.1.1"]) == whole.decode(tokens["policy.1"])[:-1] + "d"


async def test_forks_go_on_where_a_template_shows_the_past_otherwise(tmp_path: Path) -> None:
    tokenizer = family("qwen")  # leaves out the thoughts of turns before the last question
    says = ["<think>hm</think>a<|im_end|>", "b<|im_end|>", "c<|im_end|>"]
    body = "await talk('one')\nx, y = talk.fork(), talk.fork()\nawait x('two')\nawait y('three')\nreturn 1.0"
    group = await group_of(tmp_path, body, Paper(says, tokenizer))
    assert [(one.seat, one.continues) for one in group.trajectories] == [
        ("policy.1", False),
        ("policy.1", True),
        ("policy.2", False),
        ("policy.2", True),
    ]
    first, second, third, fourth = [tokenizer.decode(one.tokens.tolist()) for one in group.trajectories]
    assert first == third
    assert "hm" in first
    assert "hm" not in second + fourth
    assert (second.count("two"), fourth.count("three")) == (1, 1)


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("await talk.more()", "line 3, in play: has the seat 'policy' go on with a turn, and it has none"),
        ("await talk('x')\ntalk.fork(at=9)",
         "line 4, in play: forks the seat 'policy' at token 9 of its turn, which has 1"),
        ("await talk('x')\ntalk.fork(at=-1)", "at token -1 of its turn"),
        ("await talk('x')\ntalk.steps('')", "takes steps up to ''"),
        ("await talk('x', stop='')", "stops at '': give a text, or several"),
        ("talk.turn", "asks for the last turn of the seat 'policy', which has none"),
        ("await talk('x')\nwhile True:\n    await talk.more()",
         "goes on asking for more of a turn that has ended: see `ended`"),
        ("turn = asyncio.ensure_future(talk('x'))\nawait asyncio.sleep(0)\ntalk.fork()",
         "forks the seat 'policy', which is in the middle of its turn"),
        ("talk.url\ntalk.fork()", "forks the seat 'policy', which an agent asks by its address"),
        ("await talk('x')\nawait talk.fork().more()\nreturn {'policy': 1.0}",
         "returned no score of the seat 'policy.1'"),
    ],
)  # fmt: skip
async def test_misuse_is_told_with_its_line(body: str, why: str, tmp_path: Path) -> None:
    group = await group_of(tmp_path, body, Paper(lambda shown: "a"), before="import asyncio")
    assert why in failure(group)
    assert failure(group).startswith("mine.py, line ")
