"""`nbqueue demo`: the main job, as a new user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from conftest import wait_until

from nbqueue import Queue, machine
from nbqueue.payload.functions import unpack_code
from nbqueue.server import embedded


def nbqueue(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "nbqueue", *arguments], capture_output=True, text=True, timeout=120, env={**os.environ}
    )


@pytest.fixture
def folder(tmp_path):
    """A few sources, two of which have the same mistake in other places."""
    (tmp_path / "long.py").write_text("x = 1\n" * 500)
    (tmp_path / "deep.py").write_text(
        "def f(x):\n  if x:\n    pass\n  elif 2:\n    for y in x:\n      try: pass\n      finally: pass\n"
    )
    (tmp_path / "bad.py").write_text("print 'no'\n")
    (tmp_path / "worse.py").write_text("\n\nprint 'no'\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "other.py").write_text("")
    return tmp_path


def test_the_demo_measures_the_standard_library(fresh):
    done = nbqueue("demo", "-n", "2")
    assert done.returncode == 0, done.stderr
    text = done.stdout
    number = int(re.search(r"Measuring ([\d,]+) source files", text)[1].replace(",", ""))
    assert number > 400
    assert "The largest" in text and "The most deeply nested" in text
    measured = int(re.search(r"All ([\d,]+) files", text)[1].replace(",", ""))
    failed = re.search(r"([\d,]+) files? could not be measured", text)
    assert measured + (int(failed[1]) if failed else 0) == number
    assert re.search(r"MB in [\d.]+ s: [\d,]+ files/s", text)
    assert "Started the embedded server and a worker" in text
    assert text.rstrip().endswith("nbqueue server stop")


def test_the_demo_shows_what_failed_and_leaves_nothing_behind_when_it_is_told_to(fresh, folder):
    done = nbqueue("demo", "-n", "1", str(folder))
    assert done.returncode == 0, done.stderr
    assert "2 files could not be measured" in done.stdout
    assert re.search(r"2 x SyntaxError: Missing parentheses in call to 'print'.*\n(.*\n)? +such as bad.py", done.stdout)
    assert re.search(r"long.py +500 +0 +0\n", done.stdout)
    assert re.search(r"deep.py +7 +1 +4\n", done.stdout)
    assert re.search(r"All 2 files +507 +1 +4", done.stdout)
    assert "other.py" not in done.stdout
    again = nbqueue("demo", str(folder))
    assert "Nothing had to be started" in again.stdout
    queue = Queue()
    pids = [int(worker.fields["pid"]) for worker in queue.workers()]
    queue.close()
    assert len(pids) == 1
    assert nbqueue("server", "stop").stdout == "stopped\n"
    wait_until(lambda: not any(machine.is_alive(pid, "") for pid in pids))
    assert not embedded.status().running


def test_its_function_lives_in_main_and_is_pickled_by_value(fresh, folder):
    done = nbqueue("demo", "-n", "1", str(folder))
    assert done.returncode == 0, done.stderr
    queue = Queue()
    (batch,) = queue.batches()
    digest, _, _ = batch[0]._call()
    function = unpack_code(queue.seal, digest, queue.store.run("GET", queue.store.key(f"code:{digest.hex()}")))
    queue.close()
    assert (function.__module__, function.__qualname__) == ("__main__", "measure")
    assert not hasattr(sys.modules["__main__"], "measure")  # by reference, it could not have been read here
    assert "nbqueue.command.demo" not in sys.modules
    assert function(str(folder / "deep.py"))[2:] == (7, 1, 4)
