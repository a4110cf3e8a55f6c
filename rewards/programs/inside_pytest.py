"""What tests use of pytest, which is not in the sandbox: raises, approx, fail, skip, fixture, param, marks.

Test functions are found and run by inside_checks.py, with their fixtures. Of the marks parametrize, skip, skipif and
xfail mean something; every other one changes nothing.
"""

from types import FunctionType, ModuleType
from typing import Any, Self

from rewards.programs.inside_checks import Checks, Skipped


def small_pytest(checks: Checks) -> ModuleType:
    """The module that tests import as pytest."""
    module = ModuleType("pytest")

    def fail(reason: str = "", *_: Any, **__: Any) -> None:
        with checks:
            raise AssertionError(reason)

    def skip(reason: str = "", *_: Any, **__: Any) -> None:
        raise Skipped(reason)

    def raises(expected: Any, *call: Any, match: str | None = None, **named: Any) -> Any:
        context = _Raises(checks, expected, match)
        if not call:
            return context
        with context:
            call[0](*call[1:], **named)
        return context

    module.__dict__.update(
        raises=raises, fail=fail, skip=skip, approx=_Approx, mark=_Labels(), fixture=_fixture, param=_param, main=_main
    )
    return module


def _main(*_: Any, **__: Any) -> int:
    return 0


class _Raises:
    def __init__(self, checks: Checks, expected: Any, match: str | None) -> None:
        self._checks, self._expected, self._match = checks, expected, match
        self.value: BaseException | None = None
        self.type: type[BaseException] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        if kind is not None and not issubclass(kind, self._expected):
            return False
        with self._checks:
            assert kind is not None, f"nothing was raised where {self._expected} was expected"
            if self._match is not None:
                import re

                assert re.search(self._match, str(error)), f"{error} does not match {self._match}"
        self.value, self.type = error, kind
        self._checks.take(error)
        return True


class _Approx:
    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None, nan_ok: bool = False) -> None:
        self._expected, self._nan_ok = expected, nan_ok
        self._relative = rel if rel is not None else (0.0 if abs is not None else 1e-6)
        self._absolute = abs if abs is not None else 1e-12

    def __eq__(self, other: object) -> bool:
        return self._near(other, self._expected)

    __hash__ = None  # type: ignore[assignment]

    def _near(self, found: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            same = isinstance(found, dict) and found.keys() == expected.keys()
            return same and all(self._near(found[key], expected[key]) for key in expected)
        if isinstance(expected, list | tuple):
            same = isinstance(found, list | tuple) and len(found) == len(expected)
            return same and all(map(self._near, found, expected))
        if type(found) not in (int, float, complex) or isinstance(expected, bool):
            return type(found) is type(expected) and bool(found == expected)
        if expected != expected or found != found:
            return self._nan_ok and expected != expected and found != found
        return bool(found == expected or abs(found - expected) <= max(self._absolute, self._relative * abs(expected)))


class _Labels:
    """pytest.mark."""

    def __getattr__(self, name: str) -> Any:
        return {"parametrize": _parametrize, "skip": _skipped, "xfail": _skipped, "skipif": _skipped_if}.get(
            name, _unchanged
        )


def _unchanged(*values: Any, **_: Any) -> Any:
    return values[0] if len(values) == 1 and isinstance(values[0], FunctionType | type) else lambda test: test


def _skipped(*values: Any, **_: Any) -> Any:
    """Also a test that is expected to fail: its failure says nothing."""

    def mark(test: Any) -> Any:
        test.winnow_skipped = True
        return test

    return mark(values[0]) if values and isinstance(values[0], FunctionType | type) else mark


def _skipped_if(condition: Any = True, *_: Any, **__: Any) -> Any:
    return _skipped() if condition else _unchanged()


def _parametrize(argnames: Any, argvalues: Any, *_: Any, **__: Any) -> Any:
    keys = [name.strip() for name in argnames.split(",")] if isinstance(argnames, str) else list(argnames)
    rows = [dict(zip(keys, row if len(keys) > 1 else [getattr(row, "only", row)], strict=False)) for row in argvalues]

    def mark(test: Any) -> Any:
        test.winnow_cases = [*vars(test).get("winnow_cases", []), rows]
        return test

    return mark


class _param(tuple[Any, ...]):  # as pytest calls it
    def __new__(cls, *values: Any, **_: Any) -> "_param":
        return super().__new__(cls, values)

    @property
    def only(self) -> Any:
        return self[0]


def _fixture(*values: Any, **options: Any) -> Any:
    def mark(function: Any) -> Any:
        function.winnow_fixture = options
        return function

    return mark(values[0]) if values and isinstance(values[0], FunctionType) else mark
