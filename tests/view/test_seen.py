"""What `nbqueue info` and `nbqueue batch` show, for people and for programs."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from nbqueue import errors
from nbqueue.command.terminal import show, show_batch
from nbqueue.view.seen import BatchSeen, Overview, QueueSeen, look
from nbqueue.view.words import duration, shares, short, size


def written(show, *arguments, width=80, encoding="utf-8"):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    show(*arguments, Console(file=out, width=width, highlight=False, markup=False, emoji=False))
    out.flush()
    return raw.getvalue().decode(encoding)


def seen(**changes):
    values = {
        "id": "k3f9x2", "label": "score", "queue": "default", "environment": "Python 3.11", "state": "running",
        "total": 100, "finished": 40, "failed": 1, "canceled": 2, "running": 2, "waiting": 55,
        "submitted_at": 1000.0, "ended_at": None, "elapsed": 10.0, "rate": 4.1, "eta": 14.0, "busy": 20.0, "reason": "",
    }  # fmt: skip
    return BatchSeen(**{**values, **changes})


def shown(batch):
    return Overview("unix:///s", "default", 1010.0, [], [], [batch])


def test_an_overview_counts_the_jobs_of_each_queue_and_lists_workers_and_batches(q, worker):
    batch = q.map(lambda x: 1 / x, [1, 0, 2], label="invert").wait(timeout=30)
    found = look(q.store)
    (queue,) = found.queues
    assert (queue.name, queue.finished, queue.failed, queue.waiting, queue.batches) == ("default", 2, 1, 0, 1)
    assert (queue.workers, queue.problem) == (1, "")
    (one,) = found.workers
    assert one.children == 2 and one.pid == worker.pid and one.environment.startswith("Python 3.") and not one.is_dead
    (last,) = found.batches
    assert (last.id, last.label, last.state, last.total, last.failed) == (batch.id, "invert", "done", 3, 1)
    assert json.loads(json.dumps(found.as_json()))["batches"][0]["finished"] == 2


def test_looking_changes_nothing(q):
    q.map(abs, range(10))
    before = {key: q.store.run("DUMP", key) for key in q.store.run("KEYS", q.store.key("*"))}
    look(q.store)
    assert {key: q.store.run("DUMP", key) for key in q.store.run("KEYS", q.store.key("*"))} == before


def test_it_says_why_jobs_wait(q):
    q.map(abs, range(10))
    assert "no worker for queue default" in look(q.store).queues[0].problem
    assert "! default: no worker for queue default" in written(show, look(q.store))
    q.pause()
    assert look(q.store).queues[0].problem == "it is paused"
    q.resume()


def test_a_worker_that_was_killed_is_shown_as_dead(q, worker):
    worker.kill()
    worker.wait()
    found = look(q.store)
    assert [one.is_dead for one in found.workers] == [True]
    assert found.queues == []
    assert " dead " in written(show, found)


def test_an_empty_namespace_is_shown_as_such(q):
    assert "Nothing here yet" in written(show, look(q.store))


@pytest.mark.parametrize("encoding, marks", [("utf-8", "█x-▒·"), ("ascii", "#x->.")])
def test_states_are_told_apart_by_character(encoding, marks):
    text = written(show, shown(seen()), encoding=encoding)
    bar = text.splitlines()[-1].split()[0]
    assert list(dict.fromkeys(bar)) == list(marks)
    assert "40 finished, 1 failed, 2 canceled, 2 running, 55 waiting of 100" in text
    assert "\x1b" not in text


def test_jobs_that_wait_for_others_or_for_their_time_are_told_of_where_there_are_some():
    text = written(show, shown(seen(deferred=7, scheduled=8, total=115)))
    assert "55 waiting, 7 deferred, 8 scheduled of 115" in text
    queue = QueueSeen("default", 1, 0, 0, 0, 0, 1, 1, False, "", scheduled=12)
    heading = written(show, Overview("unix:///s", "default", 1010.0, [queue], [], []))
    assert "scheduled" in heading and "12" in heading and "deferred" not in heading


def test_it_fits_into_80_columns_whatever_the_label():
    many = dict.fromkeys(("finished", "failed", "canceled", "running", "waiting"), 99_999)
    text = written(show, shown(seen(label="a long label\nof two lines " * 9, total=499_995, **many)))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[-2].endswith("4.1 jobs/s, running for 10 s, 14 s left")


def test_what_users_wrote_does_not_steer_the_terminal():
    assert "\x1b" not in written(show, shown(seen(label="\x1b[31m[red]label")))
    assert "[red]label" in written(show, shown(seen(label="\x1b[31m[red]label")))


def test_a_batch_shows_its_failures_grouped_and_how_to_retry(q, worker):
    def check(x):
        if x % 3 == 0:
            raise ValueError("a multiple of [bold]three[/bold]")
        return 1 / (x - 1)

    batch = q.map(check, range(7), label="checks").wait(timeout=30)
    text = written(show_batch, batch)
    assert "3 finished, 4 failed of 7" in text
    assert "3 x ValueError: a multiple of [bold]three[/bold]" in text
    assert "1 x ZeroDivisionError: " in text
    assert text.index("ValueError") < text.index("ZeroDivisionError")
    assert f"such as job {batch.id}:1\n" in text
    assert "    Traceback (most recent call last)" in text and ", in check" in text
    assert f"Run again what failed: nbqueue retry {batch.id}\n" in text


def test_a_canceled_batch_says_why(q):
    batch = q.map(abs, range(5))
    batch.cancel()
    text = written(show_batch, batch)
    assert "canceled: it was canceled" in text
    assert "Run again what was canceled" in text


def test_a_batch_that_is_gone_raises(q):
    batch = q.map(abs, range(5))
    batch.delete()
    with pytest.raises(errors.NotFound):
        show_batch(batch)


@pytest.mark.parametrize(
    "counts, width, cells",
    [([998, 1, 0, 0, 1], 10, [8, 1, 0, 0, 1]), ([0, 0], 10, [0, 0]), ([5, 0], 4, [4, 0]), ([1, 1, 1], 10, [4, 3, 3])],
)
def test_a_bar_has_a_cell_for_each_state_that_occurs(counts, width, cells):
    assert shares(counts, width) == cells


def test_numbers_are_short():
    assert [short(n) for n in (0, 99_999, 123_456, 4_560_000)] == ["0", "99,999", "123k", "4.56M"]
    assert [duration(s) for s in (3.14, 45, 720, 18000, 700_000)] == ["3.1 s", "45 s", "12 min", "5 h", "8 d"]
    assert [size(n) for n in (5 * 2**20, 3 * 2**29)] == ["5 MB", "1.5 GB"]
