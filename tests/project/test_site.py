"""The documentation as a site: every page is in its navigation once, and what `make docs` looks for is found."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.project.site import problems

ROOT = Path(__file__).parents[2]
PAGES = {
    *(path.name for path in ROOT.glob("*.md")),
    *(
        str(path.relative_to(ROOT))
        for folder in ("docs", "examples", "deploy")
        for path in ROOT.glob(f"{folder}/**/*.md")
    ),
}


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml, of which a function of Python is a part; that is left out."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
CONFIG: dict[str, Any] = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)


def pages_of(navigation: Any) -> Iterator[str]:
    """The pages in a part of the navigation."""
    match navigation:
        case str():
            yield navigation
        case list():
            for part in navigation:
                yield from pages_of(part)
        case dict():
            yield from pages_of(list(navigation.values()))


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(pages_of(CONFIG["nav"])) == sorted(PAGES)


def test_the_site_asks_for_no_fonts_of_others() -> None:
    assert CONFIG["theme"]["font"] is False
    assert all((ROOT / path).is_file() for path in CONFIG["extra_css"])


def test_what_is_wrong_with_a_site_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="own.css"><link rel="canonical" href="https://there.example/">'
        '<img src="//there.example/a.png"><script src="https://there.example/b.js"></script>'
        '<h1 id="here"></h1><a href="#here"></a><a href="#gone"></a><a href="next.html#top"></a>'
        '<a href="https://there.example/"></a><a href="mailto:a@b.example"></a><a href="lost.html"></a>'
    )
    (tmp_path / "next.html").write_text('<h1 id="top"></h1><a href="./"></a>')
    (tmp_path / "own.css").write_text('@font-face { src: url("https://there.example/c.woff2") }')
    (tmp_path / "fine.css").write_text("a { background: url(own.png) } /* https://there.example */")
    assert list(problems(tmp_path)) == [
        "index.html loads //there.example/a.png from another host",
        "index.html loads https://there.example/b.js from another host",
        "index.html leads to #gone, which is not there",
        "index.html leads to lost.html, which is not there",
        "own.css loads something from another host",
    ]
