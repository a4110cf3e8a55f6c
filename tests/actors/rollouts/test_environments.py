"""Environments of a person's own file: what they may do, and what becomes of one that does something else."""

import asyncio
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.arrow import group_of, packed, unpacked
from actors.rollouts.own import load_environment
from actors.types import Finish, Group, Purpose
from rewards import Outcome, RewardSettings
from tests.environments import Paper, played, streams

LINE = r"mine\.py, line {}, in {}: "


def code(body: str, before: str = "") -> str:
    """A file with this environment; its first line is line 3."""
    return f"{before}\nasync def play(task, talk):\n    " + body.replace("\n", "\n    ")


# -------------------------------------------------------------------------------------------- what they may do


async def test_an_environment_has_the_row_and_the_runs_reward(tmp_path: Path) -> None:
    body = "turn = await talk(task)\nassert (task.question, task.reference) == ('?', '5')\nreturn await talk.grade()"
    group = await streams(tmp_path / "mine.py", code(body), Paper(["it is 5", "no"]), size=2)
    assert [verdict.score for verdict in group.verdicts] == [1.0, -1.0]
    assert [one.episode for one in group.trajectories] == [0, 1]
    assert group.prompt.tokens.tolist() == [ord("?")]


async def test_a_last_turn_can_be_graded_alone(tmp_path: Path) -> None:
    body = "await talk(task)\nturn = await talk('sure?')\nreturn await talk.grade(turn.text)"
    group = await streams(tmp_path / "mine.py", code(body), Paper(["it is 5", "no"]))
    assert [verdict.score for verdict in group.verdicts] == [-1.0]


@pytest.mark.parametrize(
    ("returned", "score", "outcome"),
    [("0.25", 0.25, "correct"), ("-0.5", -0.5, "wrong"), ("0", 0.0, "wrong"), ("True", 2.0, "correct"),
     ("False", -2.0, "wrong"), ("__import__('numpy').float32(1)", 1.0, "correct")],
)  # fmt: skip
async def test_a_score_is_a_number_or_a_truth_value(returned: str, score: float, outcome: str, tmp_path: Path) -> None:
    reward = RewardSettings(wrong=-2.0, correct=2.0)
    body = f"await talk(task)\nreturn {returned}"
    group = await streams(tmp_path / "mine.py", code(body), Paper(["a"]), reward=reward)
    assert [(verdict.score, verdict.outcome) for verdict in group.verdicts] == [(score, outcome)]


async def test_siblings_begin_alike_and_sample_apart(tmp_path: Path) -> None:
    body = "await talk(f'throw {task.seed}')\nreturn 1.0"
    engine = Paper(["a", "b", "c"])
    group = await streams(tmp_path / "mine.py", code(body), engine, size=3)
    assert len({tuple(shown) for shown in engine.shown}) == 1
    assert len(set(engine.seeds)) == 3
    again = Paper(["a", "b", "c"])
    await streams(tmp_path / "mine.py", code(body), again, size=3)
    assert (again.shown, again.seeds) == (engine.shown, engine.seeds)
    assert [one.siblings for one in group.trajectories] == ["policy"] * 3


GAME = code(
    "white, black = talk.seat('white'), talk.seat('black')\n"
    "first = await white('begin')\nsecond = await black(first.text)\nawait white(second.text)\n"
    "return {'white': 1.0, 'black': -1.0}"
)


async def test_two_seats_have_a_stream_and_a_score_each_and_siblings_of_their_own(tmp_path: Path) -> None:
    group = await streams(tmp_path / "mine.py", GAME, Paper(list("abcdef")), size=2)
    rows = list(zip(group.trajectories, group.verdicts, strict=True))
    assert [(one.episode, one.seat, one.siblings, verdict.score) for one, verdict in rows] == [
        (0, "white", "white", 1.0),
        (1, "white", "white", 1.0),
        (0, "black", "black", -1.0),
        (1, "black", "black", -1.0),
    ]
    whole = group_of(unpacked(packed(group)))
    assert [one.seat for one in whole.trajectories] == ["white", "white", "black", "black"]
    assert whole.prompt.tokens.tolist() == group.prompt.tokens.tolist()


