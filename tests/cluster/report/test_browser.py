"""The page in a browser: every chart is drawn, nothing is asked of the network, and hostile text runs nothing."""

import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from cluster.report.run_report import write_report
from tests.run_folders import graded_group, run_folder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
HOSTILE = "</script><img src=x onerror=\"document.title='HACKED'\"><svg onload=\"document.title='HACKED'\">"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium is installed, in which the page would be looked at"),
]


def test_every_chart_is_drawn_and_hostile_text_does_nothing(tmp_path: Path) -> None:
    groups = {
        step: [graded_group(step, HOSTILE, ["correct"] * step + ["wrong"] * 4, prompt=HOSTILE, response=HOSTILE)]
        for step in (1, 2)
    }
    folder = run_folder(tmp_path / "made", 2, groups=groups, changes={2: {"dropped": {HOSTILE: 1}}})
    write_report([folder], tmp_path / "page.html")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path}/b",
    ]
    command = [CHROMIUM, *flags, "--dump-dom", (tmp_path / "page.html").as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-drawn="yes"' in dom
    body = re.sub(r"<script.*?</script>", "", dom, flags=re.S)
    charts = re.findall(r'<div class="chart[^>]*>(.*?)</div>', body, re.S)
    assert len(charts) >= 12
    assert "cannot be drawn" not in body
    assert body.count('class="marks"') == body.count('id="chart')
    assert "<title>Run made</title>" in dom
    assert not re.search(r"<img|onload=|onerror=", re.sub(r"&lt;.*?&gt;", "", body))
    assert HOSTILE in unescape(body)
