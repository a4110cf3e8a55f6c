"""The page in a browser, with a real server behind it: what a person does there, and what must not happen."""

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import pytest
from tokenizers import Tokenizer

from tests.browsers import PHONE, chromium, needs_chromium, new_page
from tests.cluster.browsing.made import AGAIN, HOSTILE, byte_tokenizer, episode, group_of_texts, served, told, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

pytestmark = [pytest.mark.slow, needs_chromium]
FILLED = 70  # groups of the first step that fill the list: more than a page of it
SOON = 60_000  # milliseconds, on a machine that may be busy


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("run") / "mine"
    tokenizer = Tokenizer.from_file(str(byte_tokenizer(folder / "checkpoints/step-2/tokenizer.json")))
    filled = [(group_of_texts([f"filled {n}"], [-1.0], id=100 + n, asked=f"question {n}"), "") for n in range(FILLED)]
    hostile = group_of_texts(
        list(HOSTILE.values()), [1.0, *[-1.0] * (len(HOSTILE) - 1)], id=40, asked=HOSTILE["markup"]
    )
    hostile = replace(
        hostile,
        prompt=replace(hostile.prompt, reference=HOSTILE["markup"]),
        verdicts=tuple(replace(one, why=HOSTILE["markup"], parts={HOSTILE["markup"]: 1}) for one in hostile.verdicts),
    )
    write_run(
        folder,
        {
            1: [*filled, (told(tokenizer, 10, ["The Elephant says 4", "5", "four", "4"], [1, -1, None, 1]), "")],
            2: [(told(tokenizer, 20, ["4", "4"], [1, 1]), "all_correct"), (episode(tokenizer), "")],
            3: [(told(tokenizer, 30, ["4", "elephants: 4", "3"], [1, 1, -1]), ""), (hostile, HOSTILE["markup"])],
        },
    )
    (folder / "trajectories/step-4").mkdir()
    (folder / "trajectories/step-4/groups.parquet").write_bytes(b"PAR1 and torn")
    with served(folder) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: "Browser", url: str) -> Iterator["Page"]:
    """The page as it is opened, when all has been read."""
    with new_page(browser) as page:
        page.set_default_timeout(SOON)
        show(page, url)
        yield page


def show(page: "Page", url: str) -> None:
    """Opens a URL and waits until the list is there, and the group where one is named."""
    page.goto(url)
    until(page, "document.querySelector('#found').textContent && !document.querySelector('[aria-busy]')")
    until(page, "!document.querySelector('#notice').textContent.includes('reading:')")
    if "group=" in url:
        page.locator("#right").locator(".card, .block, .problem").first.wait_for(timeout=SOON)


def until(page: "Page", condition: str) -> None:
    """Waits until a condition of the page holds. The page's policy lets nobody evaluate texts in it, so that it is
    asked again and again from outside."""
    ends = time.monotonic() + SOON / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < ends, condition
        page.wait_for_timeout(25)


def shows(where: "Locator", text: str | re.Pattern[str]) -> None:
    """Waits until an element has a text."""
    where.filter(has_text=text).first.wait_for(timeout=SOON)


def comes(where: "Locator", text: str) -> None:
    """Waits until an element has a text that the page has only when it has looked at the run again; its pauses pass at
    once, where its clock is installed."""
    ends = time.monotonic() + SOON / 1000
    while not where.filter(has_text=text).count():
        assert time.monotonic() < ends, text
        where.page.clock.fast_forward(5000)
        where.page.wait_for_timeout(100)


def is_asked(page: "Page", **wanted: str) -> None:
    """Waits until the URL holds this query and nothing else."""
    page.wait_for_url(lambda url: dict(parse_qsl(urlsplit(url).query)) == wanted, timeout=SOON, wait_until="commit")


def listed(page: "Page") -> list[str]:
    return page.locator("#list .item b").all_text_contents()


def test_a_search_finds_in_any_case_marks_what_it_found_and_stands_in_the_url(page: "Page") -> None:
    page.locator("#text").fill("elephant")
    shows(page.locator("#found"), "2 groups · 2 responses that fit")
    is_asked(page, q="elephant")
    assert listed(page) == ["#30", "#10"]
    assert page.locator("#list mark").all_inner_texts() == ["elephant", "Elephant"]
    page.get_by_label("search in", exact=True).select_option("prompt")
    shows(page.locator("#list"), "No response fits.")
    is_asked(page, q="elephant", where="prompt")
    page.get_by_text("clear all").click()
    shows(page.locator("#found"), f"{FILLED + 5} groups")
    is_asked(page)
    assert page.locator("#text").input_value() == ""