async def test_each_set_of_siblings_is_a_set_of_the_summary(tmp_path: Path) -> None:
    graded = await played(tmp_path / "mine.py", GAME, Paper(list("abcdef")), size=2)
    assert graded.summary.siblings == (0, 0, 1, 1)
    assert graded.summary.scores == (1.0, 1.0, -1.0, -1.0)
    assert [one.scored for one in graded.summary.sets] == [(0, 1), (2, 3)]


async def test_an_opponent_that_is_not_trained_is_sampled_and_not_kept(tmp_path: Path) -> None:
    body = "other = talk.seat('other', trained=False)\nturn = await other('begin')\nawait talk(turn.text)\nreturn True"
    graded = await played(tmp_path / "mine.py", code(body), Paper(["abc", "d"]))
    (only,) = graded.group.trajectories
    assert (only.seat, only.text) == ("policy", "d")
    assert graded.summary.extra_tokens == 3
    assert graded.summary.lengths == (1,)


async def test_attempts_at_a_made_task_are_siblings_of_each_other(tmp_path: Path) -> None:
    body = (
        "made = await talk('make one')\n"
        "verdicts = await talk.solve(task.made(made.text, '4'), 2)\n"
        "share = sum(v.score > 0 for v in verdicts) / 2\nreturn 4 * share * (1 - share)"
    )

    def says(shown: str) -> str:
        return {"make one": "2+2?"}.get(shown, str(4 + len(engine.said) % 2))

    engine = Paper(says)
    group = await streams(tmp_path / "mine.py", code(body), engine, size=2)
    found = [(one.episode, one.seat, one.siblings) for one in group.trajectories]
    assert found[:2] == [(0, "policy", "policy"), (1, "policy", "policy")]
    assert sorted(found[2:]) == [(n, "solver", f"solver/{n}/0") for n in (0, 0, 1, 1)]
    assert engine.read(group.trajectories[2].tokens[:4]) == "2+2?"
    assert sorted(str(verdict.outcome) for verdict in group.verdicts[2:]) == ["correct"] * 2 + ["wrong"] * 2
    assert len(set(engine.seeds)) == 6


async def test_attempts_may_be_played_by_an_environment_of_their_own(tmp_path: Path) -> None:
    before = "async def twice(task, talk):\n    await talk(task)\n    return await talk('sure?') is None\n"
    body = "await talk('make one')\nawait talk.solve(task.made('2+2?'), 2, 'guesser', twice)\nreturn 1.0"
    group = await streams(tmp_path / "mine.py", code(body, before), Paper(lambda shown: "a"))
    assert [(one.seat, one.new_tokens) for one in group.trajectories] == [("policy", 1), ("guesser", 2), ("guesser", 2)]
    assert [verdict.score for verdict in group.verdicts] == [1.0, -1.0, -1.0]


async def test_rewards_of_turns_lie_on_their_last_tokens(tmp_path: Path) -> None:
    judged = {"reward": RewardSettings(**{"span_weight": 0.5, "name": "own", "own": {"file": "x"}})}
    body = (
        "await talk('x')\ntalk.reward(2)\ntalk.reward(1)\nawait talk('y')\nawait talk('z')\ntalk.reward(-1)\nreturn 1.0"
    )
    group = await streams(tmp_path / "mine.py", code(body), Paper(["ab", "cd", "ef"]), **judged)
    (rewards,) = group.span_rewards
    places = np.flatnonzero(~np.isnan(rewards))
    assert rewards[places].tolist() == [1.5, -0.5]
    assert group.trajectories[0].sampled[places].all()
    assert places.tolist() == [2, 8]
    without = await streams(tmp_path / "mine.py", code(body), Paper(["ab", "cd", "ef"]))
    assert "line 4, in play: rewards a turn, and reward.span_weight = 0" in without.verdicts[0].why


async def test_an_environment_may_do_several_things_at_once(tmp_path: Path) -> None:
    body = (
        "import asyncio\na, b = talk.seat('a'), talk.seat('b')\n"
        "await asyncio.gather(a('x'), b('y'), asyncio.to_thread(sum, [1]))\nreturn {'a': 1, 'b': -1}"
    )
    group = await streams(tmp_path / "mine.py", code(body), Paper(lambda shown: shown * 2))
    assert {one.seat: one.text for one in group.trajectories} == {"a": "xx", "b": "yy"}


