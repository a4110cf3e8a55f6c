"""Run folders that cannot be made, and settings that any run must be able to write down."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.config.errors import ConfigError
from cluster.config.reading import config_of, load_config
from cluster.preparing.folders import held, make_run_folder, write_config
from tests.tables import each

ROOT = Path(__file__).parents[3]
WORLD = {"world": {"name": "addition"}}


def test_a_run_folder_that_cannot_be_made_is_named_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing/at/all")
    for base in ("file", "file/below", "dangling", "\x00", "x" * 300):
        with pytest.raises(ConfigError, match=r"cannot make the run folder .*run\.folder"):
            make_run_folder("run", tmp_path / base)
    with pytest.raises(ConfigError, match="cannot make the run folder"):
        make_run_folder("run", Path("/proc/none"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]


def test_a_folder_is_held_by_one_process_until_it_ends_however_it_ends(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from cluster.preparing.folders import held
with held(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        refused = rf"another process runs in .*: process {other.pid} on .*Wait until"
        with pytest.raises(ConfigError, match=refused), held(tmp_path):
            pass
    finally:
        other.kill()
        other.communicate()
    with held(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


def test_who_holds_a_folder_is_on_disk_for_other_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append((tmp_path / "lock").read_text()))
    with held(tmp_path):
        assert synced == [(tmp_path / "lock").read_text()]
    assert f"process {os.getpid()} on" in synced[0]


def test_a_run_into_a_file_ends_with_status_2_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.toml").write_text(f'[world]\nname = "addition"\n[run]\nfolder = "{tmp_path}/run.toml"\n')
    assert main(["train", str(tmp_path / "run.toml")]) == 2
    assert "a file stands in its path" in capsys.readouterr().err


@each(
    ("name", "good"),
    [
        ("night 2", True),
        ("réinforce_µ", True),
        ("a" * 200, True),
        ("two\nlines", False),
        ("carriage\r", False),
        ("\x1b[31m", False),
        ("nul\x00", False),
        ("..", False),
        (".hidden", False),
        ("", False),
        (" ", False),
        ("end ", False),
        ("a/b", False),
        ("a\\b", False),
        ("a\u2028b", False),
        ("\u202efdp", False),
        ("\udcff", False),
        ("é" * 101, False),
    ],
)
def test_the_name_of_a_run_is_a_folder_name_on_one_line(name: str, good: bool) -> None:
    if good:
        assert config_of(WORLD | {"run": {"name": name}}).run.name == name
        return
    with pytest.raises(ConfigError, match=r"run\.name must be a (plain )?folder name"):
        config_of(WORLD | {"run": {"name": name}})


def test_a_folder_with_a_line_break_is_refused() -> None:
    for folder in ("", "a\nb", "\x1b[2J"):
        with pytest.raises(ConfigError, match=r"run\.folder must be a folder without line breaks"):
            config_of(WORLD | {"run": {"folder": folder}})


@each(
    "text",
    ["🦉", "quotes \" and \\ and '''", "lines\nand\r\ntabs\t", "\x00\x1b\x7f", "\u2028\ufeff", "#[x] = {}", "漢字", ""],
)
def test_whatever_stands_in_a_text_setting_is_read_back_from_config_toml(text: str) -> None:
    import tempfile

    tree = WORLD | {"data": {"template": f"{text}{{prompt}}{text}", "system": text}, "run": {"note": text}}
    config = config_of(tree)
    with tempfile.TemporaryDirectory() as folder:
        write_config(config, Path(folder))
        found = tomllib.loads((Path(folder) / "config.toml").read_text(encoding="utf-8"))
        assert (found["data"]["system"], found["run"]["note"]) == (text, text)
        assert load_config(Path(folder) / "config.toml") == config


RUN = '[world]\nname = "addition"\n[run]\nnote = "é"\n'


@each(
    ("raw", "problem"),
    [
        (RUN.encode(), ""),
        (RUN.encode("utf-8-sig"), ""),
        (RUN.replace("\n", "\r\n").encode("utf-8-sig"), ""),
        (RUN.encode("latin-1"), r"run\.toml:4 holds the byte b'\\xe9', which is not UTF-8: save the file as UTF-8"),
        (RUN.encode("cp1252"), r"run\.toml:4 holds the byte"),
        (RUN.encode("utf-16"), r"run\.toml:1 holds the byte .*; it begins as UTF-16 does"),
        (RUN.encode("utf-16-le"), r"run\.toml:4 holds the byte"),
        (b"\xff\xfe\x00", r"not UTF-8"),
        (RUN.encode() + b"\x80", r"run\.toml:5 holds the byte b'\\x80'"),
        (b'[run]\nnote = "\xed\xa0\x80"', r"run\.toml:2 holds the byte"),
        (b"x = " + b"[" * 100_000, r"nested too deeply|is not TOML"),
        (b"extends = 3\n", r"extends must name one run file"),
        (b'extends = ["a.toml", "b.toml"]\n', r"extends must name one run file.*\['a\.toml', 'b\.toml'\]"),
        (b'extends = ""\n', r"extends must name one run file"),
        (b'extends = "."\n', r"there is no run file"),
    ],
)
def test_a_run_file_in_another_encoding_is_read_or_refused_with_its_line(raw: bytes, problem: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.toml"
        file.write_bytes(raw)
        if not problem:
            assert load_config(file).run.note == "é"
            return
        with pytest.raises(ConfigError, match=problem):
            load_config(file)


def test_a_setting_on_the_command_line_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(RUN)
    with pytest.raises(ConfigError, match=r"on the command line is not UTF-8"):
        load_config(tmp_path / "run.toml", ["data.system=\udcff"])
