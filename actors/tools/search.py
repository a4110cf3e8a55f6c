"""A search over a corpus on this machine, ranked by BM25 (Robertson and Zaragoza, 2009), in Lucene's variant of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from actors.tools.formats import Schema
from actors.tools.schemas import schema
from actors.tools.tool import Limits

ABOUT = "Searches a collection of {count} documents and gives the {results} that fit the words of a query best."


@dataclass(frozen=True, slots=True)
class Search:
    """A tool that searches a corpus: JSON lines, each a text or an object with one, or a text file with a document on
    each line."""

    corpus: str  # path, from the folder of the environment's file
    results: int = 3
    column: str = (
        "text"  # of an object, with what is searched and shown; its "title", where it has one, stands before it
    )
    name: str = "search"

    @property
    def bounded(self) -> bool:
        """It has the limit of memory."""
        return True

    def placed(self, folder: Path) -> "Search":
        """The corpus there, where its path is relative."""
        return replace(self, corpus=str(folder / self.corpus))

    def start(self) -> "RunningSearch":
        """Reads and indexes the corpus."""
        return RunningSearch(self)


class RunningSearch:
    """The index."""

    def __init__(self, kind: Search) -> None:
        """
        Raises:
            ValueError: there is no such corpus, or it cannot be read.
        """
        import bm25s

        self._documents = _read(Path(kind.corpus), kind.column)
        self._results = min(kind.results, len(self._documents))
        self._index = bm25s.BM25()
        words = _words(self._documents)
        if not any(words.ids):
            raise ValueError(f"the corpus {kind.corpus} holds no words")
        self._index.index(words, show_progress=False)
        about = ABOUT.format(count=len(self._documents), results=self._results)
        self.schemas: Sequence[Schema] = (schema(kind.name, about, query="words to look for"),)

    def call(self, name: str, arguments: Mapping[str, Any], limits: Limits) -> str:
        """The documents that fit best, the best first; each gets an equal share of what the policy reads."""
        query = _words([str(arguments["query"])])
        places, scores = self._index.retrieve(query, k=self._results, show_progress=False)
        best = [int(place) for place, score in zip(places[0], scores[0], strict=True) if score > 0]
        share = max(1, limits.max_characters // max(1, len(best)) - 20)
        found = (self._documents[place] for place in best)
        return (
            "\n".join(f"[{number}] {text[:share]}" for number, text in enumerate(found, start=1)) or "(nothing found)"
        )


def _words(texts: list[str]) -> Any:
    """The words of texts in whatever language, each stretch of letters and digits, as bm25s takes them."""
    import bm25s

    return bm25s.tokenize(texts, token_pattern=r"\w+", stopwords=[], show_progress=False)


def _read(path: Path, column: str) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise ValueError(f"the corpus {path} cannot be read: {failure}") from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise ValueError(f"the corpus {path} holds no documents")
    if path.suffix != ".jsonl":
        return [line for _, line in numbered]
    return [_text(f"the corpus {path}, line {number}", line, column) for number, line in numbered]


def _text(place: str, line: str, column: str) -> str:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as failure:
        raise ValueError(f"{place} is no JSON: {failure}") from None
    if isinstance(row, str):
        return row
    if not isinstance(row, dict) or not isinstance(row.get(column), str):
        raise ValueError(f"{place} must be a text, or an object with a text {column!r}, got {line[:80]!r}")
    title = row.get("title")
    return f"{title}: {row[column]}" if isinstance(title, str) and title else str(row[column])
