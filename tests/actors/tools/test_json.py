"""Calls that are written as lines of JSON."""

import pytest

from actors.tools.formats import Written, read_json


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("no call", "no call", []),
        ('{"name": "f", "arguments": {}}', "", [("f", {})]),
        ('so\n {"name": "f", "arguments": {"a": {"b": [1]}}} \nand', "so\n \nand", [("f", {"a": {"b": [1]}})]),
        ('```json\n{"name": "f",\n "arguments": {"a": 1}}\n```', "```json\n\n```", [("f", {"a": 1})]),
        ('{"name": "f", "arguments": {}}{"name": "g", "arguments": {}}', "", [("f", {}), ("g", {})]),
        ('{"name": "f"}', '{"name": "f"}', []),
        ('{"answer": 5}', '{"answer": 5}', []),
        ('it is {"name": "f", "arguments": {}}', 'it is {"name": "f", "arguments": {}}', []),
        ('{5}\n{"name": "f", "arguments": 3}', "{5}\n", [("f", 3)]),
        ("{" * 100_000, "{" * 100_000, []),
    ],
)
def test_lines_of_json_are_calls(text: str, content: str, calls: list[Written]) -> None:
    assert read_json(text) == (content, tuple(calls), "")


@pytest.mark.parametrize("text", ['{"name": "f", "arguments": {"a": }}', '{"name": "f", "arguments": {"a": 1'])
def test_what_begins_as_a_call_and_is_none_has_a_problem(text: str) -> None:
    found = read_json(f"so\n{text}")
    assert found.calls == ()
    assert "its JSON cannot be read" in found.problem
