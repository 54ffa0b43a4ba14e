"""Jobs that fail run again by themselves: how often, when, after which errors, and what is kept of each attempt."""

from __future__ import annotations

import datetime
import os
import pickle
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import wait_until
from hypothesis import given
from hypothesis import strategies as st

import nbqueue
from nbqueue import Repeat, Retry, RetryLater, errors
from nbqueue.store.description import Description, RetryDescription


class Busy(Exception):
    pass


class VeryBusy(Busy):
    pass


def fail_until(path: Path, times: int, error: type[Exception] = ValueError):
    with path.open("a") as file:
        file.write("x")
    count = len(path.read_text())
    print("attempt", count)
    if count <= times:
        raise error(f"attempt {count}")
    return count


def test_a_job_runs_again_until_it_returns(q, worker, tmp_path):
    job = q.enqueue(fail_until, tmp_path / "marks", 2, retry=3)
    assert job.result(timeout=30) == 3
    assert job.is_finished
    assert [attempt.number for attempt in job.attempts] == [1, 2, 3]
    assert [str(attempt.exception()) for attempt in job.attempts] == ["attempt 1", "attempt 2", "None"]
    assert "ValueError: attempt 2" in job.attempts[1].exc_info
    assert job.attempts[2].exc_info is None
    assert {attempt.worker_name for attempt in job.attempts} == {job.worker_name}
    assert job.attempts[0].started_at <= job.attempts[1].started_at <= job.attempts[2].started_at == job.started_at
    assert job.attempt == 3
    assert job.output == "attempt 3\n"
    assert job.batch.counts == {**job.batch.counts, "finished": 1, "failed": 0, "total": 1}


def test_it_fails_when_it_has_been_tried_often_enough(q, worker, tmp_path):
    job = q.enqueue(fail_until, tmp_path / "marks", 9, retry=Retry(2))
    with pytest.raises(ValueError, match="attempt 3"):
        job.result(timeout=30)
    assert [str(attempt.exception()) for attempt in job.attempts] == ["attempt 1", "attempt 2", "attempt 3"]
    assert (tmp_path / "marks").read_text() == "xxx"
    assert job.retry()
    with pytest.raises(ValueError, match="attempt 4"):
        job.result(timeout=30)
    assert len(job.attempts) == 4


def test_of_a_batch_only_what_failed_runs_again_and_its_neighbours_do_not_wait_for_it(q, worker, tmp_path):
    def work(number):
        if number % 10 == 3:
            return number, fail_until(tmp_path / str(number), 1)
        return number, 0

    batch = q.map(work, range(40), retry=Retry(1, interval=1000))
    wait_until(lambda: batch.counts["finished"] == 36)
    wait_until(lambda: batch.counts.get("scheduled") == 4)
    assert batch[13].get_status() == "scheduled"
    assert 900 < (batch[13].due_at - datetime.datetime.now(datetime.UTC)).total_seconds() <= 1000
    assert batch[14].due_at is None
    assert not batch.done
    assert batch.failures() == []
    ended = {job.index for _, job in zip(range(36), batch.as_completed(), strict=False)}
    assert ended == {number for number in range(40) if number % 10 != 3}
    make_due(q, batch)
    assert batch.results(timeout=30) == [(n, 2 if n % 10 == 3 else 0) for n in range(40)]
    assert len(batch[13].attempts) == 2


def make_due(q, batch) -> None:
    """Time passes."""
    for key in (q.store.key(f"batch:{batch.id}:scheduled"), q.store.key(f"queue:default:{q.environment}:scheduled")):
        for member in q.store.run("ZRANGE", key, 0, -1):
            q.store.run("ZADD", key, "XX", 1000, member)


def test_only_after_errors_of_these_types(q, worker, tmp_path):
    retry = Retry(3, on=(Busy, ConnectionError))
    for error, times in ((VeryBusy, 2), (ConnectionResetError, 2)):
        job = q.enqueue(fail_until, tmp_path / error.__name__, 1, error, retry=retry)
        assert job.result(timeout=30) == times
    job = q.enqueue(fail_until, tmp_path / "other", 1, KeyError, retry=retry)
    with pytest.raises(KeyError):
        job.result(timeout=30)
    assert len(job.attempts) == 1


