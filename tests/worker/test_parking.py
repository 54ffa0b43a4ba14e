"""Workers that have nothing to do are handed single jobs by the script that appends them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import wait_until

from nbqueue import Queue
from nbqueue.store import keys
from nbqueue.store.requests import looking


def hold(go: Path) -> int:
    while not go.exists():
        time.sleep(0.005)
    return os.getppid()


@pytest.fixture
def gone(tmp_path: Path) -> Path:
    """A file that is there: who waits for it goes on at once."""
    (tmp_path / "gone").touch()
    return tmp_path / "gone"


def parked(q: Queue, name: str = "default") -> int:
    """How many workers say that they have nothing to do."""
    return int(q.store.run("ZCARD", q.store.key(f"queue:{name}:{q.environment}:parked")))


def numbers(q: Queue) -> tuple[int, int]:
    """The lease for which a worker is or was parked, and the last one that it has been given."""
    (worker,) = q.store.call(looking.workers())
    found = q.store.run("HMGET", q.store.key(keys.worker(worker.id)), "parked", "claimed")
    return int(found[0] or 0), int(found[1] or 0)


def test_a_job_is_handed_to_a_worker_that_has_nothing_to_do(q, workers, tmp_path, gone):
    workers.start(children=1)
    q.enqueue(hold, gone).result(timeout=30)  # the first call of a function is submitted with it, and claimed
    wait_until(lambda: parked(q))
    job = q.enqueue(hold, tmp_path / "go")
    wait_until(lambda: job.is_started)
    at, claimed = numbers(q)
    assert at == claimed, "it had that lease before it asked for anything"
    assert not parked(q)
    other = q.enqueue(hold, gone)
    assert other.is_queued
    (tmp_path / "go").touch()
    assert job.result(timeout=30) == other.result(timeout=30)
    assert (job.attempt, other.attempt) == (1, 1)


def test_what_is_paused_is_handed_to_nobody(q, workers, gone):
    workers.start(children=1)
    q.enqueue(hold, gone).result(timeout=30)
    wait_until(lambda: parked(q))
    q.pause()
    job = q.enqueue(hold, gone)
    assert job.is_queued
    q.resume()
    job.result(timeout=30)
    wait_until(lambda: parked(q))
    job.batch.pause()
    other = q.enqueue(hold, gone)
    assert other.batch == job.batch
    assert other.is_queued
    job.batch.resume()
    other.result(timeout=30)


def test_a_worker_that_shall_leave_is_handed_nothing_while_it_finishes(q, workers, tmp_path, gone):
    process = workers.start(children=2)
    q.enqueue(hold, gone).result(timeout=30)
    wait_until(lambda: parked(q))
    job = q.enqueue(hold, tmp_path / "go")
    wait_until(lambda: job.is_started and numbers(q)[0] > numbers(q)[1])  # parked again, for its other child
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: numbers(q)[0] == 0)
    other = q.enqueue(hold, gone)
    assert other.is_queued
    workers.start(children=1)
    assert other.result(timeout=30) != process.pid
    (tmp_path / "go").touch()
    assert job.result(timeout=30) == process.pid
    assert process.wait(30) == 0


def test_a_worker_of_two_queues_is_handed_one_job_at_a_time(q, workers, tmp_path, gone):
    second = Queue("second", namespace=q.namespace, progress=False)
    workers.start("default", "second", children=1)
    for queue in (q, second):
        queue.enqueue(hold, gone).result(timeout=30)
    wait_until(lambda: parked(q) and parked(second, "second"))
    job = second.enqueue(hold, tmp_path / "go")
    wait_until(lambda: job.is_started)
    other = q.enqueue(hold, gone)
    assert other.is_queued
    (tmp_path / "go").touch()
    assert job.result(timeout=30) == other.result(timeout=30)


def test_a_job_for_a_worker_that_is_killed_just_then_runs_elsewhere(q, workers, gone):
    killed, other = workers.start(children=1), workers.start(children=1)
    q.enqueue(hold, gone).result(timeout=30)
    wait_until(lambda: parked(q) == 2)
    killed.kill()
    killed.wait()
    jobs = [q.enqueue(hold, gone) for _ in range(4)]
    assert {job.result(timeout=30) for job in jobs} == {other.pid}
    assert {job.attempt for job in jobs} == {1}, "none of them had begun"
