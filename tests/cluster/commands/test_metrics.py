import pytest

from cluster.cli import main
from cluster.reporting.metric_table import METRICS, MetricGroup


def test_all_metrics_are_printed_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} [{metric.unit}]" in text for name, metric in METRICS.items())
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


def test_every_sentence_is_one() -> None:
    for name, metric in METRICS.items():
        for text in filter(None, (metric.about, metric.use)):
            assert text[0].isupper() or text[0].isdigit(), name
            assert text.endswith("."), name


def test_every_group_has_metrics() -> None:
    assert {metric.group for metric in METRICS.values()} == set(MetricGroup)
