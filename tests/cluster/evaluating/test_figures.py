from dataclasses import replace
from typing import Any

import pytest

from cluster.config.errors import ConfigError
from cluster.evaluating.against import FORMAT, KIND, compared, read_evaluation
from cluster.evaluating.answers import Answered, Response, Vote, responses_in, texts_in
from cluster.evaluating.figures import Benchmark, figures_of, mean_figures
from rewards import Outcome
from tests.builders import group, in_sets

OUTCOMES = {
    "c": Outcome.CORRECT,
    "w": Outcome.WRONG,
    "u": Outcome.UNPARSABLE,
    "t": Outcome.TIMEOUT,
    "e": Outcome.ERROR,
    "l": Outcome.LATE,
}


def answered(number: int, outcomes: str, vote: Vote | None = None, scores: str = "") -> Answered:
    """A prompt with a response for each letter; `scores` has a digit for each that a model gives."""
    responses = [
        Response(
            outcome=OUTCOMES[letter],
            tokens=10 * (place + 1),
            truncated=letter == "u",
            why=f"because of {letter}",
            model_scores={"liked": float(scores[place])} if scores else {},
        )
        for place, letter in enumerate(outcomes)
    ]
    failure = "" if outcomes else "its generators died"
    return Answered(number=number, prompt_id=str(number), responses=tuple(responses), vote=vote, failure=failure)


def benchmark(*prompts: Answered, samples: int = 4, why: str = "") -> Benchmark:
    return Benchmark(data="a.jsonl", samples=samples, wanted=9, left_out=1, answered=prompts, no_vote_because=why)


def test_the_figures_of_four_prompts_are_those_of_hand() -> None:
    found = figures_of(
        benchmark(
            answered(0, "cccc", Vote(correct=4, others=())),
            answered(1, "cwwu", Vote(correct=1, others=(2,))),
            answered(2, "cwte", Vote(correct=1, others=(1,))),
            answered(3, ""),
        ),
        ["liked"],
    )
    assert (found["prompts"], found["prompts_wanted"], found["prompts_left_out"]) == (4, 9, 1)
    assert found["outcomes"] == {
        **{"correct": 6, "wrong": 3, "unparsable": 1, "timeout": 1, "error": 1, "late": 0},
        "lost": 4,
    }
    assert found["accuracy"]["value"] == pytest.approx((1 + 1 / 4 + 1 / 2) / 3)
    assert found["accuracy"]["prompts"] == 3
    assert found["accuracy_bounds"] == pytest.approx([(1 + 1 / 4 + 1 / 4 + 0) / 4, (1 + 1 / 4 + 3 / 4 + 1) / 4])
    passes = {each["k"]: each for each in found["pass_at"]}
    assert passes[2]["value"] == pytest.approx((1 + 1 / 2 + 1) / 3)  # 1 - C(3, 2) / C(4, 2), and 1 - 0 / C(2, 2)
    assert (passes[4]["value"], passes[4]["prompts"]) == (1.0, 2)
    assert found["majority"]["value"] == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert found["tokens"] == {
        **{"total": 300, "mean": 25.0, "median": 25.0, "p90": 40.0, "max": 40},
        **{"mean_correct": pytest.approx(120 / 6), "mean_not_correct": 30.0},
    }
    assert found["truncated"] == pytest.approx(1 / 12)
    assert found["without_verdict"] == [
        {"outcome": "timeout", "why": "because of t", "count": 1},
        {"outcome": "error", "why": "because of e", "count": 1},
        {"outcome": "lost", "why": "its generators died", "count": 1},
    ]
    assert found["best_of"] == {"liked": []}


def test_the_best_response_is_the_one_that_the_model_likes_best() -> None:
    found = figures_of(benchmark(answered(0, "cw", scores="92"), answered(1, "cw", scores="19"), samples=2), ["liked"])
    assert [each["value"] for each in found["best_of"]["liked"]] == [0.5, 0.5]
    found = figures_of(
        benchmark(answered(0, "wcw", scores="192"), answered(1, "wtc", scores="195"), samples=3), ["liked"]
    )
    values = {each["k"]: (each["value"], each["prompts"]) for each in found["best_of"]["liked"]}
    assert values[2] == (pytest.approx((2 / 3 + 1) / 2), 2)  # the one that timed out does not count
    assert values[3] == (1.0, 1)


def test_where_there_is_no_vote_the_figures_say_why() -> None:
    found = figures_of(benchmark(answered(0, "cw"), why="it writes programs"), [])
    assert (found["majority"], found["majority_missing"]) == (None, "it writes programs")


