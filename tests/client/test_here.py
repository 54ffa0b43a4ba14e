"""`Queue(is_async=False)`: calls are made here, at once, for tests of what submits."""

from __future__ import annotations

import asyncio
import pickle
from datetime import UTC, datetime, timedelta

import pytest

import nbqueue
from nbqueue import Batch, Job, Queue, Repeat, Result, Retry, RetryLater, errors


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


def test_batches_are_made_call_by_call(here):
    seen = []

    def note(x, by=1):
        seen.append(x)
        return x * by

    batch = here.map(note, iter([1, 2, 3]), kwargs={"by": 2}, label="noted", meta={"a": 1})
    assert (seen, batch.results(), list(batch)) == ([1, 2, 3], [2, 4, 6], [2, 4, 6])
    assert (batch.label, batch.origin, batch.meta, len(batch), batch.done) == ("noted", "default", {"a": 1}, 3, True)
    assert batch.counts == {"total": 3, "queued": 0, "started": 0, "finished": 3, "failed": 0, "canceled": 0}
    assert (batch.progress, batch.eta, batch.failures(), batch.cancel(), batch.retry()) == (1.0, 0.0, [], 0, 0)
    assert batch.rate > 0
    assert [job.id for job in batch.jobs] == [f"{batch.id}:{index}" for index in range(3)]
    assert (batch[-1].result(), batch[1:][0].args, batch[0].kwargs) == (6, (2,), {"by": 2})
    assert batch[2].batch is batch
    assert [job.index for job in batch.as_completed()] == [0, 1, 2]
    assert batch.wait() is batch
    assert asyncio.run(_awaited(batch)) == [2, 4, 6]
    told = []
    batch.on_done(told.append)
    assert told == [batch]
    assert here.starmap(pow, [(2, 3), (3, 2)]).results() == here.map(pow, [2, 3], [3, 2]).results() == [8, 9]
    calls = [Queue.prepare_data(pow, (2, 3), timeout=60), Queue.prepare_data(pow, (3, 2), timeout=60)]
    assert [job.result() for job in here.enqueue_many(calls).jobs] == [8, 9]
    assert here.enqueue_many([]).results() == []
    with pytest.raises(IndexError):
        batch[3]


def test_what_fails_of_a_batch_is_grouped_and_hides_no_other(here):
    batch = here.map(lambda n: 1 / n if n < 2 else boom(n), [0, 1, 2, 0])
    assert [str(error) for error in batch.results(errors="return")] == [
        "division by zero",
        "1.0",
        "2",
        "division by zero",
    ]
    assert batch.results(errors="skip") == [1.0]
    with pytest.raises(ZeroDivisionError):
        batch.results()
    first, second = batch.failures()
    assert (first.type, first.count, first.job, second.count) == ("ZeroDivisionError", 2, batch[0], 1)
    assert "1 / n" in first.traceback
    assert batch.retry() == 3
    assert batch[0].attempt == 2
    with pytest.raises(errors.UsageError, match="'raise', 'skip' or 'return'"):
        batch.results(errors="ignore")


def test_what_is_no_batch_is_refused_before_a_call_is_made(here):
    seen = []

    def broken():
        yield 1
        raise OSError("gone")

    for submit, kind in (
        (lambda: here.map(seen.append, broken()), errors.SubmitError),
        (lambda: here.map(seen.append), errors.UsageError),
        (lambda: here.map(seen.append, [1], 3), errors.WrongType),
        (lambda: here.map(seen.append, [1], kwargs=[2]), errors.WrongType),
        (lambda: here.enqueue_many([(seen.append, (1,)), 3]), errors.WrongType),
    ):
        with pytest.raises(kind):
            submit()
    assert seen == []


