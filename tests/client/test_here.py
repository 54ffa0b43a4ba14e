"""`Queue(is_async=False)`: calls are made here, at once, for tests of what submits."""

from __future__ import annotations

import asyncio
import pickle

import pytest

import nbqueue
from nbqueue import Job, Queue, Result, errors


@pytest.fixture
def here(monkeypatch):
    """A queue that has no server."""
    monkeypatch.setenv("NBQUEUE_URL", "redis://127.0.0.1:1")
    return Queue(is_async=False)


def boom(x):
    raise KeyError(x)


def test_a_call_is_made_at_once_and_needs_no_server(here):
    seen = []
    job = here.enqueue(seen.append, 3, job_timeout=60, meta={"a": 1}, description="note")
    assert seen == [3]
    assert not here.is_async
    assert isinstance(job, Job)
    assert (job.result(), job.return_value(), job.exc_info, job.exception()) == (None,) * 4
    assert (job.get_status(), job.is_finished, job.is_failed, job.is_queued) == ("finished", True, False, False)
    assert (job.args, job.kwargs, job.func_name, job.origin) == ((3,), {}, "list.append", "default")
    assert (job.timeout, job.meta, job.description) == (60.0, {"a": 1}, "note")
    assert job.enqueued_at <= job.started_at <= job.ended_at
    assert job.duration >= 0
    assert (job.worker_name, job.attempt, job.get_position(), job.progress) == (None, 1, None, None)
    assert job.wait(3) is job
    assert job.cancel() is job.retry() is False
    assert asyncio.run(_awaited(here.enqueue(pow, 2, 3))) == 8


async def _awaited(job):
    return await job


def test_what_it_raises_is_kept_as_a_jobs(here):
    job = here.enqueue(boom, 3)
    assert (job.is_failed, job.get_status()) == (True, "failed")
    for look in (job.result, job.return_value):
        with pytest.raises(KeyError, match="3"):
            look()
    assert isinstance(job.exception(), KeyError)
    assert "raise KeyError(x)" in job.exc_info
    result = job.latest_result()
    assert (result.type, result.exc_string) == (Result.Type.FAILED, job.exc_info)


def test_a_call_that_leaves_is_a_job_that_exited(here):
    with pytest.raises(errors.JobExited, match=r"called sys.exit\(3\)"):
        here.enqueue(exit_with, 3).result()


def exit_with(code):
    raise SystemExit(code)


def test_what_failed_can_run_again(here, tmp_path):
    job = here.enqueue((tmp_path / "a").read_text)
    assert job.is_failed
    (tmp_path / "a").write_text("there")
    assert job.requeue()
    assert (job.result(), job.attempt, job.latest_result().return_value) == ("there", 2, "there")


def test_coroutines_names_and_decorated_functions_run_too(here):
    async def double(x):
        return 2 * x

    assert here.enqueue(double, 2).result() == 4
    assert here.enqueue("math.sqrt", 4).result() == 2.0
    assert here.enqueue_call(pow, (2, 3)).result() == 8
    assert here.options(label="x").enqueue(pow, 2, 3).description == "x"
    assert nbqueue.job(here)(boom).enqueue(1).is_failed


def test_the_value_is_refused_in_words_as_that_of_any_job(here):
    with pytest.raises(TypeError, match="waits for the value"):
        bool(here.enqueue(abs, 1).result)


def test_what_makes_no_sense_is_refused_as_by_any_queue(here):
    with pytest.raises(errors.UsageError, match="job_timeout=0"):
        here.enqueue(abs, 1, job_timeout=0)
    with pytest.raises(TypeError, match="not callable"):
        here.enqueue(3)


@pytest.mark.parametrize(
    "submit",
    [lambda q: q.map(abs, [1]), lambda q: q.starmap(abs, [(1,)]), lambda q: q.enqueue_many([(abs, (1,))])],
)
def test_batches_need_a_server(here, submit):
    with pytest.raises(errors.UsageError, match="is_async=False makes single calls"):
        submit(here)


def test_what_only_a_server_keeps_is_said(here):
    job = here.enqueue(print, "shown")
    for look in (lambda: job.batch, lambda: job.output, lambda: job.stdout):
        with pytest.raises(errors.UsageError, match=f"job {job.id} was run here"):
            look()
    with pytest.raises(errors.CannotPickle, match="was run here"):
        pickle.dumps(job)
    assert (job.rich_output, job.local_modules) == ([], {})
    job.refresh()
    job.delete()
    job.show()


def test_all_that_a_job_offers_answers_without_a_server(here):
    job = here.enqueue(abs, -1)
    for name in sorted(name for name in vars(Job) if not name.startswith("_")):
        if name in ("fetch", "fetch_many", "exists", "remember"):
            continue
        try:
            found = getattr(job, name)
            if callable(found) and name != "batch":
                found()
        except errors.UsageError as error:
            assert "was run here" in str(error), name


def test_a_queue_stays_so_when_it_is_pickled(here):
    again = pickle.loads(pickle.dumps(Queue(is_async=False, default_timeout=3)))
    assert again.enqueue(abs, -1).timeout == 3
    assert again.enqueue(abs, -1).result() == 1
