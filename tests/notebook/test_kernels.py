"""Clicks as the protocol has them, on several versions of ipykernel, each in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from kernels import Kernel, has_text
from test_headless import environment  # noqa: F401 - a fixture

VERSIONS = ("6.31.0", "7.1.0", "7.3.0", "newest")


@pytest.fixture
def newest(environment, monkeypatch) -> Iterator[Kernel]:  # noqa: F811
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("NBQUEUE_AUTOSTART", "0")
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture(params=VERSIONS)
def kernel(request: pytest.FixtureRequest, environment, monkeypatch, tmp_path) -> Iterator[Kernel]:  # noqa: F811
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if request.param != "newest":
        path = tmp_path / "ipykernel"
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(path)]
        subprocess.run([*command, f"ipykernel=={request.param}"], check=True, timeout=120)
        monkeypatch.setenv("PYTHONPATH", f"{path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    kernel = Kernel()
    if request.param != "newest":
        assert kernel.run("import ipykernel; ipykernel.__version__") == repr(request.param)
    yield kernel
    kernel.close()


def test_clicks_are_heard_by_an_idle_kernel_and_at_the_latest_after_a_cell(kernel: Kernel) -> None:
    kernel.run("from nbqueue import q\nimport time\ndef work(x): time.sleep(0.05)")
    kernel.run("batch = q.map(work, range(4000))")
    kernel.hear(has_text("comm_id", "running"))
    kernel.click("Pause")
    kernel.hear(has_text("paused"))
    kernel.click("Resume")
    kernel.hear(has_text("· running"))
    cell = kernel.execute("time.sleep(1)\nprint('after')")
    kernel.click("Cancel")
    kernel.click("Cancel")
    ended = kernel.hear(lambda found: found["msg_type"] == "update_display_data" and has_text("canceled")(found))
    assert "application/vnd.jupyter.widget-view+json" not in ended["content"]["data"]
    said = [found for found in kernel.messages if found["parent_header"].get("msg_id") == cell]
    if not any(found["msg_type"] == "stream" for found in said):
        kernel.hear(lambda found: found["msg_type"] == "stream" and found["content"]["text"] == "after\n")
    assert kernel.run("batch.counts['queued'], batch.counts['started']") == "(0, 0)"
    assert not [found for found in kernel.messages if found["msg_type"] == "error"]
    kernel.run("batch.delete()")


def test_a_cell_in_the_background_puts_out_here_and_brings_variables_between_cells(kernel: Kernel) -> None:
    kernel.run("%load_ext nbqueue\nimport asyncio, time\nfrom pathlib import Path")
    id = kernel.execute_to_end("%%enqueue job -o value\nprint('there')\ntime.sleep(0.5)\nvalue = 7\nvalue + 1")
    seen = kernel.run(
        "seen = []\nwhile not job.is_finished: await asyncio.sleep(0.01)\n"
        "for _ in range(50):\n    await asyncio.sleep(0.01)\n    seen.append('value' in globals())\nany(seen)"
    )
    assert seen == "False", "not in the middle of a cell"
    kernel.heard(has_text("value is here"))
    assert [kind for kind, _ in kernel.outputs_of(id)][2:] == ["stream", "execute_result"]
    assert kernel.run("value") == "7"
    kernel.run("job.batch.delete()")


def test_a_look_that_began_before_the_batch_was_there_does_not_take_it_for_deleted(newest: Kernel) -> None:
    newest.run(
        "from nbqueue import Queue\nfrom nbqueue.notebook import kernel as notebook\n"
        "q = Queue('late')\nbatch = q.map(abs, range(3))"
    )
    newest.run(
        "panel = next(panel for panel in notebook.NOTEBOOK._panels if panel.content.batch == batch)\n"
        "content = panel.content\ncontent._was_there, look = False, content._follower.look\n"
        "def late(*_):\n    content.accept()\n    content._follower.look = look\n"
        "content._follower.look = late\npanel.refresh(None, None)"
    )
    assert newest.run("panel.is_live") == "True"
    newest.run("batch.cancel(); batch.delete()")


def test_where_widgets_do_not_move_panels_are_plain_html_that_is_drawn_again(newest: Kernel) -> None:
    newest.run("import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')")
    newest.run("from nbqueue import Queue\nimport time\nq = Queue('plain')\nq.start_workers(2)")
    newest.run("batch = q.map(time.sleep, [0.1] * 60)")
    newest.hear(lambda found: found["msg_type"] == "update_display_data" and has_text("running", "comes back")(found))
    newest.hear(lambda found: found["msg_type"] == "update_display_data" and has_text("60</b> of 60 finished")(found))
    assert not [found for found in newest.messages if found["msg_type"] == "comm_open"]
    newest.run("q.stop_workers(); batch.delete()")


def test_that_nobody_serves_a_batch_is_said_at_once_and_a_click_starts_a_worker(newest: Kernel) -> None:
    newest.run("from nbqueue import Queue\nlonely = Queue('lonely')\nbatch = lonely.map(abs, range(4))")
    newest.hear(has_text("No worker for queue lonely", "nbqueue worker lonely"), seconds=1.5)
    newest.click("Start a worker")
    newest.hear(lambda found: found["msg_type"] == "update_display_data" and has_text("4</b> of 4 finished")(found))
    newest.run("batch.delete(); lonely.stop_workers()")


def test_a_batch_behind_another_says_what_it_waits_for(newest: Kernel) -> None:
    newest.run("from nbqueue import Queue\nimport time\nq = Queue('behind')\nq.start_workers(1)")
    newest.run("long = q.map(time.sleep, [30] * 2)")
    newest.hear(has_text("comm_id", "1 running"))
    newest.run("short = q.map(abs, range(3))")
    newest.heard(has_text("waiting behind sleep ("))  # it may come while the cell still runs
    newest.run("long.cancel()")
    newest.hear(lambda found: found["msg_type"] == "update_display_data" and has_text("3</b> of 3 finished")(found))
    newest.run("long.delete(); short.delete(); q.stop_workers()")


def test_what_was_made_at_once_is_told_in_a_line_and_needs_no_server(newest: Kernel) -> None:
    newest.run("import os; os.environ['NBQUEUE_URL'] = 'redis://127.0.0.1:1'\nfrom nbqueue import Queue")
    newest.run("here = Queue(is_async=False)\njob = here.enqueue(abs, -3)")
    id = newest.execute_to_end("job")
    (text,) = [content["text"] for kind, content in newest.outputs_of(id) if kind == "stream"]
    assert re.fullmatch(r"job \w{6}:0 is finished; it was run here\n", text)
    id = newest.execute_to_end("here")
    (shown,) = [content["data"]["text/html"] for kind, content in newest.outputs_of(id) if kind == "execute_result"]
    assert "<b>default</b>: calls are made here, at once" in shown
    assert newest.run("job.result").startswith("<bound method Job.result of <Job ")
    assert "waits for the value" in newest.run_wrong("print(job.result)")


def test_a_worker_in_a_cell_is_a_process_of_its_own_which_an_interrupt_has_leave(newest: Kernel) -> None:
    newest.run("from nbqueue import Queue, Worker\nq = Queue('cell', progress=False)\njob = q.enqueue(lambda: 6 * 7)")
    assert newest.run("Worker(q, children=1).work(burst=True), job.result()") == "(True, 42)"
    cell = newest.execute("left = Worker(q, children=1).work()")
    look = "import time\nfrom nbqueue import *\nq = Queue('cell')\nwhile not Worker.count(queue=q): time.sleep(0.01)"
    subprocess.run([sys.executable, "-c", look], check=True, timeout=60)
    newest._manager.interrupt_kernel()
    newest.hear(
        lambda found: found["parent_header"].get("msg_id") == cell and found["content"].get("execution_state") == "idle"
    )
    assert newest.run("left, Worker.count(queue=q)") == "(False, 0)"
    newest.run("job.batch.delete()")
