"""The image is built from the lock files, holds what a node needs, and its user is not root."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/docker/Dockerfile"
INSTRUCTIONS = ("ARG", "CMD", "COPY", "ENV", "FROM", "RUN", "USER", "WORKDIR")
PROFILES = ("cpu", "gpu")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions(text: str) -> list[tuple[str, str]]:
    """(instruction, its words) of a Dockerfile: comments left out, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not re.match(r"\s*#", line))
    whole = [line.strip() for line in re.sub(r"\\\n\s*", "", lines).splitlines() if line.strip()]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in whole]


SAID = instructions(FILE.read_text(encoding="utf-8"))
LAST = SAID[max(place for place, (name, _) in enumerate(SAID) if name == "FROM") :]  # the image's own stage


def all_of(name: str, said: list[tuple[str, str]] = SAID) -> list[str]:
    return [words for instruction, words in said if instruction == name]


def let_in() -> list[str]:
    """What of the repository .dockerignore lets into the build."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    return [rule.removeprefix("!") for rule in rules if rule.startswith("!")]


def test_the_file_holds_known_instructions_and_every_command_can_be_read() -> None:
    assert {name for name, _ in SAID} <= set(INSTRUCTIONS)
    for command in all_of("RUN"):
        assert subprocess.run(["sh", "-n"], input=command, text=True, check=False).returncode == 0


def test_another_parser_reads_the_same() -> None:
    from dockerfile_parse import DockerfileParser

    read = DockerfileParser(str(FILE)).structure
    assert [one["instruction"] for one in read if one["instruction"] != "COMMENT"] == [name for name, _ in SAID]


def test_what_only_tests_use_is_not_in_the_image() -> None:
    (command,) = [words for words in all_of("RUN") if "pip uninstall" in words]
    taken_out = command.partition("pip uninstall -y")[2].split()
    assert taken_out == [re.split("[<>=]", one)[0] for one in PROJECT["project"]["optional-dependencies"]["test"]]


def test_packages_come_from_the_lock_file_by_hash_and_torch_has_the_version_that_make_takes() -> None:
    (locked,) = [words for words in all_of("RUN") if "lock.txt" in words]
    assert "--no-deps --require-hashes -r /tmp/lock.txt" in locked
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (torch,) = re.findall(r"^TORCH \?= (\S+)$", makefile, re.M)
    assert f"TORCH={torch}" in all_of("ARG")


def test_the_user_is_not_root_and_the_sandbox_is_there() -> None:
    assert all_of("USER", LAST) == ["1000"]
    assert "--uid 1000" in " ".join(all_of("RUN", LAST))
    assert "bubblewrap" in " ".join(all_of("RUN", LAST))


def test_what_launchers_ask_of_an_image_is_in_it() -> None:
    installed = " ".join(all_of("RUN", LAST)).split()
    assert {"rsync", "wget", "g++", "python3-dev"} <= set(installed)
    assert "/etc/profile.d/winnow.sh" in installed  # a login shell has a path of its own
    assert "HOME=/home/ray" in " ".join(all_of("ENV", LAST))


@pytest.mark.parametrize("profile", PROFILES)
def test_everything_that_is_copied_is_there_and_let_in(profile: str) -> None:
    for words in all_of("COPY"):
        *sources, _ = [word for word in words.split() if not word.startswith("--")]
        if "--from=" in words:
            continue
        for source in (one.replace("${PROFILE}", profile) for one in sources):
            assert (ROOT / source).exists()
            assert source == "." or any(source.startswith(known) for known in let_in())


def test_nothing_is_let_in_but_the_packages_and_what_describes_them() -> None:
    packages = {name.split(".")[0] for name in PROJECT["tool"]["setuptools"]["packages"]}
    others = {"LICENSE", "README.md", "deploy/requirements", "deploy/runs", "pyproject.toml"}
    assert set(let_in()) == packages | others


@pytest.mark.slow
def test_what_is_let_in_is_enough_for_a_wheel_with_every_file_of_the_packages(tmp_path: Path) -> None:
    for name in let_in():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, tmp_path / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(tmp_path / "source")], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    for package in ("actors", "cluster", "learner", "rewards"):
        ours = [
            path for path in (ROOT / package).rglob("*") if path.suffix in (".py", ".html") or path.name == "py.typed"
        ]
        assert [str(path.relative_to(ROOT)) for path in ours if str(path.relative_to(ROOT)) not in packed] == []
