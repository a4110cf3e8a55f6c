"""Filters, and which groups are found by them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.browsing.filters import BadQuery, Bounds, filters_of
from cluster.browsing.folder import run_folder
from cluster.browsing.search import PAGE, Search
from tests.cluster.browsing.made import HOSTILE, group_of_texts, looked_at, write_run


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    """Three steps with a group each, and one with everything that is hostile."""
    hostile = group_of_texts(list(HOSTILE.values()), [None] * len(HOSTILE), id=40, asked="</script> ÄRGER 100%")
    run = write_run(
        tmp_path_factory.mktemp("run"),
        {
            1: [(group_of_texts(["so 5", "So Six"], [1.0, -1.0], id=10), "")],
            2: [(group_of_texts(["five", "5", "5!"], [1.0, 1.0, 1.0], id=20), "all_correct")],
            3: [(group_of_texts(["nothing", "at all"], [0.25, None], id=30, asked="7*7="), "never, trained")],
            4: [(hostile, "failed")],
        },
    )
    with looked_at(run_folder(str(run))) as (index, _):
        yield Search(index)


def found(search: Search, **query: Any) -> list[int]:
    asked = {name: value if isinstance(value, list) else [value] for name, value in query.items()}
    return [row["group"] for row in search.groups(filters_of(asked), 0)["page"]]


@pytest.mark.parametrize(
    ("query", "groups"),
    [
        ({}, [40, 30, 20, 10]),
        ({"sort": "oldest-first"}, [10, 20, 30, 40]),
        ({"sort": "mixed-first"}, [10, 40, 30, 20]),
        ({"step": "2"}, [20]),
        ({"step": "2..3"}, [30, 20]),
        ({"step": "..1"}, [10]),
        ({"score": "0..0.5"}, [30]),
        ({"version": "15..25"}, [20]),
        ({"length": "4.."}, []),
        ({"outcome": "timeout"}, [40, 30]),
        ({"outcome": ["correct", "timeout"]}, [40, 30, 20, 10]),
        ({"rejected": "trained"}, [10]),
        ({"rejected": ["trained", "never, trained"]}, [30, 10]),
        ({"seat": "policy", "finish": "stop", "step": "1"}, [10]),
        ({"prompt": "p30"}, [30]),
        ({"q": "SO s"}, [10]),
        ({"q": "2+3"}, [20, 10]),
        ({"q": "2+3", "where": "response"}, []),
        ({"q": "five", "where": "prompt"}, []),
        ({"q": "5", "outcome": "wrong"}, []),
        ({"unknown": "x", "group": "3"}, [40, 30, 20, 10]),
    ],
)
def test_filters_find_the_groups_that_have_a_response_which_fits(
    search: Search, query: dict[str, Any], groups: list[int]
) -> None:
    assert found(search, **query) == groups


@pytest.mark.parametrize("text", [text for name, text in HOSTILE.items() if name not in ("empty", "lone surrogate")])
def test_hostile_texts_are_found_by_themselves(search: Search, text: str) -> None:
    assert found(search, q=text[:500]) == [40]


@pytest.mark.parametrize("text", ["100_", "%", "ärger", "</SCRIPT>", "half \\udcff"])
def test_signs_of_patterns_are_plain_letters_and_letters_match_in_any_case(search: Search, text: str) -> None:
    assert found(search, q=text) == ([] if text == "100_" else [40])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"step": "x"}, "step must be a number or a range"),
        ({"score": "1..nan"}, "score must be"),
        ({"sort": "best"}, "sort must be one of newest-first"),
        ({"where": "why"}, "where must be one of both"),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_with_what_does(query: dict[str, str], message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        filters_of({name: [value] for name, value in query.items()})


def test_ranges_are_open_where_an_end_is_missing() -> None:
    filters = filters_of({"score": ["-1..-0.5"], "step": ["3"], "length": ["5.."], "version": [".."]})
    assert (filters.score, filters.step) == (Bounds(low=-1, high=-0.5), Bounds(low=3, high=3))
    assert (filters.length, filters.version) == (Bounds(low=5), Bounds())


def test_responses_that_fit_are_told_apart_from_their_siblings_and_shown_where_they_fit(search: Search) -> None:
    answer = search.groups(filters_of({"q": ["six"]}), 0)
    assert (answer["groups"], answer["responses"]) == (1, 1)
    (row,) = answer["page"]
    assert [one["fits"] for one in row["responses"]] == [False, True]
    assert (row["prompt"], row["excerpt"]) == ("2+3=", "So Six")


def test_groups_come_in_pages_and_each_stands_in_one(tmp_path: Path) -> None:
    groups = [(group_of_texts(["a", "b"], [1.0, -1.0], id=id), "") for id in range(PAGE + 7)]
    run = write_run(tmp_path, {1: groups})
    with looked_at(run_folder(str(run))) as (index, _):
        search, filters = Search(index), filters_of({})
        first = search.groups(filters, 0)
        second = search.groups(filters, first["next"])
        assert (len(first["page"]), len(second["page"]), second["next"]) == (PAGE, 7, None)
        assert {row["group"] for page in (first, second) for row in page["page"]} == set(range(PAGE + 7))
        assert search.place(filters, 3) == PAGE + 3
        assert search.place(filters, 1000) is None


def test_the_visits_of_a_prompt_come_by_step(search: Search) -> None:
    found = search.visits("2+3=", 20)
    visits = found["visits"]
    assert found["all_visits"] == 2
    assert [(visit["step"], visit["group"]) for visit in visits] == [(1, 10), (2, 20)]
    assert [[one["outcome"] for one in visit["responses"]] for visit in visits] == [
        ["correct", "wrong"],
        ["correct"] * 3,
    ]


def test_of_a_prompt_that_came_very_often_the_visits_around_a_group_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.browsing.search.MOST_VISITS", 4)
    run = write_run(tmp_path, {step: [(group_of_texts(["a"], [1.0], id=step), "")] for step in range(1, 10)})
    with looked_at(run_folder(str(run))) as (index, _):
        search = Search(index)
        assert [visit["group"] for visit in search.visits("2+3=", 5)["visits"]] == [3, 4, 5, 6]
        assert [visit["group"] for visit in search.visits("2+3=", 1)["visits"]] == [1, 2, 3, 4]
        assert search.visits("2+3=", 5)["all_visits"] == 9