def test_figures_of_no_prompts_are_empty_and_no_failure() -> None:
    found = figures_of(benchmark(), [])
    assert (found["prompts"], found["accuracy"], found["pass_at"], found["truncated"]) == (0, None, [], None)
    assert mean_figures([benchmark(), benchmark(answered(0, "c"))]) == {}


def test_the_mean_of_benchmarks_weighs_each_the_same() -> None:
    one = benchmark(answered(0, "cccc"), answered(1, "wwww"))
    two = benchmark(answered(2, "cccw"), answered(3, "cwww"), answered(4, "cccc"), why="no answers")
    found = mean_figures([one, two])
    assert found["accuracy"]["value"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["accuracy"]["prompts"] == 5
    assert found["majority"] is None


def test_a_response_that_is_continued_is_one_response() -> None:
    episode = in_sets(group([1.0, 1.0, -1.0], lengths=[2, 3, 5]), "aab", continued=[1])
    first, second = responses_in(episode)
    assert (first.tokens, first.outcome, second.tokens, second.outcome) == (5, Outcome.CORRECT, 5, Outcome.WRONG)
    assert texts_in(episode) == [
        episode.trajectories[0].text + episode.trajectories[1].text,
        episode.trajectories[2].text,
    ]
    assert responses_in(replace(episode, verdicts=episode.verdicts)) == (first, second)


def row(id: str, correct: int, scored: int = 4, *, benchmark: str = "a", digest: str = "") -> dict[str, Any]:
    shown = {"benchmark": benchmark, "id": id, "prompt": f"what is {id}?", "digest": digest or id}
    return {**shown, "scored": scored, "correct": correct}


def evaluation(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"kind": KIND, "format": FORMAT, "subject": {"model": "m", "run": None, "step": None}, "prompts": list(rows)}


def test_the_prompts_that_turned_are_named_those_that_changed_most_first() -> None:
    before = evaluation(row("1", 0), row("2", 1), row("3", 4), row("4", 3), row("5", 2), row("6", 0, 0), row("7", 1))
    now = evaluation(
        row("1", 3), row("2", 4), row("3", 2), row("4", 4), row("5", 2), row("6", 2), row("7", 1, digest="x")
    )
    found = compared(before, now)["benchmarks"]["a"]
    assert [(one["id"], one["before"], one["now"]) for one in found["wrong_to_right"]] == [
        ("1", [0, 4], [3, 4]),
        ("2", [1, 4], [4, 4]),
    ]
    assert [one["id"] for one in found["right_to_wrong"]] == ["3"]
    assert (found["prompts"], found["prompts_unmatched"], found["prompts_without_verdict"]) == (5, 1, 1)
    assert found["difference"]["value"] == pytest.approx((3 + 3 - 2 + 1 + 0) / 4 / 5)


def test_the_difference_of_the_same_prompts_is_surer_than_that_of_two_means() -> None:
    """Prompts differ much in difficulty, and each is solved a little more often."""
    before = evaluation(*(row(str(number), number % 4) for number in range(40)))
    now = evaluation(*(row(str(number), number % 4 + (number % 8 < 6)) for number in range(40)))
    found = compared(before, now)["benchmarks"]["a"]["difference"]
    assert found["value"] == pytest.approx(0.75 / 4)
    assert 0.14 < found["low"] < found["value"] < found["high"] < 0.23
    assert compared(before, before)["benchmarks"]["a"]["difference"]["low"] is None


def test_several_benchmarks_have_a_mean_difference() -> None:
    before = evaluation(row("1", 0), row("2", 2), row("1", 1, benchmark="b"), row("2", 1, benchmark="b"))
    now = evaluation(row("1", 4), row("2", 2), row("1", 1, benchmark="b"), row("2", 2, benchmark="b"))
    assert compared(before, now)["mean_difference"]["value"] == pytest.approx((1 / 2 + 1 / 8) / 2)


def test_what_is_no_evaluation_is_refused(tmp_path: Any) -> None:
    for text, message in (
        ("{", "is not what winnow eval writes"),
        ("[]", "is not what winnow eval writes"),
        ('{"kind": "winnow evaluation", "format": 9}', "is of format 9, and this winnow reads 1"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_evaluation(tmp_path / "a.json")
    with pytest.raises(ConfigError, match="is not what winnow eval writes"):
        read_evaluation(tmp_path)
