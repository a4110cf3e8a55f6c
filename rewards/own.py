"""The reward `own`: functions of a person's own Python file.

    def reward(response: str, reference: str, prompt: str) -> bool | float | RewardResult
    def reward_group(responses: list[str], reference: str, prompt: str) -> list[bool | float | RewardResult]

The file defines one of these functions, or both. `reward_group` is given all siblings of a prompt at once, so that it
can compare them; `reward` is given one response. Where both are there, `reward_group` grades siblings and `reward`
grades a response that has none, such as in `winnow grade` without a column `group`. True, or a number above one half,
is correct. Both run in a process that is killed when it takes too long.
"""

import inspect
import symtable
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import ModuleType

from rewards.person_file import load_file
from rewards.settings import Budget, KindSettings, PathText
from rewards.verdict import Case, Outcome, RewardResult

LONGEST_SHOWN = 200  # characters of a grade that is none


class OwnSettings(KindSettings):
    """[reward.own]."""

    file: PathText = ""  # a Python file with a function reward or reward_group


def own(case: Case, settings: OwnSettings) -> RewardResult:
    """What the person's function says of one response; an error where the file does not load.

    Raises:
        TypeError, ValueError: it gave back something else than a truth value, a number in [0, 1] or a RewardResult.
    """
    module = _loaded(settings.file)
    if isinstance(module, str):
        return RewardResult(outcome=Outcome.ERROR, why=module)
    if not hasattr(module, "reward"):
        return _graded_group(module, [case], settings.file)[0]
    return _result("reward", module.reward(case.response, case.reference, case.prompt), settings.file)


def own_group(cases: Sequence[Case], settings: OwnSettings, budget: Budget) -> list[RewardResult]:
    """What the person's function says of the siblings of one prompt, in their order; errors where it does not load.

    Raises:
        TypeError, ValueError: it gave back something else than a list with a grade for each response, as
            `own` takes it.
    """
    module = _loaded(settings.file)
    if isinstance(module, str):
        return [RewardResult(outcome=Outcome.ERROR, why=module)] * len(cases)
    return _graded_group(module, cases, settings.file)


def wants_group(settings: OwnSettings) -> bool:
    """Whether the file defines `reward_group`; the file is read and not run. False where it cannot be read."""
    return _defines_group(settings.file)


def check_own(settings: OwnSettings) -> None:
    """Whether the file can serve; it is run.

    Raises:
        ValueError: there is no such file, it raises something, or neither function is in it as it is called.
    """
    loaded = _loaded(settings.file)
    if isinstance(loaded, str):
        raise ValueError(loaded)


def _graded_group(module: ModuleType, cases: Sequence[Case], file: str) -> list[RewardResult]:
    given = module.reward_group([case.response for case in cases], cases[0].reference, cases[0].prompt)
    if hasattr(given, "tolist"):  # an array
        given = given.tolist()
    if not isinstance(given, list | tuple):
        raise TypeError(
            f"reward_group() of {file} gave {_shown(given)}: expected a list with a grade for each response"
        )
    if len(given) != len(cases):
        raise ValueError(f"reward_group() of {file} gave {len(given)} grades for {len(cases)} responses")
    return [_result("reward_group", grade, file) for grade in given]


def _result(function: str, given: object, file: str) -> RewardResult:
    if isinstance(given, RewardResult):
        return given
    number = given.item() if getattr(given, "ndim", None) == 0 and hasattr(given, "item") else given  # numpy, torch
    if not isinstance(number, bool | int | float | Fraction | Decimal):
        forgotten = "; does every way through it return something?" if given is None else ""
        raise TypeError(
            f"{function}() of {file} gave {_shown(given)}: expected True, False, a number or a RewardResult{forgotten}"
        )
    if number != number or not 0 <= number <= 1:
        raise ValueError(
            f"{function}() of {file} gave {_shown(given)}: expected a number from 0 (wrong) to 1 (correct)"
        )
    reward = float(number)
    outcome = Outcome.CORRECT if reward > 0.5 else Outcome.WRONG
    return RewardResult(outcome=outcome, why=f"{Path(file).name} says {reward:g}", reward=reward)


def _shown(given: object) -> str:
    text = repr(given)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


@cache
def _defines_group(file: str) -> bool:
    try:
        names = symtable.symtable(Path(file).read_text(encoding="utf-8"), file, "exec")
        symbol = names.lookup("reward_group")
    except (OSError, SyntaxError, ValueError, KeyError):
        return False
    return symbol.is_assigned() or symbol.is_imported()


@cache
def _loaded(file: str) -> ModuleType | str:
    """The file as a module, or what is wrong with it."""
    if not file:
        return "file must be a Python file with a function reward or reward_group, got ''"
    try:
        module = load_file(file)
    except ValueError as problem:
        return str(problem)
    return _signature_problem(module, file) or module


def _signature_problem(module: ModuleType, file: str) -> str:
    """What keeps the functions of a file from being called as they are; "" where nothing does."""
    found = {name: getattr(module, name, None) for name in ("reward", "reward_group")}
    if not any(map(callable, found.values())):
        return (
            f"file must hold a function: {file} defines no function reward(response, reference, prompt) "
            "and no reward_group(responses, reference, prompt)"
        )
    for name, function in found.items():
        if callable(function):
            try:
                inspect.signature(function).bind("", "", "")
            except TypeError as failure:
                return (
                    f"file must define {name} with three parameters, {name}({'response' + 's' * (name != 'reward')}, "
                    f"reference, prompt): {file} defines {name}{inspect.signature(function)} ({failure})"
                )
            except ValueError:  # a function that is written in C and does not say what it takes
                continue
    return ""
