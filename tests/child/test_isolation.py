"""Each call finds what was submitted: nothing that other calls, batches or kernels have changed."""

from __future__ import annotations

import functools
import os

import numpy as np
import psutil
import pytest
from conftest import run_as_notebook

from nbqueue import errors


def test_what_a_call_changes_in_its_function_is_not_seen_by_the_next(q, worker):
    seen = set()
    table = {"n": 0}

    def work(x, found=[]):  # noqa: B006 - it is the point
        seen.add(x)
        found.append(x)
        table["n"] += 1
        return len(seen), len(found), table["n"]

    for _ in range(3):
        assert set(q.map(work, range(20)).results(timeout=20)) == {(1, 1, 1)}
    assert seen == set()


def test_a_method_of_an_object_has_the_object_as_it_was_submitted(q, worker):
    class Counter:
        def __init__(self):
            self.n = 0

        def add(self, by):
            self.n += by
            return self.n

    assert q.map(Counter().add, [1] * 8).results(timeout=20) == [1] * 8


def test_what_a_call_writes_into_a_large_array_is_not_seen_by_the_next(q, worker):
    table = np.zeros(500_000)

    def work(x):
        before = table.sum()
        table[x] = 1
        return before, table.sum(), table.flags.writeable

    for _ in range(2):
        assert set(q.map(work, range(10)).results(timeout=20)) == {(0.0, 1.0, True)}
    assert table.sum() == 0


def test_calls_that_share_find_what_others_of_their_batch_have_left(q, workers):
    workers.start(children=1)
    seen = []

    def work(x):
        seen.append(x)
        return len(seen)

    for _ in range(2):
        assert q.map(work, range(5), share=True).results(timeout=20) == [1, 2, 3, 4, 5]


def test_a_cache_of_functools_lives_as_long_as_its_batch(q, workers, tmp_path):
    workers.start(children=1)

    @functools.cache
    def slow(x):
        with (tmp_path / "calls").open("a") as file:
            file.write("x")
        return x

    def work(x):
        return slow(0) + x

    for run in (1, 2):
        assert q.map(work, range(5)).results(timeout=20) == [0, 1, 2, 3, 4]
        assert (tmp_path / "calls").read_text() == "x" * run


def test_a_global_that_is_assigned_is_not_seen_by_the_next_call(q, worker, namespace):
    run = run_as_notebook(
        """
        import sys
        from nbqueue import Queue
        q = Queue(namespace=sys.argv[1], progress=False)
        model = None
        def work(x):
            global model
            was, model = model, x
            work.last = x
            return was
        print(q.map(work, range(30)).results(timeout=20) == [None] * 30, model)
        """,
        namespace,
    )
    assert run.stdout == "True None\n", run.stderr


def test_another_kernel_with_the_same_cell_begins_with_its_own(q, worker, namespace):
    source = """
        import sys
        from nbqueue import Queue
        q = Queue(namespace=sys.argv[1], progress=False)
        seen = set()
        def work(x):
            if x in seen:
                return "skipped"
            seen.add(x)
            return "done"
        print(set(q.map(work, range(20)).results(timeout=20)))
        """
    for _ in range(2):
        assert run_as_notebook(source, namespace).stdout == "{'done'}\n"


READS = """
import sys, enum
from nbqueue import Queue
q = Queue(namespace=sys.argv[1], progress=False)
log = []
class State:
    total = 0
    items = []
    def note(self):
        log.append(1)
        return len(log)
class Plugin:
    known = []
    def __init_subclass__(cls):
        Plugin.known.append(cls.__name__)
class First(Plugin):
    pass
class Color(enum.Enum):
    RED = 1
"""


@pytest.mark.parametrize(
    ("body", "printed"),
    [
        (
            """
            job = q.enqueue(lambda: State())
            State.total, items, note = 7, State.items, State.note
            back = job.result(timeout=20)
            print(State.total, State.items is items, State.note is note, type(back) is State, back.note(), log)
            """,
            "7 True True True 1 [1]",
        ),
        (
            """
            def work(x):
                State.total += 1
                State.items.append(x)
                return State(), State.total, list(State.items)
            first, second = (q.map(work, range(4)).results(timeout=20) for _ in range(2))
            print([found[1:] for found in first + second] == [(1, [x]) for x in range(4)] * 2, State.total, State.items)
            """,
            "True 0 []",
        ),
        (
            """
            job = q.enqueue(lambda: (First(), Color.RED, First))
            Plugin.known.clear()
            first, red, kind = job.result(timeout=20)
            print(Plugin.known, red is Color.RED, kind is First, isinstance(first, Plugin), Plugin.__subclasses__())
            """,
            "[] True True True [<class '__main__.First'>]",
        ),
        (
            """
            Before = State
            job = q.enqueue(lambda: State())
            class State:
                total = "new"
            back = job.result(timeout=20)
            print(type(back) is Before, type(back) is State, State.total)
            """,
            "True False new",
        ),
        (
            """
            def work():
                class Local(Plugin):
                    x = 3
                return Local()
            job = q.enqueue(work)
            back = job.result(timeout=20)
            print(back.x, isinstance(back, Plugin), Plugin.known)
            """,
            "3 True ['First']",
        ),
        (
            """
            def work(state):
                return isinstance(state, State), state.note()
            print(q.map(work, [State(), State()]).results(timeout=20), log)
            """,
            "[(True, 1), (True, 1)] []",
        ),
        (
            """
            import pickle
            with open(sys.argv[2], "wb") as file:
                pickle.dump(State(), file)
            def work(path):
                return type(pickle.load(open(path, "rb"))) is State, pickle.loads(pickle.dumps(State())).total
            print(q.enqueue(work, sys.argv[2]).result(timeout=20))
            """,
            "(True, 0)",
        ),
    ],
)
def test_reading_results_leaves_the_classes_of_the_notebook_alone(q, worker, namespace, tmp_path, body, printed):
    import textwrap

    run = run_as_notebook(READS + textwrap.dedent(body), namespace, str(tmp_path / "saved"))
    assert run.stdout.strip() == printed, run.stderr


def test_children_keep_no_function_that_no_job_needs(q, workers):
    """500 different closures of 10 MB would be 5 GB."""
    workers.start(children=1)

    def make(n):
        data = np.full(1_250_000, float(n))
        return lambda x: (data[x], os.getpid())

    def memory():
        info = psutil.Process(pid).memory_full_info()
        return info.uss

    pid = 0
    early = 0
    for n in range(120):
        value, pid = q.map(make(n), [n]).results(timeout=60)[0]
        assert value == n
        if n == 20:
            early = memory()
    assert memory() - early < 50e6


def test_that_each_call_loads_much_is_told_once_with_the_way_out(q, worker):
    table = {str(i): i for i in range(300_000)}

    def look_up(x):
        return table[str(x)]

    with pytest.warns(errors.LoadingWarning, match=r"look_up\(\) refers to . MB .*'table'.*share=True"):
        assert q.map(look_up, range(4)).results(timeout=60) == [0, 1, 2, 3]
    table["0"] = 9
    assert q.map(look_up, range(4)).results(timeout=60) == [9, 1, 2, 3]
    other = table

    def look_up_shared(x):
        return other[str(x)]

    assert q.map(look_up_shared, range(2000), share=True).results(timeout=60)[5] == 5