async def test_an_evaluation_plays_the_same_environment(tmp_path: Path) -> None:
    graded = await played(tmp_path / "mine.py", GAME, Paper(list("abc")), purpose=Purpose.EVALUATION)
    assert graded.summary.outcomes == (Outcome.CORRECT, Outcome.WRONG)


async def test_the_summary_tells_what_went_on(tmp_path: Path) -> None:
    body = "await talk('xxx')\nawait talk('yy', role='tool')\nawait talk('z')\nreturn 1.0"
    graded = await played(tmp_path / "mine.py", code(body), Paper(lambda shown: "a"), size=2)
    found = graded.summary.episodes
    assert found is not None
    assert (found.count, found.turns, found.tool_calls, found.user_tokens, found.tool_tokens) == (2, 6, 2, 2, 4)
    assert found.seconds > 0


# ------------------------------------------------------------------------------------------------------ limits


async def test_a_conversation_that_is_full_says_so(tmp_path: Path) -> None:
    body = "turns = [await talk('x' * 4) for _ in range(4)]\nreturn 1.0 if turns[-1].finish == 'length' else -1.0"
    for limits, sampled in (({"max_new_tokens": 5}, 5), ({"episode_tokens": 12}, 4), ({"max_turns": 2}, 4)):
        group = await streams(tmp_path / "mine.py", code(body), Paper(["ab"] * 4), rollout=limits)
        (only,) = group.trajectories
        assert only.new_tokens == sampled, limits
        assert only.finish is Finish.LENGTH
        assert group.verdicts[0].score == 1.0
        assert only.sampled[-1]  # what nobody answered is not in it


async def test_a_turn_may_have_a_limit_of_its_own(tmp_path: Path) -> None:
    body = "await talk('x', max_tokens=2)\nawait talk('y')\nreturn 1.0"
    group = await streams(tmp_path / "mine.py", code(body), Paper(["abcd", "ef"]))
    assert group.trajectories[0].text == "abef"


# --------------------------------------------------------------------------------------------------- bad input


def why_of(group: Group) -> str:
    """Why the one episode has no score; nothing of the group can be trained on."""
    assert {verdict.outcome for verdict in group.verdicts} == {Outcome.ERROR}
    assert {verdict.score for verdict in group.verdicts} == {None}
    return group.verdicts[0].why


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("await talk('x')",
         r"mine\.py, line 2, in play: returned None: expected a score, .*does every way through it return"),
        ("await talk('x')\nreturn 'good'", r"mine\.py, line 2, in play: returned 'good': expected a score"),
        ("await talk('x')\nreturn float('nan')", r"mine\.py, line 2, in play: returned nan"),
        ("await talk('x')\nreturn {'b': 1.0}",
         r"mine\.py, line 2, in play: returned a score of 'b', and the seats are policy"),
        ("await talk('x')\nawait talk.seat('b')('y')\nreturn {'b': 1.0}",
         r"mine\.py, line 2, in play: returned no score of the seat 'policy'"),
        ("return 1.0", r"mine\.py, line 2, in play: returned before a seat that is trained had spoken"),
        ("await talk('x')\n1 / 0", r"mine\.py, line 4, in play: ZeroDivisionError: division by zero\n.*1 / 0"),
        ("raise SystemExit(3)", r"mine\.py, line 3, in play: SystemExit: 3"),
        ("raise KeyboardInterrupt", r"mine\.py, line 3, in play: KeyboardInterrupt"),
        ("await talk('x')\nawait talk(task)", r"mine\.py, line 4, in play: a task opens a conversation"),
        ("talk.seat('a')\ntalk.seat('a')", r"mine\.py, line 4, in play: takes a seat 'a', which must be a name"),
        ("while True:\n    await talk('x')",
         r"mine\.py, line 4, in play: goes on asking for turns behind the last of rollout.max_turns = 32"),
        ("import asyncio\nasyncio.current_task().cancel()\nawait talk('x')",
         r"mine\.py, line 5, in play: CancelledError"),
        ("import asyncio\nawait asyncio.gather(talk('x'), talk('y'))",
         r"mine\.py, line 2, in play: asks the seat 'policy' again while its turn is being sampled"),
    ],
)  # fmt: skip
async def test_what_an_environment_may_not_do_fails_its_episode_with_file_and_line(
    body: str, why: str, tmp_path: Path
) -> None:
    class Slow(Paper):
        async def generate(self, *arguments: Any) -> Any:
            await asyncio.sleep(0.01)
            return await super().generate(*arguments)

    group = await streams(tmp_path / "mine.py", code(body), Slow(lambda shown: "a"))
    assert re.search(why, why_of(group), re.DOTALL), group.verdicts[0].why


