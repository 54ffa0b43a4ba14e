"""A large argument that is given again and again is stored once, and each call has it as it was given."""

from __future__ import annotations

import re

import numpy as np
import pytest


def used_memory(q):
    return int(re.search(rb"used_memory:(\d+)", q.store.run("INFO", "memory"))[1])


def make_table(kind):
    if kind == "array":
        return np.arange(200_000.0)
    if kind == "bytes":
        return b"x" * 1_000_000
    if kind == "frame":
        return pytest.importorskip("pandas").DataFrame({"a": np.arange(200_000.0)})
    return {"a": np.arange(100_000.0), "b": np.arange(100_000.0)}


@pytest.mark.parametrize("kind", ["array", "bytes", "frame", "dict"])
@pytest.mark.parametrize("way", ["map", "starmap", "enqueue_many", "generator"])
def test_one_table_for_many_calls_is_stored_once(q, worker, kind, way):
    table = make_table(kind)
    work = lambda x, table: (x, len(table))  # noqa: E731
    before = used_memory(q)
    if way == "map":
        batch = q.map(work, range(40), [table] * 40)
    elif way == "starmap":
        batch = q.starmap(work, [(x, table) for x in range(40)])
    elif way == "generator":
        batch = q.starmap(work, ((x, table) for x in range(40)))
    else:
        batch = q.enqueue_many([(work, (x,), {"table": table}) for x in range(40)])
    assert used_memory(q) - before < 12_000_000, "40 of them would be 64 MB"
    assert batch.results(timeout=60) == [(x, len(table)) for x in range(40)]
    given = batch[30].args[1] if way != "enqueue_many" else batch[30].kwargs["table"]
    assert len(given) == len(table) and type(given) is type(table)


def test_each_call_has_it_as_it_was_when_it_was_given(q, worker):
    table = np.zeros(100_000)

    def rows():
        for x in range(12):
            table[:] = x
            yield x, table

    assert q.starmap(lambda x, table: (x, table[0], table[-1]), rows()).results(timeout=60) == [
        (x, x, x) for x in range(12)
    ]


def test_what_a_call_writes_into_it_no_other_sees(q, worker):
    table = np.zeros(100_000)

    def write(x, table):
        before = table.sum()
        table[x] = 1
        return before, table.sum()

    assert set(q.map(write, range(20), [table] * 20).results(timeout=60)) == {(0.0, 1.0)}
    assert table.sum() == 0


def test_different_arrays_of_which_one_is_gone_when_the_next_is_made_are_not_mixed_up(q, worker):
    arrays = (np.full(100_000, float(x)) for x in range(30))
    assert q.map(lambda a: a[5], arrays).results(timeout=60) == [float(x) for x in range(30)]


def test_a_retry_finds_it_again(q, worker, tmp_path):
    table = np.arange(100_000.0)

    def work(x, table):
        if not (tmp_path / "go").exists():
            raise ValueError("not yet")
        return table[x]

    batch = q.map(work, range(6), [table] * 6)
    batch.wait(timeout=30)
    assert batch.counts["failed"] == 6
    (tmp_path / "go").touch()
    batch.retry()
    assert batch.results(timeout=30) == [0, 1, 2, 3, 4, 5]


def test_as_many_values_as_there_are_and_as_many_functions_are_told_apart(q, worker):
    """A header has room for 255 digests, and seven bits for the number of a function."""
    tables = [np.full(20_000, float(x)) for x in range(40)]
    functions = [lambda a, b=0, x=x: (x, a[0], b) for x in range(60)]
    calls = [(functions[x], (tables[x % 40],), {"b": x}) for x in range(60)] * 4
    found = q.enqueue_many([(abs, (-1,))] * 20 + calls).results(timeout=60)
    assert found[20:] == [(x, float(x % 40), x) for x in range(60)] * 4


def test_a_table_that_changes_from_call_to_call_of_one_block(q, worker):
    table = np.zeros(20_000)

    def rows():
        for x in range(400):
            table[:] = x
            yield (x, table) if x > 30 else (x, None)

    found = q.starmap(lambda x, t: x if t is None else t[7], rows()).results(timeout=60)
    assert found == list(range(400))


def test_arguments_that_are_one_object_or_hold_each_other_stay_so(q, worker):
    table = np.zeros(100_000)
    holder = {"table": table}
    assert q.map(lambda a, b: a is b, [table] * 5, [table] * 5).results(timeout=60) == [True] * 5
    held = q.map(lambda a, b: a["table"] is b, [holder] * 5, [table] * 5)
    assert held.results(timeout=60) == [True] * 5
    equal = [table] * 5, [table.copy()] * 5
    assert q.map(lambda a, b: a is b, *equal).results(timeout=60) == [False] * 5
