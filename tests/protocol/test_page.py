"""What a child writes into the page while its worker reads it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from nbqueue.protocol.page import Page
from nbqueue.store.requests.running import Progress

WRITER = """
import sys
from nbqueue.protocol.page import Page
from nbqueue.store.requests.running import Progress
page = Page(int(sys.argv[1]))
done = 0
while page.cells[Page.STOP] == 0:
    page.say(7, 3, Progress(float(done), 1e9, str(done) * 20))
    done += 1
"""


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page.create()
    yield page
    page.close()


def test_progress_that_is_told_all_the_time_is_read_whole_whenever_somebody_looks(page: Page) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(page.fd)], pass_fds=[page.fd])
    try:
        while page.said(7, 3) is None:
            assert writer.poll() is None
        for _ in range(3000):
            said = page.said(7, 3)
            assert said is not None
            assert said.text == str(int(said.done)) * 20
    finally:
        page.cells[Page.STOP] = 1
        assert writer.wait(30) == 0


def test_progress_of_another_job_is_not_told(page: Page) -> None:
    assert page.said(7, 3) is None
    page.say(7, 3, Progress(1.0, None, "rows"))
    assert page.said(7, 4) is None
    assert page.said(8, 3) is None
    assert page.said(7, 3) == Progress(1.0, None, "rows")