async def test_an_episode_that_fails_leaves_its_siblings_alone(tmp_path: Path) -> None:
    body = "turn = await talk('x')\nassert turn.text == 'a'\nreturn 1.0"
    graded = await played(tmp_path / "mine.py", code(body), Paper(["a", "b", "a"]), size=3)
    assert graded.summary.outcomes == (Outcome.CORRECT, Outcome.ERROR, Outcome.CORRECT)
    assert graded.summary.scores == (1.0, 1.0)
    assert graded.summary.failure.startswith("mine.py, line 4, in play: AssertionError")
    assert graded.group.trajectories[1].text == "b"  # kept for people to read


async def test_an_environment_that_never_ends_is_ended_where_it_waits(tmp_path: Path) -> None:
    body = "import asyncio\nawait talk('x')\nawait asyncio.Event().wait()"
    group = await streams(tmp_path / "mine.py", code(body), Paper(["a"]), rollout={"episode_seconds": 0.3})
    assert why_of(group) == "mine.py, line 5, in play: the episode took longer than rollout.episode_seconds = 0.3"


async def test_an_environment_that_does_not_let_itself_be_ended_holds_nobody_up(tmp_path: Path) -> None:
    body = (
        "import asyncio\nfor _ in range(2):\n    try:\n        await asyncio.sleep(99)\n"
        "    except BaseException:\n        pass"
    )
    group = await streams(tmp_path / "mine.py", code(body), Paper([]), rollout={"episode_seconds": 0.2})
    assert "line 6, in play: the episode took longer" in why_of(group)


async def test_an_environment_that_samples_after_its_end_gets_nothing_and_has_failed(tmp_path: Path) -> None:
    before = "import asyncio\nasync def late(talk):\n    await asyncio.sleep(0.2)\n    await talk('more')\nkept = []"
    body = (
        "await talk('x')\nkept.append(asyncio.ensure_future(late(talk)))\n"
        "if len(kept) == 2:\n    await asyncio.wait(kept)\nreturn 1.0"
    )
    engine = Paper(lambda shown: "a")
    group = await streams(tmp_path / "mine.py", code(body, before), engine, size=2)
    assert [verdict.outcome for verdict in group.verdicts] == [Outcome.ERROR, Outcome.CORRECT]
    assert group.verdicts[0].why == "mine.py, line 4, in late: goes on after its episode has ended"
    assert all(one.text in ("a", "aa") for one in group.trajectories)


async def test_a_turn_that_is_still_being_sampled_at_the_end_is_a_failure(tmp_path: Path) -> None:
    class Stuck(Paper):
        async def generate(self, *arguments: Any) -> Any:
            if self.said:
                await asyncio.Event().wait()
            return await super().generate(*arguments)

    body = "import asyncio\nawait talk('x')\nasyncio.ensure_future(talk('y'))\nawait asyncio.sleep(0.1)\nreturn 1.0"
    group = await streams(tmp_path / "mine.py", code(body), Stuck(["a"]))
    assert "mine.py, line 2, in play: ended while a turn of the seat 'policy' was being sampled" in why_of(group)


async def test_nobody_writes_into_the_stream_of_another_episode(tmp_path: Path) -> None:
    body = (
        "talks.append(talk)\ntry:\n    await talks[0]('x')\nfinally:\n    tried.append(talk)\n"
        "while len(tried) < 2:\n    await asyncio.sleep(0.01)\nreturn 1.0"
    )
    before = "import asyncio\ntalks, tried = [], []"
    group = await streams(tmp_path / "mine.py", code(body, before), Paper(lambda shown: "a"), size=2)
    assert [verdict.outcome for verdict in group.verdicts] == [Outcome.CORRECT, Outcome.ERROR]
    assert group.verdicts[1].why.startswith("mine.py, line 6, in play: writes into the stream of another episode")
    assert group.trajectories[0].text == "a"


