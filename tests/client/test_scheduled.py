"""Jobs that start later: after a delay, or at a time."""

from __future__ import annotations

import datetime
import time

import pytest
from conftest import wait_until

from nbqueue import errors
from nbqueue.store.requests import running
from nbqueue.store.requests.running import Later

HOUR = datetime.timedelta(hours=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def test_a_job_waits_for_its_time_and_starts_soon_after(q, worker):
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    submitted = now()
    job = q.enqueue_in(0.3, time.time)
    assert job.get_status() == "scheduled"
    assert job.batch.counts["scheduled"] == 1
    started = job.result(timeout=20)
    assert started - submitted.timestamp() >= 0.3
    assert job.due_at is None
    assert q.enqueue_at(now() + datetime.timedelta(seconds=0.2), abs, -2).result(timeout=20) == 2


@pytest.mark.parametrize("delay", [3600, "1h", "3600", HOUR])
def test_all_ways_to_say_an_hour(q, delay):
    jobs = [q.enqueue_in(delay, abs, -1), q.enqueue(abs, -1, delay=delay), q.map(abs, [-1], delay=delay)[0]]
    for job in jobs:
        assert abs(job.due_at - now() - HOUR) < datetime.timedelta(seconds=20)
        assert job.get_status() == "scheduled"
    for job in jobs:
        job.batch.cancel()


def test_a_time_without_a_zone_is_local_time(q, monkeypatch):
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        job = q.enqueue_at(datetime.datetime.now() + HOUR, abs, -1)
        assert abs(job.due_at - now() - HOUR) < datetime.timedelta(seconds=20)
        there = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=5))) + HOUR
        assert abs(q.enqueue_at(there, abs, -1).due_at - there) < datetime.timedelta(seconds=1)
        job.batch.cancel()
    monkeypatch.undo()
    time.tzset()


def test_what_has_passed_starts_now_and_is_said(q, worker):
    with pytest.warns(errors.OptionWarning, match="has passed: the job may start now"):
        job = q.enqueue_at(now() - HOUR, abs, -1)
    assert job.result(timeout=20) == 1
    with pytest.warns(errors.OptionWarning, match="delay=-5 is in the past: the job may start now"):
        job = q.enqueue_in(datetime.timedelta(seconds=-5), abs, -1)
    assert job.result(timeout=20) == 1
    assert q.enqueue_in(0, abs, -1).result(timeout=20) == 1


def test_a_batch_that_waits_costs_others_nothing_and_all_of_it_starts_then(q, worker):
    batch = q.map(abs, range(5000), delay=1000)
    assert batch.counts["scheduled"] == 5000
    assert q.map(abs, range(-50, 0)).results(timeout=20) == list(range(50, 0, -1))
    assert batch.counts["scheduled"] == 5000
    make_due(q, batch)
    assert batch.results(timeout=30) == list(range(5000))


def make_due(q, *batches) -> None:
    """Time passes."""
    keys = [f"queue:default:{q.environment}:scheduled", *(f"batch:{batch.id}:scheduled" for batch in batches)]
    for key in map(q.store.key, keys):
        for member in q.store.run("ZRANGE", key, 0, -1):
            q.store.run("ZADD", key, "XX", 1000, member)


def test_many_single_calls_of_one_moment_are_queued_some_at_a_time(q):
    jobs = [q.enqueue_in(1000 + i % 7, abs, -i) for i in range(2500)]
    batches = {job.batch.id: job.batch for job in jobs}
    assert sum(batch.counts["scheduled"] for batch in batches.values()) == 2500
    store = q.store
    store.call(running.register("ann", {"queues": "default", "environment": q.environment}))

    def claim(number: int):
        return store.call(running.claim("ann", number, q.environment, ["default"], children=4, target=1.0))

    later = claim(1)
    assert isinstance(later, Later)
    assert 900 < later.seconds <= 1000
    make_due(q, *batches.values())
    assert claim(2).stop > 0
    queued = [sum(batch.counts["queued"] + batch.counts["started"] for batch in batches.values())]
    assert queued[0] <= 1001, "a claim stays short"
    number = 3
    while queued[-1] < 2500:
        assert claim(number) is not None
        queued.append(sum(batch.counts["queued"] + batch.counts["started"] for batch in batches.values()))
        number += 1
        assert number < 100
    for batch in batches.values():
        runs = store.queued(batch.id)
        assert len(runs) < 20, "neighbours are one run again"
    store.call(running.reap("ann", None, ""))
    for batch in batches.values():
        batch.cancel()


def test_what_waits_for_its_time_can_be_canceled_paused_and_deleted(q, worker):
    batch = q.map(abs, range(10), delay=1000)
    assert batch[4].cancel()
    assert batch[4].is_canceled
    assert batch.counts == {"total": 10, "queued": 0, "started": 0, "finished": 0, "failed": 0, "canceled": 1,
                            "scheduled": 9}  # fmt: skip
    batch.pause()
    make_due(q, batch)
    wait_until(lambda: batch.counts["queued"] == 9)
    batch.resume()
    assert batch.wait(20).counts["finished"] == 9
    other = q.map(abs, range(10), delay=1000)
    assert q.empty() == 0, "it is not queued"
    other.cancel()
    assert other.wait(20).counts["canceled"] == 10
    third = q.map(abs, range(10), delay=1000)
    third.delete()
    assert q.store.run("EXISTS", q.store.key(f"queue:default:{q.environment}:scheduled")) == 0


def test_a_worker_does_not_leave_for_idleness_while_something_waits_for_its_time(q, workers):
    job = q.enqueue_in(3, abs, -1)
    worker = workers.start("--max-idle-time", "0.5")
    assert job.result(timeout=20) == 1
    wait_until(lambda: worker.poll() is not None)


def test_delays_that_make_no_sense_are_refused(q):
    for delay in ("soon", "-1", float("nan"), None, [1]):
        with pytest.raises((errors.UsageError, TypeError)):
            q.enqueue_in(delay, abs, -1)
    with pytest.raises(errors.UsageError, match="a datetime is accepted"):
        q.enqueue_at("2030-01-01", abs, -1)


def test_a_delay_does_not_reach_the_function(q, worker):
    def what(**kwargs):
        return kwargs

    assert q.enqueue_in(0.01, what, a=1).result(timeout=20) == {"a": 1}
    assert q.options(delay=0.01).enqueue(what, delay=5).result(timeout=20) == {"delay": 5}
