"""RQ's registries: views of the state, paged, in a stable order, which read no more than they have to."""

from __future__ import annotations

import pytest
from conftest import wait_until

from nbqueue import Job, Queue, errors
from nbqueue.client import listing
from nbqueue.store.requests.looking import Counted

REGISTRIES = ["started", "finished", "failed", "deferred", "scheduled", "canceled"]


def registry(q, state):
    return getattr(q, f"{state}_job_registry")


def ids(batch, *indices):
    return [f"{batch.id}:{index}" for index in indices]


def inverse(x):
    return 1 / x


class Asked:
    """What is asked of the server, by the names of the requests."""

    def __init__(self, monkeypatch, store):
        self.names = []
        call = store.call

        def counting(request):
            self.names.append(request.name)
            return call(request)

        monkeypatch.setattr(store, "call", counting)


@pytest.mark.parametrize("state", REGISTRIES)
def test_one_without_jobs_is_empty(q, state):
    empty = registry(q, state)
    assert (empty.count, len(empty), empty.get_job_ids(), list(empty)) == (0, 0, [], [])
    assert empty.get_job_ids(-3, -2) == []
    assert empty.get_queue() is q
    assert "k3f9x2:0" not in empty
    assert 3 not in empty
    assert repr(empty) == f"<{type(empty).__name__} of default>"
    with pytest.raises(errors.NotFound):
        empty.requeue("k3f9x2:0")


@pytest.mark.parametrize("state", ["deferred", "scheduled"])
def test_where_nothing_waits_for_others_or_its_time_nothing_is_read(q, state):
    batch = q.map(abs, range(3))
    assert getattr(q.store, state)(batch.id) == []
    with pytest.raises(errors.UsageError, match=f"is not among the {state} jobs of queue default: it is queued"):
        registry(q, state).remove(batch[0])


def test_the_time_of_what_waits_for_none_is_not_found(q):
    job = q.enqueue(abs, 1)
    with pytest.raises(errors.NotFound, match="is not scheduled: it is queued"):
        q.scheduled_job_registry.get_scheduled_time(job)


def test_runs_that_wait_for_their_time_are_listed_with_it(q):
    batch = q.map(abs, range(3))
    key = q.store.key(f"batch:{batch.id}")
    q.store.run("DEL", key + b":queued")
    q.store.run("HSET", key, "queued", 0, "scheduled", 3)
    q.store.run("ZADD", key + b":scheduled", 2000, "0-1", 1000, "1-3")
    waiting = q.scheduled_job_registry
    assert q.store.scheduled(batch.id) == [(1, 3), (0, 1)]
    assert list(waiting) == ids(batch, 0, 1, 2)
    assert [waiting.get_scheduled_time(job).timestamp() for job in batch.jobs] == [2000, 1000, 1000]
    q.store.run("DEL", key + b":scheduled")


def test_what_has_ended_is_found_by_how_the_oldest_batch_first_then_by_index(q, worker):
    first = q.map(inverse, [1, 0, 2, 0]).wait(20)
    second = q.map(inverse, [0, 4]).wait(20)
    assert list(q.finished_job_registry) == [*ids(first, 0, 2), *ids(second, 1)]
    assert list(q.failed_job_registry) == [*ids(first, 1, 3), *ids(second, 0)]
    assert (q.finished_job_registry.count, len(q.failed_job_registry)) == (3, 3)
    assert first[0] in q.finished_job_registry
    assert first[0].id in q.finished_job_registry
    assert first[1] not in q.finished_job_registry
    assert first[1] in q.failed_job_registry
    other = Queue("other", namespace=q.namespace, progress=False)
    assert first[0] not in other.finished_job_registry
    assert list(other.finished_job_registry) == []
    other.close()