def test_what_fails_is_tried_again_at_once_as_often_as_it_was_told(here, tmp_path):
    left = [ValueError("first"), ValueError("second")]

    def flaky():
        if left:
            raise left.pop(0)
        return "done"

    job = here.enqueue(flaky, retry=Retry(max=3, interval=3600))
    assert (job.result(), job.attempt, job.is_finished, job.exc_info) == ("done", 3, True, None)
    assert [str(attempt.exception()) for attempt in job.attempts] == ["first", "second", "None"]
    assert "ValueError: first" in job.attempts[0].exc_info
    assert job.attempts[2].return_value() == "done"
    with pytest.raises(ValueError, match="first"):
        job.attempts[0].return_value()
    assert (here.enqueue(boom, 1, retry=2).attempt, here.enqueue(boom, 1).attempt) == (3, 1)
    assert here.enqueue(boom, 1, retry=Retry(2, on=OSError)).attempt == 1
    assert here.enqueue(boom, 1, retry=Retry(2, on=LookupError)).attempt == 3
    assert here.enqueue(exit_with, 1, retry=2).attempt == 1
    assert [batch.attempt for batch in here.map(boom, [1, 2], retry=1).jobs] == [2, 2]


def test_what_returns_is_repeated_at_once(here):
    times = []
    job = here.enqueue(lambda: times.append(1) or len(times), repeat=Repeat(2, interval=3600))
    assert (job.result(), [attempt.return_value() for attempt in job.attempts]) == (3, [1, 2, 3])


def later(n):
    raise RetryLater(60)


def test_what_is_to_run_later_waits_for_who_runs_it(here):
    seen = []
    for submit in (
        lambda: here.enqueue_in("1h", seen.append, 1),
        lambda: here.enqueue_at(datetime.now() + timedelta(hours=1), seen.append, 1),
        lambda: here.map(seen.append, [1], delay=3600)[0],
    ):
        seen.clear()
        with pytest.warns(errors.OptionWarning, match=r"it is 'scheduled' until job.retry\(\) makes its call"):
            job = submit()
        assert (job.get_status(), job.is_scheduled, seen) == ("scheduled", True, [])
        assert timedelta(minutes=59) < job.due_at - datetime.now(UTC) < timedelta(minutes=61)
        assert (job.latest_result(), job.attempts, job.started_at, job.ended_at, job.duration) == (
            None,
            [],
            None,
            None,
            None,
        )
        for look in (job.result, job.return_value, job.wait, job.exception, job.batch.results, job.batch.wait):
            with pytest.raises(errors.NotFinished, match="is scheduled, and with is_async=False nobody makes its call"):
                look()
        assert (job.batch.counts["scheduled"], job.batch.done, job.batch.eta) == (1, False, None)
        assert job.retry()
        assert (job.get_status(), seen, job.due_at) == ("finished", [1], None)
    seen.clear()
    assert here.enqueue_in(0, seen.append, 2).is_finished
    with pytest.warns(errors.OptionWarning, match="in the past"):
        assert here.enqueue_in(timedelta(seconds=-1), seen.append, 2).is_finished
    assert seen == [2, 2]


def test_what_waits_can_be_canceled_and_comes_back_by_retry(here):
    with pytest.warns(errors.OptionWarning):
        job = here.enqueue_in(60, abs, -1)
    assert job.cancel()
    assert (job.is_canceled, job.cancel(), job.latest_result()) == (True, False, None)
    with pytest.raises(errors.JobCanceled):
        job.result()
    assert isinstance(job.exception(), errors.JobCanceled)
    assert job.batch.counts["canceled"] == 1
    assert job.batch.retry() == 1
    assert job.result() == 1


def test_who_asks_to_be_run_later_is_run_again_if_it_has_tries_and_waits_otherwise(here):
    job = here.enqueue(later, 1)
    assert (job.get_status(), job.attempt) == ("scheduled", 1)
    assert timedelta(seconds=50) < job.due_at - datetime.now(UTC) < timedelta(seconds=61)
    job = here.enqueue(later, 1, retry=2)
    assert (job.get_status(), job.attempt) == ("failed", 3)


