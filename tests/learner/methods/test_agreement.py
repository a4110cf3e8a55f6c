import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-bench" / "bin" / "python"


@pytest.mark.bench
@pytest.mark.skipif(not PYTHON.exists(), reason="no benchmark environment: make bench-env")
@pytest.mark.parametrize("options", [[], ["--perturb", "--seeds", "3"]], ids=["as it is", "perturbed"])
def test_losses_and_advantages_agree_with_another_implementation_unless_perturbed(options: list[str]) -> None:
    command = [PYTHON, "-W", "ignore", "-m", "tests.bench.agree", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