def test_a_part_is_that_of_redis_with_its_last_one(q, worker):
    batches = [q.map(abs, range(n)).wait(20) for n in (3, 1, 4)]
    every = [job.id for batch in batches for job in batch.jobs]
    finished = q.finished_job_registry
    for start, end in [(0, -1), (0, 0), (2, 4), (3, 2), (-2, -1), (-5, -3), (6, 100), (100, 200), (0, -9), (-100, 1)]:
        last = len(every) + end if end < 0 else end
        first = max(0, len(every) + start) if start < 0 else start
        assert finished.get_job_ids(start, end) == every[first : last + 1 if last >= 0 else 0], (start, end)


def test_whole_batches_are_passed_over(q, worker, monkeypatch):
    batches = [q.map(abs, range(3)).wait(20) for _ in range(5)]
    q.finished_job_registry.get_job_ids(0, 0)  # connects
    asked = Asked(monkeypatch, q.store)
    assert q.finished_job_registry.get_job_ids(10, 11) == ids(batches[3], 1, 2)
    assert asked.names == ["counted", "places"]
    asked.names.clear()
    assert q.failed_job_registry.get_job_ids() == []
    assert asked.names == ["counted"]
    assert next(iter(q.finished_job_registry)) == batches[0][0].id
    assert asked.names == ["counted", "counted", "places"]


def test_many_batches_are_read_in_pages(q, monkeypatch):
    from nbqueue.store import store

    monkeypatch.setattr(store, "_PAGE", 2)
    batches = [q.map(abs, [i, i]) for i in range(5)]
    for batch in batches:
        batch.cancel()
    assert list(q.canceled_job_registry) == [job.id for batch in batches for job in batch.jobs]
    batches[2].delete()
    assert q.canceled_job_registry.get_job_ids(4, 5) == ids(batches[3], 0, 1)


def test_a_part_reads_only_what_it_touches():
    batches = [Counted("a", 3, None), Counted("b", 2, None), Counted("c", 5, None)]
    runs = {"a": [(0, 3)], "b": [(4, 5), (8, 9)], "c": [(0, 5)]}
    read = []

    def runs_of(batch):
        read.append(batch)
        return runs[batch]

    assert list(listing.ids(listing.part(batches, runs_of, 3, 3))) == ["b:4", "b:8", "c:0"]
    assert read == ["b", "c"]


def test_what_runs_is_started_until_it_ends(q, worker, tmp_path):
    go = tmp_path / "go"

    def until(path):
        import time

        while not path.exists():
            time.sleep(0.01)

    job = q.enqueue(until, go)
    wait_until(lambda: job in q.started_job_registry)
    assert q.started_job_registry.get_job_ids() == [job.id]
    assert job.id not in q.finished_job_registry
    with pytest.raises(errors.UsageError, match=r"is started: cancel\(\) stops it"):
        q.started_job_registry.remove(job)
    with pytest.raises(errors.UsageError, match="it runs already"):
        q.started_job_registry.requeue(job)
    go.touch()
    job.wait(20)
    assert job not in q.started_job_registry
    assert list(q.started_job_registry) == []
    assert job in q.finished_job_registry


def test_what_was_canceled_is_found_and_runs_again(q, workers):
    batch = q.map(abs, range(5))
    batch[1].cancel()
    batch[3].cancel()
    canceled = q.canceled_job_registry
    assert (canceled.count, list(canceled)) == (2, ids(batch, 1, 3))
    with pytest.raises(errors.UsageError, match=rf"job {batch.id}:0 is not among the canceled jobs .* it is queued"):
        canceled.requeue(batch[0])
    with pytest.raises(errors.UsageError, match=r"always in one state; requeue\(job\) runs it again"):
        canceled.remove(batch[1])
    assert canceled.requeue(batch[1].id) == batch[1]
    assert list(canceled) == ids(batch, 3)
    workers.start()
    assert batch[1].result(timeout=20) == 1