def test_filters_narrow_the_list_and_can_be_taken_back(page: "Page") -> None:
    chips = page.locator("#choices .chip")
    chips.filter(has_text=re.compile("^timeout 1$")).click()
    shows(page.locator("#found"), "1 group · 1 response that fit")
    is_asked(page, outcome="timeout")
    assert page.locator("#list .bar:not(.other)").count() == 1  # the others of the group are pale
    assert page.locator("#filters-title").inner_text() == "Filters (1)"
    chips.filter(has_text=re.compile("^timeout")).click()
    is_asked(page)
    chips.filter(has_text="all_correct").click()
    is_asked(page, rejected="all_correct")
    page.get_by_label("step at least").fill("3")
    page.get_by_label("step at least").press("Enter")
    shows(page.locator("#list"), "No response fits.")
    is_asked(page, rejected="all_correct", step="3..")
    chips.filter(has_text="all_correct").click()
    shows(page.locator("#found"), "2 groups")
    page.get_by_label("step at most").fill("3")
    page.get_by_label("step at most").press("Tab")
    is_asked(page, step="3")
    page.get_by_label("sort by").select_option("longest-first")
    is_asked(page, step="3", sort="longest-first")


def test_the_list_goes_on_when_it_is_scrolled_and_a_link_opens_it_where_its_group_is(page: "Page", url: str) -> None:
    assert page.locator("#list .item").count() == 50
    page.locator("#list .item").last.scroll_into_view_if_needed()
    until(page, f"document.querySelectorAll('#list .item').length === {FILLED + 5}")
    assert page.locator("#list .more").count() == 0
    assert len(set(listed(page))) == FILLED + 5
    show(page, url + "?group=101")
    shows(page.locator("#list .here b"), "#101")
    assert page.locator("#list .item").count() == FILLED + 5 - 50
    page.get_by_text("from the first").click()
    shows(page.locator("#list .item b").first, "#40")


def test_keys_walk_through_groups_responses_and_steps(page: "Page") -> None:
    page.locator("#text").fill("2+2?")
    page.keyboard.press("j")  # typed, no key of the page
    is_asked(page, q="2+2?j")
    page.locator("#text").fill("2+2")
    shows(page.locator("#list .item b").first, "#30")
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    is_asked(page, q="2+2", group="30")
    page.keyboard.press("ArrowDown")
    is_asked(page, q="2+2", group="20")
    page.keyboard.press("k")
    shows(page.locator("#right h1"), "Group 30")
    page.keyboard.press("[")
    is_asked(page, q="2+2", group="20")
    shows(page.locator("#right h1"), "Group 20")
    page.keyboard.press("]")
    shows(page.locator("#right h1"), "Group 30")
    page.keyboard.press("Enter")
    is_asked(page, q="2+2", group="30", response="0")
    shows(page.locator("#right h1"), "response 0")
    page.keyboard.press("j")
    page.keyboard.press("ArrowRight")
    is_asked(page, q="2+2", group="30", response="2")
    page.keyboard.press("j")  # there is no further one
    page.keyboard.press("2")
    is_asked(page, q="2+2", group="30", response="2", shade="version")
    for left in ({"group": "30"}, {}):
        page.keyboard.press("Escape")
        is_asked(page, q="2+2", **left, shade="version")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"
    page.keyboard.press("Escape")
    page.keyboard.press("f")
    assert not page.locator("#choices").is_visible()
    page.keyboard.press("?")
    shows(page.locator("#help[open]"), "shade tokens by")
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_a_copied_url_shows_the_same_to_another_person_and_back_goes_back(
    page: "Page", browser: "Browser", url: str
) -> None:
    page.locator("#text").fill("says")
    shows(page.locator("#found"), "1 group")
    page.locator("#list .item").click()
    page.locator('.card[data-number="0"] pre').click()
    page.get_by_role("button", name="version", exact=True).click()
    page.locator(".own .t").nth(2).click()
    is_asked(page, q="says", group="10", response="0", shade="version", at=str(len(AGAIN) + 2))
    places = ("#found", "#list", "#right")
    shows(page.locator(".detail"), "log p")
    seen = [page.locator(place).inner_text() for place in places]
    with new_page(browser) as other:
        show(other, page.url)
        shows(other.locator(".detail"), "log p")
        assert [other.locator(place).inner_text() for place in places] == seen
        assert other.locator("#text").input_value() == "says"
        assert other.locator(".pinned").inner_text() == page.locator(".pinned").inner_text() == "e"
    page.go_back()
    shows(page.locator("#right h1"), re.compile("^Group 10$"))
    page.go_back()
    shows(page.locator(".welcome"), "Choose a group")
    is_asked(page, q="says")


