"""What queues and schedules look like as the last expression of a cell, on a real server."""

from __future__ import annotations

import re

from nbqueue import Queue
from nbqueue.notebook.formatters import queue_html, schedule_html, schedules_html
from nbqueue.store.requests import looking, running


def words(html: str) -> str:
    """What is read, tags removed."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_a_queue_shows_its_schedules_below_its_batches(q, worker):
    batch = q.map(abs, [1]).wait(20)
    assert "schedules" not in words(queue_html(q)), "it has none"
    q.every("1h", abs, -1, name="<i>work</i>")
    other = Queue("other", namespace=q.namespace)
    other.every("1h", abs, -1, name="elsewhere")
    said = words(queue_html(q))
    assert re.search(rf"{batch.id} abs ✓ finished .* schedules schedule when next run last run runs ", said), said
    assert "&lt;i&gt;work&lt;/i&gt; every hour" in said
    assert "elsewhere" not in said
    other.close()


def test_a_schedule_that_nobody_serves_says_so_and_what_to_run(q):
    schedule = q.every("1h", abs, -1)
    said = words(schedule_html(schedule))
    assert "No worker for queue default" in said and "Run nbqueue worker default where the jobs shall run" in said
    assert words(schedules_html(q.schedules())).startswith("1 schedule schedule when")
    schedule.pause()
    assert "worker" not in words(schedule_html(schedule)), "it waits for nothing"
    assert "‖ paused" in words(schedules_html(q.schedules()))


def test_a_schedule_that_a_worker_cannot_start_says_why(q):
    q.every("1h", abs, -1)
    (state,) = q.store.call(looking.schedules())
    q.store.call(running.fire(state, problem="its <zone> is not known"))
    said = words(schedules_html(q.schedules()))
    assert "abs cannot start: its &lt;zone&gt; is not known" in said