def test_what_failed_runs_again_one_by_one_or_all(q, worker, tmp_path):
    flag = tmp_path / "flag"

    def read(i, path):
        return i, path.read_text()

    first = q.starmap(read, [(i, flag) for i in range(3)]).wait(20)
    paused = q.map(read, range(2), [flag] * 2).wait(20)
    third = q.map(read, range(2), [flag] * 2)
    third.wait(20)
    failed = q.failed_job_registry
    assert failed.count == 7
    flag.write_text("there")
    assert failed.requeue(first[1]).result(timeout=20) == (1, "there")
    assert failed.requeue_all() == 6
    for batch in (first, paused, third):
        batch.results(timeout=20)
    assert (failed.count, list(failed), q.finished_job_registry.count) == (0, [], 7)
    assert failed.requeue_all() == 0


def test_requeuing_all_that_failed_leaves_canceled_what_was_canceled(q, workers):
    batch = q.map(inverse, [0, 1, 0, 2])
    batch[3].cancel()
    workers.start()
    batch.wait(20)
    assert q.failed_job_registry.requeue_all() == 2
    batch.wait(20)
    assert list(q.failed_job_registry) == ids(batch, 0, 2)
    assert list(q.canceled_job_registry) == ids(batch, 3)


def test_what_finished_never_runs_again(q, worker):
    job = q.enqueue(abs, -1).wait(20)
    with pytest.raises(errors.UsageError, match="what finished never runs again"):
        q.finished_job_registry.requeue(job)
    with pytest.raises(errors.UsageError, match=r"remove\(job, delete_job=True\) forgets it"):
        q.finished_job_registry.remove(job)


@pytest.mark.parametrize("is_done", [False, True])
def test_what_is_deleted_is_in_none_any_more(q, worker, tmp_path, is_done):
    go = tmp_path / "go"

    def until(x, path):
        import time

        while x == "wait" and not path.exists():
            time.sleep(0.01)
        return 1 / x

    batch = q.map(until, [1, 0, 2, 0, 1 if is_done else "wait"], [go] * 5)
    wait_until(lambda: batch.counts["finished"] + batch.counts["failed"] >= 4)
    if is_done:
        batch.wait(20)
    q.failed_job_registry.remove(batch[1], delete_job=True)
    q.finished_job_registry.remove(batch[2].id, delete_job=True)
    assert batch[1] not in q.failed_job_registry
    assert list(q.failed_job_registry) == ids(batch, 3)
    assert q.finished_job_registry.get_job_ids(0, 1) == ids(batch, *([0, 4] if is_done else [0]))
    with pytest.raises(errors.UsageError, match="it is deleted"):
        q.failed_job_registry.requeue(batch[1])
    go.touch()
    batch.wait(20)
    assert not Job.exists(batch[1].id, connection=q)
    assert Job.exists(batch[0].id, connection=q)
    assert q.store.run("TTL", q.store.key(f"batch:{batch.id}:forgotten")) > 0
    batch.delete()
    assert list(q.failed_job_registry) == []


def test_what_was_canceled_and_deleted_does_not_run_again(q, workers):
    batch = q.map(abs, range(5))
    batch.cancel()
    q.canceled_job_registry.remove(batch[2], delete_job=True)
    batch[4].delete()
    assert list(q.canceled_job_registry) == ids(batch, 0, 1, 3)
    assert list(q.finished_job_registry) == []
    assert batch.retry() == 3
    workers.start()
    assert [batch[i].result(timeout=20) for i in (0, 1, 3)] == [0, 1, 3]
    assert list(q.finished_job_registry) == ids(batch, 0, 1, 3)
    with pytest.raises(errors.ResultExpired, match="deleted"):
        batch[2].result()


def test_a_large_batch_is_found_by_what_is_not_finished(q, worker):
    batch = q.map(inverse, [float(i % 1000) for i in range(5000)]).wait(60)
    failed = [f"{batch.id}:{i}" for i in range(0, 5000, 1000)]
    assert list(q.failed_job_registry) == failed
    assert q.finished_job_registry.get_job_ids(997, 1000) == ids(batch, 998, 999, 1001, 1002)
    assert q.finished_job_registry.count == 4995
