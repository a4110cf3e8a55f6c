"""The words that the glossary keeps out name nothing in the four packages: no module, class, function, parameter,
variable, field, attribute or string key."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("rewards", "actors", "learner", "cluster")
FILES = [path.relative_to(ROOT) for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]

# Words that are kept out in one sense only: the files in which another sense is at home.
ALLOWED: dict[str, tuple[str, ...]] = {
    # The order of rows (ORDER BY), of a list in an answer, of prompts in an epoch, of the methods on a page.
    "order": (
        "rewards/queries/",
        "rewards/answers/",
        "actors/data/",
        "cluster/report/charts.py",
    ),  # and of what is drawn
    "load": ("rewards/programs/seccomp.py", "actors/transfer/gloo.py"),  # names of Linux; vLLM's function that loads
    "mark": ("cluster/report/charts.py",),  # how Vega-Lite calls what it draws
    "longest": ("actors/settings.py",),  # longest_prompts_first says which come first, it is no limit
}
VERBS = ("load", "mark")  # forbidden as a noun: a function's name may begin with it
LOCAL = ("longest",)  # forbidden as a limit: a variable that holds the longest of something may be called so


def forbidden() -> tuple[str, ...]:
    section = (ROOT / "docs/glossary.md").read_text().split("## Words that are kept out")[1]
    without_remarks = re.sub(r"\(.*?\)", "", section, flags=re.S)
    return tuple(word.replace(" ", "_") for word in re.findall(r"`([^`]+)`", without_remarks))


def parts(identifier: str) -> list[str]:
    """The words of an identifier: `max_newTokens` has three."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)]


def has(identifier: str, word: str) -> bool:
    text, wanted = f"_{'_'.join(parts(identifier))}_", word.strip("_")
    return f"_{wanted}_" in text or f"_{wanted}s_" in text


def named(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """What a file names: line, kind, identifier. What it only uses was named elsewhere."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef():
                yield node.lineno, "class", node.name
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, "function", node.name
            case ast.arg():
                yield node.lineno, "parameter", node.arg
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, "attribute", node.attr
            case ast.AnnAssign(target=ast.Name()):
                yield node.lineno, "field", node.target.id
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, "variable", node.id
            case ast.Dict():
                for key in node.keys:
                    if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value.isidentifier():
                        yield key.lineno, "key", key.value


def found_in(path: Path) -> list[str]:
    words = [word for word in forbidden() if not str(path).startswith(ALLOWED.get(word, ()))]
    names = [(1, "module", path.stem), *named(ast.parse((ROOT / path).read_text()))]
    return [
        f"{path}:{line} the {kind} {name!r} says {word!r}"
        for line, kind, name in names
        for word in words
        if has(name, word)
        and not (word in VERBS and kind == "function" and parts(name)[0] == word)
        and not (word in LOCAL and kind == "variable")
    ]


def test_the_glossary_lists_the_words_that_are_kept_out() -> None:
    assert {"order", "mark", "dense", "judgement", "crew", "last_words", "longest", "load"} <= set(forbidden())
    assert not {"max_new_tokens", "max_prompt_tokens"} & set(forbidden())


def test_no_name_is_a_word_that_the_glossary_keeps_out() -> None:
    assert [line for path in FILES for line in found_in(path)] == []


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("class Load: pass", ["load"]),
        ("def load(): pass", []),
        ("def f(loads): pass", ["load"]),
        ("spread_by_group = 1", ["spread"]),
        ("spreadsheet = 1", []),
        ("longest = 1", []),
        ("def f(longest): pass", ["longest"]),
        ("last_words = 1", ["last_words"]),
        ("sendDense = 1", ["dense"]),
        ("x = {'arm': 1}", ["arm"]),
        ("x = typing.cast(int, y)", []),
    ],
)
def test_the_search_finds_words_and_their_plurals_but_not_their_letters(
    source: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "here.py").write_text(source)
    found = found_in(tmp_path / "here.py")
    assert [line.rsplit("'", 2)[1] for line in found] == words
