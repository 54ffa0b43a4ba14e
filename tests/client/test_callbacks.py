"""What is called after a job: with what, where, for how long, and that it changes nothing of how the job ended."""

from __future__ import annotations

import asyncio
import datetime
import functools
import os
import signal
import threading
import time

import pytest
from conftest import wait_until

import nbqueue
from nbqueue import Callback, Queue, Repeat, Retry, errors


def note(path, *what):
    with path.open("a") as file:
        file.write(" ".join(map(str, what)) + "\n")


def fail(x=0):
    raise ValueError(f"no {x}")


def test_what_returned_and_what_failed_is_told_to_functions_of_the_notebook(q, worker, tmp_path):
    path = tmp_path / "notes"

    def published(job, connection, result):
        note(path, job.id, connection, result, job.attempt, job.meta)
        print("published", result)

    def lost(job, connection, type, value, traceback):
        note(path, job.id, connection, type.__name__, value, traceback.tb_frame.f_code.co_name)

    def work(x):
        print("work", x)
        return fail(x) if x == 2 else 10 * x

    batch = q.map(work, range(4), on_success=published, on_failure=lost, meta={"a": 1})
    assert batch.results(timeout=30, errors="skip") == [0, 10, 30]
    notes = path.read_text().splitlines()
    assert sorted(notes) == [
        f"{batch.id}:0 None 0 1 {{'a': 1}}", f"{batch.id}:1 None 10 1 {{'a': 1}}",
        f"{batch.id}:2 None ValueError no 2 work", f"{batch.id}:3 None 30 1 {{'a': 1}}",
    ]  # fmt: skip
    assert batch[3].output == "work 3\npublished 30\n"
    assert [job.callback_error for job in batch.jobs] == [None] * 4


def test_a_function_that_takes_less_gets_what_it_names_else_the_first_ones(q, worker):
    taken = {
        "result": lambda result: print(result),
        "result and job": lambda result, job: print(result, job.index),
        "first": lambda one: print(type(one).__name__),
        "none": lambda: print("none"),
        "all": lambda *all: print(len(all)),
        "default": lambda job, connection, result, more=7: print(result, more),
    }
    jobs = {name: q.enqueue(abs, -3, on_success=function) for name, function in taken.items()}
    said = {name: job.wait(30).output.strip() for name, job in jobs.items()}
    assert said == {
        "result": "3", "result and job": f"3 {jobs['result and job'].index}", "first": "CurrentJob", "none": "none",
        "all": "3", "default": "3 7",
    }  # fmt: skip


def test_it_is_called_as_it_stood_when_the_job_was_submitted(q, worker):
    word = "first"

    def said():
        print(word)

    one = q.enqueue(abs, 1, on_success=said)
    word = "second"
    two = q.enqueue(abs, 1, on_success=said)
    three = q.enqueue(abs, 1)
    assert [job.wait(30).output for job in (one, two, three)] == ["first\n", "second\n", ""]
    assert one.batch != two.batch


def test_single_calls_with_the_same_callback_share_a_batch(q):
    jobs = [q.enqueue(abs, n, on_success=(lambda: print("done")) if n % 2 else None) for n in range(20)]
    assert len({job.batch.id for job in jobs}) == 2


def test_a_coroutine_and_a_decorated_job(q, worker, namespace):
    async def said(result):
        await asyncio.sleep(0)
        print("async", result)

    def stamp(job, connection, result, tag):
        print(tag, result)

    assert q.enqueue(abs, -1, on_success=said).wait(30).output == "async 1\n"
    tagged = Callback(functools.partial(stamp, tag="tag"), timeout=datetime.timedelta(seconds=5))
    assert q.enqueue_call(abs, (-1,), on_success=tagged).wait(30).output == "tag 1\n"
    batch = q.enqueue_many([Queue.prepare_data(abs, (-n,), on_success=said) for n in range(2)]).wait(30)
    assert [job.output for job in batch.jobs] == ["async 0\n", "async 1\n"]

    @nbqueue.job(q, on_success=said)
    def add(x, y):
        return x + y

    assert add.delay(1, 2).wait(30).output == "async 3\n"


def test_a_callback_that_fails_changes_nothing_and_is_told(q, worker):
    batch = q.map(abs, [-1, -2], on_success=lambda result: fail(result))
    assert batch.results(timeout=30) == [1, 2]
    error = batch[1].callback_error
    assert error.startswith("on_success: Traceback")
    assert "ValueError: no 2" in error
    assert batch[1].output == error
    job = q.enqueue(fail, 1, on_failure=lambda value: fail(value), on_success=print).wait(30)
    assert "ValueError: no no 1" in job.callback_error
    assert str(job.exception()) == "no 1"
    leaves = q.enqueue(abs, -1, on_success=lambda: os._exit(3))
    assert leaves.result(timeout=30) == 1
    assert leaves.callback_error.startswith("on_success: its process ended itself with exit code 3")
    assert (leaves.attempt, leaves.batch.state.failed) == (1, 0)


