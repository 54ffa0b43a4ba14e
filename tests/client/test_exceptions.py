"""An exception of a job comes back as itself; one that cannot be read hides no other."""

from __future__ import annotations

import asyncio
import textwrap
import traceback

import pytest
from conftest import run_as_notebook

from nbqueue import errors

HEAD = """
import sys, traceback
from nbqueue import Queue, errors
q = Queue(namespace=sys.argv[1], progress=False)
def caught(function, *args):
    try:
        q.enqueue(function, *args).result(timeout=30)
    except Exception as error:
        return error
"""

ROWS = {
    "other arguments": (
        """
        class ApiError(Exception):
            def __init__(self, code, *, body):
                super().__init__(f"code {code}")
                self.code, self.body = code, body
        def work(): raise ApiError(404, body="x")
        """,
        "type(e) is ApiError, e.code, e.body, str(e), e.args",
        "(True, 404, 'x', 'code 404', ('code 404',))",
    ),
    "keyword only": (
        """
        class HttpError(Exception):
            def __init__(self, message, *, request, response):
                super().__init__(message)
                self.request, self.response = request, response
        def work(): raise HttpError("bad", request={"a": 1}, response=None)
        """,
        "type(e) is HttpError, e.request, e.response, str(e)",
        "(True, {'a': 1}, None, 'bad')",
    ),
    "no call of the base": (
        """
        class Quiet(Exception):
            def __init__(self, a, b):
                self.both = a + b
            def __str__(self):
                return f"both {self.both}"
        def work(): raise Quiet(1, 2)
        """,
        "type(e) is Quiet, e.both, str(e), e.args",
        "(True, 3, 'both 3', (1, 2))",
    ),
    "slots": (
        """
        class Slotted(Exception):
            __slots__ = ("a", "__b")
            def __init__(self, a):
                self.a, self.__b = a, a * 2
            def b(self):
                return self.__b
        def work(): raise Slotted(3)
        """,
        "type(e) is Slotted, e.a, e.b()",
        "(True, 3, 6)",
    ),
    "property": (
        """
        class Proper(ValueError):
            def __init__(self, a):
                super().__init__(a)
                self._a = a
            @property
            def a(self):
                return self._a
        def work(): raise Proper(4)
        """,
        "type(e) is Proper, e.a, isinstance(e, ValueError)",
        "(True, 4, True)",
    ),
    "group": (
        """
        class ApiError(Exception):
            def __init__(self, *, code):
                super().__init__(code)
                self.code = code
        def work():
            inner = ExceptionGroup("in", [KeyError(2)])
            raise ExceptionGroup("several", [ValueError(1), ApiError(code=5), inner])
        """,
        "type(e).__name__, e.message, e.exceptions[1].code, e.exceptions[2].exceptions[0].args, "
        "e.subgroup(ApiError) is not None",
        "('ExceptionGroup', 'several', 5, (2,), True)",
    ),
    "cause": (
        """
        class Low(Exception):
            def __init__(self, *, why): self.why = why
        def work():
            try:
                raise Low(why="deep")
            except Low as low:
                raise RuntimeError("high") from low
        """,
        "type(e) is RuntimeError, type(e.__cause__) is Low, e.__cause__.why, 'in work' in str(e.__cause__.__cause__)",
        "(True, True, 'deep', True)",
    ),
    "context": (
        """
        def work():
            try:
                {}["x"]
            except KeyError:
                raise RuntimeError("high")
        """,
        "type(e.__context__) is KeyError, e.__suppress_context__, 'in work' in str(e.__context__.__cause__)",
        "(True, False, True)",
    ),
    "from None": (
        """
        def work():
            try:
                {}["x"]
            except KeyError:
                raise RuntimeError("high") from None
        """,
        "'in work' in str(e.__cause__)",
        "True",
    ),
    "notes": (
        """
        def work():
            error = ValueError("x")
            error.add_note("mind this")
            raise error
        """,
        "e.__notes__",
        "['mind this']",
    ),
    "an attribute that cannot be pickled": (
        """
        import threading
        class Locked(Exception):
            def __init__(self, lock, code):
                super().__init__("locked")
                self.lock, self.code = lock, code
        def work(): raise Locked(threading.Lock(), 7)
        """,
        "type(e) is Locked, e.code, e.lock, 'lock' in e.__notes__[0] and 'stayed in the job' in e.__notes__[0]",
        "(True, 7, None, True)",
    ),
    "an argument that cannot be pickled": (
        """
        import threading
        def work(): raise ValueError("x", threading.Lock())
        """,
        "type(e) is ValueError, e.args[0], type(e.args[1])",
        "(True, 'x', <class 'str'>)",
    ),
    "of urllib": (
        """
        import io, urllib.error
        from email.message import Message
        def work():
            raise urllib.error.HTTPError("http://localhost/x", 404, "Not Found", Message(), open("/dev/null", "rb"))
        """,
        "type(e).__name__, e.code, e.reason, str(e)",
        "('HTTPError', 404, 'Not Found', 'HTTP Error 404: Not Found')",
    ),
    "of a file": (
        "def work(): open('/nowhere/x')",
        "type(e).__name__, e.errno, e.filename, str(e)",
        '(\'FileNotFoundError\', 2, \'/nowhere/x\', "[Errno 2] No such file or directory: \'/nowhere/x\'")',
    ),
    "of an import": (
        "def work(): import nowhere_at_all",
        "type(e).__name__, e.name",
        "('ModuleNotFoundError', 'nowhere_at_all')",
    ),
    "of a name": ("def work(): return nowhere", "type(e).__name__, e.name", "('NameError', 'nowhere')"),
    "of an attribute": ("def work(): return (1).nowhere", "type(e).__name__, e.name", "('AttributeError', 'nowhere')"),
    "of text": (
        "def work(): b'\\xff'.decode()",
        "type(e).__name__, e.start, e.object",
        "('UnicodeDecodeError', 0, b'\\xff')",
    ),
    "of JSON": (
        "def work():\n    import json\n    json.loads('{')",
        "type(e).__name__, e.pos, e.doc",
        "('JSONDecodeError', 1, '{')",
    ),
    "of syntax": (
        "def work(): compile('a b', 'f.py', 'exec')",
        "type(e).__name__, e.lineno, e.filename",
        "('SyntaxError', 1, 'f.py')",
    ),
    "of a process": (
        "def work():\n    import subprocess\n    subprocess.run(['sh', '-c', 'exit 3'], check=True)",
        "type(e).__name__, e.returncode", "('CalledProcessError', 3)",
    ),
    "a dataclass": (
        """
        import dataclasses
        @dataclasses.dataclass
        class Coded(Exception):
            code: int
            detail: str = ""
        def work(): raise Coded(3, detail="d")
        """,
        "type(e) is Coded, e.code, e.detail",
        "(True, 3, 'd')",
    ),
    "a reduction of its own": (
        """
        class Reduced(Exception):
            def __init__(self, a, b):
                self.a, self.b = a, b
            def __reduce__(self):
                return Reduced, (self.a, self.b)
        def work(): raise Reduced(1, 2)
        """,
        "type(e) is Reduced, e.a, e.b",
        "(True, 1, 2)",
    ),
    "one that cannot be rebuilt": (
        """
        class Broken(Exception):
            def __reduce__(self):
                raise TypeError("no way")
            def __str__(self):
                return "broken " + self.__dict__["text"].name
        def work():
            error = Broken()
            error.text = open("/dev/null")
            raise error
        """,
        "type(e).__name__, 'Broken: broken /dev/null' in str(e), 'cannot be rebuilt' in str(e)",
        "('JobFailed', True, True)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_an_exception_comes_back_as_itself(q, worker, namespace, row):
    source, shown, expected = ROWS[row]
    run = run_as_notebook(HEAD + textwrap.dedent(source) + f"\ne = caught(work)\nprint(repr(({shown})))", namespace)
    assert run.stdout.strip() == expected, run.stderr


def test_it_is_caught_wherever_results_are_asked_for(q, worker, namespace):
    run = run_as_notebook(
        HEAD
        + textwrap.dedent(
            """
            import asyncio
            class ApiError(Exception):
                def __init__(self, *, code):
                    super().__init__()
                    self.code = code
            def work(x): raise ApiError(code=x)
            async def awaited(batch): await batch
            batch = q.map(work, [1, 2])
            found = []
            for ask in (batch.results, lambda: list(batch), batch[0].result, lambda: asyncio.run(awaited(batch))):
                try:
                    ask()
                except ApiError as error:
                    found.append(error.code)
            found += [error.code for error in batch.results(errors="return")]
            print(found)
            """
        ),
        namespace,
    )
    assert run.stdout.strip() == "[1, 1, 1, 1, 1, 2]", run.stderr


@pytest.fixture
def unreadable(q, worker, namespace, tmp_path):
    """A batch of ten of which job 3 returns what is not there for who reads it."""
    run = run_as_notebook(
        """
        import sys
        from nbqueue import Queue
        q = Queue(namespace=sys.argv[1], progress=False)
        def work(x):
            if x != 3:
                return {"x": x}
            import types
            module = sys.modules["only_there"] = types.ModuleType("only_there")
            exec("class Thing: pass", module.__dict__)
            return module.Thing()
        batch = q.map(work, range(10))
        batch.wait(timeout=30)
        print(batch.id)
        """,
        namespace,
    )
    return q.batch(run.stdout.strip())


def test_a_result_that_cannot_be_read_hides_no_other(unreadable):
    others = [{"x": x} for x in range(10) if x != 3]
    assert unreadable.results(errors="skip") == others
    returned = unreadable.results(errors="return")
    assert [value for value in returned if isinstance(value, dict)] == others
    assert isinstance(returned[3], errors.ResultUnreadable)
    assert isinstance(returned[3].__cause__, ModuleNotFoundError)
    assert f"{unreadable.id}:3" in str(returned[3])
    assert returned[3].job_id == f"{unreadable.id}:3"
    found = []
    for job in unreadable.as_completed():
        try:
            found.append(job.result())
        except errors.ResultUnreadable:
            found.append(job.index)
    assert sorted(map(str, found)) == sorted(map(str, [*others, 3]))
    with pytest.raises(errors.ResultUnreadable, match="only_there"):
        unreadable.results()
    with pytest.raises(errors.ResultUnreadable, match="only_there"):
        unreadable[3].result()
    assert unreadable.counts["finished"] == 10


def test_what_nbqueue_does_between_the_callers_line_and_the_error_is_hidden(q, worker):
    batch = q.map(lambda x: 1 / x, [0])
    looks = [batch.results, batch[0].result, lambda: [*batch], lambda: asyncio.run(awaited(batch))]
    for look in looks:
        with pytest.raises(ZeroDivisionError) as caught:
            look()
        frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
        own = [frame for frame in frames if "nbqueue/client" in frame.f_code.co_filename]
        assert own
        assert all("__tracebackhide__" in frame.f_locals or frame.f_code.co_name == "<lambda>" for frame in own)


async def awaited(batch):
    return await batch
