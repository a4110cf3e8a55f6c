"""Looks through the built site of the documentation: whatever its pages load, and wherever they lead within it, is
there, and nothing is loaded from another host.

    python -m tests.project.site FOLDER        as `make docs` calls it; exit status 1 where something is wrong
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}  # tag -> what it loads
SAID = ("canonical", "alternate")  # links that are said and not loaded
IN_STYLES = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])(?:https?:)?//""")


class Page(HTMLParser):
    """What one page loads, where it leads, and the places in it that can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One element."""
        of = {name: value or "" for name, value in attrs}
        self.places |= {of[name] for name in ("id", "name") if of.get(name)}
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        address = of.get(LOADED.get(tag, ""), "")
        if address and not (tag == "link" and of.get("rel", "") in SAID):
            self.loads.append(address)


def problems(site: Path) -> Iterator[str]:
    """What is wrong with a built site, a line for each."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        yield from (f"{name} loads {address} from another host" for address in page.loads if is_elsewhere(address))
        for address in [*page.loads, *page.links]:
            if not is_elsewhere(address) and not urlsplit(address).scheme and not leads(path, address, pages):
                yield f"{name} leads to {address}, which is not there"
    for path in sorted(site.rglob("*.css")):
        if IN_STYLES.search(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads something from another host"


def is_elsewhere(address: str) -> bool:
    """Whether an address is of another host."""
    return bool(urlsplit(address).netloc)


def leads(path: Path, address: str, pages: dict[Path, Page]) -> bool:
    """Whether an address on the page at `path` leads to a file of the site and, where it has one, to a place in it."""
    where = urlsplit(address)
    target = (path.parent / unquote(where.path)).resolve() if where.path else path
    target = target / "index.html" if target.is_dir() else target
    if path.name == "404.html":  # is shown at any address, so its links begin at the site's root
        return True
    return target.is_file() and (
        not where.fragment or target not in pages or unquote(where.fragment) in pages[target].places
    )


def main(folder: str) -> int:
    """Prints what is wrong."""
    found = list(problems(Path(folder).resolve()))
    print("\n".join(found) or "the site loads nothing from other hosts, and every link leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
