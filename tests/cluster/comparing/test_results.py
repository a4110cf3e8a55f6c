import datetime
from decimal import Decimal

import pytest

from rewards.queries.results import Overlap, Result, overlap, plain, same


def result(*rows: tuple, columns: str = "") -> Result:
    names = tuple(columns.split()) or tuple(f"c{place}" for place in range(len(rows[0]) if rows else 1))
    return Result(columns=names, rows=rows)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (2.0, 2),
        (-0.0, 0),
        (2.5, 2.5),
        (1e300, 1e300),
        (float("inf"), float("inf")),
        (float("nan"), "nan"),
        (True, 1),
        (Decimal("1.50"), 1.5),
        (Decimal("3.00"), 3),
        (Decimal("NaN"), "nan"),
        ("2", "2"),
        (None, None),
        (bytearray(b"x"), b"x"),
        (datetime.date(2020, 1, 2), "2020-01-02"),
        (datetime.datetime(2020, 1, 2), "2020-01-02"),
        (datetime.datetime(2020, 1, 2, 3, 4), "2020-01-02 03:04:00"),
        (datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), "2020-01-02 00:00:00+00:00"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(hours=1), "1:00:00"),
        ([1.0, {"a": True}], (1, (("a", 1),))),
    ],
)
def test_the_cells_of_every_driver_become_the_same_plain_values(cell: object, value: object) -> None:
    assert plain(cell) == value
    assert type(plain(cell)) is type(value)


@pytest.mark.parametrize(
    ("wanted", "given", "equal"),
    [
        ([(1, "a"), (2, "b")], [(2, "b"), (1, "a")], True),
        ([(1,), (1,), (2,)], [(1,), (2,), (2,)], False),
        ([(1,), (1,)], [(1,)], False),
        ([(1,)], [("1",)], False),
        ([(None,)], [(0,)], False),
        ([(None,)], [("",)], False),
        ([(None, 1)], [(None, 1)], True),
        ([("Ada",)], [("ada",)], False),
        ([(b"a",)], [("a",)], False),
        ([(0.1 + 0.2,)], [(0.3,)], True),
        ([(1000001,)], [(1000002,)], False),
        ([(1.000001,)], [(1.0000018,)], True),
        ([(1.001,)], [(1.002,)], False),
        ([(3,)], [(3.0000000001,)], True),
        ([(0,)], [(5e-17,)], True),
        ([(0.1 + 0.2, 5), (0.3, 7)], [(0.3, 5), (0.1 + 0.2, 7)], True),
        ([(0.1 + 0.2, 5), (0.3, 7)], [(0.3, 5), (0.1 + 0.2, 8)], False),
        ([((0.1 + 0.2, "x"),)], [((0.3, "x"),)], True),
        ([(10**400,)], [(1.5,)], False),
        ([(1, 2)], [(1, 2, 3)], False),
    ],
)
def test_rows_are_a_bag_and_only_floats_have_a_tolerance(wanted: list, given: list, equal: bool) -> None:
    assert same(result(*wanted), result(*given), None) is equal
    assert same(result(*given), result(*wanted), None) is equal


@pytest.mark.parametrize(
    ("columns", "given", "equal"),
    [
        ("name age", [("Ada", 36)], True),
        ("x y", [("Ada", 36)], True),
        ("AGE Name", [(36, "Ada")], True),
        ("y x", [(36, "Ada")], False),
        ("name name", [(36, "Ada")], False),
    ],
)
def test_columns_match_by_place_or_as_a_permutation_of_the_same_names(columns: str, given: list, equal: bool) -> None:
    assert same(result(("Ada", 36), columns="name age"), result(*given, columns=columns), None) is equal


@pytest.mark.parametrize(
    ("given", "equal"),
    [
        ([("a", 9), ("b", 5), ("c", 5), ("d", 1)], True),
        ([("a", 9), ("c", 5), ("b", 5), ("d", 1)], True),
        ([("b", 5), ("a", 9), ("c", 5), ("d", 1)], False),
        ([("d", 1), ("c", 5), ("b", 5), ("a", 9)], False),
    ],
)
def test_an_ordered_result_leaves_open_only_the_order_among_ties(given: list, equal: bool) -> None:
    wanted = result(("a", 9), ("b", 5), ("c", 5), ("d", 1))
    assert same(wanted, result(*given), [(9,), (5,), (5,), (1,)]) is equal
    assert same(wanted, result(*given), None)


FOUR = [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


@pytest.mark.parametrize(
    ("wanted", "given", "measures"),
    [
        (FOUR, FOUR[:2], (1, 0.5, 0.5)),  # the example of Think2SQL's measures
        (FOUR[:2], FOUR, (0.5, 1, 0.5)),
        (FOUR, FOUR, (1, 1, 1)),
        (FOUR, [("a", 1), ("b", 2), ("c", 3), ("d", 4)], (1, 1, 1)),
        (FOUR, [], (0, 0, 0)),
        ([(1,), (1,)], [(1,)], (1, 1, 0.5)),
        ([(1,)], [(1,), (1,), (2,)], (2 / 3, 1, 1 / 3)),
        ([(0.1 + 0.2,)], [(0.3,)], (1, 1, 1)),
        ([(2,)], [("2",)], (0, 0, 1)),
    ],
)
def test_cells_and_rows_are_measured_as_in_think2sql(wanted: list, given: list, measures: tuple) -> None:
    measured = overlap(result(*wanted), result(*given))
    assert (measured.precision, measured.recall, measured.cardinality) == pytest.approx(measures)
    assert measured.mean == pytest.approx(sum(measures) / 3)


def test_the_worked_number_of_think2sql() -> None:
    assert Overlap(precision=1.0, recall=0.5, cardinality=0.5).mean == pytest.approx(0.6667, abs=1e-4)