def test_a_group_shows_its_responses_side_by_side_with_verdict_why_and_advantage(page: "Page", url: str) -> None:
    show(page, url + "?group=10")
    cards = page.locator(".card")
    assert cards.count() == 4
    first, third = cards.nth(0).inner_text(), cards.nth(2).inner_text()
    assert "✓ correct · 1" in first
    assert "adv +0.577" in first
    assert "because 1" in first
    assert "The Elephant says 4" in first
    assert "timeout · no score" in third
    assert "adv" not in third
    tops = {box["y"] for at in (0, 1) if (box := cards.nth(at).bounding_box())}
    assert len(tops) == 1  # beside each other
    assert page.locator("#right").inner_text().count("this prompt, 3 groups, by step") == 1
    page.get_by_role("link", name="side by side").click()
    shows(page.locator("#right h1"), "One prompt, step by step")
    shows(page.locator(".visit-row h2").nth(2), "step 3")
    assert page.locator(".course a").evaluate_all("all => all.map(one => one.title)") == [
        "step 1: 50 % correct",
        "step 2: 100 % correct",
        "step 3: 67 % correct",
    ]
    show(page, url + "?group=20")
    shows(page.locator("#right"), "not trained on: all responses were correct, so none tells the policy anything")


def classes(page: "Page") -> list[str]:
    """Of each token that the policy said."""
    return page.locator(".own .t").evaluate_all("all => all.map(one => one.className.replace(/^t /, ''))")


def test_tokens_are_shaded_by_what_a_person_chooses(page: "Page", url: str) -> None:
    show(page, url + "?group=10&response=0")
    shows(page.locator(".legend"), "probability of the token")
    text = "The Elephant says 4"
    assert "".join(page.locator(".own .t").all_inner_texts()) == text
    steps = [sum(place / 4 >= bound for bound in (0.05, 0.2, 0.5, 1, 2, 4)) for place in range(1, len(text) + 1)]
    assert classes(page) == [f"s{step}" for step in steps]
    ground = page.locator(".own .t").evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
    assert len(set(ground)) == len(set(steps))
    page.get_by_role("button", name="version", exact=True).click()
    shows(page.locator(".legend"), f"version 1 ({len(text)})")
    assert set(classes(page)) == {"v0"}
    page.get_by_role("button", name="advantage").click()
    shows(page.locator(".legend"), "every token of the response has +0.577")
    assert set(classes(page)) == {"up2"}  # of four: the wrong one has twice as much
    page.get_by_role("button", name="loss mask").click()
    shows(page.locator(".legend"), "sampled, and trained on")
    assert set(classes(page)) == {"k1"}
    page.locator(".said .t").first.hover()
    shows(page.locator(".detail"), "said to the policy, not trained on")
    page.locator(".own .t").nth(3).hover()
    shows(page.locator(".detail"), "log p −1 (36.8 %)")
    show(page, url + "?group=20&response=0&shade=mask")
    shows(page.locator(".legend"), "sampled, and not trained on: all responses were correct")
    assert set(classes(page)) == {"k0"}


def test_an_episode_is_a_conversation_with_its_seats_side_by_side(page: "Page", url: str) -> None:
    show(page, url + "?group=50&response=0")
    shows(page.locator(".block h3").last, "asker (the policy), turn 3")
    assert page.locator(".block").all_inner_texts() == [
        "said to asker\nYou ask.",
        "asker (the policy), turn 1\nIs it red?",
        "said to the policy\nNo.",
        "asker (the policy), turn 2\nIs it blue?",
        "said to asker\nYou ask. It is late.",
        "asker (the policy), turn 3\nI give up.",
    ]
    assert "the conversation goes on in a new stream" in page.locator(".note").inner_text()
    page.keyboard.press("e")
    is_asked(page, group="50", response="0", view="episode")
    shows(page.locator(".episode .block h3").last, "answerer (the policy)")
    assert page.locator(".episode h2").all_inner_texts() == ["asker", "answerer"]
    page.get_by_text("this seat alone").click()
    is_asked(page, group="50", response="0")


def test_hostile_texts_are_shown_and_do_nothing(page: "Page", url: str) -> None:
    foreign: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(url) else foreign.append(request.url))
    for query in (
        "?q=%3Cimg%20src%3Dx&group=40",
        "?group=40&view=prompt",
        *(f"?group=40&response={n}" for n in (0, 8)),
    ):
        show(page, url + query)
        shows(page.locator("#right h1"), re.compile("40|One prompt"))
        page.locator("#right .block, #right .card").first.wait_for()
        assert page.locator("#list img, #right img, #right script, #right .said b").count() == 0
    show(page, url + "?group=40")
    texts = page.locator(".card pre").all_inner_texts()
    assert texts[0] == HOSTILE["markup"]
    assert texts[1] == "ESC[31mredESC[0mBEL"
    assert texts[2] == "safeU+202E txetU+2066U+2069"
    assert texts[3] == "beforeNULafter"
    assert "200,000 characters" in texts[4]
    assert texts[8] == "(nothing)"
    assert foreign == []
    assert page.title().startswith("group 40")


