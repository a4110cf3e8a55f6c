from cluster.reporting.hints import far_step
from learner.settings import LearnerSettings
from tests.tables import each


@each(
    ("before", "after", "said"),
    [
        (0.0, 0.0, False),
        (0.0, 0.004, False),
        (0.3, 0.38, False),
        (0.9, 0.2, False),
        (0.0, 0.4, True),
        (0.05, 0.16, True),
    ],
)
def test_a_policy_that_moves_far_in_one_step_is_pointed_at_with_what_to_change(
    before: float, after: float, said: bool
) -> None:
    hint = far_step(before, after, LearnerSettings(lr=3e-4, lr_warmup=0))
    assert bool(hint) is said
    if said:
        assert "learner.lr_warmup (now 0) or a lower learner.lr (now 0.0003)" in hint
