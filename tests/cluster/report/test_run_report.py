import json
from pathlib import Path

import pytest

from cluster.config.errors import ConfigError
from cluster.report import page as pages
from cluster.report import trajectories
from cluster.report.page import Page, Section, html_of
from cluster.report.run_data import State, named_apart, read_lines, read_run
from cluster.report.run_report import report_of, write_report
from tests.run_folders import evaluation, graded_group, run_folder

LOG = """2026-11-29 11:41:47,991 INFO winnow.shown: run folder: x
2026-11-29 11:45:00,000 WARNING winnow: TensorBoard lacks step 3, which metrics.jsonl has: disk full
2026-11-29 11:46:00,000 DEBUG winnow: the run ended early
Traceback (most recent call last):
  File "x.py", line 3, in f
    raise BrokenPart("x")
actors.errors.BrokenPart: learner rank 0 has no memory left
the checkpoint step-3 is complete
"""


@pytest.fixture(autouse=True)
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "library", lambda: "window.winnowEmbed = null;")


def report(*folders: Path) -> Page:
    return report_of([read_run(folder) for folder in folders])


def section(page: Page, title: str) -> Section:
    return next(each for each in page.sections if each.title == title)


def sentence(page: Page, title: str) -> str:
    return section(page, title).sentence.replace("\u00a0", " ")


def titles(page: Page) -> set[str]:
    return {each.title for each in page.sections}


def test_the_report_of_a_run_tells_what_its_files_hold(tmp_path: Path) -> None:
    trained = {step: [graded_group(step, f"p{step}", ["correct", "wrong", "wrong", "late"])] for step in range(1, 7)}
    refused = {2: [graded_group(90, "hard", ["wrong", "wrong"])]}
    page = report(run_folder(tmp_path / "made", groups=trained, refused=refused))
    assert page.lead == ["This run has done what it was asked to: 6 steps in 54 s."]
    assert titles(page) == {
        *("Evaluation", "Training accuracy", "Reward", "Ledger", "Time of the stages", "Verdicts", "Lengths"),
        *("Entropy", "KL from the start", "Staleness", "Mismatch", "Probe", "Groups that changed most", "Settings"),
    }
    for each in page.sections:
        assert each.sentence
        assert not each.charts or each.tables
    assert sentence(page, "Ledger") == (
        "Of 144 groups, 96 kept (66.7 %), 12 all correct (8.3 %), 30 all wrong (20.8 %) and 6 dropped (4.2 %). Drops "
        "by reason: deadline: 6."
    )
    assert sentence(page, "Verdicts") == ("Of 26 responses, 6 correct (23.1 %), 14 wrong (53.8 %) and 6 late (23.1 %).")
    assert section(page, "Evaluation").sentence.endswith(
        "of 50 prompts 15 went better at the end than at the beginning and 0 worse."
    )
    lengths = section(page, "Lengths").tables[0]
    assert lengths.columns == ["step", "generated", "accepted", "trained"]
    assert lengths.rows[0][2:] == ["2.5", "2.5"]
    accuracy = section(page, "Training accuracy").tables[0]
    assert accuracy.rows[1][1:] == [accuracy.rows[1][1], "0.25"]  # of all, and of those that were trained on
    assert "train, which was the bottleneck in 6 of 6 steps" in section(page, "Time of the stages").sentence


def test_the_prompts_that_changed_most_are_shown_at_both_steps(tmp_path: Path) -> None:
    groups = {
        1: [graded_group(1, "up", ["wrong"] * 4, response="early"), graded_group(2, "same", ["correct", "wrong"])],
        3: [graded_group(3, "up", ["correct"] * 4, response="late"), graded_group(4, "same", ["correct", "wrong"])],
    }
    changed = section(report(run_folder(tmp_path / "made", groups=groups)), "Groups that changed most")
    assert changed.sentence == (
        "2 prompts were sampled in two steps or more; of the 1 that changed most, 1 went better the last time than the "
        "first."
    )
    (card,) = changed.cards
    assert card.title == "prompt up: 0 of 4 correct in step 1, 4 of 4 correct in step 3"
    assert list(card.pairs[-2:]) == [("step 1, wrong", "early"), ("step 3, correct", "late")]


