"""What a policy is told of a function."""

import weakref
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from actors.tools.schemas import documented_in, schema_of


def weather(
    city: str,
    days: Annotated[int, Field(ge=1)] = 1,
    unit: Literal["C", "F"] = "C",
    more: list[str] | None = None,
) -> str:
    """Tells the weather.

    It is of tomorrow, too.

    Args:
        city: where, such as
            "Bern"
        unit (str): in which
            degrees
        nobody: is no argument

    Returns:
        city: what it is like
    """
    return f"{city} {days} {unit} {more}"


def test_a_signature_and_a_docstring_become_a_schema() -> None:
    found = schema_of(weather)["function"]
    assert (found["name"], found["description"]) == ("weather", "Tells the weather.\n\nIt is of tomorrow, too.")
    assert found["parameters"] == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": 'where, such as "Bern"'},
            "days": {"type": "integer", "minimum": 1, "default": 1},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C", "description": "in which degrees"},
            "more": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": None},
        },
        "required": ["city"],
        "additionalProperties": False,
    }


def test_a_function_is_read_once_and_again_where_its_docstring_has_changed() -> None:
    def look() -> str:
        "Looks."
        return ""

    first = schema_of(look)
    assert schema_of(look) is first
    look.__doc__ = "Looks around."
    assert schema_of(look)["function"]["description"] == "Looks around."
    forgotten = weakref.ref(look)
    del look
    assert forgotten() is None  # what an episode defines goes with it


class Game:
    def move(self, place: int) -> str:
        "Moves."
        return str(place)

    async def wait(self) -> str:
        "Waits."
        return ""


@pytest.mark.parametrize("function", [Game().move, Game().wait])
def test_methods_and_coroutines_have_one_too(function: Callable[..., Any]) -> None:
    assert "self" not in schema_of(function)["function"]["parameters"]["properties"]


@pytest.mark.parametrize(
    ("text", "about", "arguments"),
    [
        ("", "", {}),
        ("Does.", "Does.", {}),
        ("Does.\n\nArgs:\n    a: it\n    b: that\n", "Does.", {"a": "it", "b": "that"}),
        ("Does.\n\nArgs:\n  a (int): it: so\n\n  b: that\nReturns:\n  c: no", "Does.", {"a": "it: so", "b": "that"}),
        ("Args:\n    a: it", "", {"a": "it"}),
        ("Does so: well.\nNote this: it is text.", "Does so: well.\nNote this: it is text.", {}),
    ],
)
def test_a_docstring_is_read(text: str, about: str, arguments: dict[str, str]) -> None:
    assert documented_in(text) == (about, arguments)
