"""`nbqueue.explain`, `batch.to_frame()`, `job.debug()`: looking at what is sent, what came, and what failed."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

import nbqueue
from nbqueue import errors


def test_explain_names_the_largest_parts():
    table, small = np.zeros(500_000), [1, 2]

    def score(x, by=small):
        return table[x] + small[0]

    found = nbqueue.explain(score, 3, weights=np.zeros(250_000))
    assert found.problem == ""
    names = [name for name, _ in found.parts[:2]]
    assert names == [f"{found.what} -> variable 'table'", "argument 'weights'"]
    assert found.parts[0][1] > 4_000_000
    assert found.size > 6_000_000
    assert "variable 'table'" in repr(found) and "4.0 MB" in repr(found)


def test_explain_names_what_cannot_be_sent():
    lock = threading.Lock()

    def score(x):
        return lock

    found = nbqueue.explain(score, open)
    assert "-> variable 'lock' -> _thread.lock" in found.problem and "make it inside the function" in found.problem
    assert "lock" in repr(found)
    assert nbqueue.explain(len, threading.Lock()).problem.startswith("argument 0")


def test_a_batch_as_a_frame(q, worker):
    pytest.importorskip("pandas")
    batch = q.map(lambda x: 6 // x, [1, 2, 0])
    batch.wait(timeout=20)
    frame = batch.to_frame()
    assert list(frame["status"]) == ["finished", "finished", "failed"]
    assert list(frame["result"])[:2] == [6, 3]
    assert list(frame["args"]) == [(1,), (2,), (0,)]
    assert isinstance(frame["error"][2], ZeroDivisionError)
    assert frame["error"][0] is None
    assert list(frame["attempt"]) == [1, 1, 1]
    assert frame["duration"].min() >= 0
    assert frame["worker"].notna().all()
    assert frame.index.name == "index"


def test_a_failed_job_is_called_again_here_with_its_own_arguments(q, worker):
    def invert(x, *, over):
        return over / x

    async def invert_later(x):
        return 1 / x

    job = q.enqueue(invert, 0, over=3)
    with pytest.raises(ZeroDivisionError):
        job.result(timeout=20)
    with pytest.raises(ZeroDivisionError) as caught:
        job.debug()
    assert caught.traceback[-1].frame.f_locals["over"] == 3
    assert job.is_failed
    fine = q.enqueue(invert, 2, over=3)
    assert (fine.result(timeout=20), fine.debug()) == (1.5, 1.5)
    later = q.enqueue(invert_later, 2)
    assert (later.result(timeout=20), later.debug()) == (0.5, 0.5)


def test_sets_of_text_have_one_order_in_all_processes(q, workers):
    workers.start(children=3)
    orders = q.map(lambda _: (list({"a", "b", "c", "d"}), hash("text")), range(60)).results(timeout=20)
    assert len(set(map(str, orders))) == 1


def test_display_prints_in_a_mapped_function(q, worker):
    job = q.enqueue(lambda: display([1, 2]))  # noqa: F821 - a builtin in a kernel
    assert job.result(timeout=20) is None
    assert job.output == "[1, 2]\n"


def test_what_is_large_is_told_once_with_its_parts(q):
    table = np.zeros(8_000_000)
    small = np.zeros(10)

    def look(x):
        return table[x] + small[0]

    words = r"look\(\): 64 MB go along to workers \(look\(\) -> variable 'table' 64 MB\)"
    with pytest.warns(errors.LargeWarning, match=words.replace("look", ".*look")):
        q.map(look, [1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q.map(look, [1])
        table[0] = 1
        q.enqueue(look, 1)
    with pytest.warns(errors.LargeWarning, match="the arguments of a call: 64 MB"):
        q.map(len, [table, table + 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        q.map(len, [table + 2])
    with pytest.warns(errors.LargeWarning, match=r"the arguments of len\(\)"):
        q.enqueue(len, table)
