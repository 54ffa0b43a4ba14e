"""What RQ's users look for on queues and jobs."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from nbqueue import CellJob, Job, Queue, Result, errors
from nbqueue.cells.run import pack_cell
from nbqueue.store.description import CellDescription


def boom():
    raise ValueError("no")


# Jobs


def test_a_job_tells_its_id_its_limit_and_when_it_was_made(q):
    job = q.enqueue(abs, -1, job_timeout="2m")
    assert (job.get_id(), job.timeout, job.created_at) == (job.id, 120.0, job.enqueued_at)
    assert timedelta(0) <= datetime.now(UTC) - job.created_at < timedelta(minutes=1)
    assert q.enqueue(abs, -1).timeout is None
    assert not job.is_deferred
    assert not job.is_scheduled


def test_jobs_are_found_by_their_ids_from_a_queue_or_a_url(q, worker):
    job = q.enqueue(abs, -1)
    for connection in (q, q.store.url):
        if connection is not q:
            connection = Queue(connection=connection, key=q.session.backend.key, namespace=q.namespace, progress=False)
        found = Job.fetch(job.id, connection=connection)
        assert found == job
        assert found.result(timeout=20) == 1
        assert found.batch.results(timeout=20) == [1]
        assert Job.exists(job.id, connection=connection)
        if connection is not q:
            connection.close()


def test_what_is_not_there_is_none_among_many_and_an_error_alone(q, worker):
    first, second = q.enqueue(abs, -1), q.map(abs, [1, 2])
    wanted = [second[1].id, "k3f9x2:0", first.id, f"{second.id}:7", "nonsense"]
    assert Job.fetch_many(wanted, connection=q) == [second[1], None, first, None, None]
    for id in ("k3f9x2:0", f"{second.id}:7", "nonsense"):
        assert not Job.exists(id, connection=q)
        with pytest.raises(errors.NotFound):
            Job.fetch(id, connection=q)
    first.wait(20).delete()
    assert Job.fetch_many([first.id], connection=q) == [None]
    with pytest.raises(errors.NotFound, match=f"job {first.id} was deleted"):
        Job.fetch(first.id, connection=q)
    with pytest.raises(TypeError, match="the id of a job is a text"):
        Job.fetch(3, connection=q)


def test_without_a_connection_the_embedded_server_is_asked(worker):
    assert not Job.exists("k3f9x2:0")
    assert Job.fetch_many(["k3f9x2:0"]) == [None]


def test_the_latest_result_is_all_of_it_in_one_piece(q, workers):
    good, bad, stopped = q.enqueue(abs, -3), q.enqueue(boom), q.enqueue(abs, 1)
    assert good.latest_result() is None
    assert good.latest_result(timeout=0.01) is None
    stopped.cancel()
    workers.start()
    result = good.latest_result(timeout=20)
    assert result == Result(good.id, Result.Type.SUCCESSFUL, 3, None, good.ended_at)
    failed = bad.latest_result(timeout=20)
    assert (failed.type, failed.return_value, failed.created_at) == (Result.Type.FAILED, None, bad.ended_at)
    assert failed.exc_string == bad.exc_info
    assert "ValueError: no" in failed.exc_string
    assert stopped.latest_result(timeout=20) is None


def test_a_job_whose_process_died_tells_when(q, worker):
    job = q.enqueue(os._exit, 3)
    result = job.latest_result(timeout=40)
    assert result.type is Result.Type.FAILED
    assert "JobKilled" in result.exc_string
    assert timedelta(0) <= datetime.now(UTC) - result.created_at < timedelta(minutes=1)
    assert job.ended_at == result.created_at


def test_refresh_reads_anew(q, worker):
    job = q.enqueue(abs, -3)
    assert job.result(timeout=20) == 3
    job.refresh()
    assert job.return_value() == 3
    job.batch.delete()
    assert job.return_value() == 3  # it was read
    with pytest.raises(errors.NotFound):
        job.refresh()


# The list of what waits


def test_what_runs_alone_on_a_worker_waits_behind_its_batch(q):
    batch, other = q.map(abs, range(3)), q.map(abs, range(2))
    key, environment = q.store.key(f"batch:{batch.id}:queued"), q.environment
    suspects = q.store.key(f"queue:default:{environment}:suspects")
    q.store.run("DEL", key)
    q.store.run("RPUSH", key, "s1-3")
    q.store.run("RPUSH", suspects, f"{other.id} 7", f"{batch.id} 0")
    assert q.store.waiting(batch.id) == [(1, 3), (0, 1)]
    assert batch[0].get_position() - batch[1].get_position() == 2
    assert batch[0].id in q.job_ids
    q.store.run("DEL", suspects)


def test_what_waits_is_listed_in_parts_as_redis_does(q):
    first, second = q.map(abs, range(3)), q.map(abs, range(2))
    every = [job.id for job in q.jobs]
    assert sorted(every) == sorted(job.id for job in [*first.jobs, *second.jobs])
    assert every in (
        [job.id for job in [*first.jobs, *second.jobs]],
        [job.id for job in [*second.jobs, *first.jobs]],
    )
    for offset, length in [(0, -1), (1, 3), (2, 0), (0, -2), (4, 9), (9, 1), (-2, -1), (-4, 2), (0, -7)]:
        start = max(0, 5 + offset) if offset < 0 else offset
        stop = start + length if length >= 0 else 5 + length + 1
        assert q.get_job_ids(offset, length) == every[start : max(0, stop)], (offset, length)
        assert [job.id for job in q.get_jobs(offset, length)] == q.get_job_ids(offset, length)
    assert [q.get_job_position(id) for id in every] == [0, 1, 2, 3, 4]
    assert first[1].get_position() == every.index(first[1].id)
    assert q.get_job_position("k3f9x2:0") is None
    assert q.get_job_position("nonsense") is None
    first[1].cancel()
    assert first[1].get_position() is None
    assert Queue("other", namespace=q.namespace).get_job_position(first[0]) is None


def test_what_goes_to_the_front_is_first(q):
    q.map(abs, range(3))
    job = q.enqueue(abs, 1, at_front=True)
    assert job.get_position() == 0
    assert q.get_job_ids(0, 1) == [job.id]


def test_a_paused_batch_is_behind_those_that_can_be_taken_from(q):
    first, second = q.map(abs, range(2)), q.map(abs, range(2))
    first.pause()
    assert q.job_ids == [job.id for job in [*second.jobs, *first.jobs]]


def test_a_cell_is_listed_as_one(q):
    q.enqueue_cell("1", pack_cell({}, {}), CellDescription(), label="cell")
    assert [type(job) for job in q.get_jobs()] == [CellJob]


def test_a_job_that_waits_is_taken_out_of_the_queue(q, worker):
    q.pause()
    batch = q.map(abs, range(3))
    assert q.remove(batch[1]) == 1
    assert q.remove(batch[1].id) == 0
    assert batch[1].is_canceled
    other = Queue("other", namespace=q.namespace)
    assert other.remove(batch[0]) == 0
    assert batch[0].is_queued
    q.resume()
    assert batch.results(timeout=20, errors="skip") == [0, 2]
    assert q.remove(batch[0]) == 0


def test_deleting_a_queue_cancels_what_waits_and_keeps_what_has_ended(q, worker):
    done = q.map(abs, [-1]).wait(20)
    q.pause()
    waiting = q.map(abs, range(3))
    assert q.delete() == 3
    assert q.is_empty()
    assert done.results() == [1]
    with pytest.raises(errors.NotFound):
        waiting.counts  # noqa: B018
    kept = q.map(abs, range(2))
    assert q.delete(delete_jobs=False) == 2
    assert kept.counts["canceled"] == 2
    q.resume()


# Submitting


def test_a_call_can_be_given_apart_from_its_options(q, worker):
    def echo(*args, timeout=None, **kwargs):
        return args, timeout, kwargs

    job = q.enqueue_call(
        echo, args=[1, 2], kwargs={"timeout": 3, "meta": 4}, timeout=60, result_ttl="1d", meta={"a": 1}
    )
    assert job.result(timeout=20) == ((1, 2), 3, {"meta": 4})
    assert (job.timeout, job.meta) == (60.0, {"a": 1})
    assert q.enqueue_call(abs, (-1,)).result(timeout=20) == 1
    assert q.enqueue_call(echo).result(timeout=20) == ((), None, {})
    with pytest.raises(TypeError, match="args='ab'"):
        q.enqueue_call(echo, "ab")
    with pytest.raises(TypeError, match="kwargs=3"):
        q.enqueue_call(echo, kwargs=3)


def test_calls_are_prepared_under_rqs_name(q, worker):
    calls = [Queue.prepare_data(pow, (2, 10)), q.prepare_data(sorted, args=["ba"], kwargs={"reverse": True})]
    batch = q.enqueue_many(calls, job_timeout=60)
    assert batch.results(timeout=20) == [1024, ["b", "a"]]


def test_prepared_calls_of_a_batch_have_the_same_options(q, worker):
    calls = [Queue.prepare_data(pow, (n, 2), timeout=60, meta={"a": 1}) for n in range(3)]
    for given in (calls, tuple(calls), iter(calls)):
        batch = q.enqueue_many(given)
        assert batch.results(timeout=20) == [0, 1, 4]
        assert (batch[0].timeout, batch.meta) == (60.0, {"a": 1})
    assert q.enqueue_many(calls, job_timeout=5)[0].timeout == 5
    assert q.enqueue_many(iter([])).done
    other = Queue.prepare_data(abs, (-1,), timeout=61, meta={"a": 1})
    words = r"call 3 has other options than call 0 \(job_timeout\)"
    with pytest.raises(errors.UsageError, match=words):
        q.enqueue_many([*calls, other])
    with pytest.raises(errors.SubmitError, match=words):
        q.enqueue_many(iter([*calls, other]))
    with pytest.raises(errors.UsageError, match=r"call 1 has other options than call 0 \(job_timeout, meta\)"):
        q.enqueue_many([(abs, (-1,)), other])
    with pytest.raises(errors.UsageError, match="Did you mean 'job_timeout'"):
        q.enqueue_many([Queue.prepare_data(abs, (1,), job_timout=3)])


def test_jobs_have_the_default_limit_of_their_queue_unless_they_are_given_one(namespace):
    q = Queue(namespace=namespace, default_timeout="1m", progress=False)
    assert q.enqueue(abs, 1).timeout == 60
    assert q.map(abs, [1])[0].timeout == 60
    assert q.options(label="x").enqueue(abs, 1).timeout == 60
    assert q.enqueue(abs, 1, job_timeout=5).timeout == 5
    assert q.enqueue_call(abs, (1,)).timeout == 60
    assert q.enqueue(abs, 1, job_timeout=None).timeout is None
    assert q.enqueue(abs, 1, job_timeout=-1).timeout is None  # RQ's word for no limit
    with pytest.raises(errors.UsageError, match="default_timeout=0"):
        Queue(default_timeout=0)
    q.close()


def test_constant_keyword_arguments_go_to_each_call(q, worker):
    assert q.map(pow, [2, 3], kwargs={"exp": 2}).results(timeout=20) == [4, 9]
    assert q.starmap(pow, [(2,), (3,)], kwargs={"exp": 3}).results(timeout=20) == [8, 27]
    assert q.options(label="x").map(pow, [2], kwargs={"exp": 2}).results(timeout=20) == [4]
    seen = []

    def note(x, *, into):
        into.append(x)
        return list(into)

    batch = q.map(note, [1, 2, 3], kwargs={"into": seen})
    assert batch.results(timeout=20) == [[1], [2], [3]]  # each call finds what was submitted
    assert (batch[0].func_name, batch.label) == (note.__qualname__.replace("<locals>.", ""),) * 2
    assert q.map(abs, [-1], kwargs={}).results(timeout=20) == [1]
    with pytest.raises(TypeError, match="kwargs=3: a dict of keyword arguments"):
        q.map(abs, [1], kwargs=3)