def test_a_job_says_itself_that_it_shall_run_later(q, worker, tmp_path):
    def fetch(path):
        with path.open("a") as file:
            file.write("x")
        if len(path.read_text()) < 3:
            raise RetryLater(0, "too many requests")
        return len(path.read_text())

    job = q.enqueue(fetch, tmp_path / "marks")
    assert job.result(timeout=30) == 3
    assert "RetryLater: to run again in 0 seconds: too many requests" in job.attempts[0].exc_info
    job = q.enqueue(fetch, tmp_path / "others", retry=1)
    with pytest.raises(RetryLater):
        job.result(timeout=30)
    assert pickle.loads(pickle.dumps(RetryLater(3, "x"))).delay == 3


def test_a_time_limit_counts_as_a_failure_also_where_the_process_has_to_be_killed(q, worker, tmp_path):
    def hang(path, how):
        if path.exists():
            return "second"
        path.touch()
        if how == "in python":
            time.sleep(60)
        import ctypes

        ctypes.PyDLL(None).sleep(60)  # holds the GIL
        return None

    for how in ("in python", "in C"):
        job = q.enqueue(hang, tmp_path / how, how, job_timeout=0.5, retry=1)
        assert job.result(timeout=30) == "second"
        assert isinstance(job.attempts[0].exception(), errors.JobTimeout)


def test_a_death_counts_as_an_attempt_and_has_its_own_limit(q, worker, tmp_path):
    def die_once(path):
        if not path.exists():
            path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return fail_until(path.with_suffix(".marks"), 1)

    job = q.enqueue(die_once, tmp_path / "died", retry=2)
    assert job.result(timeout=30) == 2
    assert [attempt.number for attempt in job.attempts] == [2, 3]


def test_what_waits_for_its_retry_can_be_canceled_and_deleted(q, worker, tmp_path):
    job = q.enqueue(fail_until, tmp_path / "one", 9, retry=Retry(5, interval=1000))
    wait_until(lambda: job.get_status() == "scheduled")
    assert job.cancel()
    assert job.is_canceled
    batch = q.map(fail_until, [tmp_path / "two", tmp_path / "three"], [9, 9], retry=Retry(5, interval=1000))
    wait_until(lambda: batch.counts.get("scheduled") == 2)
    batch.cancel()
    assert batch.wait(20).counts["canceled"] == 2
    batch.delete()


def test_a_batch_that_is_canceled_does_not_run_again(q, worker, tmp_path):
    def hold(path):
        path.touch()
        while True:
            try:
                while True:
                    time.sleep(0.01)
            finally:
                raise ValueError("it was stopped")

    batch = q.map(hold, [tmp_path / "begun"], retry=5)
    wait_until((tmp_path / "begun").exists)
    batch.cancel()
    assert batch.wait(20).counts["canceled"] + batch.counts["failed"] == 1


def test_a_deleted_job_leaves_nothing_of_its_attempts(q, worker, tmp_path):
    batch = q.map(fail_until, [tmp_path / "one", tmp_path / "two"], [25, 1], retry=30)
    batch.wait(60)
    key = q.store.key(f"batch:{batch.id}:tries")
    assert q.store.run("HLEN", key) == 21
    batch[0].delete()
    assert q.store.run("HKEYS", key) == [b"1:1"]


def test_of_many_attempts_the_last_ones_are_kept(q, worker, tmp_path):
    job = q.enqueue(fail_until, tmp_path / "marks", 30, retry=40)
    assert job.result(timeout=60) == 31
    assert [attempt.number for attempt in job.attempts] == list(range(11, 32))


