"""What `nbqueue info` and `nbqueue batch` write for people."""

from __future__ import annotations

import io
import itertools

import pytest
from rich.console import Console
from states import batch_state

from nbqueue import errors
from nbqueue.command.terminal import shares, show, show_batch
from nbqueue.view.seen import BatchSeen, Overview, look


def written(show, *arguments, width=80, encoding="utf-8"):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    show(*arguments, Console(file=out, width=width, highlight=False, markup=False, emoji=False))
    out.flush()
    return raw.getvalue().decode(encoding)


def shown(**changes):
    return Overview("unix:///s", "default", 1010.0, [], [], [BatchSeen(batch_state(**changes), 1010.0)])


def test_it_says_why_jobs_wait(q):
    q.map(abs, range(10))
    assert "! default: no worker for queue default" in written(show, look(q.store))


def test_a_worker_that_was_killed_is_shown_as_dead(q, worker):
    worker.kill()
    worker.wait()
    assert " dead " in written(show, look(q.store))


def test_an_empty_namespace_is_shown_as_such(q):
    assert "Nothing here yet" in written(show, look(q.store))


@pytest.mark.parametrize("encoding, marks", [("utf-8", "█x-▒·"), ("ascii", "#x->.")])
def test_states_are_told_apart_by_character(encoding, marks):
    text = written(show, shown(), encoding=encoding)
    bar = text.splitlines()[-1].split()[0]
    assert list(dict.fromkeys(bar)) == list(marks)
    assert "40 finished, 1 failed, 2 canceled, 2 running, 55 waiting of 100" in text
    assert "\x1b" not in text


def test_it_fits_into_80_columns_whatever_the_label():
    many = {**dict.fromkeys(("finished", "failed", "canceled", "started"), 99_999), "total": 499_995}
    text = written(show, shown(label="a long label\nof two lines " * 9, **many))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines[:-1])
    assert lines[-2].endswith("20,000 jobs/s, running for 10 s, 10 s left")
    assert written(show, shown()).splitlines()[-2].endswith("4.1 jobs/s, running for 10 s, 14 s left")


def test_what_users_wrote_does_not_steer_the_terminal():
    assert "\x1b" not in written(show, shown(label="\x1b[31m[red]label"))
    assert "[red]label" in written(show, shown(label="\x1b[31m[red]label"))


def test_a_batch_that_has_ended_says_when_and_how_fast():
    text = written(show, shown(started=0, finished=99, failed=1, canceled=0, ended_at=1005.0))
    assert "20 jobs/s, done in 5.0 s, 5.0 s ago" in text


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


def test_cells_of_a_bar_are_as_many_as_it_is_wide():
    for counts in itertools.product((0, 1, 7, 1000), repeat=4):
        assert sum(shares(list(counts), 24)) == (24 if any(counts) else 0)


def test_jobs_that_wait_for_others_or_for_their_time_are_told_of_where_there_are_some():
    assert "7 deferred, 8 scheduled of 115" in written(show, shown(deferred=7, scheduled=8, total=115, queued=55))
    assert "deferred" not in written(show, shown())
