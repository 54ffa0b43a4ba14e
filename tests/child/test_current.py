"""A job that asks for itself, and says what it shall be known by."""

from __future__ import annotations

import os

import pytest
from conftest import wait_until

import nbqueue
from nbqueue import errors


def who() -> tuple[object, ...]:
    job = nbqueue.get_current_job()
    return job.id, job.get_id(), job.batch_id, job.index, job.attempt, job.origin, job.meta, job.timeout, repr(job)


def test_a_job_knows_itself(q, worker):
    assert nbqueue.get_current_job() is None
    batch = q.map(lambda _: who(), range(5), meta={"a": 1}, job_timeout=60)
    for index, found in enumerate(batch.results(timeout=30)):
        id = f"{batch.id}:{index}"
        assert found == (id, id, batch.id, index, 1, "default", {"a": 1}, 60.0, f"<CurrentJob {id}>")
    job = q.enqueue(who)
    assert job.result(timeout=30)[0] == job.id


def test_what_it_saves_is_seen_while_it_runs_and_afterwards(q, worker, tmp_path):
    def work(number, go):
        job = nbqueue.get_current_job()
        assert nbqueue.get_current_job() is job
        job.meta["number"] = number
        job.save_meta()
        while number and not go.exists():
            pass
        job.meta["not saved"] = 1
        return nbqueue.get_current_job().meta

    go = tmp_path / "go"
    batch = q.map(work, [0, 1], [go, go], meta={"of": "batch"})
    wait_until(lambda: batch[1].meta.get("number") == 1)
    assert batch[1].is_started
    go.touch()
    assert batch.results(timeout=30)[1] == {"of": "batch", "number": 1, "not saved": 1}
    assert [job.meta for job in batch.jobs] == [{"of": "batch", "number": 0}, {"of": "batch", "number": 1}]
    assert batch.meta == {"of": "batch"}
    batch[0].delete()
    assert batch[0].meta == {"of": "batch"}


def test_another_attempt_finds_what_was_saved(q, worker):
    def work():
        job = nbqueue.get_current_job()
        job.meta["times"] = job.meta.get("times", 0) + 1
        job.save_meta()
        if job.attempt < 3:
            raise ValueError("again")
        return job.attempt, job.meta

    job = q.enqueue(work, retry=5)
    assert job.result(timeout=30) == (3, {"times": 3})
    assert job.meta == {"times": 3}


def test_what_cannot_be_kept_is_refused_in_the_job(q, worker):
    def work(value):
        job = nbqueue.get_current_job()
        job.meta["value"] = value
        job.save_meta()

    for value, words in ((object(), "only what JSON can hold"), ("x" * 70_000, "up to 65,536 are kept")):
        with pytest.raises(errors.UsageError, match=words):
            q.enqueue(work, value).result(timeout=30)


def test_in_a_fork_there_is_none(q, worker):
    def work():
        if os.fork() == 0:
            os._exit(0 if nbqueue.get_current_job() is None else 1)
        return os.waitstatus_to_exitcode(os.wait()[1])

    assert q.enqueue(work).result(timeout=30) == 0
