"""A page: sections with a sentence, charts, cards and tables, as one HTML file that needs no network and runs no script
but its own. The same content gives the same bytes."""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cluster.report.charts import CONFIG, NAMED, Spec

HERE = Path(__file__).parent
CACHE = Path("~/.cache/winnow")  # where the library is kept between two pages: making it takes seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart on a page."""

    spec: Spec
    about: str  # a sentence for people who do not see it
    title: str = ""  # above it, where a section has several


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; the first column names the rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = "Table"
    is_open: bool = False  # whether it shows at once
    is_text: bool = False  # whether its cells are texts that break, not numbers
    colours: Sequence[str] = ()  # of each row, `c0` and so on


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """Something that is told at length, with code and pairs of words."""

    title: str
    text: str = ""
    code: Sequence[str] = ()
    pairs: Sequence[tuple[str, str]] = ()
    colour: str = ""
    chart: Chart | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page."""

    title: str
    sentence: str  # what is seen
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    cards: Sequence[Card] = ()
    note: str = ""  # how it was measured
    is_wide: bool = False  # whether it takes the page's whole width
    text: str = ""  # shown as it is, letter by letter, behind a click
    text_title: str = ""

    @property
    def anchor(self) -> str:
        """Its place in the page's address."""
        return "-".join("".join(c if c.isalnum() else " " for c in self.title.lower()).split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number that is shown large."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A whole page."""

    title: str
    lead: Sequence[str]  # paragraphs
    sections: Sequence[Section]
    figures: Sequence[Figure] = ()
    warnings: Sequence[str] = ()
    warning_title: str = ""


def write_page(page: Page, path: Path) -> None:
    """Writes a page, under another name first, so that whoever looks sees a whole one.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text(html_of(page), encoding="utf-8")
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise


def html_of(page: Page) -> str:
    """The page's HTML."""
    charts = {f"chart{place}": chart for place, chart in enumerate(_charts(page))}
    names = {id(chart): name for name, chart in charts.items()}
    told = {
        "charts": {name: {**chart.spec, "description": chart.about} for name, chart in charts.items()},
        "config": CONFIG,
    }
    scripts = [library(), (HERE / "page.js").read_text(encoding="utf-8")] if charts else []
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html").render(
        page=page,
        style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        light={name: pair[0] for name, pair in NAMED.items()},
        dark={name: pair[1] for name, pair in NAMED.items()},
        place_of=lambda chart: names[id(chart)],
        data=_json_for_html(told),
        scripts=[Markup(script) for script in scripts],
        digests=[_digest(script) for script in scripts],
    )


def _charts(page: Page) -> list[Chart]:
    found = []
    for section in page.sections:
        found += [*section.charts, *(card.chart for card in section.cards if card.chart)]
    return found


def _json_for_html(tree: object) -> Markup:
    """JSON that ends no element, whatever its texts hold."""
    text = json.dumps(tree, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _digest(script: str) -> str:
    """By which the page's policy knows a script of its own."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@lru_cache(maxsize=1)
def library() -> str:
    """Vega-Lite as one script, from the package vl-convert-python."""
    kept = Path(os.environ.get("WINNOW_CACHE") or CACHE).expanduser() / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError):
        return kept.read_text(encoding="utf-8")
    import vl_convert

    text = vl_convert.javascript_bundle("window.winnowEmbed = vegaEmbed;").replace("</script", "<\\/script")
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        scratch = kept.with_name(f".{kept.name}.{os.getpid()}")
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(kept)
    return text
