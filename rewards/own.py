"""The reward `own`: functions of a person's own Python file.

    def reward(response: str, reference: str, prompt: str) -> bool | float | RewardResult
    def reward_group(responses: list[str], reference: str, prompt: str) -> list[bool | float | RewardResult]

The file defines one of these functions, or both. `reward_group` is given all siblings of a prompt at once, so that it
can compare them; `reward` is given one response. Where both are there, `reward_group` grades siblings and `reward`
grades a response that has none, such as in `winnow grade` without a column `group`. True, or a number above one half,
is correct. Both run in a process that is killed when it takes too long.
"""

import importlib.util
import symtable
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

from rewards.settings import Budget, KindSettings
from rewards.verdict import Case, Outcome, RewardResult


class OwnSettings(KindSettings):
    """[reward.own]."""

    file: str = ""  # a Python file with a function reward or reward_group


def own(case: Case, settings: OwnSettings) -> RewardResult:
    """What the person's function says of one response.

    Raises:
        TypeError, ValueError: it gave back something else than a truth value, a number in [0, 1] or a RewardResult.
    """
    module = _load(settings.file)
    if not hasattr(module, "reward"):
        return _graded_group(module, [case], settings.file)[0]
    return _result("reward", module.reward(case.response, case.reference, case.prompt), settings.file)


def own_group(cases: Sequence[Case], settings: OwnSettings, budget: Budget) -> list[RewardResult]:
    """What the person's function says of the siblings of one prompt, in their order.

    Raises:
        TypeError, ValueError: it gave back something else than a list with a grade for each response, as
            `own` takes it.
    """
    return _graded_group(_load(settings.file), cases, settings.file)


def wants_group(settings: OwnSettings) -> bool:
    """Whether the file defines `reward_group`; the file is read and not run. False where it cannot be read."""
    return _defines_group(settings.file)


def check_own(settings: OwnSettings) -> None:
    """Whether the file can serve; it is run.

    Raises:
        ValueError: there is no such file, or neither function in it.
    """
    _load(settings.file)


def _graded_group(module: ModuleType, cases: Sequence[Case], file: str) -> list[RewardResult]:
    given = module.reward_group([case.response for case in cases], cases[0].reference, cases[0].prompt)
    if not isinstance(given, list | tuple):
        raise TypeError(f"reward_group() of {file} gave {given!r}: expected a list with a grade for each response")
    if len(given) != len(cases):
        raise ValueError(f"reward_group() of {file} gave {len(given)} grades for {len(cases)} responses")
    return [_result("reward_group", grade, file) for grade in given]


def _result(function: str, given: object, file: str) -> RewardResult:
    if isinstance(given, RewardResult):
        return given
    if not isinstance(given, bool | int | float):
        raise TypeError(f"{function}() of {file} gave {given!r}: expected True, False, a number or a RewardResult")
    if not 0.0 <= given <= 1.0:
        raise ValueError(f"{function}() of {file} gave {given!r}: expected a number from 0 (wrong) to 1 (correct)")
    outcome = Outcome.CORRECT if given > 0.5 else Outcome.WRONG
    return RewardResult(outcome=outcome, why=f"{Path(file).name} says {float(given):g}", reward=float(given))


@cache
def _defines_group(file: str) -> bool:
    try:
        names = symtable.symtable(Path(file).read_text(encoding="utf-8"), file, "exec")
        symbol = names.lookup("reward_group")
    except (OSError, SyntaxError, ValueError, KeyError):
        return False
    return symbol.is_assigned() or symbol.is_imported()


@cache
def _load(file: str) -> ModuleType:
    if not file:
        raise ValueError("file must be a Python file with a function reward or reward_group, got ''")
    if not Path(file).is_file():
        raise ValueError(f"file must be a Python file, and there is no file {file}")
    spec = importlib.util.spec_from_file_location("winnow_own_reward", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"file must be a Python file whose name ends in .py, got {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not any(callable(getattr(module, name, None)) for name in ("reward", "reward_group")):
        raise ValueError(
            f"file must hold a function: {file} defines no function reward(response, reference, prompt) "
            "and no reward_group(responses, reference, prompt)"
        )
    return module
