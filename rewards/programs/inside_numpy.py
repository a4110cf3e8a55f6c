"""What tests use of numpy, which is not in the sandbox: how EvalPlus's compare floats, alone and in lists.

`allclose` and `isclose` follow numpy: |found - expected| <= atol + rtol * |expected|, for each number of lists that
have the same shape. A number is compared with every one of a list, of which there must be one.
"""

import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

_NUMBERS = (bool, int, float, complex)


class ndarray:
    """No value is one."""


def small_numpy() -> ModuleType:
    """The module that tests import as numpy."""
    module = ModuleType("numpy")
    module.__dict__.update(
        allclose=_allclose, isclose=_isclose, isnan=math.isnan, isinf=math.isinf, isfinite=math.isfinite
    )
    module.__dict__.update(inf=math.inf, nan=math.nan, pi=math.pi, e=math.e, ndarray=ndarray)
    module.__dict__.update(float16=float, float32=float, float64=float, int32=int, int64=int)
    return module


def _allclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    return all(_near(one, other, rtol, atol, equal_nan) for one, other in _pairs(a, b))


def _isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    if not isinstance(a, list | tuple) and not isinstance(b, list | tuple):
        return _near(a, b, rtol, atol, equal_nan)
    return _Answers(_near(one, other, rtol, atol, equal_nan) for one, other in _pairs(a, b))


class _Answers(list[bool]):
    """As an array of them: a single one is its own truth, and several have none."""

    def __bool__(self) -> bool:
        if len(self) != 1:
            raise ValueError(f"{len(self)} answers are neither true nor false together: use all() or any()")
        return self[0]

    def all(self) -> bool:
        """Whether all are true."""
        return all(self)

    def any(self) -> bool:
        """Whether one is true."""
        return any(self)


def _pairs(a: Any, b: Any) -> Iterator[tuple[Any, Any]]:
    """The numbers that are compared with each other.

    Raises:
        ValueError: the lists are of different shapes.
        TypeError: there is something that is no number, as a text or an object of the response.
    """
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            raise ValueError(f"lists of {len(a)} and {len(b)} cannot be compared")
        for one, other in zip(a, b, strict=True):
            yield from _pairs(one, other)
    elif a in ([], ()) or b in ([], ()):
        raise ValueError("an empty list cannot be compared with a number")  # numpy finds it close to every one
    elif isinstance(a, list | tuple):
        for one in a:
            yield from _pairs(one, b)
    elif isinstance(b, list | tuple):
        for other in b:
            yield from _pairs(a, other)
    elif type(a) in _NUMBERS and type(b) in _NUMBERS:
        yield a, b
    else:
        raise TypeError(f"{type(a).__name__} and {type(b).__name__} are not both numbers")


def _near(found: Any, expected: Any, rtol: float, atol: float, equal_nan: bool) -> bool:
    if type(found) not in _NUMBERS or type(expected) not in _NUMBERS:
        raise TypeError(f"{type(found).__name__} and {type(expected).__name__} are not both numbers")
    if found != found or expected != expected:
        return equal_nan and found != found and expected != expected
    return bool(found == expected) or (
        abs(expected) != math.inf
        and abs(found) != math.inf
        and bool(abs(found - expected) <= atol + rtol * abs(expected))
    )
