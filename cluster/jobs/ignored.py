"""What .gitignore and .rayignore leave out, by the rules of gitignore(5). The library for it, pathspec, which Ray uses
too, would send files that git leaves out: below a folder that `!folder/` takes back, and those of `[[:alpha:]]`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FILES = (".gitignore", ".rayignore")  # the latter goes before the former


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line of such a file."""

    pattern: re.Pattern[str]  # of a path relative to the folder of the file
    folders_only: bool
    keeps: bool  # begins with "!": takes back what an earlier rule left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Those of one folder."""

    folder: Path
    rules: tuple[Rule, ...]

    def say(self, path: Path, *, is_folder: bool) -> bool | None:
        """Whether they leave a path below the folder out; None where they say nothing of it."""
        name = path.relative_to(self.folder).as_posix()
        for rule in reversed(self.rules):
            if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(name):
                return not rule.keeps
        return None


def rules_of(folder: Path) -> Rules:
    """The rules of the files that lie in a folder; none where there is no such file."""
    lines = []
    for name in FILES:
        if (file := folder / name).is_file():
            lines += file.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    return Rules(folder=folder, rules=tuple(rule for line in lines if (rule := _rule(line)) is not None))


def rules_above(folder: Path) -> list[Rules]:
    """Those of the folders that a folder lies in, down from the root of its repository; none outside of one."""
    above: list[Rules] = []
    for parent in folder.parents:
        if (above[-1].folder if above else folder).joinpath(".git").exists():
            return above[::-1]
        above.append(rules_of(parent))
    return []


def is_ignored(path: Path, found: Sequence[Rules], *, is_folder: bool) -> bool:
    """Whether a path is left out, given that the folders which it lies in are not.

    Args:
        path: absolute.
        found: the rules of its folders, the outermost first.
        is_folder: whether it is one.
    """
    for rules in reversed(found):
        said = rules.say(path, is_folder=is_folder)
        if said is not None:
            return said
    return False


def _rule(line: str) -> Rule | None:
    line = line.rstrip("\r")
    if line.startswith("#"):
        return None
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    keeps = line.startswith("!")
    text = line[keeps:]
    folders_only = text.endswith("/")
    text = text.rstrip("/") if folders_only else text
    if not text:
        return None
    anchored = "/" in text
    pattern = _pattern(text.removeprefix("/"))
    if pattern is None:
        return None
    return Rule(
        pattern=re.compile(pattern if anchored else f"(?:.*/)?{pattern}", re.S), folders_only=folders_only, keeps=keeps
    )


def _pattern(text: str) -> str | None:
    """The regular expression of a pattern; None where it matches nothing, as git has it."""
    made, at = "", 0
    while at < len(text):
        rest = text[at:]
        begins = at == 0 or text[at - 1] == "/"
        if begins and rest.startswith("**/"):
            made, at = made + "(?:.*/)?", at + 3
        elif begins and rest == "**":
            made, at = made + ".+", at + 2
        elif rest[0] == "*":
            made, at = made + "[^/]*", at + 1
        elif rest[0] == "?":
            made, at = made + "[^/]", at + 1
        elif rest[0] == "[":
            found = re.match(r"\[([!^]?)(\]?(?:\[:\w+:\]|\\.|[^\]\\])*)\]", rest, re.S)
            if found is None:
                return None
            made, at = made + _class(found[2], negated=bool(found[1])), at + found.end()
        elif rest[0] == "\\":
            if len(rest) == 1:
                return None
            made, at = made + re.escape(rest[1]), at + 2
        else:
            made, at = made + re.escape(rest[0]), at + 1
    return made


POSIX = {"alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "digit": "0-9", "lower": "a-z", "upper": "A-Z", "space": r"\s"}


def _class(inside: str, *, negated: bool) -> str:
    made = re.sub(r"\[:(\w+):\]", lambda found: POSIX.get(found[1], ""), inside)
    made = re.sub(r"\\.|[\[\]&~|^]", lambda found: found[0] if len(found[0]) == 2 else f"\\{found[0]}", made)
    return f"(?!/)[{'^' if negated else ''}{made}]"
