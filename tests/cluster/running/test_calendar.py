import pytest

from cluster.config.reading import config_of
from cluster.running.calendar import Calendar


def calendar(**run: float) -> Calendar:
    """Of a run in the built-in world with these settings of `run`, evaluated every second step."""
    return Calendar(config=config_of({"world": {"name": "addition"}, "run": run, "eval": {"every": 2}}))


@pytest.mark.parametrize(
    ("run", "last"),
    [
        ({"steps": 3}, [False, False, True]),
        ({"steps": 9, "tokens": 200}, [False, True, True]),
        ({"steps": 9, "seconds": 25.0}, [False, False, True]),
        ({"steps": 9}, [False, False, False]),
    ],
)
def test_a_run_ends_with_its_last_step_or_when_its_budget_is_spent(run: dict[str, float], last: list[bool]) -> None:
    due = calendar(**run)
    assert [due.is_last(step, tokens=100 * step, seconds=10.0 * step) for step in (1, 2, 3)] == last


def test_checkpoints_and_evaluations_come_every_so_many_steps_and_at_the_end() -> None:
    due = calendar(checkpoint_every=3)
    assert [step for step in range(1, 8) if due.saves(step, last=step == 7)] == [3, 6, 7]
    assert [step for step in range(8) if due.evaluates(step, last=step == 7)] == [0, 2, 4, 6, 7]
    assert [due.evaluated_before(step) for step in range(1, 6)] == [0, 0, 2, 2, 4]


def test_without_a_period_only_the_end_is_saved() -> None:
    due = calendar(checkpoint_every=0)
    assert [step for step in range(1, 8) if due.saves(step, last=step == 7)] == [7]


def test_a_run_that_goes_on_is_over_where_it_would_have_ended() -> None:
    assert calendar(steps=3).is_over(3, tokens=0, seconds=0.0)
    assert calendar(steps=3).is_over(4, tokens=0, seconds=0.0)  # of more steps than are wanted now
    assert not calendar(steps=3).is_over(2, tokens=0, seconds=0.0)
    assert calendar(steps=9, tokens=100).is_over(2, tokens=100, seconds=0.0)
    assert calendar(steps=9, seconds=5.0).is_over(2, tokens=0, seconds=5.5)
    assert not calendar(steps=9, tokens=100).is_over(0, tokens=0, seconds=0.0)
