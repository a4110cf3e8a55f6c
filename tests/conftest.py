"""Keeps tests off the network, has long files begin first, counts cases of tables, and holds what lives on between
tests with the real parts."""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.runs import Runs

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # several test processes share the cores; read when torch is loaded
CASES = pytest.StashKey[int]()
ROOT = Path(__file__).parents[1]
# Files that take minutes though they have few tests, the longest first.
LONG = (
    "tests/cluster/running/test_algorithms_train.py",
    "tests/faults/test_faults.py",
    "tests/cluster/test_job.py",
    "tests/gpu/test_on_cpu.py",
    "tests/cluster/running/test_train.py",
    "tests/cluster/running/test_verdicts.py",
    "tests/cluster/comparing/test_compare.py",
    "tests/cluster/running/test_environments.py",
    "tests/cluster/running/test_faults_of_generators.py",
    "tests/cluster/running/test_resume.py",
    "tests/actors/transfer/test_lost.py",
    "tests/learner/test_memory.py",
    "tests/cluster/test_ends.py",
    "tests/examples/test_notebook.py",
    "tests/cluster/running/test_starving.py",
    "tests/cluster/evaluating/test_evaluate.py",
    "tests/cluster/commands/drafting/test_trains.py",
    "tests/rewards/queries/test_refused.py",
    "tests/rewards/queries/test_sql.py",
    "tests/cluster/preparing/test_revisions.py",
    "tests/cluster/commands/checks/test_apart.py",
    "tests/learner/models/test_architectures.py",
    "tests/cluster/test_wheel.py",
)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes that share the files end at about the same time where the shortest files come last: behind those that
    are named, those of the fewest tests."""
    places = {name: place for place, name in enumerate(LONG)}
    files = [item.path.relative_to(ROOT).as_posix() for item in items]
    tests = Counter(files)
    order = sorted(range(len(items)), key=lambda n: (places.get(files[n], len(LONG)), -tests[files[n]], n))
    items[:] = [items[n] for n in order]


def pytest_collection_finish(session: pytest.Session) -> None:
    cases = (getattr(getattr(item, "obj", None), "table_cases", 0) for item in session.items)
    session.config.stash[CASES] = sum(cases)
    if (output := getattr(session.config, "workeroutput", None)) is not None:  # one of several processes
        output["cases"] = session.config.stash[CASES]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed or logged is text that can be sent to another process, whatever the test tried."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Each of the processes has collected all cases."""
    node.config.stash[CASES] = getattr(node, "workeroutput", {}).get("cases", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(CASES, 0):
        terminalreporter.write_line(f"{config.stash[CASES]} cases of tables were run inside the tests above")


@pytest.fixture(scope="session")
def _runs() -> Iterator["Runs"]:
    from tests.runs import Runs

    runs = Runs()
    yield runs
    runs.end()


@pytest.fixture
def runs(_runs: "Runs") -> "Runs":
    """Training runs whose actors live on; see `tests/runs.py`."""
    return _runs


@pytest.fixture
def own_ray(_runs: "Runs") -> None:
    """For a test that starts a Ray session of its own in this process: the shared one has ended."""
    _runs.end()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For models so small that they are slower on more threads, much slower beside other work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
