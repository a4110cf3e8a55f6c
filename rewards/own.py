"""The reward `own`: functions of a person's own Python file.

    def reward(response: str, reference: str, prompt: str) -> bool | float | RewardResult
    def reward_group(responses: list[str], reference: str, prompt: str) -> list[bool | float | RewardResult]

The file defines one of these functions, or both. `reward_group` is given all siblings of a prompt at once, so that it
can compare them; `reward` is given one response. Where both are there, `reward_group` grades siblings and `reward`
grades a response that has none, such as in `winnow grade` without a column `group`. True, or a number above one half,
is correct. Both run in a process that is killed when it takes too long.

Parameters may stand in another order, or be fewer: a function is given those that it takes, by name. Three parameters
with names of their own are given response, reference and prompt in this order. A parameter `messages` beside them is
given the prompt as chat messages, a list of {"role", "content"}.
"""

import inspect
import symtable
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path

from rewards.person_file import load_file
from rewards.settings import Budget, KindSettings, PathText
from rewards.verdict import Case, Outcome, RewardResult

LONGEST_SHOWN = 200  # characters of a grade that is none
GIVEN = {"reward": ("response", "reference", "prompt"), "reward_group": ("responses", "reference", "prompt")}
MESSAGES = "messages"  # what a function is given beside these, where it has a parameter of that name
# Names of parameters whose place among what is given is known, those that verl, TRL and OpenRLHF have among them.
PLACES = {"response": 0, "responses": 0, "solution_str": 0, "completion": 0, "completions": 0}
PLACES |= {"reference": 1, "ground_truth": 1, "label": 1, "labels": 1, "prompt": 2, "prompts": 2}

Function = Callable[..., object]  # takes what is given by position, and the messages behind it


class OwnSettings(KindSettings):
    """[reward.own]."""

    file: PathText = ""  # a Python file with a function reward or reward_group


def own(case: Case, settings: OwnSettings) -> RewardResult:
    """What the person's function says of one response; an error where the file does not load.

    Raises:
        TypeError, ValueError: it gave back something else than a truth value, a number in [0, 1] or a RewardResult.
    """
    functions = _loaded(settings.file)
    if isinstance(functions, str):
        return RewardResult(outcome=Outcome.ERROR, why=functions)
    if "reward" not in functions:
        return _graded_group(functions["reward_group"], [case], settings.file)[0]
    given = functions["reward"](case.response, case.reference, case.prompt, _messages(case))
    return _result("reward", given, settings.file)


def own_group(cases: Sequence[Case], settings: OwnSettings, budget: Budget) -> list[RewardResult]:
    """What the person's function says of the siblings of one prompt, in their order; errors where it does not load.

    Raises:
        TypeError, ValueError: it gave back something else than a list with a grade for each response, as
            `own` takes it.
    """
    functions = _loaded(settings.file)
    if isinstance(functions, str):
        return [RewardResult(outcome=Outcome.ERROR, why=functions)] * len(cases)
    if "reward_group" not in functions:  # the file names it and has none
        return [own(case, settings) for case in cases]
    return _graded_group(functions["reward_group"], cases, settings.file)


def wants_group(settings: OwnSettings) -> bool:
    """Whether the file defines `reward_group`; the file is read and not run. False where it cannot be read."""
    return _defines_group(settings.file)


def check_own(settings: OwnSettings) -> None:
    """Whether the file can serve; it is run.

    Raises:
        ValueError: there is no such file, it raises something, or it has no function that can be called.
    """
    loaded = _loaded(settings.file)
    if isinstance(loaded, str):
        raise ValueError(loaded)


def _graded_group(function: Function, cases: Sequence[Case], file: str) -> list[RewardResult]:
    given = function([case.response for case in cases], cases[0].reference, cases[0].prompt, _messages(cases[0]))
    if hasattr(given, "tolist"):  # an array
        given = given.tolist()
    if not isinstance(given, list | tuple):
        raise TypeError(
            f"reward_group() of {file} gave {_shown(given)}: expected a list with a grade for each response"
        )
    if len(given) != len(cases):
        raise ValueError(f"reward_group() of {file} gave {len(given)} grades for {len(cases)} responses")
    return [_result("reward_group", grade, file) for grade in given]


