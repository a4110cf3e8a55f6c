"""The documents are true: links and paths lead somewhere, commands and settings exist, and what repeats a table of the
code is equal to it."""

import ast
import re
import shlex
import tomllib
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cluster import cli
from cluster.config.described import settings
from cluster.config.run_config import RunConfig
from cluster.reward_models.config import RewardModelLearner
from tests.project.reference import PARTS, ROOT, parts_in, written

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "examples").glob("**/*.md")),
    *sorted((ROOT / "deploy").glob("**/*.md")),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}
CURRENT = [name for name in TEXTS if name not in ("CHANGELOG.md", "docs/glossary.md")]  # these name old words too
every_page = pytest.mark.parametrize("name", TEXTS)
every_current_page = pytest.mark.parametrize("name", CURRENT)

FILE_ENDINGS = ("py", "md", "toml", "jsonl", "json", "txt", "html", "parquet", "log", "safetensors", "yaml")
SECTIONS = "|".join(RunConfig.model_fields)
SETTING = re.compile(rf"(?<![\w./-])((?:{SECTIONS})(?:\.[a-z_]+)+)(?![\w.(])")
KNOWN = {f"{section}.{setting}" for section, _, setting, _ in settings()}
KNOWN |= {f"learner.{setting}" for setting in RewardModelLearner.model_fields}  # of the training of a reward model


def blocks(text: str, language: str = "") -> list[str]:
    """The fenced blocks of a page in one language."""
    return [body for kind, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M) if kind == language]


def code_in(text: str) -> list[str]:
    """What stands between back ticks in running text."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M))


def commands_in(text: str) -> list[str]:
    """Every command of the project that a page shows, without prompts and comments."""
    lines = [line for block in blocks(text) for line in block.splitlines()]
    shown = [line.removeprefix("$ ").split("  #")[0].strip() for line in (*lines, *code_in(text))]
    return [line for line in shown if re.match(r"winnow (--|[a-z])", line)]


def heading_anchors(text: str) -> set[str]:
    """The anchors that a page's headings get."""
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@every_page
def test_every_relative_link_leads_to_a_file_and_a_heading(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name} links to {link}"
        if anchor:
            assert anchor in heading_anchors(target.read_text(encoding="utf-8")), f"{name} links to {link}"


@every_current_page
def test_every_path_of_the_repository_that_a_page_names_is_there(name: str) -> None:
    ours = {path.name for path in ROOT.iterdir() if path.name != "runs" and not path.name.startswith(".venv")}
    missing = []
    for code in code_in(TEXTS[name]):
        (first, *_), place = code.split("/"), ROOT / code
        if "/" in code and first in ours and re.fullmatch(r"[\w./+-]+", code) and not place.exists():
            missing.append(code)
    assert missing == []


def test_every_setting_that_a_page_names_can_be_set() -> None:
    named = sorted((name, setting) for name in CURRENT for setting in named_settings(of_ours(name)))
    assert [(name, setting) for name, setting in named if not is_known(setting)] == []


def of_ours(name: str) -> str:
    """A page without the first cells of its tables, where these hold names of other projects."""
    return re.sub(r"^\| .*? \|", "|", TEXTS[name], flags=re.M) if name == "docs/moving.md" else TEXTS[name]


def named_settings(text: str) -> set[str]:
    """The settings that a page names."""
    without_paths = [code for code in (*code_in(text), *commands_in(text)) if not code.startswith("ray ")]
    found = {setting for code in without_paths for setting in SETTING.findall(code)}
    found |= {setting for block in blocks(text, "toml") for setting in keys_of(tomllib.loads(block))}
    return {setting for setting in found if setting.rpartition(".")[2] not in FILE_ENDINGS}


def keys_of(tree: dict[str, Any], before: str = "") -> set[str]:
    """The settings in a tree of TOML."""
    found: set[str] = set()
    for key, value in tree.items():
        name = before + key
        found |= keys_of(value, f"{name}.") if isinstance(value, dict) and name not in KNOWN else {name}
    return found


def is_known(setting: str) -> bool:
    """Whether a run file may set it, or a table of that name; rewards with a name of their own are not looked into."""
    section, _, rest = setting.partition(".")
    kind: Any = RunConfig.model_fields[section].annotation
    if any(f"{known}.".startswith(f"{setting}.") for known in KNOWN) or not issubclass(kind, BaseModel):
        return True
    return section == "reward" and rest.split(".")[0] in ("helpful", "safety")