@pytest.mark.parametrize(
    "arguments",
    [
        {"max": 0}, {"max": 1.5}, {"max": True}, {"max": 1, "interval": -1}, {"max": 1, "interval": []},
        {"max": 1, "interval": "1s"}, {"max": 1, "backoff": 0.5}, {"max": 1, "max_delay": -1}, {"max": 1, "on": [int]},
        {"max": 1, "interval": float("nan")},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(arguments):
    with pytest.raises(errors.UsageError, match="Retry"):
        Retry(**arguments)


def test_options_that_make_no_sense_are_refused(q):
    for given_ in ("3", 2.5, True, -1):
        with pytest.raises(errors.UsageError):
            q.enqueue(abs, -1, retry=given_)
    for delay in (-1, "3x", float("nan")):
        with pytest.raises(errors.UsageError):
            RetryLater(delay)
    assert nbqueue.Retry is Retry


@given(
    attempt=st.integers(1, 1000),
    interval=st.lists(st.floats(0, 1e6), min_size=1, max_size=4),
    backoff=st.floats(1, 10),
    most=st.none() | st.floats(0, 1e4),
    chance=st.floats(0, 1),
)
def test_delays_are_never_longer_than_is_said_nor_shorter_than_half(attempt, interval, backoff, most, chance):
    described = Retry(3, interval, backoff=backoff, max_delay=most).describe()
    assert Description.from_json(Description(retry=described).to_json()).retry == described
    seconds = described.seconds_after(attempt, chance)
    longest = described.seconds_after(attempt)
    assert longest / 2 <= seconds <= longest
    assert most is None or longest <= most
    if backoff == 1:
        assert seconds == min(interval[min(attempt, len(interval)) - 1], float("inf") if most is None else most)


def test_exponential_backoff():
    described = Retry(5, backoff=2, max_delay=10).describe()
    assert [described.seconds_after(attempt) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]
    assert RetryDescription(on=("builtins:OSError",)).is_for(ConnectionError)
    assert not RetryDescription().is_for(SystemExit)


# What has returned, and runs again


def test_a_job_repeats_itself_and_all_its_results_are_kept(q, worker, tmp_path):
    def work(path):
        with path.open("a") as file:
            file.write("x")
        return len(path.read_text())

    job = q.enqueue(work, tmp_path / "marks", repeat=Repeat(3, interval=[0, 0.01]))
    assert job.result(timeout=30) == 4
    assert [attempt.return_value() for attempt in job.attempts] == [1, 2, 3, 4]
    assert {attempt.exception() for attempt in job.attempts} == {None}
    batch = q.map(lambda x: -x, range(30), repeat=2)
    assert batch.results(timeout=30) == [-x for x in range(30)]
    assert [len(job.attempts) for job in batch.jobs] == [3] * 30


def test_it_waits_for_its_time_and_can_be_stopped(q, worker):
    job = q.enqueue(abs, -1, repeat=Repeat(3, interval=1000))
    wait_until(lambda: job.get_status() == "scheduled")
    assert [attempt.return_value() for attempt in job.attempts] == [1]
    assert job.cancel()
    assert job.is_canceled


def test_a_job_that_repeats_itself_fails_at_its_first_error(q, worker, tmp_path):
    def work(path):
        if path.exists():
            raise ValueError("second")
        path.touch()
        return threading.Lock() if path.name == "lock" else "first"

    job = q.enqueue(work, tmp_path / "marks", repeat=5)
    with pytest.raises(ValueError, match="second"):
        job.result(timeout=30)
    assert job.attempts[0].return_value() == "first"
    with pytest.raises(ValueError, match="second"):
        job.attempts[1].return_value()
    with pytest.raises(errors.CannotPickle):
        q.enqueue(work, tmp_path / "lock", repeat=5).result(timeout=30)


@pytest.mark.parametrize("arguments", [{"times": 0}, {"times": 1.5}, {"times": 1, "interval": -1}])
def test_a_repetition_that_makes_no_sense_is_refused(q, arguments):
    with pytest.raises(errors.UsageError, match="Repeat"):
        Repeat(**arguments)
    with pytest.raises(TypeError, match="repeat='3'"):
        q.enqueue(abs, -1, repeat="3")


def test_a_function_is_called_when_a_batch_is_done(q, worker, tmp_path):
    go, told = tmp_path / "go", []

    def hold(x):
        while not go.exists():
            pass
        return x

    batch = q.map(hold, [1])
    batch.on_done(told.append)
    assert not told
    go.touch()
    wait_until(lambda: told)
    assert told == [batch]
    batch.on_done(told.append)
    wait_until(lambda: len(told) == 2)
    other = q.map(hold, [1], delay=1000)
    other.on_done(told.append)
    other.delete()
    wait_until(lambda: not any(thread.name == "nbqueue-on-done" for thread in threading.enumerate()))
    assert len(told) == 2
