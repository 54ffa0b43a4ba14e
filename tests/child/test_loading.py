"""What a job calls is loaded as a part of it: within its time limit, and whatever that raises is its outcome."""

from __future__ import annotations

import importlib
import os
import time

import pytest
from conftest import run_as_notebook, wait_until

from nbqueue import errors


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Makes a module that runs other code where it is imported by a job."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name, code):
        lines = "".join(f"    {line}\n" for line in code.splitlines())
        text = f"import os, sys, time\nif os.getpid() != {os.getpid()}:\n{lines}"
        (tmp_path / f"{name}.py").write_text(
            f"{text}def work(x): return os.getpid()\nclass Value: work = staticmethod(work)\n"
        )
        importlib.invalidate_caches()
        return importlib.import_module(name)

    return make


def call(q, module, what, **options):
    if what == "function":
        return q.enqueue(module.work, 1, **options)
    return q.enqueue(lambda value: 1, module.Value(), **options)


WHAT = pytest.mark.parametrize("what", ["function", "argument"])


@WHAT
@pytest.mark.parametrize("way", ["sleeps", "ignores exceptions"])
def test_a_time_limit_is_kept_while_a_module_is_imported_that(q, worker, module, what, way):
    code = (
        "time.sleep(60)" if way == "sleeps" else "while True:\n    try: time.sleep(60)\n    except BaseException: pass"
    )
    hangs = module(f"hangs_{way.split()[0]}_{what}", code)
    job = call(q, hangs, what, job_timeout=0.5)
    with pytest.raises(errors.JobTimeout, match=r"0\.5 seconds"):
        job.result(timeout=20)
    assert job.duration < 1.5
    assert q.enqueue(abs, -1).result(timeout=20) == 1


@WHAT
def test_a_job_is_canceled_while_a_module_is_imported(q, worker, module, tmp_path, what):
    began = tmp_path / "began"
    hangs = module(f"hangs_canceled_{what}", f"open({str(began)!r}, 'w').close()\ntime.sleep(60)")
    job = call(q, hangs, what)
    wait_until(began.exists)
    asked = time.monotonic()
    assert job.cancel()
    job.wait(20)
    assert job.is_canceled
    assert time.monotonic() - asked < 2
    assert q.enqueue(abs, -1).result(timeout=20) == 1


def test_each_job_of_a_block_has_its_own_time_limit_while_a_module_hangs(q, workers, module):
    hangs = module("hangs_block", "time.sleep(60)")
    workers.start(children=1)
    batch = q.map(hangs.work, range(3), job_timeout=0.2)
    batch.wait(20)
    assert batch.counts["failed"] == 3
    assert all(batch[index].duration < 1.2 for index in range(3))


def test_the_time_that_loading_took_is_not_that_of_the_job(q, worker, module):
    slow = module("slow_to_load", "time.sleep(0.6)")
    job = q.enqueue(slow.work, 1, job_timeout=1.0)
    job.result(timeout=20)
    assert job.duration < 0.5


@pytest.mark.parametrize("error", ["SystemExit(3)", "KeyboardInterrupt", "GeneratorExit", "ValueError('broken')"])
@WHAT
def test_what_a_module_raises_that_is_imported_is_the_outcome_of_its_job_and_the_child_lives(
    q, workers, module, what, error
):
    broken = module(f"raises_{error.split('(')[0]}_{what}".lower(), f"raise {error}")
    workers.start(children=1)
    child = q.enqueue(os.getpid).result(timeout=20)
    job = call(q, broken, what)
    job.wait(20)
    assert job.is_failed
    (group,) = job.batch.failures()
    assert group.type == error.split("(")[0]
    assert q.enqueue(os.getpid).result(timeout=20) == child


def test_a_function_that_cannot_be_loaded_fails_all_jobs_of_a_batch(q, worker, module):
    broken = module("raises_for_all", "sys.exit('no')")
    batch = q.map(broken.work, range(300))
    batch.wait(20)
    assert batch.counts["failed"] == 300


class Needs:
    """Of a class that is found by its name, and wants an argument."""

    def __new__(cls, a):
        made = super().__new__(cls)
        made.a = a
        return made


def test_what_cannot_be_made_again_is_told_with_the_way_out(q, worker):
    needs = Needs(3)
    for job in (q.enqueue(lambda: needs.a), q.enqueue(repr, needs)):
        with pytest.raises(TypeError, match=r"__new__\(\) missing 1 required") as caught:
            job.result(timeout=20)
        assert "Make the object inside the function, or give its class `__reduce__`" in caught.value.__notes__[0]
    with pytest.raises(errors.ResultUnreadable, match=r"missing 1 required.*Here, unpickling makes such an object by"):
        q.enqueue(Needs, 3).result(timeout=20)
    with pytest.raises(TypeError) as caught:
        q.enqueue(lambda: Needs()).result(timeout=20)
    assert not getattr(caught.value, "__notes__", [])


def test_a_file_that_the_notebook_wrote_is_read_by_functions_whether_they_name_its_class_or_not(
    q, worker, namespace, tmp_path
):
    path = tmp_path / "model.pickle"
    run = run_as_notebook(
        f"""
        import pickle, threading, time
        from pathlib import Path
        from nbqueue import Queue

        q = Queue(namespace={namespace!r}, progress=False)
        path = Path({str(path)!r})
        other = path.with_name("other")

        class Model:
            def __init__(self, a):
                self.a = a

        class Large:
            table = bytes(300_000)

        class Locked:
            lock = threading.Lock()

        def double(x):
            return 2 * x

        path.write_bytes(pickle.dumps((Model(7), double)))
        other.write_bytes(pickle.dumps(Large()))

        def named():
            Model, double
            return pickle.loads(path.read_bytes())[0].a

        def unnamed():
            model, function = pickle.loads(path.read_bytes())
            return function(model.a)

        def by_file():
            with path.open("rb") as file:
                return pickle.load(file)[0]

        def another():
            return pickle.loads(other.read_bytes())

        print(q.enqueue(named).result(timeout=30))
        print(q.enqueue(unnamed).result(timeout=30))
        print(type(q.enqueue(by_file).result(timeout=30)) is Model)
        time.sleep(2.5)
        def double(x):
            return 3 * x
        print(q.enqueue(unnamed).result(timeout=30))
        try:
            q.enqueue(another).result(timeout=30)
        except AttributeError as error:
            print(error.__notes__[0])
        """
    )
    *found, last = run.stdout.splitlines()
    assert found == ["7", "14", "True", "21"], run.stderr
    assert "Large is of the notebook" in last and "name it in this one" in last