def test_the_jobs_behind_it_are_not_touched_by_a_process_that_ends_in_a_callback(q, worker):
    def said(job):
        if job.index % 7 == 3:
            os._exit(3)

    batch = q.map(abs, range(30), on_success=said)
    assert batch.results(timeout=60) == list(range(30))
    assert {job.attempt for job in batch.jobs} == {1}
    assert [job.index for job in batch.jobs if job.callback_error] == [3, 10, 17, 24]


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_it_may_take_so_long_and_no_longer(q, worker, how):
    def hang():
        while how == "stopped":
            time.sleep(0.01)
        cannot_be_stopped()

    began = time.monotonic()
    job = q.enqueue(abs, -1, job_timeout=50, on_success=Callback(hang, timeout=0.5))
    assert job.result(timeout=30) == 1
    assert time.monotonic() - began < 15
    assert "longer than its time limit" in job.callback_error
    assert job.attempt == 1


def test_a_limit_of_the_job_is_none_of_its_callback(q, worker):
    def said(value):
        time.sleep(1.5)
        print(type(value).__name__)

    job = q.enqueue(time.sleep, 60, job_timeout=0.3, on_failure=said).wait(30)
    assert job.output == "JobTimeout\n"
    assert job.callback_error is None
    assert isinstance(job.exception(), errors.JobTimeout)
    assert q.enqueue(abs, -1, job_timeout=0.3, on_success=lambda: time.sleep(1)).wait(30).callback_error is None


def test_only_the_last_of_several_attempts_is_told(q, worker, tmp_path):
    path = tmp_path / "notes"

    def work():
        if nbqueue.get_current_job().attempt < 3:
            fail()
        return "done"

    told = {
        "on_failure": lambda value: note(path, "failed", value),
        "on_success": lambda result: note(path, "returned", result),
    }
    assert q.enqueue(work, retry=Retry(3), **told).result(timeout=30) == "done"
    assert q.enqueue(fail, retry=Retry(2), **told).wait(30).attempt == 3
    assert q.enqueue(abs, -1, repeat=Repeat(2), **told).wait(30).attempt == 3
    assert path.read_text() == "returned done\nfailed no 0\nreturned 1\n"


def test_a_result_that_cannot_be_sent_is_a_failure(q, worker):
    job = q.enqueue(lambda: (n for n in range(3)), on_success=lambda: print("yes"), on_failure=lambda type: print(type))
    assert job.wait(30).is_failed
    assert "CannotPickle" in job.output
    assert "yes" not in job.output


def test_what_is_canceled_while_it_runs_is_told(q, worker, tmp_path):
    go, path = tmp_path / "go", tmp_path / "notes"

    def work():
        go.touch()
        time.sleep(60)

    def stopped(job, connection):
        note(path, "stopped", job.index, connection)
        time.sleep(1)  # it is not stopped with the job
        note(path, "through")

    waits = q.map(abs, range(1), delay=1000, on_stopped=stopped)
    job = q.enqueue(work, on_stopped=stopped, on_failure=lambda: note(path, "failed"))
    wait_until(go.exists)
    assert job.cancel()
    assert waits.cancel() == 1
    assert job.wait(30).is_canceled
    assert path.read_text() == f"stopped {job.index} None\nthrough\n"


def test_what_makes_no_sense_is_refused_at_once(q):
    with pytest.raises(errors.WrongType, match=r"on_success=3.*not callable"):
        q.enqueue(abs, 1, on_success=3)
    with pytest.raises(TypeError, match="no class"):
        q.map(abs, [1], on_failure=dict)
    with pytest.raises(errors.UsageError, match="job, connection, result, or those"):
        q.enqueue(abs, 1, on_success=lambda a, b, c, d: None)
    with pytest.raises(errors.UsageError, match="seconds above 0"):
        Callback(print, timeout=0)
    with pytest.raises(errors.CannotPickle):
        q.enqueue(abs, 1, on_success=functools.partial(print, threading.Lock()))


def test_calls_that_are_made_here_call_back_here(capsys):
    here = Queue(is_async=False)
    here.enqueue(abs, -1, on_success=lambda job, result: print(job.args, result), on_failure=lambda: print("never"))
    job = here.enqueue(fail, 1, on_failure=lambda value: fail(value))
    assert capsys.readouterr().out == "(-1,) 1\n"
    assert "no no 1" in job.callback_error


