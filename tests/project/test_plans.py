"""The plans in the documentation are what the command prints."""

import pytest

from tests.project.plans import PAGE, page

pytestmark = pytest.mark.slow


def test_the_page_of_plans_is_what_the_command_prints_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.project.plans"
