"""Jobs that are given up when they have waited for too long."""

from __future__ import annotations

import datetime
import time

import pytest
from conftest import wait_until

from nbqueue import Queue, Retry, errors


def past(q, batch) -> None:
    """Their time is up."""
    for key in (q.store.key(f"batch:{batch.id}:ttl"), q.store.key(f"queue:{q.name}:{q.environment}:ttl")):
        for member in q.store.run("ZRANGE", key, 0, -1):
            q.store.run("ZADD", key, "XX", 1000, member)


def hold(go):
    while not go.exists():
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::nbqueue.errors.NoWorkerWarning")
def test_what_still_waits_then_fails_with_the_reason_and_is_counted(q, workers):
    job = q.enqueue(abs, -1, ttl=0.2)
    batch = q.map(abs, range(50), ttl=datetime.timedelta(milliseconds=200))
    with pytest.raises(errors.JobExpired, match=r"ttl of 0\.2 seconds, and was given up"):
        job.result(timeout=30)
    batch.wait(30)
    assert batch.counts["failed"] == 50
    assert (job.get_status(), job.ttl, job.attempt) == ("failed", 0.2, 1)
    [group] = batch.failures()
    assert (group.type, group.count, group.job.index) == ("JobExpired", 50, 0)
    assert len(q.failed_job_registry) == 51
    assert batch.retry() == 50
    workers.start()
    assert batch.results(timeout=30) == list(range(50)), "run again by hand, they wait as long as it takes"


def test_a_claim_gives_up_what_is_due_and_takes_what_is_not(q, workers):
    late, fresh = q.map(abs, range(2500), ttl=1000), q.map(abs, range(3), ttl=1000)
    past(q, late)
    workers.start()
    assert fresh.results(timeout=30) == [0, 1, 2]
    late.wait(30)
    assert late.counts["failed"] == 2500
    assert not q.store.run("KEYS", q.store.key("*:ttl"))


def test_a_worker_whose_processes_are_all_busy_does_it_too(q, workers, tmp_path):
    workers.start(children=1)
    running = q.enqueue(hold, tmp_path / "go")
    wait_until(lambda: running.is_started)
    waiting = q.enqueue(abs, -1, ttl=0.1)
    wait_until(lambda: waiting.is_failed)
    (tmp_path / "go").touch()
    running.wait(30)


def test_what_has_started_once_is_not_given_up(q, worker, tmp_path):
    go = tmp_path / "go"

    def work(x):
        if not go.exists():
            raise ValueError("not yet")
        return x

    batch = q.map(work, range(5), ttl=1000, retry=Retry(1, interval=1000))
    wait_until(lambda: batch.counts.get("scheduled") == 5)
    go.touch()
    q.pause()
    for key in (q.store.key(f"batch:{batch.id}:scheduled"), q.store.key(f"queue:default:{q.environment}:scheduled")):
        for member in q.store.run("ZRANGE", key, 0, -1):
            q.store.run("ZADD", key, "XX", 1000, member)
    past(q, batch)
    q.resume()
    assert batch.results(timeout=30) == list(range(5))


def test_what_a_paused_queue_holds_back_is_given_up_too(q, worker):
    q.pause()
    job = q.enqueue(abs, -1, ttl=0.1)
    wait_until(lambda: job.is_failed)
    q.resume()


def test_after_a_delay_it_counts_from_then(q):
    job = q.enqueue_in("1h", abs, -1, ttl="5m")
    [_, score] = q.store.run("ZRANGE", q.store.key(f"batch:{job.batch.id}:ttl"), 0, -1, "WITHSCORES")
    assert abs(float(score) - time.time() - 3900) < 30
    assert job.cancel()
    assert not q.store.run("KEYS", q.store.key("*:ttl"))


def test_single_calls_share_a_batch_and_each_has_its_time(q, workers):
    jobs = [q.enqueue(abs, -n, ttl=1000) for n in range(5)]
    assert len({job.batch.id for job in jobs}) == 1
    key = q.store.key(f"batch:{jobs[0].batch.id}:ttl")
    assert q.store.run("ZCARD", key) == 5
    for run in (b"1-2", b"2-3"):
        q.store.run("ZADD", key, "XX", 1000, run)
    q.store.run("ZADD", q.store.key(f"queue:default:{q.environment}:ttl"), "XX", 1000, jobs[0].batch.id)
    workers.start()
    wait_until(lambda: jobs[0].batch.state.done)
    assert [job.get_status() for job in jobs] == ["finished", "failed", "failed", "finished", "finished"]


@pytest.mark.parametrize("ttl", [None, -1])
def test_for_ever_is_for_ever(q, ttl):
    job = q.enqueue(abs, -1, ttl=ttl)
    assert job.ttl is None
    assert not q.store.run("KEYS", q.store.key("*:ttl"))


def test_what_makes_no_sense_is_refused(q):
    with pytest.raises(errors.UsageError, match="ttl=0: a job would be given up before"):
        q.enqueue(abs, 1, ttl=0)
    with pytest.raises(errors.UsageError, match="ttl=-3"):
        q.map(abs, [1], ttl=-3)
    with pytest.raises(errors.WrongType, match="ttl="):
        q.enqueue_many([Queue.prepare_data(abs, (1,), ttl=[1])])
