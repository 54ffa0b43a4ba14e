"""Panels in a real JupyterLab, in a real browser; `NBQUEUE_TEST_PICTURES` is where each test leaves a picture."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_until
from lab import ARGUMENTS, Lab, Page, browser_path

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
pytestmark = pytest.mark.skipif(browser_path() is None, reason="no Chromium on the PATH")

SCORE = """
from nbqueue import q
import time

def score(x):
    time.sleep(0.05)
    if x % 37 == 5:
        raise ValueError("no price in <b>row</b>")
    return x * x
"""
HOLD = """
from nbqueue import q
from pathlib import Path
import time

def hold(x):
    while not Path({go!r}).exists():
        time.sleep(0.02)
    return x
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A JupyterLab whose kernels share an embedded server of their own, which starts workers by itself."""
    directory = Path(tempfile.mkdtemp(prefix="nbq-"))
    environment = {"NBQUEUE_HOME": str(directory / "home"), "NBQUEUE_AUTOSTART": "1"}
    lab = Lab(directory / "lab", **environment)
    yield lab
    lab.close()
    stop = "from nbqueue import Queue\nfrom nbqueue.server import embedded\nq = Queue()\n"
    stop += "for batch in q.batches(): batch.cancel()\n"
    stop += "q.stop_workers(); embedded.stop()"  # jobs of a test that failed would keep their worker
    subprocess.run([sys.executable, "-c", stop], env={**os.environ, **environment}, check=True, timeout=60)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(lab: Lab, browser: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Page]]:
    """Opens a notebook with these cells."""
    name = f"{request.node.name[5:45]}.ipynb"
    context = browser.new_context(viewport={"width": 1000, "height": 1000})
    pages = []

    def open_(*cells: str) -> Page:
        lab.write(name, *cells)
        page = Page(lab, context.new_page(), name)
        pages.append(page)
        return page

    yield open_
    pictures = os.environ.get("NBQUEUE_TEST_PICTURES")
    if pictures and pages:
        Path(pictures).mkdir(parents=True, exist_ok=True)
        pages[-1].picture(Path(pictures) / f"{name.removesuffix('.ipynb')}.png")
    context.close()
    go = getattr(request.node, "funcargs", {}).get("tmp_path")
    if go is not None:  # where the test failed, what it holds ends all the same
        (go / "go").touch()


def says(page: Page, cell: int, *words: str) -> None:
    """Wait until the output of a cell has all these words."""
    try:
        wait_until(lambda: all(word in page.text(cell) for word in words))
    except AssertionError:
        raise AssertionError(f"{words} did not come: {page.text(cell)}") from None


def kinds(notebook: dict[str, Any], cell: int) -> list[set[str]]:
    return [set(output.get("data", {})) for output in notebook["cells"][cell]["outputs"]]


def test_a_panel_appears_moves_ends_and_is_saved_as_plain_html(opened, lab):
    page = opened(SCORE, "batch = q.map(score, range(100))", "batch")
    page.run_to_end(0)
    page.run(1)
    says(page, 1, "running", "of 100 finished", "elapsed")
    panel = page.output(1).locator(".nbq")
    assert panel.get_by_role("progressbar").get_attribute("aria-valuemax") == "100"
    assert panel.bounding_box()["height"] <= 200
    first = page.text(1)
    wait_until(lambda: page.text(1) != first)
    says(page, 1, "finished, 3 failed", "97 of 100 finished", "3 ×", "batch.retry() runs 3 again")
    assert page.output(1).locator("b", has_text="row").count() == 0, "an error's text is escaped"
    assert "no price in <b>row</b>" in page.text(1)
    assert kinds(page.save(), 1) == [{"text/html", "text/plain"}] * 2
    page.run_to_end(2)
    says(page, 2, "97 of 100 finished")
    page.shut_down_kernel()
    page.page.goto(f"{lab.url}/lab/tree/{page.name}?reset")
    says(page, 1, "finished, 3 failed", "97 of 100 finished")
    assert "model not found" not in page.text(1)


def test_an_opened_traceback_stays_open_with_its_selection_while_the_batch_goes_on(opened):
    page = opened(SCORE, "batch = q.map(score, range(300))")
    page.run_to_end(0)
    page.run(1)
    says(page, 1, "1 ×")
    page.output(1).locator("summary").click()
    traceback = page.output(1).locator("details pre")
    traceback.wait_for(state="visible")
    assert 'raise ValueError("no price in <b>row</b>")' in traceback.inner_text()
    page.page.evaluate(
        """() => {
            const range = document.createRange();
            range.selectNodeContents(document.querySelector('.nbq details pre'));
            getSelection().removeAllRanges();
            getSelection().addRange(range);
        }"""
    )
    selected = page.page.evaluate("() => getSelection().toString()")
    assert "ValueError" in selected
    says(page, 1, "5 ×")
    assert traceback.is_visible()
    assert page.page.evaluate("() => getSelection().toString()") == selected
    page.output(1).get_by_role("button", name="Cancel").click()
    says(page, 1, "canceled")


def test_clicks_pause_resume_retry_and_cancel_and_the_panel_says_so(opened):
    page = opened(SCORE, "batch = q.map(score, range(2000))", "batch.counts")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "1 ×")
    button = page.output(1).get_by_role("button", name="Pause")
    button.dblclick()
    says(page, 1, "paused, nothing runs")
    ended = page.text(1)
    page.output(1).get_by_role("button", name="Retry failed").click()
    says(page, 1, "Queued", "again")
    assert "✕ 1 failed" not in page.text(1), ended
    wait_until(lambda: " failed" not in page.text(1))  # buttons and failures are widgets of their own
    page.output(1).get_by_role("button", name="Resume").focus()
    page.page.keyboard.press("Enter")
    says(page, 1, "· running", "failed")
    page.output(1).get_by_role("button", name="Cancel").click()
    says(page, 1, "canceled", "runs ", " again")
    page.run_to_end(2)
    says(page, 2, "'queued': 0, 'started': 0")


def test_a_retry_by_a_click_says_that_the_function_has_changed(opened):
    page = opened(
        "import time\nfrom nbqueue import q\ndef score(x):\n    time.sleep(0.1 * x)\n    return 1 / x",
        "batch = q.map(score, [0] + 2000 * [1])",
        "def score(x):\n    return 1",
    )
    for cell in range(3):
        page.run_to_end(cell)
    page.output(1).get_by_role("button", name="Retry failed").click()
    says(page, 1, "Queued 1 job again.", "has changed here since batch", "batch.retry(func=score)")
    page.output(1).get_by_role("button", name="Cancel").click()
    says(page, 1, "canceled")


def test_how_far_the_jobs_are_that_run_is_shown_below_the_bar_of_the_batch(opened, tmp_path):
    go = str(tmp_path / "go")
    code = (
        "import nbqueue, time\nfrom pathlib import Path\nfrom nbqueue import q\nfrom tqdm.auto import tqdm\n"
        "def train(x):\n    for i in tqdm(range(1000), desc='epochs', disable=x % 2 > 0):\n        time.sleep(0.01)\n"
        f"        if i == 300:\n            while not Path({go!r}).exists(): time.sleep(0.02)\n            break\n"
    )
    page = opened(code, "batch = q.map(train, range(4))", "job = q.enqueue(train, 0)\njob.show()")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "of 1,000 · epochs", " %)", "left")
    bar = page.output(1).get_by_role("progressbar").nth(1)
    wait_until(lambda: int(bar.get_attribute("aria-valuenow")) > 20)
    (tmp_path / "go").touch()
    says(page, 1, "train · finished")
    assert "1,000 · epochs · " not in page.text(1)


def test_what_waits_for_its_retry_says_until_when(opened):
    """In the panel of a batch, of one job, and of a job of `q`."""
    page = opened(
        f"{SCORE}\ndef flaky(x):\n    if x % 4 == 1:\n        raise ConnectionError('no answer')\n    return x",
        "from nbqueue import Retry\nbatch = q.map(flaky, range(40), retry=Retry(2, interval=[90, 600]))",
        "q.enqueue(flaky, 1, retry=Retry(1, interval=90))",
        "q.enqueue_in('10m', flaky, 2).show()",
    )
    for cell in range(4):
        page.run_to_end(cell)
    says(page, 1, "waits for its retry in 1:", "30 of 40 finished", "10 scheduled")
    says(page, 2, "waits for its retry in 1:")
    says(page, 3, "starts in 9:")
    page.output(1).get_by_role("button", name="Cancel").click()
    says(page, 1, "canceled")


def test_what_waits_for_others_says_for_which(opened, tmp_path):
    """In the panel of a batch, of one job, and of a pipeline; and when these have ended, that it runs."""
    go = tmp_path / "go"
    page = opened(
        HOLD.format(go=str(go)), "batch = q.map(hold, range(6))",
        "q.map(abs, [-1, -2], depends_on=batch[5])", "q.enqueue(sum, batch).show()",
        "last = batch.then(str).then(len)", "print(batch.id, last.id)",
    )  # fmt: skip
    for cell in range(6):
        page.run_to_end(cell)
    first, last = page.text(5).split()[-2:]
    says(page, 2, f"waits for job {first}:5", "0 of 2 finished", "2 deferred")
    says(page, 3, f"waits for batch {first}")
    says(page, 4, "waits for batch ", "0 of 6 finished", "6 deferred")
    go.touch()
    says(page, 2, "2 of 2 finished")
    says(page, 3, "finished in")
    says(page, 4, f"batch {last}", "6 of 6 finished")


def test_a_retry_makes_the_panel_live_again(opened, tmp_path):
    go = tmp_path / "go"
    source = HOLD.format(go=str(go)) + "\ndef fail(x):\n    if not Path('fixed').exists(): 1 / 0\n    return hold(x)"
    page = opened(source, "batch = q.map(fail, range(4))", "Path('fixed').touch()\nbatch.retry()")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "finished, 4 failed", "ZeroDivisionError: division by zero")
    page.run_to_end(2)
    says(page, 1, "0 of 4 finished", "2 running")
    page.output(1).get_by_role("button", name="Cancel").wait_for()
    go.touch()
    says(page, 1, "4 of 4 finished", "batch.results()")


def test_after_a_restart_of_the_kernel_the_batch_goes_on_and_is_shown_again(opened, tmp_path):
    go = tmp_path / "go"
    page = opened(HOLD.format(go=str(go)), "batch = q.map(hold, range(6))", "from nbqueue import q\nq.last().show()",
                  "q.last().results()")  # fmt: skip
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "2 running")
    page.restart_kernel()
    page.run_to_end(2)
    says(page, 2, "· running", "0 of 6 finished", "2 running")
    go.touch()
    says(page, 2, "6 of 6 finished")
    page.run_to_end(3)
    says(page, 3, "[0, 1, 2, 3, 4, 5]")


def test_a_page_that_is_loaded_anew_goes_on_live_and_says_how_to_keep_the_result(opened, tmp_path):
    go = tmp_path / "go"
    page = opened(HOLD.format(go=str(go)), "batch = q.map(hold, range(6))", "batch.show()")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "2 running")
    page.page.wait_for_timeout(1600)  # a younger panel takes the request for that of its own page
    page.save()
    page.open()
    says(page, 1, "· running", "The page was loaded anew", ".show()")
    go.touch()
    says(page, 1, "6 of 6 finished")
    page.run_to_end(2)
    says(page, 2, "6 of 6 finished", "batch.results()")
    assert kinds(page.save(), 2) == [{"text/html", "text/plain"}] * 2


def test_a_kernel_that_is_shut_down_leaves_what_was_known_and_how_to_come_back(opened, lab, tmp_path):
    go = tmp_path / "go"
    page = opened(HOLD.format(go=str(go)), "batch = q.map(hold, range(6))")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "2 running")
    page.shut_down_kernel()
    says(page, 1, "the kernel was shut down; its jobs go on", "comes back to it")
    page.save()
    page.page.goto(f"{lab.url}/lab/tree/{page.name}?reset")
    says(page, 1, "0 of 6 finished", "the kernel was shut down")
    assert "model not found" not in page.text(1)
    go.touch()


def test_when_the_page_was_loaded_anew_and_the_kernel_killed_the_caption_remains(opened, lab, tmp_path):
    go = tmp_path / "go"
    page = opened(HOLD.format(go=str(go)), "batch = q.map(hold, range(6))")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "2 running")
    page.save()
    page.open()
    page.kill_kernel()
    page.page.goto(f"{lab.url}/lab/tree/{page.name}?reset")
    says(page, 1, "hold · 6 jobs · batch", ".show()")
    go.touch()


def test_a_job_the_workers_and_the_queue_show_themselves(opened, tmp_path):
    go = tmp_path / "go"
    page = opened(HOLD.format(go=str(go)), "job = q.enqueue(hold, 3)\njob", "q.enqueue(hold, 4).wait()", "job",
                  "q.workers()", "q", "lost = q.enqueue(int, 'x').wait()", "lost")  # fmt: skip
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "hold · running for", "Cancel")
    go.touch()
    says(page, 1, "hold · finished in")
    assert page.output(1).get_by_role("button", name="Cancel").count() == 0
    for cell in range(2, 8):
        page.run_to_end(cell)
    says(page, 3, "hold · finished in", "3")
    says(page, 4, "1 worker, 2 children", "this machine")
    says(page, 5, "default · 1 worker, 2 children", "single calls")
    says(page, 7, "int · failed", "ValueError: invalid literal for int() with base 10: 'x'")


def test_a_submission_that_raises_leaves_a_panel_that_says_so(opened):
    broken = "def items():\n    yield from range(40)\n    time.sleep(1)\n    raise OSError('the disk is gone')\n"
    broken += "q.map(score, items())"
    page = opened(SCORE, broken, "q.map(len, [(i for i in 'abc')])")
    page.run_to_end(0)
    page.run_to_end(1)
    says(page, 1, "canceled", "its submitter raised SubmitError", "OSError: the disk is gone")
    page.run_to_end(2)
    says(page, 2, "nothing was submitted", "CannotPickle", "generator")


def test_a_schedule_is_seen_in_the_view_of_the_queue_with_its_next_run(opened):
    page = opened(
        "from nbqueue import q\ndef report(): return 1",
        "q.every('1h', report).run_now().wait()\nq.cron('0 3 * * *', report, name='nightly', timezone='Europe/Berlin')",
        "q", "q.schedule('nightly').pause()\nq.schedules()", "for one in q.schedules(): one.remove()", "q",
    )  # fmt: skip
    for cell in range(6):
        page.run_to_end(cell)
    says(page, 1, "nightly", "0 3 * * * (Europe/Berlin)", "next run")
    says(page, 2, "default · ", "schedules", "report", "every hour", "✓ finished", "nightly")
    assert re.search(r"every hour (\w+ \d+ \w+ )?\d\d:\d\d:\d\d ✓ finished \d\d:\d\d:\d\d 1", page.text(2)), page.text(
        2
    )
    assert re.search(r"\(Europe/Berlin\) (\w+ \d+ \w+ )?\d\d:00:00( \S+)? 0", page.text(2)), page.text(2)
    says(page, 3, "2 schedules", "‖ paused")
    assert "schedules" not in page.text(5)
    html = page.save()["cells"][2]["outputs"][0]["data"]["text/html"]
    assert "nightly" in "".join(html), "it is in the file"
