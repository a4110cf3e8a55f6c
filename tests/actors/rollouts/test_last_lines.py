"""What a dead engine printed last is shown."""

from pathlib import Path

from actors.rollouts.last_lines import LINES, last_lines


def test_the_last_lines_of_both_streams_are_shown_once(tmp_path: Path) -> None:
    out, err = tmp_path / "worker.out", tmp_path / "worker.err"
    out.write_bytes(b"starting\n\n" + b"x" * 100_000 + b"\nloading\n")
    err.write_bytes("".join(f"line {number}\n" for number in range(100)).encode() + b"CUDA out of memory \xff\n")
    (tmp_path / "1").symlink_to(out)
    (tmp_path / "2").symlink_to(err)
    shown = last_lines((tmp_path / "1", tmp_path / "2")).splitlines()
    assert len(shown) == LINES
    assert shown[-2:] == ["line 99", "CUDA out of memory �"]
    assert last_lines((tmp_path / "1", tmp_path / "1")).splitlines()[-1] == "loading"
    assert last_lines((Path("/dev/null"), tmp_path / "none")) == ""
