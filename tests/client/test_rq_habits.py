"""What RQ's users type: it does what it does there, or says in words what does it here."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from conftest import wait_until

import nbqueue
from nbqueue import Job, Queue, errors


def add(x, y=0):
    return x + y


def run_until(directory):
    (directory / "begun").touch()
    while not (directory / "go").exists():
        pass


def meta_inside(directory=None):
    job = nbqueue.get_current_job()
    job.meta["seen"] = True
    if directory is not None:
        job.save_meta()
        run_until(directory)
    return job.meta


def test_meta_is_changed_from_outside_and_found_by_the_job(q, workers):
    job = q.enqueue(meta_inside, meta={"a": 1})
    batch = q.map(lambda _: nbqueue.get_current_job().meta, range(4))
    job.meta["b"] = [2]
    assert job.meta == {"a": 1, "b": [2]}
    assert q.fetch_job(job.id).meta == {"a": 1}
    job.save_meta()
    assert q.fetch_job(job.id).meta == job.meta == {"a": 1, "b": [2]}
    third = batch[2]
    third.meta["mine"] = True
    third.save_meta()
    workers.start("--burst").wait(30)
    assert job.result() == {"a": 1, "b": [2], "seen": True}
    assert batch.results() == [{}, {}, {"mine": True}, {}]
    assert job.meta == {"a": 1, "b": [2]}
    job.meta["after"] = "the end"
    job.save_meta()
    assert Job.fetch(job.id, q).meta["after"] == "the end"


def test_meta_that_is_not_saved_is_forgotten_by_refresh(q):
    job = q.enqueue(add, 1, meta={"a": 1})
    job.meta["b"] = 2
    job.refresh()
    assert job.meta == {"a": 1}


def test_meta_that_a_job_saves_meanwhile_is_read(q, worker, tmp_path):
    job = q.enqueue(meta_inside, tmp_path, meta={"a": 1})
    assert job.meta["a"] == 1
    wait_until((tmp_path / "begun").exists)
    wait_until(lambda: job.meta == {"a": 1, "seen": True})
    (tmp_path / "go").touch()
    assert job.result(timeout=30) == {"a": 1, "seen": True}


def test_meta_that_cannot_be_kept_is_refused(q):
    job = q.enqueue(add, 1)
    job.meta["large"] = "x" * 70_000
    with pytest.raises(errors.UsageError, match="up to 65,536 are kept"):
        job.save_meta()
    job.refresh()
    job.meta["odd"] = {1, 2}
    with pytest.raises(errors.UsageError, match="only what JSON can hold"):
        job.save_meta()
    job.refresh()
    job.delete()
    job.meta["late"] = 1
    with pytest.raises(errors.NotFound, match=f"job {job.id} was deleted"):
        job.save_meta()
    job.batch.delete()
    with pytest.raises(errors.NotFound):
        job.save_meta()


def test_a_job_that_runs_tells_when_it_began(q, worker, tmp_path):
    before = datetime.now(UTC)
    job = q.enqueue(run_until, tmp_path)
    wait_until((tmp_path / "begun").exists)
    started = wait_until(lambda: job.started_at)
    assert before <= started <= datetime.now(UTC)
    (tmp_path / "go").touch()
    job.result(timeout=30)
    assert abs((job.started_at - started).total_seconds()) < 1
    assert q.enqueue_in(60, add, 1).started_at is None


def test_a_job_is_described_by_its_function_unless_it_is_given_words(q):
    job = q.enqueue(add, 1)
    assert (job.description, q.enqueue(add, 1, description="one more").description) == ("add", "one more")
    assert job.get_status(refresh=True) == job.get_status(refresh=False) == "queued"


def test_a_job_reaches_its_queue_and_batch(q, worker):
    def look():
        job = nbqueue.get_current_job()
        print("said")
        found = job.queue.fetch_job(job.id)
        return job.queue.name, job.batch.id, job.output, found.get_status()

    job = q.enqueue(look)
    name, batch, output, status = job.result(timeout=30)
    assert (name, batch, status) == ("default", job.batch.id, "started")
    assert output in ("", "said\n")


def test_the_client_of_a_queue_on_the_embedded_server_means_that_server(q, worker):
    job = q.enqueue(add, 1, y=2)
    other = Queue(connection=q.connection, namespace=q.namespace, progress=False)
    assert job.result(timeout=30) == 3
    assert Job.fetch(job.id, connection=other).return_value() == 3
    assert other.environment == q.environment
    assert other.enqueue(add, 2, 3).result(timeout=30) == 5
    other.close()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"job_timeuot": 3}, r"add\(\) has no parameter 'job_timeuot'.*Did you mean 'job_timeout'"),
        ({"timeout": 3}, "Did you mean 'job_timeout'"),
        ({"pipeline": None}, "enqueue_many and map submit many calls at once"),
        ({"z": 1}, "has no parameter 'z'"),
    ],
)
def test_a_keyword_that_the_function_cannot_take_is_refused_at_once(q, kwargs, words):
    for submit in (
        lambda: q.enqueue(add, 1, **kwargs),
        lambda: q.enqueue_in(60, add, 1, **kwargs),
        lambda: q.enqueue(add, args=(1,), kwargs=kwargs),
    ):
        with pytest.raises(TypeError, match=words):
            submit()
    assert q.batches() == []


class Account:
    def pay(self, amount, /, *, into):
        return amount, into


def test_keywords_that_a_function_can_take_are_its_own(q, workers):
    jobs = [
        q.enqueue(add, x=1, y=2),
        q.enqueue(dict, timeout=1, z=True),
        q.enqueue(lambda **named: named, timeout=3),
        q.enqueue(Account().pay, 3, into="x"),
    ]
    with pytest.raises(errors.WrongType, match="no parameter 'amount'"):
        q.enqueue(Account().pay, amount=3, into="x")
    workers.start("--burst").wait(30)
    assert [job.return_value() for job in jobs] == [3, {"timeout": 1, "z": True}, {"timeout": 3}, (3, "x")]


@pytest.mark.parametrize(
    "options",
    [
        {"label": 3},
        {"description": b"x"},
        {"at_front": "no"},
        {"share": "yes"},
        {"result_ttl": math.inf},
        {"job_timeout": math.inf},
        {"delay": math.inf},
    ],
)
def test_options_of_the_wrong_kind_are_refused(q, options):
    with pytest.raises(errors.UsageError, match=f"{next(iter(options))}="):
        q.enqueue(add, 1, **options)


def test_no_result_ttl_is_the_usual_one(q):
    job = q.enqueue(add, 1, result_ttl=None)
    assert job.batch.state.result_ttl == q.enqueue(add, 1).batch.state.result_ttl


def test_queues_are_served_in_their_order_by_one_worker(q, namespace, workers, tmp_path):
    path = tmp_path / "order"

    def note(word):
        with path.open("a") as file:
            file.write(word)

    high = Queue("high", namespace=namespace, progress=False)
    low = Queue("low", namespace=namespace, progress=False)
    for _ in range(3):
        low.enqueue(note, "l")
        high.enqueue(note, "h")
    workers.start("high", "low", "--burst", children=1).wait(30)
    assert path.read_text() == "hhhlll"
    high.close()
    low.close()
