"""Functions that are named by a text, and what is no function."""

from __future__ import annotations

import sys

import pytest

import nbqueue
from nbqueue import errors
from nbqueue.client.named import function_of

GOOD = """
def work(x):
    return x + 1

class Tool:
    @staticmethod
    def use(x):
        return 2 * x

value = 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package on the path: good.work, and modules that cannot be imported."""
    directory = tmp_path / "named_here"
    directory.mkdir()
    (directory / "__init__.py").write_text("def top(): return 'top'\n")
    (directory / "good.py").write_text(GOOD)
    (directory / "bad.py").write_text("import not_there_at_all\n")
    (directory / "worse.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "named_here"
    for name in [name for name in sys.modules if name.startswith("named_here")]:
        del sys.modules[name]


def test_a_function_is_named_by_its_path(package):
    assert function_of(f"{package}.top")() == "top"
    assert function_of(f"{package}.good.work")(1) == 2
    assert function_of(f"{package}.good.Tool.use")(1) == 2
    assert function_of("math.sqrt")(4) == 2
    assert function_of("os.path.basename")("a/b") == "b"
    assert function_of("len") is len


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{}.good.wrok", "'named_here.good.wrok' cannot be imported: there is no 'wrok' in named_here.good"),
        ("{}.good.Tool.sue", "there is no 'sue' in named_here.good.Tool"),
        ("{}.nothing.work", "there is no 'nothing' in named_here"),
        ("{}.bad.work", "cannot be imported: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("{}.worse.work", "cannot be imported: ZeroDivisionError: division by zero"),
        ("not_there_at_all.work", "there is no module 'not_there_at_all' here"),
        ("score", "One of the notebook is given itself"),
        ("a b.c", "names no function: 'package.module.function' does"),
        ("", "names no function"),
    ],
)
def test_what_cannot_be_imported_is_said(package, name, words):
    with pytest.raises(errors.UsageError, match=words):
        function_of(name.format(package))


def test_what_a_text_names_may_be_no_function(package):
    with pytest.raises(TypeError, match="3 is not callable"):
        function_of(f"{package}.good.value")


def test_it_is_imported_here_when_it_is_submitted(q, worker, package):
    assert q.enqueue(f"{package}.good.work", 1).result(timeout=20) == 2
    assert q.enqueue("pow", 2, 3, job_timeout=60).result(timeout=20) == 8
    assert q.map(f"{package}.good.work", [1, 2]).results(timeout=20) == [2, 3]
    assert q.starmap("math.pow", [(2, 3)]).results(timeout=20) == [8.0]
    assert q.enqueue_call("math.sqrt", (4,)).result(timeout=20) == 2.0
    assert q.options(label="x").enqueue("math.sqrt", 4).result(timeout=20) == 2.0
    calls = [("math.sqrt", (4,)), nbqueue.call("abs", -1), q.prepare_data(f"{package}.top")]
    assert q.enqueue_many(calls).results(timeout=20) == [2.0, 1, "top"]
    with pytest.raises(errors.UsageError, match="there is no module"):
        q.enqueue("not_there_at_all.work", 1)
    assert q.count == 0


@pytest.mark.parametrize("submit", ["enqueue", "map", "starmap", "enqueue_call"])
def test_what_is_not_callable_is_a_type_error_as_everywhere_in_python(q, submit):
    with pytest.raises(TypeError, match="3 is not callable: give the function itself") as raised:
        getattr(q, submit)(3, [1])
    assert isinstance(raised.value, errors.UsageError)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda q: q.map(abs, 3), "3 is not iterable"),
        (lambda q: q.starmap(abs, None), "None is not iterable"),
        (lambda q: q.enqueue_many([3]), "3 is not a call"),
        (lambda q: q.enqueue_many(3), "3 is not iterable"),
        (lambda q: q.enqueue(abs, 1, job_timeout=[1]), r"job_timeout=\[1\]"),
        (lambda q: q.enqueue(abs, 1, priority="high"), "priority='high'"),
        (lambda q: q.enqueue(abs, 1, seed="x"), "seed='x'"),
        (lambda q: q.enqueue(abs, 1, meta=3), "meta=3"),
        (lambda q: q.enqueue(abs, 1, meta={"a": object()}), "only what JSON can hold"),
        (lambda q: q.fetch_job(3), "the id of a job is a text"),
        (lambda q: nbqueue.Queue(3), "name=3"),
        (lambda q: nbqueue.Queue(connection=3).store, "a URL or a redis.Redis is needed, not a int"),
        (lambda q: nbqueue.Queue(local_modules=3), "local_modules=3"),
    ],
)
def test_a_wrong_kind_is_a_type_error_too(q, use, words):
    with pytest.raises(errors.WrongType, match=words) as raised:
        use(q)
    assert isinstance(raised.value, TypeError)
    assert isinstance(raised.value, ValueError)


def test_what_a_text_names_can_have_constant_arguments_and_be_explained(q, worker):
    assert q.map("pow", [2, 3], kwargs={"exp": 2}).results(timeout=20) == [4, 9]
    assert nbqueue.explain("math.sqrt", 4).what == "sqrt"


def test_a_result_that_was_not_asked_for_is_no_iterable_of_arguments(q):
    with pytest.raises(TypeError, match="waits for the value"):
        q.map(abs, q.enqueue(abs, 1).result)