def test_a_call_knows_its_job_and_saves_meta(here):
    def work(fails):
        job = nbqueue.get_current_job()
        job.meta["attempts"] = job.meta.get("attempts", 0) + 1
        job.save_meta()
        if fails and job.attempt < 3:
            raise ValueError
        return job.id, job.attempt, job.origin, job.timeout, nbqueue.get_current_job() is job

    job = here.enqueue(work, True, retry=5, meta={"a": 1}, job_timeout=60)
    assert job.result() == (job.id, 3, "default", 60.0, True)
    assert job.meta == {"a": 1, "attempts": 3}
    assert nbqueue.get_current_job() is None

    async def inside():
        return nbqueue.get_current_job().id

    job = here.enqueue(inside)
    assert job.result() == job.id
    outer = here.enqueue(lambda: (here.enqueue(work, False).result()[0], nbqueue.get_current_job().id))
    assert outer.result()[1] == outer.id != outer.result()[0]
    with pytest.raises(errors.UsageError, match="only what JSON can hold"):
        here.enqueue(_save, {1, 2}).result()


def _save(value):
    job = nbqueue.get_current_job()
    job.meta["value"] = value
    job.save_meta()


def test_in_a_job_that_a_worker_runs_it_is_the_inner_one(q, worker):
    def work():
        inner = Queue(is_async=False).enqueue(lambda: nbqueue.get_current_job().id)
        return inner.result() == inner.id, nbqueue.get_current_job().id

    job = q.enqueue(work)
    assert job.result(timeout=30) == (True, job.id)


def test_coroutines_run_beside_an_event_loop(here):
    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    async def submit():
        return here.enqueue(double, 2).result()

    assert asyncio.run(submit()) == 4


def test_arguments_and_results_go_through_the_serializer(monkeypatch):
    here = Queue(is_async=False, serializer="json")
    assert here.enqueue(lambda value: (value, type(value).__name__), (1, 2)).result() == [[1, 2], "list"]
    with pytest.raises(errors.CannotPickle, match="call 1: argument 0"):
        here.map(abs, [1, {2}])
    with pytest.raises(errors.CannotPickle, match="the result cannot be sent back by the serializer json"):
        here.enqueue(lambda: {1}).result()
    assert here.map(pow, [2], kwargs={"exp": 3}).results() == [8]


def test_what_only_a_server_keeps_is_said(here):
    job = here.enqueue(print, "shown")
    for look in (lambda: job.output, lambda: job.stdout):
        with pytest.raises(errors.UsageError, match=f"job {job.id} was run here"):
            look()
    with pytest.raises(errors.UsageError, match=f"batch {job.batch.id} was run here"):
        job.batch.output()
    for one in (job, job.batch):
        with pytest.raises(errors.CannotPickle, match="was run here"):
            pickle.dumps(one)
    assert (job.rich_output, job.local_modules) == ([], {})
    job.refresh()
    job.delete()
    job.show()


def test_all_that_a_job_offers_answers_without_a_server(here):
    job = here.enqueue(abs, -1)
    for name in sorted(name for name in vars(Job) if not name.startswith("_")):
        if name in ("batch", "fetch", "fetch_many", "exists", "remember"):
            continue
        try:
            found = getattr(job, name)
            if callable(found):
                found()
        except errors.UsageError as error:
            assert "was run here" in str(error), name


def test_all_that_a_batch_offers_answers_without_a_server(here):
    pytest.importorskip("pandas")
    batch = here.map(abs, [-1, 2])
    arguments = {"on_done": [print], "then": [str]}
    for name in sorted(name for name in vars(Batch) if not name.startswith("_")):
        try:
            found = getattr(batch, name)
            if callable(found):
                found(*arguments.get(name, []))
        except errors.UsageError as error:
            assert "was run here" in str(error), name
    assert batch.to_frame()["result"].tolist() == [1, 2]


def test_a_queue_stays_so_when_it_is_pickled(here):
    again = pickle.loads(pickle.dumps(Queue(is_async=False, default_timeout=3)))
    assert again.enqueue(abs, -1).timeout == 3
    assert again.enqueue(abs, -1).result() == 1
