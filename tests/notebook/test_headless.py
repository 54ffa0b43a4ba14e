"""Notebooks that are executed with nobody at the keyboard: nbclient, as papermill, nbconvert and nbmake use it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import notebook

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """An embedded server of its own, which starts workers by itself."""
    directory = Path(tempfile.mkdtemp(prefix="nbq-"))
    own = {"NBQUEUE_HOME": str(directory / "home"), "NBQUEUE_AUTOSTART": "1", "IPYTHONDIR": str(directory / "ipython"),
           "JUPYTER_RUNTIME_DIR": str(directory / "runtime")}  # fmt: skip
    yield own
    stop = [sys.executable, "-m", "nbqueue", "server", "stop"]  # with the workers of all queues
    subprocess.run(stop, env={**os.environ, **own}, check=True, timeout=60)
    shutil.rmtree(directory)


@pytest.fixture
def executed(environment, monkeypatch):
    def execute(*cells: str, allow_errors: bool = False):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        found = nbformat.from_dict(notebook(*cells))
        client = nbclient.NotebookClient(found, timeout=120, allow_errors=allow_errors)
        client.execute()
        return found

    return execute


def html(found, cell: int) -> str:
    """The HTML that a cell holds, its tags removed."""
    texts = [output["data"].get("text/html", "") for output in found.cells[cell].outputs if "data" in output]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", " ".join(texts)))


def test_the_end_result_of_each_batch_is_in_the_file_also_that_of_the_last_cell(executed):
    found = executed(
        "from nbqueue import q\nimport time\ndef score(x):\n    time.sleep(0.1)\n    return 10 // x",
        "batch = q.map(score, range(8))",
        "batch.results(errors='skip')",
        "q.map(score, range(1, 9), label='the last one')",
    )
    assert "7 of 8 finished" in html(found, 1)
    assert "ZeroDivisionError: integer division or modulo by zero" in html(found, 1)
    assert "[10, 5, 3, 2, 2, 1, 1]" in str(found.cells[2].outputs)
    assert "the last one · finished 8 of 8 finished" in html(found, 3)
    assert len(found.cells[3].outputs) == 2, "it is not shown twice"
    widgets = [output for cell in found.cells for output in cell.outputs if "widget" in str(output.get("data", {}))]
    assert not widgets


@pytest.mark.parametrize("reload", ["importlib.reload(first); importlib.reload(second)", "%autoreload"])
def test_of_two_local_modules_one_is_edited_between_two_batches_and_each_result_is_of_the_right_version(
    executed, tmp_path, reload
):
    """In one kernel, with warm children, one of which is busy with the old version meanwhile."""
    name = tmp_path.name.replace("-", "_")
    second = f"%%writefile {tmp_path}/second_{name}.py\nimport first_{name} as first\nVERSION = {{}}\n" + (
        "def work(x):\n    return VERSION, first.FACTOR * x"
    )
    found = executed(
        f"import importlib, sys, time\nsys.path.insert(0, {str(tmp_path)!r})\nfrom nbqueue import q\n"
        "%load_ext autoreload\n%autoreload 1",
        f"%%writefile {tmp_path}/first_{name}.py\nFACTOR = 10",
        second.format(1),
        f"%aimport first_{name}, second_{name}\nimport first_{name} as first, second_{name} as second",
        "def slowly(x):\n    time.sleep(0.05)\n    return second.work(x)\n"
        "warm = q.map(second.work, range(20)).results()\nsubmitted_before = q.map(slowly, range(20))",
        second.format(2),
        reload,
        "after = q.map(second.work, range(20)), q.map(slowly, range(20))\n"
        "print(set(warm) == {(1, 10 * x) for x in range(20)})\n"
        "print(set(submitted_before.results()) == {(1, 10 * x) for x in range(20)})\n"
        "print([set(batch.results()) == {(2, 10 * x) for x in range(20)} for batch in after])",
    )
    printed = "".join(output.get("text", "") for output in found.cells[-1].outputs)
    assert printed.split("\n")[:3] == ["True", "True", "[True, True]"]


def test_a_cell_that_submits_again_and_again_gets_twenty_panels(executed):
    found = executed("from nbqueue import q", "for i in range(25): q.map(abs, [i])\nprint(len(q.batches()) >= 25)")
    assert len([output for output in found.cells[1].outputs if "data" in output]) == 2 * 20
    assert printed(found, 1).count("20 panels are enough") == 1
    assert "True" in printed(found, 1)


def test_a_cell_does_not_wait_for_a_batch_that_was_deleted(executed):
    found = executed("from nbqueue import q\nimport time", "q.map(time.sleep, [60] * 4).delete()", "1 + 1")
    assert "is not there any more" in html(found, 1)
    assert "2" in str(found.cells[2].outputs)


def printed(found, cell: int) -> str:
    return "".join(output.get("text", "") for output in found.cells[cell].outputs)


def test_the_command_line_from_a_cell(executed):
    found = executed(
        "%load_ext nbqueue",
        "%nbqueue worker -n 2",
        "from nbqueue import q\nbatch = q.map(int, ['1', 'x'])",
        "%nbqueue batches",
        "get_ipython().run_line_magic('nbqueue', f'batch {batch.id}')",
        "%nbqueue cancel nosuch",
        "%nbqueue worker -x",
        "%nbqueue log",
        "%nbqueue stop",
        allow_errors=True,
    )
    assert "1 worker, 2 children" in html(found, 1)
    assert "1 of 2 finished" in html(found, 2)
    assert batch_id(found, 2) in html(found, 3)
    assert "invalid literal for int()" in printed(found, 4) + html(found, 4)
    assert "there is no batch nosuch" in printed(found, 5)
    assert "UsageError" in str(found.cells[6].outputs)
    assert "No such option" in str(found.cells[6].outputs)
    assert "Traceback" not in str(found.cells[6].outputs), "a user's mistake is told in a line"
    assert "serves default" in printed(found, 7)
    assert printed(found, 8) == "1 worker left\n"


def batch_id(found, cell: int) -> str:
    return re.search(r"batch (\w{6})", html(found, cell))[1]


def test_a_cell_that_fails_waits_all_the_same_and_one_without_a_panel_does_not(executed):
    found = executed(
        "from nbqueue import q\nimport time",
        "q.map(time.sleep, [0.3] * 4); 1 / 0",
        "quiet = q.map(time.sleep, [0.1] * 4, progress=False)",
        allow_errors=True,
    )
    assert "4 of 4 finished" in html(found, 1)
    assert "ZeroDivisionError" in str(found.cells[1].outputs)
    assert not found.cells[2].outputs
