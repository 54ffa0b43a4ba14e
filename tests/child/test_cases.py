"""What is called as a job returns what it returns in the notebook: the table in `cases.py`, row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("cases.py")


def test_every_row_of_the_table_is_as_if_it_had_been_called_here(q, worker, namespace):
    run = subprocess.run(
        [sys.executable, CASES, namespace], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout.splitlines()[-1])
    assert report["wrong"] == {}, run.stderr
    assert report["rows"] >= 150
