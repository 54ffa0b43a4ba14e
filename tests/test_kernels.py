"""Clicks as the protocol has them, on several versions of ipykernel, each in an environment of its own."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from test_headless import environment  # noqa: F401 - a fixture

jupyter_client = pytest.importorskip("jupyter_client", reason="jupyter_client is not installed")

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


class Kernel:
    """A real kernel, and all it has said."""

    def __init__(self) -> None:
        self._manager, self._client = jupyter_client.manager.start_new_kernel()
        self.messages: list[Any] = []

    def close(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel()
        self._manager.cleanup_resources()

    def execute(self, code: str) -> str:
        return str(self._client.execute(code, allow_stdin=True))

    def run(self, code: str) -> str:
        """Run a cell to its end; its result as text."""
        id = self.execute(code)
        of_cell = lambda found: found["parent_header"].get("msg_id") == id  # noqa: E731
        self.hear(lambda found: of_cell(found) and found["content"].get("execution_state") == "idle")
        assert not [found for found in self.messages if of_cell(found) and found["msg_type"] == "error"]
        results = [found for found in self.messages if of_cell(found) and found["msg_type"] == "execute_result"]
        return str(results[0]["content"]["data"]["text/plain"]) if results else ""

    def hear(self, wanted: Callable[[Any], bool], seconds: float = 30.0) -> Any:
        """The next message of a kind."""
        deadline = time.monotonic() + seconds
        while True:
            assert time.monotonic() < deadline, "the message did not come"
            try:
                message = self._client.get_iopub_msg(timeout=0.5)
            except queue.Empty:
                continue
            self.messages.append(message)
            if wanted(message):
                return message

    def button(self, name: str) -> str:
        """The id of a button's comm, of the newest one of that name."""
        opened = [
            found["content"]["comm_id"]
            for found in self.messages
            if found["msg_type"] == "comm_open" and found["content"]["data"].get("state", {}).get("description") == name
        ]
        return str(opened[-1])

    def click(self, name: str) -> None:
        content = {"comm_id": self.button(name), "data": {"method": "custom", "content": {"event": "click"}}}
        self._client.shell_channel.send(self._client.session.msg("comm_msg", content))


def has_text(*words: str) -> Callable[[Any], bool]:
    """Messages that draw a panel with these words."""
    return lambda found: all(word in json.dumps(found["content"], ensure_ascii=False) for word in words)


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
    newest.hear(has_text("waiting behind sleep ("))
    newest.run("long.cancel()")
    newest.hear(lambda found: found["msg_type"] == "update_display_data" and has_text("3</b> of 3 finished")(found))
    newest.run("long.delete(); short.delete(); q.stop_workers()")
