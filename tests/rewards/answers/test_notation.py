from rewards.answers.rewrites import RULES, Rule
from tests.tables import each


@each("rule", RULES)
def test_every_rule_does_what_its_example_says(rule: Rule) -> None:
    assert rule.apply(rule.before) == rule.after, rule.name


def test_no_two_rules_have_one_name() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES) == 90
