"""`@job("queue")`: functions that can be submitted by a method of their own."""

from __future__ import annotations

import copy
import inspect
import sys

import pytest
from conftest import run_as_notebook

import nbqueue
from nbqueue import Queue, errors


def add(x, y=1):
    """Adds."""
    return x + y


def test_a_function_stays_what_it_is_and_can_be_submitted(q, worker):
    added = nbqueue.job(q, timeout="1m", result_ttl="1d", meta={"a": 1})(add)
    assert added(1, y=2) == 3
    assert (added.__name__, added.__doc__, inspect.signature(added)) == ("add", "Adds.", inspect.signature(add))
    for submit in (added.delay, added.enqueue):
        job = submit(1, y=5)
        assert job.result(timeout=20) == 6
        assert (job.timeout, job.meta, job.func_name) == (60.0, {"a": 1}, "add")
    assert q.map(added, [1, 2]).results(timeout=20) == [2, 3]
    assert q.enqueue(added, 1).result(timeout=20) == 2


def test_a_call_may_depend_on_others(q, worker):
    added = nbqueue.job(q)(add)
    first = added.delay(1, y=2)
    assert added.delay(first, y=3, depends_on=q.enqueue(abs, -1), at_front=True).result(timeout=20) == 6

    @nbqueue.job(q)
    def show(depends_on):
        return depends_on

    assert show.delay(depends_on=5).result(timeout=20) == 5


def test_all_arguments_are_the_functions_own(q, worker):
    @nbqueue.job(q, job_timeout=60)
    def echo(*args, **kwargs):
        return args, kwargs

    assert echo.enqueue(1, job_timeout=3, meta=4).result(timeout=20) == ((1,), {"job_timeout": 3, "meta": 4})


def test_a_queue_can_be_given_by_its_name(q):
    added = nbqueue.job("mail", connection=q.store.url)(add)
    assert added.queue.name == "mail"
    assert added.queue is added.queue
    assert repr(added) == f"<job {add!r}>"


def test_what_makes_no_sense_is_said_where_the_function_is_defined(q):
    with pytest.raises(TypeError, match=r"a queue or its name is needed, as in @job\('default'\)"):
        nbqueue.job(add)
    with pytest.raises(errors.UsageError, match="Did you mean 'result_ttl'"):
        nbqueue.job("default", result_tll=3)
    with pytest.raises(errors.UsageError, match="job_timeout=0"):
        nbqueue.job("default", timeout=0)
    with pytest.raises(TypeError, match="3 is not callable"):
        nbqueue.job("default")(3)


MODULE = """
from nbqueue import job

calls = []

@job("default")
def count(x):
    calls.append(x)
    return len(calls), __name__
"""


def test_one_of_a_module_is_sent_by_its_name(q, worker, tmp_path, monkeypatch):
    (tmp_path / "decorated_here.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import decorated_here

    assert q.enqueue(decorated_here.count, 1).result(timeout=20) == (1, "decorated_here")
    assert nbqueue.explain(decorated_here.count, 1).size < 1000
    monkeypatch.delitem(sys.modules, "decorated_here")


NOTEBOOK = """
import sys
from nbqueue import Queue, job

q = Queue(namespace=sys.argv[1], progress=False)

@job(q, timeout=60)
def square(x):
    return x * x

@job("default")
def down(n):
    return n if n == 0 else down(n - 1) + 1

def both(x):
    return square(x) + down(3)

def further(x):
    return square.delay(x).result(timeout=20)

print(square(3), square.delay(4).result(timeout=20), q.map(square, range(3)).results(timeout=20))
print(q.enqueue(both, 2).result(timeout=20), q.enqueue(down, 4).result(timeout=20))
print(q.enqueue(further, 5).result(timeout=20))
q.close()
"""


def test_one_of_a_notebook_goes_along_with_what_refers_to_it(namespace, workers):
    workers.start()
    done = run_as_notebook(NOTEBOOK, namespace)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["9 16 [0, 1, 4]", "7 4", "25"]


def test_a_method_stays_one_and_a_copy_is_itself(q):
    class Tool:
        factor = 2

        @nbqueue.job(q)
        def use(self, x):
            return self.factor * x

    assert Tool().use(3) == Tool.use(Tool(), 3) == 6
    assert copy.copy(Tool.use) is copy.deepcopy(Tool.use) is Tool.use


def test_making_one_needs_no_server(monkeypatch):
    monkeypatch.setenv("NBQUEUE_URL", "redis://127.0.0.1:1")
    assert nbqueue.job("default")(add)(1) == 2
    assert nbqueue.job(Queue())(add)(1) == 2