def test_what_the_server_refuses_is_said_where_it_was_asked_for(page: "Page", url: str) -> None:
    shows(page.locator("#notice"), "1 file cannot be read")
    page.locator("#notice summary").click()
    with page.expect_response("**/api/run"):  # the page looks again
        shows(page.locator("#notice li"), "step-4/groups.parquet is not a whole Parquet file")
    page.wait_for_timeout(100)
    assert page.locator("#notice li").is_visible()
    for query, place, said in (
        ("?group=99", "#right .problem", "there is no group 99 in this run"),
        ("?group=10&response=4", "#right .problem", "Group 10 has 4 responses."),
        ("?step=soon", "#list .problem", "step must be a number or a range such as 3..9, got 'soon'"),
        ("?sort=up", "#list .problem", "sort must be one of newest-first"),
    ):
        page.goto(url + query)
        shows(page.locator(place), said)
    page.locator("#text").fill("x")  # the rest of the page works on


def test_a_run_that_goes_on_is_followed_and_a_server_that_has_ended_is_said(browser: "Browser", tmp_path: Path) -> None:
    run = tmp_path / "live"
    (run / "trajectories").mkdir(parents=True)
    with new_page(browser) as page:
        page.set_default_timeout(SOON)
        page.clock.install()
        with served(run) as url:
            show(page, url + "?group=1")  # a link that is opened too early
            shows(page.locator("#list"), "No responses yet. They appear at the end of a step.")
            shows(page.locator("#right .problem"), "there is no group 1 in this run")
            write_run(run, {1: [(group_of_texts(["first"], [1.0], id=1), "")]})
            comes(page.locator("#counts"), "1 response in 1 group, steps 1–1")
            shows(page.locator("#list .here b"), "#1")
            shows(page.locator("#right h1"), "Group 1")
            write_run(run, {2: [(group_of_texts(["second"], [1.0], id=2), "")]})
            comes(page.locator("#notice"), "the run has gone on: show what came (r)")
            assert listed(page) == ["#1"]  # nothing moves under a person who reads
            page.keyboard.press("r")
            shows(page.locator("#list .item b"), "#2")
            shows(page.locator("#right h1"), "Group 1")
            assert not page.locator("#notice").is_visible()
            (run / "trajectories/step-2/groups.parquet").unlink()
            page.keyboard.press("k")
            shows(page.locator("#right .problem"), "groups.parquet is not a whole Parquet file")
        comes(page.locator("#notice .problem"), "winnow rollouts does not answer: has it ended?")


def test_a_page_for_others_needs_the_whole_url_and_keeps_it(browser: "Browser", tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", {1: [(group_of_texts(["a" * 30_000], [1.0], id=1), "")]})
    with served(run, token="secret") as url, new_page(browser) as page:
        page.goto(url)
        shows(page.locator("#notice .problem"), "open the whole URL that winnow rollouts has printed")
        show(page, url + "?access=secret")
        page.locator("#list .item").click()
        page.locator(".card pre").click()
        is_asked(page, access="secret", group="1", response="0")
        shows(page.locator(".note"), "There is no tokenizer of this run")
        page.get_by_text("10,000 more characters").click()
        until(page, "document.querySelector('.own pre').textContent.length === 30000")
        page.locator("#home").click()
        is_asked(page, access="secret")


def test_on_a_phone_one_side_is_shown_at_a_time_and_nothing_is_wider_than_it(browser: "Browser", url: str) -> None:
    with new_page(browser, viewport=PHONE, has_touch=True, color_scheme="dark") as page:
        page.set_default_timeout(SOON)
        show(page, url)
        assert not page.locator("#right").is_visible()
        for query in ("?group=40", "?group=10", "?group=10&view=prompt", "?group=50&response=0&view=episode", "?q=4"):
            show(page, url + query)
            page.locator(".block, .card, .item").first.wait_for(state="attached")
            width = page.evaluate("Math.max(document.documentElement.scrollWidth, right.scrollWidth, list.scrollWidth)")
            assert width <= PHONE["width"], query
        show(page, url + "?group=10")
        assert not page.locator("#left").is_visible()
        page.get_by_label("back to the list").click()
        assert page.locator("#left").is_visible()
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(part) for part in re.findall(r"\d+", paper)[:3]) < 40
