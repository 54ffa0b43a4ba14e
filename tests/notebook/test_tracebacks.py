"""Tracebacks that cells show: the user's lines, and none of ours."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator

import pytest
from kernels import Kernel
from test_headless import environment  # noqa: F401 - a fixture

from nbqueue import errors
from nbqueue.notebook.tracebacks import without_ours


@pytest.fixture
def kernel(environment, monkeypatch) -> Iterator[Kernel]:  # noqa: F811
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    kernel = Kernel()
    yield kernel
    kernel.close()


def shown(kernel: Kernel, code: str) -> str:
    """The traceback that a cell ends with."""
    id = kernel.execute_to_end(code)
    (content,) = [
        found["content"]
        for found in kernel.messages
        if found["parent_header"].get("msg_id") == id and found["msg_type"] == "error"
    ]
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(content["traceback"]))


def test_errors_of_jobs_and_mistakes_show_no_frame_of_ours(kernel: Kernel) -> None:
    kernel.run("from nbqueue import q\ndef invert(x):\n    return 1 / x")
    kernel.run("job, batch = q.enqueue(invert, 0), q.map(invert, [1, 0])")
    for line in ("job.result()", "batch.results()", "for result in batch: print(result)", "batch[1].result()"):
        text = shown(kernel, line)
        assert "return 1 / x" in text
        assert f"----> 1 {line}" in text
        assert text.rstrip().endswith("ZeroDivisionError: division by zero")
        assert "nbqueue/" not in text
        assert "hidden" not in text
    for line in (
        "q.enqueue(invert, 1, job_timeout=-3)",
        "q.fetch_job('none')",
        "q.map(3, [1])",
        "job.result() if job.result else 0",
    ):
        text = shown(kernel, line)
        assert f"----> 1 {line}" in text
        assert "nbqueue/" not in text
    kernel.run("def rows():\n    yield 1\n    raise OSError('no more rows')")
    text = shown(kernel, "q.map(invert, rows())")
    assert "raise OSError('no more rows')" in text
    assert "SubmitError: the iterable raised OSError" in text


def test_an_error_of_our_own_making_shows_all_frames() -> None:
    """A mistake of ours is found where it is."""
    ours = types.FunctionType(
        compile("def call(act): act()", "ours.py", "exec").co_consts[0], {"__name__": "nbqueue.client.somewhere"}
    )

    def raised_by(error: BaseException) -> tuple[int, int]:
        def act() -> None:
            raise error

        act = types.FunctionType(act.__code__, {"__name__": "nbqueue.client.elsewhere"}, "act", None, act.__closure__)
        try:
            ours(act)
        except BaseException:
            frames = sys.exc_info()[2]
        return length(frames), length(without_ours(error, frames))

    assert raised_by(TypeError("ours")) == (3, 3)
    assert raised_by(errors.UsageError("yours")) == (3, 1)
    assert raised_by(KeyboardInterrupt()) == (3, 1)


def length(frames: types.TracebackType | None) -> int:
    return 0 if frames is None else 1 + length(frames.tb_next)
