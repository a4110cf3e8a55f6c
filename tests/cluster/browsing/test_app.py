"""What the page is told, and to whom it is told."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from cluster.browsing.app import app_for
from cluster.browsing.folder import run_folder
from cluster.browsing.serve import browsed_folder
from rewards import SpanReward
from tests.builders import in_sets
from tests.cluster.browsing.made import (
    CONFIG,
    HOSTILE,
    browsed,
    byte_tokenizer,
    group_of_texts,
    page_of,
    write_run,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "mine"
    hostile = group_of_texts(list(HOSTILE.values()), [1.0, *[-1.0] * (len(HOSTILE) - 1)], id=40)
    groups = {
        1: [(group_of_texts(["right", "wrong"], [1.0, -1.0], id=10), "")],
        2: [(group_of_texts(["right", "right"], [1.0, 1.0], id=20), "all_correct")],
        4: [(hostile, "")],
    }
    byte_tokenizer(folder / "checkpoints/step-2/tokenizer.json")
    return write_run(folder, groups)


@pytest.fixture(scope="module")
def page(folder: Path) -> Iterator[TestClient]:
    with page_of(folder) as client:
        yield client


def test_the_run_says_what_there_is(page: TestClient) -> None:
    run = page.get("/api/run").json()
    assert (run["name"], run["groups"], run["responses"], run["prompts"]) == ("mine", 3, 4 + len(HOSTILE), 3)
    assert (run["complete"], run["problems"], run["has_tokens"]) == (True, [], True)
    assert run["words"]["rejected"] == {"": 2 + len(HOSTILE), "all_correct": 2}


def test_a_group_has_its_responses_verdicts_advantages_and_the_other_visits_of_its_prompt(page: TestClient) -> None:
    group = page.get("/api/groups/10").json()
    assert (group["step"], group["reference"], group["prompt"]) == (1, "5", "2+3=")
    assert [one["why"] for one in group["responses"]] == ["because 1.0", "because -1.0"]
    assert [one["advantage"] for one in group["responses"]] == pytest.approx([0.5**0.5, -(0.5**0.5)])
    assert [one["logprob"] for one in group["responses"]] == [-0.5, -0.5]
    assert [visit["group"] for visit in group["visits"]] == [10, 20, 40]
    rejected = page.get("/api/groups/20").json()
    assert [one["advantage"] for one in rejected["responses"]] == [None, None]
    assert "None of these responses was trained on" in rejected["advantages"]


def test_a_response_comes_token_by_token(page: TestClient) -> None:
    answer = page.get("/api/groups/10/responses/1").json()
    tokens = answer["tokens"]
    assert (tokens["ids"], tokens["sampled"]) == ([1, 2, 3, 10, 11, 12], [0, 0, 0, 1, 1, 1])
    assert tokens["logprobs"] == [None, None, None, -0.5, -0.5, -0.5]
    assert tokens["versions"] == [-1, -1, -1, 10, 10, 10]
    assert "".join(tokens["texts"]) == '"#$+,-'


def test_hostile_responses_arrive_whole_as_json_and_nothing_of_them_is_in_the_page(page: TestClient) -> None:
    responses = page.get("/api/groups/40").json()["responses"]
    expected = {**HOSTILE, "lone surrogate": "half \\udcff", "long line": "x" * 6000}
    assert [one["text"] for one in responses] == list(expected.values())
    assert responses[4]["characters"] == 200_000
    answer = page.get("/api/groups?q=%3C/script%3E")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["responses"] == 1


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/groups/99", 404, "there is no group 99"),
        ("/api/groups/10/responses/2", 404, "group 10 has 2 responses"),
        ("/api/groups?step=x", 400, "step must be a number"),
        ("/api/groups?from=-1", 400, "a place is a number"),
        ("/api/groups/10/responses/0?from=x", 400, "a place is a number"),
        ("/nothing.js", 404, "there is no such page"),
        ("/..%2f__init__.py", 404, "Not Found"),
        ("/%2e%2e/app.py", 404, "Not Found"),
        ("/style.py", 404, "there is no such page"),
    ],
)
def test_what_is_not_there_is_said(page: TestClient, path: str, status: int, said: str) -> None:
    answer = page.get(path)
    assert (answer.status_code, said in answer.json()["problem"]) == (status, True)


@pytest.mark.parametrize(
    "path", ["/", "/main.js", "/style.css", "/icon.svg", "/api/run", "/nothing", "/api/groups?step=x"]
)
def test_every_answer_forbids_foreign_scripts_frames_and_guessing_of_types(page: TestClient, path: str) -> None:
    headers = page.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(page: TestClient, method: str) -> None:
    assert page.request(method, "/api/run").status_code == 405


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8642", 200),
        ("127.0.0.1:9000", 200),
        ("[::1]:8642", 200),
        ("winnow.localhost", 200),
        ("evil.example:8642", 403),
        ("localhost.evil.example", 403),
        ("", 403),
        ("[", 403),
    ],
)
def test_the_page_of_this_machine_answers_to_no_name_of_another_site(page: TestClient, host: str, status: int) -> None:
    assert page.get("/api/run", headers={"host": host}).status_code == status


def test_a_page_for_others_gives_data_only_to_those_who_have_its_token(folder: Path) -> None:
    with page_of(folder, token="secret", host="http://node7:8642") as page:
        assert page.get("/").status_code == 200  # nothing of the run is in it
        assert page.get("/api/run").status_code == 401
        assert page.get("/api/run?access=secret").status_code == 401
        assert page.get("/api/run", headers={"x-winnow-token": "secreT"}).status_code == 401
        assert page.get("/api/run", headers={"x-winnow-token": "s\xe9cret".encode("latin-1")}).status_code == 401
        assert page.get("/api/run", headers={"x-winnow-token": "secret"}).json()["groups"] == 3


def test_without_a_tokenizer_the_text_comes_in_pieces_with_the_reason(tmp_path: Path) -> None:
    run = write_run(tmp_path, {1: [(group_of_texts(["y" * 30_000], [1.0], id=1), "")]})
    with page_of(run) as page:
        first = page.get("/api/groups/1/responses/0").json()
        assert first["tokens"] is None
        assert "There is no tokenizer of this run" in first["why"]
        rest = page.get(f"/api/groups/1/responses/0?from={first['next']}").json()
        assert (first["text"] + rest["text"], rest["next"]) == ("y" * 30_000, None)


def test_a_long_response_comes_in_pages_of_tokens(tmp_path: Path) -> None:
    group = group_of_texts(["long"], [1.0], id=1)
    ids = np.arange(9000, dtype=np.int32) % 256
    long = replace(
        group.trajectories[0],
        tokens=ids,
        sampled=ids > 2,
        logprobs=np.where(ids > 2, np.nan, 0).astype(np.float32),
        versions=np.full(9000, -1, np.int32),
    )
    run = write_run(tmp_path, {1: [(replace(group, trajectories=(long,)), "")]})
    byte_tokenizer(run / "warmup/tokenizer.json")
    with page_of(run) as page:
        group_said = page.get("/api/groups/1").json()["responses"][0]
        assert (group_said["logprob"], group_said["versions"]) == (None, [])
        found, start = [], 0
        while start is not None:
            answer = page.get(f"/api/groups/1/responses/0?from={start}").json()
            found += answer["tokens"]["ids"]
            assert set(answer["tokens"]["logprobs"]) == {None}
            start = answer["next"]
    assert found == ids.tolist()


def test_seats_streams_and_rewards_of_tokens_are_told(tmp_path: Path) -> None:
    group = group_of_texts(["a", "b", "c", "d"], [1.0, 1.0, -1.0, 1.0], id=1)
    group = in_sets(group, "aabb", continued=[1])
    verdict = replace(group.verdicts[2], span_rewards=(SpanReward(start=0, end=1, value=0.5),))
    rewards = np.full(6, np.nan, np.float32)
    rewards[4] = 0.5
    group = replace(
        group,
        verdicts=(*group.verdicts[:2], verdict, group.verdicts[3]),
        span_rewards=tuple(np.full(6, np.nan, np.float32) if place != 2 else rewards for place in range(4)),
    )
    run = write_run(tmp_path, {1: [(group, "")]})
    byte_tokenizer(run / "checkpoints/step-1/tokenizer.json")
    with page_of(run) as page:
        responses = page.get("/api/groups/1").json()
        tokens = [page.get(f"/api/groups/1/responses/{number}").json()["tokens"] for number in (0, 1)]
    assert [one["siblings"] for one in responses["responses"]] == ["a", "b", "b"]
    assert "tokens have rewards of their own" in responses["advantages"]
    assert tokens[0]["streams"] == [0] * 6 + [1] * 6
    assert tokens[1]["rewards"] == [None, None, None, None, 0.5, None]
    assert responses["responses"][1]["spans"] == [{"start": 0, "end": 1, "value": 0.5}]


def test_a_group_of_a_file_that_is_not_read_yet_may_come(folder: Path) -> None:
    run = run_folder(str(folder))
    with browsed_folder(run) as (index, following):
        page = TestClient(app_for(browsed(run, index, following)), base_url="http://localhost")
        said = page.get("/api/groups/10").json()["problem"]
        following.look()
        assert page.get("/api/groups/10").json()["group"] == 10
    assert said == "there is no group 10 in this run so far: 0 of 0 files are read"


def test_a_file_that_goes_while_a_person_looks_is_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, {1: [(group_of_texts(["a"], [1.0], id=1), "")]})
    with page_of(run) as page:
        (run / "trajectories/step-1/groups.parquet").unlink()
        answer = page.get("/api/groups/1")
    assert (answer.status_code, "groups.parquet" in answer.json()["problem"]) == (410, True)


def test_a_run_without_responses_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    with page_of(tmp_path) as page:
        run = page.get("/api/run").json()
        assert (run["responses"], run["first_step"], run["complete"]) == (0, None, True)
        assert page.get("/api/groups").json()["page"] == []


PAGE = Path(__file__).parents[3] / "cluster/browsing/page"


@pytest.mark.parametrize("file", sorted(PAGE.iterdir()), ids=lambda file: file.name)
def test_the_page_asks_nobody_else_and_puts_no_text_in_as_markup(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?://|//cdn|@import|innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    if file.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text)


def test_every_file_of_the_page_is_linked_by_another_one() -> None:
    texts = {file.name: file.read_text(encoding="utf-8") for file in PAGE.iterdir()}
    linked = {name for text in texts.values() for name in re.findall(r'"(?:\./)?([\w-]+\.(?:js|css|svg))"', text)}
    assert linked == set(texts) - {"index.html"}


def test_answers_hold_no_number_that_json_lacks(page: TestClient) -> None:
    for path in ("/api/run", "/api/groups", "/api/groups/40", "/api/groups/40/responses/0"):
        json.loads(page.get(path).text, parse_constant=lambda name: pytest.fail(name))
