"""Submitting: how many trips it takes, what is stored, and what happens where an id is taken."""

from __future__ import annotations

import time

import pytest

from nbqueue import errors
from nbqueue.client import submission
from nbqueue.store.store import Store


@pytest.fixture
def trips(q, monkeypatch):
    """How often the server is asked, from when a queue has been used on."""
    q.map(abs, [1])  # connects, and looks for workers
    said = []
    talk, post = Store._talk, Store.post
    monkeypatch.setattr(Store, "_talk", lambda self, say: said.append("call") or talk(self, say))
    monkeypatch.setattr(Store, "post", lambda self, request: said.append("post") or post(self, request))
    return said


@pytest.mark.parametrize(
    "items",
    [range(10), list("abc"), [], [{"a": [1]}] * 100, (i for i in range(7))],
    ids=["range", "list", "none", "dicts", "generator"],
)
def test_a_small_batch_is_submitted_in_one_trip(q, trips, items):
    q.map(repr, items)
    assert trips == ["call"]


def test_a_single_call_takes_one_trip(q, trips):
    q.enqueue(abs, 1)
    q.enqueue(abs, 2)  # the first of its kind, which a new server has to be told
    trips.clear()
    q.enqueue(abs, 3)
    assert trips == ["call"]


def test_the_outcomes_of_a_small_batch_of_quick_jobs_are_few_records(q, worker):
    batch = q.map(abs, range(10)).wait(timeout=20)
    assert batch.results() == list(range(10))
    # The first job shows how long they take; then each child has a part.
    assert q.store.run("HLEN", q.store.key(f"batch:{batch.id}:outcomes")) <= 3


def test_what_was_pickled_to_be_weighed_is_not_pickled_again(q, worker):
    class Counted:
        times = 0

        def __getstate__(self):
            type(self).times += 1
            return {"x": 1}

    items = [Counted() for _ in range(10)]
    assert q.map(lambda item: item.x, items).results(timeout=20) == [1] * 10
    assert Counted.times == 10


@pytest.mark.parametrize("form", ["list", "generator", "long generator"])
def test_where_an_id_is_taken_the_batch_gets_another_one(q, worker, monkeypatch, form):
    taken = q.map(abs, [-5])
    ids = iter([taken.id, taken.id, "b22222"])
    monkeypatch.setattr(submission, "new_id", lambda: next(ids))
    count = 3000 if form == "long generator" else 5
    batch = q.map(lambda x: 2 * x, list(range(count)) if form == "list" else iter(range(count)))
    assert batch.id == "b22222"
    assert batch.results(timeout=30) == [2 * i for i in range(count)]
    assert taken.results(timeout=20) == [5]


@pytest.mark.parametrize("form", ["generator", "slow generator", "sequence", "tuples", "calls"])
def test_where_an_id_is_taken_nothing_that_was_given_is_lost_doubled_or_changed(q, worker, monkeypatch, form):
    taken = q.map(abs, [-5])
    ids = iter([taken.id, taken.id, "b22222"])
    monkeypatch.setattr(submission, "new_id", lambda: next(ids))
    row = [0]

    def refilled():
        for i in range(40):
            if form == "slow generator" and i in (3, 7):
                time.sleep(0.6)  # a helper sends meanwhile what was given, and hears that the id is taken
            row[0] = i
            yield row

    if form == "sequence":
        batch = q.map(lambda letter: letter, "".join(map(chr, range(100, 140))))
        expected = [chr(i) for i in range(100, 140)]
    elif form == "tuples":
        batch = q.starmap(lambda row, one: row[0] + one, ((row, 1) for row in refilled()))
        expected = list(range(1, 41))
    elif form == "calls":
        batch = q.enqueue_many((list, (row,)) for row in refilled())
        expected = [[i] for i in range(40)]
    else:
        batch = q.map(lambda row: row[0], refilled())
        expected = list(range(40))
    assert batch.id == "b22222"
    assert batch.results(timeout=30) == expected


def test_where_all_ids_are_taken_it_is_said(q, monkeypatch):
    taken = q.map(abs, [-5])
    monkeypatch.setattr(submission, "new_id", lambda: taken.id)
    with pytest.raises(errors.SubmitError, match="no id was free"):
        q.map(abs, [1, 2])
    assert len(taken) == 1


def test_what_an_iterator_gives_is_taken_as_it_is_at_that_moment(q, worker):
    import numpy as np

    def refilled(make, change, count=300):
        thing = make()
        for i in range(count):
            change(thing, i)
            yield thing

    def at(key):
        return lambda thing, i: thing.__setitem__(key, i)

    expected = list(range(300))
    assert q.map(lambda row: row["n"], refilled(dict, at("n"))).results(timeout=20) == expected
    assert q.map(lambda row: row[0], refilled(lambda: [0], at(0))).results(timeout=20) == expected
    assert (
        q.map(lambda row: row[0][0], refilled(lambda: ([0],), lambda t, i: t[0].__setitem__(0, i))).results(timeout=20)
        == expected
    )
    assert q.starmap(lambda x, y: x + y, refilled(lambda: [0, 0], at(1))).results(timeout=20) == expected
    assert (
        q.starmap(lambda x, y: x[0], refilled(lambda: ([0], 1), lambda t, i: t[0].__setitem__(0, i))).results(
            timeout=20
        )
        == expected
    )
    large = refilled(lambda: np.zeros(20_000), at(0), 30)
    assert q.map(lambda row: int(row[0]), large).results(timeout=20) == expected[:30]
    args = refilled(lambda: [0], at(0))
    assert q.enqueue_many((abs, args_now) for args_now in args).results(timeout=20) == expected


def test_a_sequence_that_refills_what_it_gives_is_read_as_map_reads_it(q, worker):
    from collections.abc import Sequence

    class Rows(Sequence):
        row = [0]  # noqa: RUF012 - shared on purpose

        def __len__(self):
            return 100

        def __getitem__(self, index):
            if index >= 100:
                raise IndexError
            self.row[0] = index
            return self.row

    assert q.map(lambda row: row[0], Rows()).results(timeout=20) == list(range(100))


def test_an_item_of_a_generator_that_cannot_be_sent_is_named_with_its_number(q):
    import threading

    with pytest.raises(errors.CannotPickle, match="call 3: "):
        q.map(repr, (threading.Lock() if i == 3 else [i] for i in range(10)))


@pytest.mark.parametrize(
    ("leave", "kind", "words"),
    [
        ("import sys; sys.exit(0)", SystemExit, r"called sys.exit\(0\)"),
        ("raise SystemExit", SystemExit, r"called sys.exit\(\)"),
        ("raise KeyboardInterrupt", KeyboardInterrupt, "raised KeyboardInterrupt"),
        ("raise GeneratorExit('all')", GeneratorExit, "raised GeneratorExit: all"),
        ("import asyncio; raise asyncio.CancelledError", BaseException, "raised CancelledError"),
    ],
)
def test_what_is_no_exception_does_not_end_who_asks(q, worker, leave, kind, words):
    job = q.enqueue(exec, leave)
    with pytest.raises(errors.JobExited, match=words) as caught:
        job.result(timeout=20)
    assert isinstance(caught.value, errors.JobError)
    assert isinstance(caught.value.__cause__, kind)
    assert caught.value.job_id == job.id
    (returned,) = q.map(exec, [leave]).results(timeout=20, errors="return")
    assert isinstance(returned, errors.JobExited)