@pytest.mark.parametrize(("name", "command"), [(name, line) for name in CURRENT for line in commands_in(TEXTS[name])])
def test_every_command_that_a_page_shows_can_be_read(name: str, command: str, capsys: Any) -> None:
    words = [word for word in shlex.split(re.sub(r"\[.*?\]", "", command))[1:] if word != "…"]
    if len(words) == 1 and not words[0].startswith("-"):  # the command's name alone, in running text
        words.append("--help")
    status, rest = as_the_command_line_reads(words)
    assert status == 0, capsys.readouterr().err
    assert [word for word in rest if word.startswith("-") or "=" not in word] == []


def as_the_command_line_reads(words: list[str]) -> tuple[int, list[str]]:
    """(exit status, what is left over) of reading some words; nothing is run. --help and --version end with 0."""
    try:
        return 0, cli._parser().parse_known_args(words)[1]
    except SystemExit as end:
        return int(end.code or 0), []


@pytest.mark.parametrize("name", [name for name in TEXTS if parts_in(TEXTS[name])])
def test_what_repeats_a_table_of_the_code_is_equal_to_it(name: str) -> None:
    assert written(TEXTS[name]) == TEXTS[name], "run: python -m tests.project.reference"


def test_every_table_of_the_code_is_repeated_once() -> None:
    assert sorted(part for text in TEXTS.values() for part in parts_in(text)) == sorted(PARTS)


def test_the_toml_and_the_python_that_pages_show_can_be_read() -> None:
    for name, text in TEXTS.items():
        for block in blocks(text, "toml"):
            tomllib.loads(block)
        for block in blocks(text, "python"):
            compile(block, name, "exec")


def test_the_reward_of_siblings_that_the_docs_show_prefers_the_shortest_right_response() -> None:
    (source,) = [block for block in blocks(TEXTS["docs/rewards.md"], "python") if "reward_group" in block]
    names: dict[str, Any] = {}
    exec(source, names)
    assert names["reward_group"](["it is 4", "4", "5", "1234567894"], "4", "2+2=") == pytest.approx(
        [0.6 + 0.4 / 7, 1.0, 0.0, 0.64]
    )
    assert names["reward_group"](["5", ""], "4", "2+2=") == [0.0, 0.0]


@pytest.mark.parametrize("page", ["troubleshooting", "memory", "hangs"])
def test_every_message_that_a_page_of_symptoms_quotes_is_one_of_the_code(page: str) -> None:
    said, text = "\n".join(messages_of_the_code()), TEXTS[f"docs/{page}.md"]
    bold, first_cells = re.findall(r"\*\*(.+?)\*\*", text, re.S), re.findall(r"^\| ([^|]*) \|", text, re.M)
    quoted = [
        q
        for part in (*bold, *first_cells)
        for q in code_in(" ".join(part.split()))
        if not SETTING.match(q) and not q.startswith("winnow ")
    ]
    fragments = [f.strip(" :(),.") for q in quoted for f in re.split(r"\b[A-Z]+\b|…|'[^']*'|\b\d+\b", q)]
    assert len(fragments) > 10
    assert [fragment for fragment in fragments if " " in fragment and fragment not in said] == []


def messages_of_the_code() -> list[str]:
    """Every text in the packages, with a line feed for each value that is filled in."""
    texts = []
    for package in ("rewards", "actors", "learner", "cluster"):
        for path in (ROOT / package).glob("**/*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    texts.append(
                        "".join(str(part.value) if isinstance(part, ast.Constant) else "\n" for part in node.values)
                    )
    return texts


def test_the_workflow_runs_what_ci_runs() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["test"]["steps"]
    assert ".ci/run" in [step.get("run") for step in steps]
    assert [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")] == ["3.11"]


def test_the_hooks_before_a_commit_are_those_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    linted = re.search(r"^lint: env\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert linted is not None
    wanted = [line.strip().removesuffix(" .") for line in linted[1].splitlines()]
    assert [hook["entry"] for hook in hooks] == wanted


def test_every_package_says_that_it_is_typed() -> None:
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    for package in ("rewards", "actors", "learner", "cluster"):
        assert (ROOT / package / "py.typed").is_file()
        assert "py.typed" in packages["package-data"][package]
