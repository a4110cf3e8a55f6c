"""AutoWebGLM: the policy finds the price of an article on a small site. It is shown pages in a simplified form, in
which what can be operated has a number, and clicks, types and says:

    shown    hat 1tools 2clothes 3food      the task, and the page on which it begins
    policy   click 2
    shown    1cap 2hat 3sock 4coat 5home
    policy   click 2
    shown    hat costs 7 1home
    policy   say 7

Where links stand and what things cost is drawn for each task, the same for all siblings. Pages are HTML, and no network
is asked.
"""

import random
import re
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser

ROUNDS = 5  # actions of an episode
SHELVES = {
    "tools": ("saw", "axe", "nail", "glue"),
    "clothes": ("cap", "hat", "sock", "coat"),
    "food": ("bun", "jam", "tea", "rice"),
}
STARTS = {"shelf": 2, "find": 3, "home": 3}  # page on which a task begins -> the fewest actions
SHELF_OF = {article: shelf for shelf, articles in SHELVES.items() for article in articles}
ACTION = re.compile(r"click (?P<clicked>\d)|type (?P<box>\d) (?P<text>\w+)|say (?P<said>\d)")
UNSEEN = ("head", "script", "style", "template")  # elements whose text nobody sees
DOCUMENT = """<!doctype html>
<html><head><title>{title}</title><style>a {{color: teal}}</style><script>track("{title}")</script></head>
<body><div class="top"><div hidden>offers</div></div><main>{body}</main></body></html>"""


@dataclass(frozen=True, slots=True)
class Element:
    """What can be operated on a page."""

    label: str
    target: str  # address of a link, "" of a box
    box: bool = False


class Simplifier(HTMLParser):
    """Reads a page: its texts in order, and what can be operated, numbered from 1; all else is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self.texts: list[str] = []
        self._open: list[tuple[str, bool]] = []  # elements around this place, and whether each hides what is in it
        self._link = ""  # address of the link around this place

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        given = dict(attrs)
        if tag == "input":
            self._add(Element(given.get("placeholder") or "", "", box=True))
            return
        self._open.append((tag, tag in UNSEEN or "hidden" in given))
        if tag == "a":
            self._link = given.get("href") or ""

    def handle_endtag(self, tag: str) -> None:
        """An element ends."""
        while self._open and self._open.pop()[0] != tag:
            pass
        if tag == "a":
            self._link = ""

    def handle_data(self, data: str) -> None:
        """Text, that of a link among it."""
        if not data.strip() or any(hides for _, hides in self._open):
            return
        if self._link:
            self._add(Element(data.strip(), self._link))
        else:
            self.texts += data.split()

    def _add(self, element: Element) -> None:
        self.elements.append(element)
        self.texts.append(f"{len(self.elements)}{element.label}")


@lru_cache(maxsize=256)
def simplified(html: str) -> tuple[str, tuple[Element, ...]]:
    """A page as the policy is shown it, and what it may operate."""
    reader = Simplifier()
    reader.feed(html)
    return " ".join(reader.texts), tuple(reader.elements)


class Visit:
    """Somebody looks for the price of an article, on a site that is drawn with a seed."""

    def __init__(self, article: str, start: str, seed: int) -> None:
        draw = random.Random(seed)
        self.article = article
        self._shelves = {name: draw.sample(SHELVES[name], len(SHELVES[name])) for name in draw.sample([*SHELVES], 3)}
        self._prices = {each: draw.randrange(1, 10) for each in SHELF_OF}
        self._at = f"/{SHELF_OF[article] if start == 'shelf' else start}"

    @property
    def price(self) -> int:
        """What the article costs."""
        return self._prices[self.article]

    @property
    def html(self) -> str:
        """The page on which one is."""
        kind, _, rest = self._at[1:].partition("/")
        home = links(["home"])
        if kind in SHELVES:
            body = links(self._shelves[kind]) + home
        elif kind == "find":
            body = '<form><input name="q" placeholder="find"></form>'
        elif kind == "found":
            body = (links([rest]) if rest in SHELF_OF else "<p>nothing</p>") + home
        elif kind in SHELF_OF:
            body = f"<h1>{kind}</h1><p>costs <b>{self._prices[kind]}</b></p>{home}"
        else:
            body = links(self._shelves)
        return DOCUMENT.format(title=kind, body=body)

    @property
    def page(self) -> str:
        """The same, simplified."""
        return simplified(self.html)[0]

    def act(self, said: str) -> bool | None:
        """Does what the policy says. True: it said the price; False: another one, or what cannot be done here; None: it
        is on a page, maybe another one."""
        action = ACTION.fullmatch(said)
        if action is None:
            return False
        if action["said"]:
            return int(action["said"]) == self.price
        elements, number = simplified(self.html)[1], int(action["clicked"] or action["box"])
        if not 0 < number <= len(elements) or elements[number - 1].box != bool(action["box"]):
            return False
        self._at = f"/found/{action['text']}" if action["box"] else elements[number - 1].target
        return None


def links(names) -> str:
    """A list of links."""
    items = [f'<li><a href="/{name}">{name}</a></li>' for name in names]
    return f"<ul>{''.join(items)}</ul>"


async def play(task, talk):
    article, start = task.question.split(" ")
    visit = Visit(article, start, task.seed)
    said = f"{article} {visit.page}"
    for _ in range(ROUNDS):
        done = visit.act((await talk(said)).text)
        if done is not None:
            return done
        said = visit.page
    return False