@pytest.mark.parametrize(
    ("steps", "evals"),
    [(0, []), (1, [evaluation(0, 40)]), (4, []), (1000, [evaluation(step, 50) for step in range(60)])],
)
def test_a_run_of_any_length_has_a_report(tmp_path: Path, steps: int, evals: list) -> None:
    folder = run_folder(tmp_path / "made", steps, planned=2000, evals=evals)
    page = report(folder)
    assert f"after {steps:,} step" in page.lead[0]
    text = html_of(page)
    assert len(text) < 1_500_000
    assert text == html_of(report(folder))  # the same bytes
    assert all(len(table.rows) <= 41 for each in page.sections if each.title != "Settings" for table in each.tables)


def test_lines_that_are_half_written_broken_or_not_finite_are_left_out(tmp_path: Path) -> None:
    changes = {1: {"entropy": float("nan"), "kl_start": float("inf")}, 2: {"accuracy": None}, 3: {"seconds_wait": None}}
    folder = run_folder(tmp_path / "made", 4, changes=changes)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('[1]\n{"step": 5, "accur\n{"step": 6, "accuracy": 0.')
    assert [line["step"] for line in read_lines(folder / "metrics.jsonl")] == [1, 2, 3, 4]
    page = report(folder)
    assert "NaN" not in json.dumps([chart.spec for each in page.sections for chart in each.charts])
    assert [row[0] for row in section(page, "Entropy").tables[0].rows] == ["2", "3", "4"]
    assert len(section(page, "Time of the stages").tables[0].rows) == 3


def test_a_run_that_holds_nothing_but_its_settings_says_so(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "made", 0, planned=5, evals=[])
    (folder / "metrics.jsonl").unlink()
    (folder / "evals.jsonl").unlink()
    page = report(folder)
    assert page.lead == ["This run ended early, after 0 steps of 5."]
    assert titles(page) == {"Groups that changed most", "Settings"}


def test_a_crashed_run_says_why_and_what_was_warned_of(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "made", 3, planned=60)
    (folder / "winnow.log").write_text(LOG)
    page = report(folder)
    assert page.lead == ["This run ended early, after 3 steps of 60 in 27 s: learner rank 0 has no memory left."]
    assert page.warnings == ["TensorBoard lacks step 3, which metrics.jsonl has: disk full"]


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("KeyboardInterrupt", ": it was interrupted."),
        ("actors.errors.Stopped: the checkpoint is complete", ": it was asked to stop."),
        ("OSError: [Errno 28] No space left on device", ": [Errno 28] No space left on device."),
    ],
)
def test_the_log_says_why_a_run_ended_until_it_goes_on(tmp_path: Path, last: str, why: str) -> None:
    folder = run_folder(tmp_path / "made", 3, planned=60)
    log = LOG.replace("actors.errors.BrokenPart: learner rank 0 has no memory left", last)
    (folder / "winnow.log").write_text(log)
    assert report(folder).lead[0].endswith(f"in 27 s{why}")
    (folder / "winnow.log").write_text(log + LOG.splitlines()[0] + "\n")
    assert report(folder).lead[0].endswith("in 27 s.")


def test_what_the_metrics_hint_at_is_told_as_the_run_tells_it(tmp_path: Path) -> None:
    page = report(run_folder(tmp_path / "made", 3, changes={2: {"timeout_share": 0.5}, 3: {"kl_start": 0.9}}))
    assert [warning.partition(":")[0] for warning in page.warnings] == ["step 2", "step 3"]
    assert "timeout_share is 0.5" in page.warnings[0]
    assert "kl_start rose from" in page.warnings[1]