@pytest.mark.slow
@pytest.mark.parametrize(("blocks", "line"), [("while True:\n    pass", r"[67]"), ("time.sleep(2.5)", "6")])
async def test_what_blocks_all_episodes_is_found_with_its_line_and_the_others_go_on(
    blocks: str, line: str, tmp_path: Path
) -> None:
    body = f"turn = await talk('x')\nif turn.text == 'b':\n    {blocks.replace(chr(10), chr(10) + '    ')}\nreturn 1.0"
    graded = await played(
        tmp_path / "mine.py", code(body, "import time\n"), Paper(["a", "b", "a"]), size=3, blocked_seconds=1.0
    )
    assert graded.summary.outcomes[1] is Outcome.ERROR
    assert re.search(
        rf"mine\.py, line {line}, in play: blocks all episodes for more than 1 s: ", graded.summary.failure
    )
    if "while" in blocks:
        assert graded.summary.outcomes == (Outcome.CORRECT, Outcome.ERROR, Outcome.CORRECT)


@pytest.mark.slow
async def test_what_python_cannot_end_costs_the_episodes_beside_it_and_not_the_engines_loop(tmp_path: Path) -> None:
    body = (
        "turn = await talk('x')\nif turn.text == 'b':\n    threading.Event().wait()\n"
        "await asyncio.sleep(0.5)\nreturn 1.0"
    )
    before = "import asyncio, threading\n"
    graded = await played(tmp_path / "mine.py", code(body, before), Paper(["a", "b"]), size=2, blocked_seconds=1.0)
    assert graded.summary.outcomes == (Outcome.ERROR, Outcome.ERROR)
    whys = [verdict.why for verdict in graded.group.verdicts]
    assert whys[0].startswith("lost with another episode. mine.py, line 6, in play: blocks all episodes")
    assert whys[1].startswith("mine.py, line 6, in play: blocks all episodes")


async def test_what_the_engine_raises_is_no_failure_of_the_environment(tmp_path: Path) -> None:
    class Dead(Paper):
        async def generate(self, *arguments: Any) -> Any:
            raise RuntimeError("the engine has ended")

    body = "try:\n    await talk('x')\nexcept Exception:\n    pass\nreturn 1.0"
    with pytest.raises(RuntimeError, match="the engine has ended"):
        await played(tmp_path / "mine.py", code(body), Dead([]))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = 1\n", r"must define a coroutine play\(task, talk\), and .*mine\.py defines none"),
        ("\ndef play(task, talk):\n    return 1\n", r"coroutine, `async def play\(task, talk\)`: mine\.py, line 2"),
        ("async def play(task):\n    return 1\n", r"play\(task, talk\): mine\.py, line 1 has play\(task\)"),
        ("async def play(task, talk):\n    await\n", r"mine\.py, line 2: SyntaxError"),
    ],
)  # fmt: skip
def test_a_file_without_an_environment_is_refused_with_its_line(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=why):
        load_environment(str(tmp_path / "mine.py"))


async def test_what_attempts_say_is_compared_with_attempts_at_the_same_task_alone(tmp_path: Path) -> None:
    before = (
        "async def inner(task, talk):\n    await talk(task)\n    return 1.0\n"
        "async def outer(task, talk):\n    await talk(task)\n    await talk.seat('judge')('b')\n"
        "    await talk.solve(task.made('2'), 1, 'inner', inner)\n    return 1.0\n"
    )
    body = (
        "await talk('a')\nawait talk.seat('judge')('b')\n"
        "for _ in range(2):\n    await talk.solve(task.made('1'), 2, 'outer', outer)\nreturn 1.0"
    )
    group = await streams(tmp_path / "mine.py", code(body, before), Paper(lambda shown: "x"))
    sets = Counter((one.seat, one.siblings) for one in group.trajectories)
    named = {place: count for (seat, place), count in sets.items() if seat in ("policy", "judge", "outer")}
    assert named == {
        **{"policy": 1, "judge": 1, "outer/0/0": 2, "judge/0/0": 2, "outer/0/2": 2, "judge/0/2": 2},
    }
    assert [count for (seat, _), count in sets.items() if seat == "inner"] == [1, 1, 1, 1]  # each made by another