def test_functions_of_callbacks_live_as_long_as_the_batch(q, worker):
    batch = q.map(fail, [1], on_failure=lambda: print("called")).wait(30)
    [(digest, _)] = batch.description.callbacks.values()
    assert q.store.run("TTL", q.store.key(f"code:{digest}")) > 1000
    assert batch.retry() == 1
    assert batch.wait(30)[0].output == "called\n"
    assert batch.retry(func=abs) == 1
    assert batch.results(timeout=30) == [1]


# Where the process of the job has died


def cannot_be_stopped(go=None):
    print("begun")
    if go is not None:
        go.touch()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    time.sleep(60)


def test_another_process_is_told_of_a_job_whose_process_had_to_be_killed_at_its_limit(q, worker, tmp_path):
    path = tmp_path / "notes"

    def lost(job, connection, type, value, traceback):
        print(type.__name__, traceback)
        note(path, job.id, job.attempt, value)

    job = q.enqueue(cannot_be_stopped, job_timeout=2, on_failure=lost)
    with pytest.raises(errors.JobTimeout, match="process was killed"):
        job.result(timeout=30)
    assert path.read_text().startswith(f"{job.id} 1 job {job.id}: it ran longer than its job_timeout of 2 seconds")
    assert job.output == "begun\nJobTimeout None\n"
    assert (job.attempt, job.callback_error) == (1, None)
    assert job.batch.state.failed == 1
    assert not q.store.run("KEYS", q.store.key("*:decided"))


def test_another_process_is_told_of_a_job_that_has_killed_its_process_for_the_last_time(q, worker):
    def die(x):
        print("dies")
        if x == 1:
            os._exit(3)
        return x

    batch = q.map(die, range(3), on_failure=lambda job, value: print(type(value).__name__, job.attempt))
    assert batch.results(timeout=60, errors="skip") == [0, 2]
    assert isinstance(batch[1].exception(), errors.JobKilled)
    assert "3 times that it was started" in str(batch[1].exception())
    assert batch[1].output == "dies\nJobKilled 3\n"
    assert [group.type for group in batch.failures()] == ["JobKilled"]
    assert batch.retry(func=abs) == 1
    assert batch.results(timeout=30) == [0, 1, 2]


def test_another_process_is_told_of_a_job_whose_process_had_to_be_killed_when_it_was_canceled(q, worker, tmp_path):
    go, path = tmp_path / "go", tmp_path / "notes"
    for cancels in ("job", "batch"):
        go.unlink(missing_ok=True)
        batch = q.map(cannot_be_stopped, [go], on_stopped=lambda job: note(path, "stopped", job.id))
        wait_until(go.exists)
        assert batch.cancel() if cancels == "batch" else batch[0].cancel()
        batch.wait(30)
        assert batch[0].is_canceled
        assert path.read_text() == f"stopped {batch.id}:0\n"
        path.unlink()
        assert batch.retry(func=abs) == 1
        with pytest.raises(TypeError, match="bad operand"):
            batch[0].result(timeout=30)


def test_a_callback_that_fails_there_changes_nothing_either(q, worker):
    for wrong in (lambda: fail(7), lambda: os._exit(4)):
        job = q.enqueue(cannot_be_stopped, job_timeout=2, on_failure=wrong)
        with pytest.raises(errors.JobTimeout):
            job.result(timeout=30)
        assert job.callback_error.startswith("on_failure: ")
        assert (job.attempt, job.batch.state.failed) == (1, job.index + 1)


def test_a_time_limit_that_is_tried_again_is_told_when_it_has_failed_for_good(q, worker, tmp_path):
    path = tmp_path / "notes"
    job = q.enqueue(cannot_be_stopped, job_timeout=2, retry=Retry(1), on_failure=lambda job: note(path, job.attempt))
    assert isinstance(job.wait(60).exception(), errors.JobTimeout)
    assert path.read_text() == "2\n"


def test_what_is_canceled_before_another_process_has_called_back_stays_canceled(q, workers):
    """And runs, if it is run again."""
    first = workers.start(children=1)
    job = q.enqueue(cannot_be_stopped, job_timeout=2, on_failure=lambda: print("called"))
    wait_until(lambda: job.is_started)
    q.pause()
    wait_until(lambda: job.is_queued)
    assert job.cancel()
    q.resume()
    assert job.wait(30).is_canceled
    assert job.retry(func=lambda: "again")
    assert job.result(timeout=30) == "again"
    assert first.poll() is None