def test_a_process_that_holds_the_folder_means_that_the_run_goes_on(tmp_path: Path) -> None:
    import subprocess
    import sys

    folder = run_folder(tmp_path / "made", 3, planned=60)
    code = (
        "import sys, pathlib; from cluster.preparing.folders import held\n"
        "with held(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert read_run(folder).state is State.RUNNING
        assert read_run(folder, has_ended=True).state is State.ENDED
        assert process.stdin is not None
        process.stdin.close()
    assert read_run(folder).state is State.ENDED


def test_settings_that_differ_are_shown_and_secrets_are_not(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "made")
    secret = '\n[cluster.env]\nMY_API_KEY = "a-long-secret-value"\nOTHER = "sk-ABCDEFGH12345678abcdefgh"\n'
    (folder / "config.toml").write_text((folder / "config.toml").read_text() + secret)
    text = html_of(report(folder))
    assert "a-long-secret-value" not in text
    assert "sk-ABCDEFGH12345678abcdefgh" not in text
    assert "cluster.env.MY_API_KEY" in text
    assert "learner.algorithm" in text


def test_several_runs_stand_on_one_page_under_names_that_tell_them_apart(tmp_path: Path) -> None:
    first, second = (
        run_folder(tmp_path / "a/seed=0"),
        run_folder(tmp_path / "b/seed=0", 12, changes={12: {"entropy": 0.1}}),
    )
    page = report(first, second)
    assert page.title == "2 runs: a/seed=0 and b/seed=0"
    assert [chart.title for chart in section(page, "Ledger").charts] == ["a/seed=0", "b/seed=0"]
    assert section(page, "Entropy").sentence.startswith("The policy's entropy at the end is highest in a/seed=0 (")
    assert section(page, "Reward").tables[0].columns[1] == "a/seed=0: all that were judged"
    assert section(page, "Settings").tables[0].rows == [["run.steps", "6", "12"]]
    assert named_apart([read_run(first)]) == ["seed=0"]


def test_what_is_no_run_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the folder of a run: it holds neither"):
        read_run(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        read_run(tmp_path / "none")


def test_trajectories_that_cannot_be_read_do_not_keep_the_rest_from_being_told(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "made")
    (folder / "trajectories/step-1").mkdir(parents=True)
    (folder / "trajectories/step-1/groups.parquet").write_bytes(b"not Parquet")
    write_report([folder], tmp_path / "out.html")
    page = report(folder)
    assert "Groups that changed most" in titles(page)
    assert "parquet" in section(page, "Groups that changed most").sentence.lower()


def test_a_page_says_where_not_all_steps_were_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = {step: [graded_group(step, f"p{step}", ["correct", "wrong"])] for step in range(1, 7)}
    folder = run_folder(tmp_path / "made", groups=trained)
    assert not any("evenly spaced" in said for said in read_run(folder).said)
    monkeypatch.setattr(trajectories, "MOST_STEPS", 3)
    read = read_run(folder)
    assert [step.step for step in read.responses.steps] == [1, 3, 6]
    assert any("responses were read in 3 evenly spaced steps of 6" in said for said in read.said)


def test_what_evaluation_cost_is_said_with_its_share_of_the_time(tmp_path: Path) -> None:
    def sentence(name: str, *more: dict[str, float]) -> str:
        evals = [evaluation(step, 40) | each for step, each in enumerate(more)]
        return section(report(run_folder(tmp_path / name, 4, evals=evals)), "Evaluation").sentence

    between = sentence("between", {"waited": 3.0, "evaluators": 0}, {"waited": 1.5, "evaluators": 0})
    assert between.endswith(" Training waited 4.5 s for evaluation, 12.5\xa0% of its time.")  # of 4 steps of 9 s
    beside = sentence("beside", {"waited": 0.9, "evaluators": 2})
    assert beside.endswith(" Training waited 0.9 s for evaluation on generators of its own, 2.5\xa0% of its time.")
    assert "waited" not in sentence("older", {})
