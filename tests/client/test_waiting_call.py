"""`job.result` is a method: it is not taken for the value, as RQ's property would be."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import operator
import pickle
import pydoc
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import run_as_notebook

from nbqueue import CellJob, Job, errors

WORDS = r"job\.result\(\) waits for the value; job\.return_value\(\) gives it without waiting"

USES = {
    "if": lambda r: 1 if r else 0,
    "not": lambda r: not r,
    "and": lambda r: r and 1,
    "str": str,
    "print": print,
    "f-string": lambda r: f"{r}",
    "f-string with a format": lambda r: f"{r:.2f}",
    "format": "{}".format,
    "percent": lambda r: "%s" % r,  # noqa: UP031
    "==": lambda r: r == 3,
    "== from the right": lambda r: 3 == r,  # noqa: SIM300
    "== of texts": lambda r: "3" == r,  # noqa: SIM300
    "!=": lambda r: r != 3,
    "in": lambda r: r in [1, 2],
    "<": lambda r: r < 3,
    ">=": lambda r: r >= 3,
    "+": lambda r: r + 1,
    "sum": lambda r: sum([r]),
    "+ from the right": lambda r: 1 + r,
    "text +": lambda r: "a" + r,
    "*": lambda r: 2 * r,
    "/": lambda r: r / 2,
    "%": lambda r: r % 2,
    "-": operator.neg,
    "len": len,
    "iter": list,
    "unpack": lambda r: [*r],
    "index": lambda r: r[0],
    "contains": lambda r: 1 in r,
    "int": int,
    "float": float,
    "round": round,
    "abs": abs,
    "range": range,
}


@pytest.fixture
def job(q):
    return q.enqueue(abs, -3)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_used_as_a_value_it_is_refused_in_words(job, use):
    with pytest.raises(TypeError) as raised:
        use(job.result)
    if use is not USES["text +"]:  # Python itself refuses that
        assert raised.match(WORDS)
        assert isinstance(raised.value, errors.WrongType)
        assert raised.value.job_id == job.id


def test_called_it_waits_as_any_method(job, workers):
    with pytest.raises(errors.WaitTimeout):
        job.result(0.01)
    with pytest.raises(errors.WaitTimeout):
        job.result(timeout=0.01)
    with pytest.raises(TypeError, match="unexpected keyword argument 'timout'"):
        job.result(timout=1)
    workers.start()
    assert job.result() == 3
    assert Job.result(job, timeout=20) == 3
    assert functools.partial(job.result, timeout=20)() == 3
    assert asyncio.run(asyncio.to_thread(job.result)) == 3
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(job.result, 20).result() == 3
    thread = threading.Thread(target=job.result)
    thread.start()
    thread.join()
    assert operator.methodcaller("result", timeout=20)(job) == 3


def test_it_looks_like_the_method_that_it_is(job):
    assert repr(job.result) == f"<bound method Job.result of <Job {job.id}>>"
    assert repr(CellJob(job.batch, 0).result) == f"<bound method Job.result of <Job {job.id}>>"
    assert [str(inspect.signature(one)) for one in (job.result, Job.result)] == [
        "(timeout: 'float | None' = None) -> 'Any'",
        "(self, timeout: 'float | None' = None) -> 'Any'",
    ]
    assert inspect.getdoc(job.result) == inspect.getdoc(Job.result)
    assert inspect.getdoc(Job.result).startswith("The return value of the call; waits for it.")
    assert (job.result.__name__, job.result.__self__, job.result.__func__) == ("result", job, Job.result)
    assert callable(job.result)
    assert inspect.isroutine(job.result)
    assert not inspect.iscoroutinefunction(job.result)
    for help_ in (pydoc.render_doc(job.result, renderer=pydoc.plaintext), pydoc.render_doc(Job)):
        assert "result(" in pydoc.plain(help_)
        assert "The return value of the call; waits for it." in help_
    assert inspect.getsource(job.result).strip().startswith("@waiting_call")
    assert hash(job.result) == hash(job.result)
    assert {job.result: 1}


def test_it_can_be_pickled_and_copied_as_any_method(job, worker):
    for again in (pickle.loads(pickle.dumps(job.result)), copy.copy(job.result), copy.deepcopy(job.result)):
        assert again(timeout=20) == 3


def test_what_the_job_raised_comes_with_no_visible_line_of_ours(q, worker):
    job = q.enqueue(operator.truediv, 1, 0)
    with pytest.raises(ZeroDivisionError) as raised:
        job.result(timeout=20)
    ours = [frame for frame, _ in traceback.walk_tb(raised.tb) if "nbqueue/client" in frame.f_code.co_filename]
    assert ours
    assert all(frame.f_locals.get("__tracebackhide__") for frame in ours)


def test_a_notebook_shows_completes_and_explains_it():
    done = run_as_notebook(
        """
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config
        from nbqueue import Queue

        config = Config()
        config.HistoryManager.enabled = False
        shell = InteractiveShell.instance(config=config, colors="nocolor")
        shell.user_ns["job"] = Queue(namespace="shown", progress=False).enqueue(abs, -3)
        shell.run_cell("job.result").raise_error()
        shell.run_cell("[job.result]").raise_error()
        shell.run_cell("_, __, {'a': job.result}").raise_error()
        print(sorted(name for name in shell.complete("job.res")[1] if name))
        print(shell.complete("job.result.")[1] is not None)
        shell.run_cell("job.result?").raise_error()
        shell.run_cell("job.result??").raise_error()
        shell.run_cell("%whos").raise_error()
        shell.run_cell("kept = job.result").raise_error()
        shell.run_cell("%whos").raise_error()
        shell.run_cell("if job.result: pass")
        shell.user_ns["job"].batch.delete()
        """
    )
    assert done.returncode == 0, done.stderr
    assert "<bound method Job.result of <Job " in done.stdout
    assert "job.result" in done.stdout
    assert "The return value of the call; waits for it." in done.stdout
    assert "waits for the value; job.return_value() gives it" in done.stdout + done.stderr