def _messages(case: Case) -> list[dict[str, str]]:
    """The prompt as chat messages."""
    return [message._asdict() for message in case.conversation]


def _result(function: str, given: object, file: str) -> RewardResult:
    if isinstance(given, RewardResult):
        return given
    number = given.item() if getattr(given, "ndim", None) == 0 and hasattr(given, "item") else given  # numpy, torch
    if not isinstance(number, bool | int | float | Fraction | Decimal):
        advice = "; does every way through it return something?" if given is None else ""
        if isinstance(given, Mapping) and "score" in given:  # as verl's functions may
            advice = ". Return its score alone"
        raise TypeError(
            f"{function}() of {file} gave {_shown(given)}: expected True, False, a number or a RewardResult{advice}"
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
def _loaded(file: str) -> dict[str, Function] | str:
    """The functions of the file by name, or what is wrong with it."""
    if not file:
        return "file must be a Python file with a function reward or reward_group, got ''"
    try:
        module = load_file(file)
        found = {name: function for name in GIVEN if callable(function := getattr(module, name, None))}
        if not found:
            raise ValueError(
                f"file must hold a function: {file} defines no function reward(response, reference, prompt) "
                "and no reward_group(responses, reference, prompt)"
            )
        return {name: _by_position(name, function, file) for name, function in found.items()}
    except ValueError as problem:
        return str(problem)


def _by_position(name: str, function: Function, file: str) -> Function:
    """The function of that name in the file, as one that takes what it is given by position, and the messages behind
    it.

    Raises:
        ValueError: it cannot be called with that, or would take one thing for another.
    """
    if inspect.iscoroutinefunction(function):
        raise ValueError(
            f"file must define {name} as a plain function: {file} has async def {name}, and nobody awaits it. "
            "Write def, and asyncio.run(...) in it around what is awaited"
        )
    try:
        signature = inspect.signature(function)
    except ValueError:  # a function that is written in C and does not say what it takes
        return lambda *given: function(*given[:-1])
    names, parameters = GIVEN[name], signature.parameters.values()
    told = _takes_messages(signature)
    if all(_stands_right(parameter, place) for place, parameter in enumerate(parameters)):
        if told and _binds(signature, names, (MESSAGES,)):
            return lambda *given: function(*given[:-1], messages=given[-1])
        if _binds(signature, names):
            return lambda *given: function(*given[:-1])
    everything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    taken = [each for each in names if everything or each in signature.parameters] + [MESSAGES] * told
    if names[0] not in taken or not _binds(signature, (), taken):
        raise ValueError(_signature_problem(name, signature, file))
    known = (*names, MESSAGES)
    return lambda *given: function(**{each: value for each, value in zip(known, given, strict=True) if each in taken})


def _takes_messages(signature: inspect.Signature) -> bool:
    """Whether there is a parameter for the messages that can be given by name."""
    parameter = signature.parameters.get(MESSAGES)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return parameter is not None and parameter.kind in by_name


def _stands_right(parameter: inspect.Parameter, place: int) -> bool:
    """Whether what is given by position there may be what the name of the parameter says."""
    return PLACES.get(parameter.name, place) == place and (
        parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name not in PLACES
    )


def _binds(signature: inspect.Signature, given: Sequence[str], named: Sequence[str] = ()) -> bool:
    try:
        signature.bind(*given, **dict.fromkeys(named))
    except TypeError:
        return False
    return True


def _signature_problem(name: str, signature: inspect.Signature, file: str) -> str:
    """What to say of a function that can be given nothing by position, nor by name."""
    names, kinds = GIVEN[name], inspect.Parameter
    other = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.default is kinds.empty
        and parameter.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD)
        and parameter.name not in (*names, MESSAGES)
    ]
    meant = [f"{each} is {names[PLACES[each]]}" for each in other if each in PLACES]
    problem = f"which does not take {names[0]} by name"
    if other:
        problem = f"and there is no {', '.join(other)} to give it" + f" (here {', '.join(meant)})" * bool(meant)
    return (
        f"file must define {name}({', '.join(names)}), in any order: {file} defines {name}{signature}, {problem}. "
        f"Rename its parameters, or call it from a {name} that has these"
    )
