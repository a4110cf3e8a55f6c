import pytest

from cluster.cli import main
from cluster.reporting.metric_table import METRICS, MetricGroup
from cluster.reporting.reward_model_table import REWARD_MODEL_METRICS


def test_all_metrics_are_printed_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} [{metric.unit}]" in text for name, metric in METRICS.items())
    assert all(f"  {name} [{metric.unit}]" in text for name, metric in REWARD_MODEL_METRICS.items())
    assert all(f"{group}: {group.about}" in text for group in MetricGroup)
    assert max(map(len, text.splitlines())) <= 100


def test_one_metric_says_what_it_is_good_for_and_where_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "timeout_share"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for said in (
        METRICS["timeout_share"].line,
        "responses/timeout_share",
        "ray_timeout_share",
        "Above 0.05 the run says",
    ):
        assert said in text


def test_a_group_can_be_asked_for_and_a_wrong_name_is_set_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "mismatch"]) == 0
    assert "mismatch_kl [nats per token]" in capsys.readouterr().out
    assert main(["metrics", "entropi"]) == 2
    assert "there is no metric 'entropi': did you mean entropy" in capsys.readouterr().err


def test_the_metrics_of_a_reward_model_are_known_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "reward-model"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} [" in listed for name in REWARD_MODEL_METRICS)
    assert "probe_gap" not in listed
    assert main(["metrics", "agreement_margin", "step"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert REWARD_MODEL_METRICS["agreement_margin"].about in text
    for table in (METRICS, REWARD_MODEL_METRICS):  # both kinds of runs have steps
        assert table["step"].about in text
    assert main(["metrics", "agreemnt"]) == 2
    assert "did you mean agreement" in capsys.readouterr().err


def test_every_sentence_is_one() -> None:
    told = [(name, text) for name, metric in METRICS.items() for text in (metric.about, metric.use) if text]
    for name, text in [*told, *((name, metric.about) for name, metric in REWARD_MODEL_METRICS.items())]:
        assert text[0].isupper() or text[0].isdigit(), name
        assert text.endswith("."), name


def test_every_group_has_metrics() -> None:
    assert {metric.group for metric in METRICS.values()} == set(MetricGroup)
