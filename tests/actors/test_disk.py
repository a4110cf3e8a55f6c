"""A full disk is told from other failures, and leaves no half lines."""

import subprocess
import sys
from pathlib import Path

import pytest

from actors.disk import append, disk_is_full


def test_a_line_is_added_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    append(file, "first")
    with pytest.raises(OSError, match="No space left") as full:
        append(Path("/dev/full"), "second")
    assert disk_is_full(full.value)
    append(file, "second: ä")
    assert file.read_text(encoding="utf-8") == "first\nsecond: ä\n"


def test_what_was_written_of_a_line_before_the_disk_was_full_is_taken_back(tmp_path: Path) -> None:
    script = """
import resource, sys
import subprocess
import sys
from pathlib import Path
from actors.disk import append
append(Path(sys.argv[1]), "first")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # the next write is cut at ten bytes, then refused
try:
    append(Path(sys.argv[1]), "second and long")
except OSError as failure:
    print(failure.strerror)
"""
    file = tmp_path / "metrics.jsonl"
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "File too large\n"
    assert file.read_text() == "first\n"


@pytest.mark.parametrize(
    ("failure", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), True),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598"), True),  # torch.save
        (OSError(13, "Permission denied"), False),
        (ValueError("lr"), False),
    ],
)
def test_only_a_full_disk_is_one(failure: Exception, full: bool) -> None:
    assert disk_is_full(failure) is full
