"""`winnow settings` prints what a run file may hold, and what it says is complete."""

import pytest

from cluster.commands.settings import WIDTH, settings_page
from cluster.config.described import described
from cluster.config.errors import ConfigError


def test_every_setting_has_a_sentence() -> None:
    of_the_algorithm = ("ratio", "anchor", "mismatch_cap", "advantage_normalisation")  # in docs/algorithms.md
    assert [row.name for row in described() if not row.about and row.key not in of_the_algorithm] == []


def test_a_setting_is_shown_with_kind_bounds_default_and_sentence() -> None:
    assert settings_page(["rollout.temperature"]) == (
        "rollout.temperature = 1.0  (number, at least 0.01, at most 2)\n"
        "    in the range that the engine samples with as it is"
    )
    assert 'model.dtype = "auto"  (auto, float32, bfloat16)' in settings_page(["model"])
    assert "unset  (whole number, at least 1)" in settings_page(["cluster.verifiers"])


def test_a_section_brings_those_below_it_and_no_line_is_too_wide() -> None:
    page = settings_page(["learner"])
    assert page.startswith("[learner]  The algorithm and its optimizer.\n")
    assert "\n\n[learner.adapter]" in page
    assert [line for line in settings_page([]).splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [("learnr", "learner"), ("rollout.group_sze", "rollout.group_size"), ("group_size", "rollout.group_size")],
)
def test_a_misspelt_name_is_answered_with_the_nearest(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean {meant}\\?"):
        settings_page([name])
