"""`job_id=`: names that users make up for jobs."""

from __future__ import annotations

import threading

import pytest
from conftest import wait_until

from nbqueue import Dependency, Job, Queue, errors, send_stop_job_command


def run_until(directory):
    (directory / "begun").touch()
    while not (directory / "go").exists():
        pass


def test_a_job_is_found_by_the_name_that_it_was_given(q, workers):
    job = q.enqueue(abs, -3, job_id="report-2030.1_a")
    other = q.enqueue(abs, -4)
    for found in (q.fetch_job("report-2030.1_a"), Job.fetch("report-2030.1_a", q)):
        assert found == job
    assert q.fetch_job(job.id) == job
    assert Job.fetch_many(["report-2030.1_a", "none", other.id], q) == [job, None, other]
    assert (Job.exists("report-2030.1_a", q), Job.exists("none", q)) == (True, False)
    assert q.get_job_position("report-2030.1_a") == q.get_job_position(job)
    assert "report-2030.1_a" not in q.finished_job_registry
    workers.start("--burst").wait(30)
    assert "report-2030.1_a" in q.finished_job_registry
    assert q.fetch_job("report-2030.1_a").result() == 3
    with pytest.raises(errors.NotFound, match="or its job_id"):
        q.fetch_job("none")


def test_all_single_submits_take_names(q, namespace, workers):
    other = Queue(namespace=namespace, serializer="json")
    jobs = [
        q.enqueue_in(3600, abs, -1, job_id="later", label="x"),
        q.enqueue_call(abs, (-1,), job_id="call", meta={"a": 1}),
        q.options(job_id="options").enqueue(abs, -1),
        other.enqueue(abs, -1, job_id="json"),
    ]
    assert [q.fetch_job(name) for name in ("later", "call", "options", "json")] == jobs
    jobs[0].cancel()
    other.close()


def test_a_name_is_taken_until_its_job_has_ended(q, workers):
    first = q.enqueue(abs, -1, job_id="mine")
    with pytest.raises(
        errors.UsageError, match=f"'mine' is taken: job {first.id} of that name has not ended"
    ) as caught:
        q.enqueue(abs, -2, job_id="mine")
    assert caught.value.job_id == first.id
    workers.start("--burst").wait(30)
    with pytest.raises(
        errors.UsageError, match="has ended. With unique=True the name is free when that job was deleted"
    ):
        q.enqueue(abs, -2, job_id="mine", unique=True)
    second = q.enqueue(abs, -2, job_id="mine")
    assert q.fetch_job("mine") == second != first
    workers.start("--burst").wait(30)
    assert (first.return_value(), q.fetch_job("mine").return_value()) == (1, 2)
    second.delete()
    third = q.enqueue(abs, -3, job_id="mine", unique=True)
    third.cancel()
    third.batch.delete()
    with pytest.raises(errors.NotFound):
        q.fetch_job("mine")
    assert q.enqueue(abs, -4, job_id="mine", unique=True).cancel()


def test_of_many_who_take_it_at_once_one_gets_it(namespace):
    got, refused = [], []

    def submit(queue):
        try:
            got.append(queue.enqueue(abs, -1, job_id="one"))
        except errors.UsageError as error:
            refused.append(error)

    queues = [Queue(namespace=namespace, progress=False) for _ in range(8)]
    threads = [threading.Thread(target=submit, args=(queue,)) for queue in queues]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 7)
    assert queues[0].fetch_job("one") == got[0]
    assert queues[0].count == 1
    for queue in queues:
        queue.close()


def test_what_could_not_be_submitted_leaves_the_name_free(q):
    with pytest.raises(errors.CannotPickle):
        q.enqueue(abs, threading.Lock(), job_id="free", unique=True)
    assert q.enqueue(abs, -1, job_id="free", unique=True).cancel()


def test_a_job_that_runs_is_stopped_by_its_name(q, worker, tmp_path):
    job = q.enqueue(run_until, tmp_path, job_id="runs")
    wait_until((tmp_path / "begun").exists)
    send_stop_job_command(q, "runs")
    assert job.wait(30).is_canceled


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"job_id": "a b"}, "letters, digits"),
        ({"job_id": "a:b"}, "letters, digits"),
        ({"job_id": ""}, "letters, digits"),
        ({"job_id": "x" * 201}, "up to 200"),
        ({"job_id": 3}, "a text is accepted"),
        ({"unique": True}, "says job_id="),
        ({"job_id": "a", "unique": "yes"}, "True or False"),
    ],
)
def test_names_that_are_none_are_refused(q, options, words):
    with pytest.raises(errors.UsageError, match=words):
        q.enqueue(abs, -1, **options)


def test_a_batch_has_none(q):
    for submit in (
        lambda: q.map(abs, [1], job_id="x"),
        lambda: q.starmap(abs, [(1,)], job_id="x"),
        lambda: q.enqueue_many([(abs, (1,))], job_id="x"),
        lambda: q.enqueue_many([Queue.prepare_data(abs, (1,), job_id="x")]),
    ):
        with pytest.raises(errors.UsageError, match="names one job, of enqueue, and not a batch"):
            submit()


def test_a_name_does_not_outlive_what_it_names_for_ever(q):
    q.enqueue(abs, -1, job_id="short", result_ttl=60)
    q.enqueue(abs, -1, job_id="kept", result_ttl=-1)
    month, year = 30 * 86400, 365 * 86400
    assert month < q.store.run("TTL", q.store.key("named:short")) <= month + 60
    assert year < q.store.run("TTL", q.store.key("named:kept"))


def test_others_wait_for_a_job_by_its_name(q, workers):
    """Also by one that could be the id of a batch, of which there is none."""
    q.enqueue(abs, -3, job_id="load-2030")
    q.enqueue(abs, "no number", job_id="report")
    after = q.enqueue(str.upper, "x", depends_on=["load-2030"])
    anyway = q.enqueue(str.upper, "y", depends_on=Dependency(["load-2030", "report"], allow_failure=True))
    fails = q.enqueue(str.upper, "z", depends_on="report")
    workers.start("--burst").wait(30)
    assert (after.result(timeout=30), anyway.result(timeout=30)) == ("X", "Y")
    with pytest.raises(errors.DependencyFailed):
        fails.result(timeout=30)


def test_an_id_comes_before_a_name(q):
    first = q.enqueue(abs, -1)
    q.enqueue(abs, -2, job_id=first.batch.id)
    assert q.enqueue(abs, -3, depends_on=first.batch.id).waits_for == [first.batch.id]


@pytest.mark.parametrize("name", ["load-2030", "K3F9X2", "job"])
def test_a_name_that_no_job_has_is_no_dependency(q, name):
    with pytest.raises(errors.NotFound, match=f"depends_on='{name}': there is no job of this name"):
        q.enqueue(abs, -1, depends_on=name)
