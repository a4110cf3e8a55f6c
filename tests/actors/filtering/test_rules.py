import numpy as np
import pytest

from actors.filtering.rules import RULES

RIGHT, WRONG, MIXED = [1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, -1, -1]


@pytest.mark.parametrize(
    ("rule", "reasons"),
    [
        ("none", ["", "", ""]),
        ("all-wrong", ["", "all_wrong", ""]),
        ("all-correct", ["all_correct", "", ""]),
        ("both", ["all_correct", "all_wrong", ""]),
    ],
)
def test_each_rule_rejects_what_its_name_says_for_either_scale_of_scores(rule: str, reasons: list[str]) -> None:
    groups = [np.array(scores, float) for scores in (RIGHT, WRONG, MIXED)]
    assert [RULES[rule](scores) for scores in groups] == reasons
    assert [RULES[rule]((scores + 1) / 2) for scores in groups] == reasons
