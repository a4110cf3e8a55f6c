"""Tables of cases that run inside one test: thousands of parametrized tests would spend more time on pytest than on
the code."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

Test = Callable[..., None]


def each(names: tuple[str, ...] | str, cases: Iterable[Any], *, every: int = 1) -> Callable[[Test], Test]:
    """Runs the test on every case, as `pytest.mark.parametrize` does, and fails with the name of every failing case.

    The cases share the fixtures of the test, so a test that writes into `tmp_path` or patches something is
    parametrized instead. A skip skips the whole table.

    Args:
        names: the parameters that a case fills; with a single name given as a string, a case is the value itself.
        cases: the table, at least one case.
        every: above 1, a plain run takes one case in so many, and all are run where slow tests are.
    """
    table = [(case,) if isinstance(names, str) else tuple(case) for case in cases]
    keys = (names,) if isinstance(names, str) else names
    assert table, "an empty table tests nothing"
    assert all(len(case) == len(keys) for case in table), f"a case fills exactly {keys}"

    def wrap(test: Test) -> Test:
        @functools.wraps(test)
        def whole_table(**fixtures: Any) -> None:
            taken = table[:: fixtures.pop("one_in", 1)]
            failures = [
                failed for case in taken if (failed := failure_of(test, dict(zip(keys, case, strict=True)), fixtures))
            ]
            assert not failures, f"{len(failures)} of {len(taken)} cases fail:\n" + "\n".join(failures)

        whole = inspect.signature(test)
        rest = [parameter for name, parameter in whole.parameters.items() if name not in keys]
        whole_table.__signature__ = whole.replace(parameters=rest)  # type: ignore[attr-defined]
        whole_table.table_cases = len(table[::every])  # type: ignore[attr-defined]
        if every == 1:
            return whole_table
        one_in = inspect.Parameter("one_in", inspect.Parameter.KEYWORD_ONLY)
        whole_table.__signature__ = whole.replace(parameters=[*rest, one_in])  # type: ignore[attr-defined]
        return pytest.mark.parametrize("one_in", [every, pytest.param(1, marks=pytest.mark.slow)])(whole_table)

    return wrap


def failure_of(test: Test, case: dict[str, Any], fixtures: dict[str, Any]) -> str:
    """The case and what went wrong with it; empty if nothing did."""
    try:
        test(**case, **fixtures)
    except Exception as error:
        return f"{case}: {type(error).__name__}: {error}"
    return ""
