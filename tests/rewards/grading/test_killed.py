"""What grades a response ends with the process above it, whatever it is doing."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rewards.grading.below import below
from rewards.programs.sandbox import sandbox_problem

OWNER = """
import sys, threading
from rewards import Case, Grader, Question, RewardSettings
case = Case(response="```python\\nwhile True: pass\\n```", reference='{"inputs": [""], "outputs": ["1"]}')
settings = RewardSettings.model_validate({"name": "code", "seconds": 600})
threading.Thread(target=Grader().grade, args=([Question(reward="code", case=case, settings=settings)],)).start()
print(flush=True)
"""


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(bool(sandbox_problem()), reason=sandbox_problem() or "it works")
def test_a_program_and_whoever_runs_it_end_with_the_process_that_is_killed_above_them() -> None:
    """The owner of a grader, such as a verifier, is killed while a program that never ends is being graded."""
    owner = subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE)
    try:
        until = time.monotonic() + 120
        while len(started := list(below(owner.pid))) < 3:  # the grader's worker, the sandbox, and the program in it
            assert time.monotonic() < until, started
            time.sleep(0.2)
        time.sleep(1.0)  # for the program, to be past its start
        started = list(below(owner.pid))
    finally:
        owner.kill()
        owner.communicate()
    assert len(started) >= 3, started
    until = time.monotonic() + 30
    while left := [pid for pid in started if _lives(pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.1)
