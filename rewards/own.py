"""A reward of the user's own: the function `reward` of a Python file.

    def reward(response: str, reference: str, prompt: str) -> bool | float | RewardResult

True or a number above one half is correct. It runs in a process that is killed when it takes too long.
"""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

from rewards.settings import RewardSettings
from rewards.verdict import Case, Outcome, RewardResult


def own(case: Case, settings: RewardSettings) -> RewardResult:
    """What the user's function says.

    Raises:
        TypeError, ValueError: it gave back something else than a truth value, a number in [0, 1] or a RewardResult.
    """
    said = _load(settings.file)(case.response, case.reference, case.prompt)
    if isinstance(said, RewardResult):
        return said
    if not isinstance(said, bool | int | float):
        raise TypeError(f"reward() of {settings.file} gave {said!r}: expected True, False, a number or a RewardResult")
    if not 0.0 <= said <= 1.0:
        raise ValueError(f"reward() of {settings.file} gave {said!r}: expected a number from 0 (wrong) to 1 (correct)")
    outcome = Outcome.CORRECT if said > 0.5 else Outcome.WRONG
    return RewardResult(outcome=outcome, why=f"{Path(settings.file).name} says {float(said):g}", value=float(said))


def check_own(reference: str, settings: RewardSettings) -> None:
    """Raises ValueError where there is no such file, or no function in it."""
    if not settings.file:
        raise ValueError('reward.name = "own" needs reward.file, a Python file with a function reward')
    _load(settings.file)


@cache
def _load(file: str) -> Callable[[str, str, str], object]:
    if not Path(file).is_file():
        raise ValueError(f"there is no file {file} (reward.file)")
    spec = importlib.util.spec_from_file_location("winnow_own_reward", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} (reward.file) is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, "reward", None)
    if not callable(found):
        raise ValueError(f"{file} (reward.file) defines no function reward(response, reference, prompt)")
    return found
