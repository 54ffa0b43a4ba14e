"""Jobs that wait for others: in which order they run, what becomes of them where one fails, results as arguments."""

from __future__ import annotations

import enum
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import wait_until

from nbqueue import Dependency, Queue, Retry, errors
from nbqueue.cells.run import pack_cell
from nbqueue.store.description import CellDescription


class Colour(enum.Enum):
    RED = 1


class Point:
    def __init__(self, x):
        self.x = x


def add(a, b):
    return a + b


def note(path: Path, word: str):
    with path.open("a") as file:
        file.write(word + "\n")
    return word


def read(path: Path):
    return path.read_text()


def hold(path: Path):
    """Runs until a file is there."""
    while not path.exists():
        time.sleep(0.005)
    return path.name


def fail(words="boom"):
    raise ValueError(words)


def test_a_job_starts_when_the_one_that_it_depends_on_has_finished(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    second = q.enqueue(note, tmp_path / "log", "second", depends_on=first)
    wait_until(lambda: first.is_started)
    assert second.is_deferred
    assert second.waits_for == second.dependency_ids == [first.id]
    assert second.id in q.deferred_job_registry
    assert second.batch.counts["deferred"] == 1
    (tmp_path / "go").touch()
    assert second.result(timeout=30) == "second"
    assert second.waits_for == []
    assert first.ended_at <= second.started_at


@pytest.mark.parametrize("form", ["job", "id", "list", "batch", "batch id", "dependency", "mixed"])
def test_what_is_depended_on_is_a_job_a_batch_an_id_or_a_list_of_them(q, worker, tmp_path, form):
    batch = q.map(hold, [tmp_path / "go"])
    other = q.enqueue(hold, tmp_path / "go")
    on = {
        "job": batch[0], "id": other.id, "list": [batch[0], other], "batch": batch, "batch id": batch.id,
        "dependency": Dependency([batch, other.id]), "mixed": [Dependency(other, allow_failure=True), batch.id],
    }[form]  # fmt: skip
    job = q.enqueue(abs, -1, depends_on=on)
    assert job.is_deferred
    (tmp_path / "go").touch()
    assert job.result(timeout=30) == 1
    assert q.enqueue(abs, -2, depends_on=on).result(timeout=30) == 2, "what has ended is not waited for"


def test_all_jobs_of_a_batch_wait(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    batch = q.map(abs, range(-1000, 0), depends_on=first)
    many = q.enqueue_many([(add, (i, 1)) for i in range(10)], depends_on=[first, batch])
    assert batch.counts == {"total": 1000, "queued": 0, "started": 0, "finished": 0, "failed": 0, "canceled": 0,
                            "deferred": 1000}  # fmt: skip
    assert many.counts["deferred"] == 10
    assert len(q.deferred_job_registry) == 1010
    (tmp_path / "go").touch()
    assert batch.results(timeout=30) == list(range(1000, 0, -1))
    assert many.results(timeout=30) == list(range(1, 11))


def test_a_dependent_of_a_failed_job_fails_and_so_on_down_and_names_what_failed(q, worker):
    first = q.enqueue(fail)
    second = q.enqueue(abs, -1, depends_on=first)
    third = q.enqueue(add, second, 1)
    fourth = q.map(abs, [-1, -2], depends_on=third)
    with pytest.raises(errors.DependencyFailed, match=rf"because job {first.id} failed \(ValueError: boom\)") as raised:
        second.result(timeout=30)
    assert raised.value.job_id == second.id
    with pytest.raises(
        errors.DependencyFailed, match=rf"because job {second.id} did not run, because job {first.id} failed"
    ):
        third.result(timeout=30)
    with pytest.raises(errors.DependencyFailed, match=f"because job {third.id} did not run, because job {first.id}"):
        fourth.results(timeout=30)
    assert second.is_failed
    assert second.id in q.failed_job_registry
    assert fourth.counts["failed"] == 2
    assert "DependencyFailed" in second.exc_info
    late = q.enqueue(abs, -3, depends_on=fourth)
    such = rf"because 2 of the 2 jobs of batch {fourth.id} failed, such as: job {first.id} failed"
    with pytest.raises(errors.DependencyFailed, match=such):
        late.result(timeout=30)


def test_a_failure_can_be_allowed(q, worker):
    first = q.enqueue(fail)
    assert q.enqueue(abs, -1, depends_on=Dependency(first, allow_failure=True)).result(timeout=30) == 1
    batch = q.enqueue_many([(fail, ()), (abs, (-1,))])
    on = Dependency([first, batch], allow_failure=True)
    found = q.enqueue(list, batch, depends_on=on).result(timeout=30)
    assert [type(one) for one in found] == [ValueError, int], "errors in the places of results"


def test_those_that_wait_can_go_to_the_front(q, workers, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    last = q.enqueue(note, tmp_path / "log", "last")
    front = q.enqueue(note, tmp_path / "log", "front", depends_on=Dependency(first, enqueue_at_front=True))
    workers.start(children=1)
    wait_until(lambda: first.is_started)
    (tmp_path / "go").touch()
    assert [front.result(timeout=30), last.result(timeout=30)] == ["front", "last"]
    assert read(tmp_path / "log").split() == ["front", "last"]


def test_a_retry_brings_back_what_failed_because_of_it(q, worker, tmp_path):
    first = q.enqueue(read, tmp_path / "text")
    second = q.enqueue(str.upper, first)
    third = q.map(add, [second, second], ["1", "2"])
    with pytest.raises(errors.DependencyFailed):
        third.results(timeout=30)
    assert third.counts["failed"] == 2
    with pytest.warns(errors.DependencyWarning, match=f"job {second.id} failed because of other jobs") as told:
        assert not second.retry()
    assert told[0].filename == __file__, "it is said of the line that asks for it"
    with pytest.warns(errors.DependencyWarning, match=f"2 jobs of batch {third.id}"):
        assert third.retry() == 0
    (tmp_path / "text").write_text("text")
    assert first.retry()
    assert third.results(timeout=30) == ["TEXT1", "TEXT2"]
    assert second.result(timeout=30) == "TEXT"
    assert (third.counts["failed"], third.failures()) == (0, [])
    assert list(q.failed_job_registry) == []


def test_a_retry_of_a_batch_in_which_some_wait_for_others_runs_all_of_them(q, worker, tmp_path):
    first = q.enqueue(read, tmp_path / "text")
    second = q.enqueue(str.upper, first)
    third = q.enqueue(add, second, "!")
    assert first.batch == third.batch
    with pytest.raises(errors.DependencyFailed):
        third.result(timeout=30)
    (tmp_path / "text").write_text("text")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert first.batch.retry() == 1
    assert third.result(timeout=30) == "TEXT!"


def test_a_requeue_brings_dependents_back(q, worker, tmp_path):
    first = q.enqueue(read, tmp_path / "text")
    second = q.enqueue(str.upper, first)
    second.wait(timeout=30)
    (tmp_path / "text").write_text("x")
    q.failed_job_registry.requeue(first.id)
    assert second.result(timeout=30) == "X"


def test_dependents_wait_for_the_retries_of_a_job(q, worker, tmp_path):
    def flaky(path):
        with path.open("a") as file:
            file.write("x")
        if len(path.read_text()) < 3:
            raise OSError("not yet")
        return "at last"

    first = q.enqueue(flaky, tmp_path / "marks", retry=Retry(5))
    assert q.enqueue(str.upper, first).result(timeout=30) == "AT LAST"


def test_a_canceled_job_fails_those_that_wait_for_it_or_lets_them_go_on(q, worker, tmp_path):
    for start in (False, True):  # one that waits, and one that runs
        path = tmp_path / f"go {start}"
        before = q.enqueue(hold, path)
        first = q.enqueue(hold, tmp_path / "never", depends_on=None if start else before)
        fails = q.enqueue(abs, -1, depends_on=first)
        if start:
            wait_until(lambda first=first: first.is_started)
        assert first.cancel()
        with pytest.raises(errors.DependencyFailed, match=f"because job {first.id} was canceled"):
            fails.result(timeout=30)
        path.touch()

        path = tmp_path / f"go on {start}"
        before = q.enqueue(hold, path)
        first = q.enqueue(hold, tmp_path / "never", depends_on=None if start else before)
        goes_on = q.enqueue(abs, -1, depends_on=first)
        if start:
            wait_until(lambda first=first: first.is_started)
        assert first.cancel(enqueue_dependents=True)
        assert goes_on.result(timeout=30) == 1
        assert first.wait(timeout=30).is_canceled
        path.touch()
        before.wait(timeout=30)


def test_what_waits_for_others_can_be_canceled_and_comes_back(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    one, two = q.enqueue(abs, -1, depends_on=first), q.enqueue(abs, -2, depends_on=first)
    batch = q.map(abs, range(100), depends_on=first)
    assert one.cancel()
    assert batch[50].cancel()
    assert (one.get_status(), batch[50].get_status(), batch[51].get_status()) == ("canceled", "canceled", "deferred")
    assert batch[50].retry()
    assert batch[50].is_deferred, "it waits again"
    assert batch.cancel() == 100
    assert batch.counts["canceled"] == 100
    (tmp_path / "go").touch()
    assert two.result(timeout=30) == 2
    assert batch.retry() == 100
    assert batch.results(timeout=30) == list(range(100))
    assert one.is_canceled


def test_a_batch_that_is_canceled_and_run_again_waits_again(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    batch = q.map(abs, [-1, -2, -3], depends_on=first)
    batch.cancel()
    assert batch.retry() == 3
    assert batch.counts["deferred"] == 3
    (tmp_path / "go").touch()
    assert batch.results(timeout=30) == [1, 2, 3]


def test_what_is_deleted_fails_those_that_wait_for_it(q, worker, tmp_path):
    first = q.map(hold, [tmp_path / "never"])
    second, third = q.enqueue(abs, -1, depends_on=first), first.then(str)
    wait_until(lambda: first[0].is_started)
    first.delete()
    for job in (second, third[0]):
        with pytest.raises(errors.DependencyFailed, match=f"{first.id}(:0)? was deleted"):
            job.result(timeout=30)


def test_what_failed_because_of_what_was_deleted_is_run_again_by_its_own_retry(q, worker, tmp_path):
    first = q.map(fail, ["boom"])
    second, row = q.enqueue(note, tmp_path / "log", "second", depends_on=first[0]), first.then(str)
    second.wait(timeout=30)
    row.wait(timeout=30)
    first.delete()
    assert second.retry()
    assert second.result(timeout=30) == "second"
    assert row.retry() == 1
    with pytest.raises(errors.DependencyFailed, match=f"it takes the result of job {first.id}:0"):
        row.results(timeout=30)


def test_a_canceled_batch_does_not_come_back_with_what_it_waited_for_but_with_its_own_retry(q, worker, tmp_path):
    first = q.map(read, [tmp_path / "text", tmp_path / "text"])
    row, together = first.then(str.upper), q.map(abs, [-1], depends_on=first)
    held = q.enqueue(hold, tmp_path / "go")
    more = q.enqueue_many([(str, (1,)), (str, (2,))], depends_on=[first, held])
    for batch in (row, together, more):
        batch.wait(timeout=30)
        batch.cancel()
    slow = q.map(hold, [tmp_path / "go"], depends_on=first[0])
    slow.wait(timeout=30)
    (tmp_path / "text").write_text("text")
    (tmp_path / "go").touch()
    assert first.retry() == 2
    assert first.results(timeout=30) == ["text"] * 2
    assert slow.results(timeout=30) == ["go"]
    assert held.result(timeout=30) == "go"
    assert row.retry() == 0 or row.results(timeout=30) == ["TEXT"] * 2
    assert row.results(timeout=30) == ["TEXT"] * 2
    assert together.results(timeout=30) == [1]
    assert more.results(timeout=30) == ["1", "2"]


def test_what_is_not_there_is_refused(q, worker):
    gone = q.map(abs, [1]).wait()
    gone.delete()
    other = Queue("another", namespace="elsewhere", progress=False)
    for on in (gone, gone.id, f"{gone.id}:0", Dependency(gone)):
        with pytest.raises(errors.NotFound, match=f"there is no (batch|job) {gone.id}"):
            q.enqueue(abs, -1, depends_on=on)
        with pytest.raises(errors.NotFound, match="for others to wait for"):
            q.map(abs, [-1], depends_on=on)
    with pytest.raises(errors.NotFound, match=gone.id):
        q.enqueue(sum, gone)
    elsewhere = other.enqueue(abs, -1)
    with pytest.raises(errors.NotFound, match="in this namespace"):
        q.enqueue(abs, elsewhere)
    elsewhere.batch.delete()
    other.close()
    job = q.enqueue(abs, -1)
    with pytest.raises(errors.NotFound, match=f"there is no job {job.batch.id}:999"):
        q.enqueue(abs, -1, depends_on=f"{job.batch.id}:999")
    job.delete()
    with pytest.raises(errors.NotFound, match=job.id):
        q.enqueue(abs, -1, depends_on=job)


@pytest.mark.parametrize("on", [3, 2.5, b"k3f9x2", {"a": 1}, [None], object()])
def test_what_cannot_be_waited_for_is_a_type_error(q, on):
    with pytest.raises(TypeError, match="a job, a batch, the id of one"):
        q.enqueue(abs, -1, depends_on=on)


@pytest.mark.parametrize("on", ["", "k3f9x2:", "k3f9x2:x", "a job"])
def test_what_is_no_id_is_named(q, on):
    with pytest.raises(errors.UsageError, match=r"the id of a job \('k3f9x2:17'\) or of a batch"):
        q.enqueue(abs, -1, depends_on=on)
    with pytest.raises(errors.UsageError, match="at least one"):
        Dependency([])


def test_nothing_to_wait_for_is_no_dependency(q, worker):
    assert q.enqueue(abs, -1, depends_on=None).result(timeout=30) == 1
    assert q.enqueue(abs, -1, depends_on=[]).result(timeout=30) == 1


def test_dependencies_work_across_queues(q, worker, workers, tmp_path):
    other = Queue("the-other", namespace=q.namespace, progress=False)
    workers.start("the-other")
    first = other.enqueue(hold, tmp_path / "go")
    second = q.enqueue(str.upper, first)
    third = other.enqueue(str.lower, second)
    assert second.is_deferred
    (tmp_path / "go").touch()
    assert (second.result(timeout=30), third.result(timeout=30)) == ("GO", "go")
    other.close()


def test_what_waits_for_others_and_for_a_time_waits_for_both(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    job = q.enqueue_in(3600, abs, -1, depends_on=first)
    soon = q.enqueue_in(0.2, abs, -2, depends_on=first)
    assert job.is_deferred
    (tmp_path / "go").touch()
    assert soon.result(timeout=30) == 2
    wait_until(lambda: job.is_scheduled)
    assert job.cancel()


# Results as arguments


def test_a_job_stands_for_its_result(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    second = q.enqueue(add, first, b="!")
    third = q.enqueue(add, "?", b=second)
    assert third.is_deferred
    assert third.args == ("?",)
    assert third.kwargs == {"b": second}, "as it was given"
    (tmp_path / "go").touch()
    assert third.result(timeout=30) == "?go!"


def test_jobs_inside_of_lists_tuples_and_dicts_stand_for_their_results(q, worker):
    one, two = q.enqueue(abs, -1), q.enqueue(abs, -2)
    batch = q.map(abs, [-3, -4])
    job = q.enqueue(lambda *args, **kwargs: (args, kwargs), [one, (two, {"a": batch})], 5, key={"b": [one]})
    assert job.result(timeout=30) == (([1, (2, {"a": [3, 4]})], 5), {"key": {"b": [1]}})


def test_a_batch_stands_for_the_list_of_its_results(q, worker):
    batch = q.map(lambda x: x * x, range(5000))
    assert q.enqueue(sum, batch).result(timeout=30) == sum(x * x for x in range(5000))
    assert q.enqueue(lambda values: values == [x * x for x in range(5000)], batch).result(timeout=30)
    slow = q.map(lambda x: [x], range(20))
    assert q.enqueue(sum, slow, []).result(timeout=30) == list(range(20))


def test_each_item_of_a_map_may_be_a_job(q, worker, tmp_path):
    jobs = [q.enqueue(add, i, 1) for i in range(300)]
    held = q.enqueue(hold, tmp_path / "go")
    batch = q.map(str, [*jobs, held, "plain"])
    assert [batch[i].result(timeout=30) for i in (0, 299, 301)] == ["1", "300", "plain"], "neighbours do not wait"
    assert batch[300].is_deferred
    (tmp_path / "go").touch()
    assert batch.results(timeout=30) == [*(str(i + 1) for i in range(300)), "go", "plain"]
    pairs = q.starmap(add, ((job, i) for i, job in enumerate(jobs[:50])))
    assert pairs.results(timeout=30) == [2 * i + 1 for i in range(50)]
    many = q.enqueue_many([(add, (jobs[0], jobs[i])) for i in range(50)])
    assert many.results(timeout=30) == [i + 2 for i in range(50)]


def test_results_of_every_size_and_kind_come_through(q, worker):
    def make(size):
        return np.arange(size, dtype=np.int64)

    for size in (10, 30_000, 2_000_000):
        job = q.enqueue(make, size)
        assert q.enqueue(lambda a: (int(a.sum()), a.flags.writeable), job).result(timeout=60) == (
            size * (size - 1) // 2, True,
        )  # fmt: skip
    parts = q.map(make, [100_000] * 5)
    assert q.enqueue(lambda parts: sum(int(part.sum()) for part in parts), parts).result(timeout=60) == (
        5 * 100_000 * 99_999 // 2
    )


def test_instances_of_the_notebooks_classes_are_that_in_the_next_job(q, worker):
    first = q.enqueue(lambda: (Point(3), Colour.RED))
    second = q.enqueue(lambda both: (isinstance(both[0], Point), both[1] is Colour.RED, both[0]), first)
    is_point, is_red, point = second.result(timeout=30)
    assert (is_point, is_red, type(point), point.x) == (True, True, Point, 3)


def test_a_result_that_a_job_changes_is_whole_for_the_next(q, worker):
    first = q.enqueue(list, [1, 2])
    batch = q.map(lambda values: values.append(3) or values, [first] * 20)
    assert batch.results(timeout=30) == [[1, 2, 3]] * 20
    assert first.result() == [1, 2]


def test_the_job_of_a_cell_stands_for_the_value_of_its_last_expression(q, worker):
    cell = q.enqueue_cell("x = 20\nx + 22", pack_cell({}, {}), CellDescription(), label="cell")
    assert q.enqueue(add, cell, 0).result(timeout=60) == 42
    batch = q.map(add, [cell, cell], [1, 2])
    assert batch.results(timeout=30) == [43, 44]


def test_where_a_failure_is_allowed_the_error_stands_for_the_result(q, worker):
    first = q.enqueue(fail)
    job = q.enqueue(repr, first, depends_on=Dependency(first, allow_failure=True))
    assert job.result(timeout=30) == "ValueError('boom')"


def test_a_thousand_dependents_of_a_failure_fail_together(q, worker):
    first = q.enqueue(fail)
    batch = q.map(abs, range(5000), depends_on=first)
    after = q.map(abs, range(10), depends_on=batch)
    with pytest.raises(errors.DependencyFailed):
        after.results(timeout=60)
    assert batch.counts["failed"] == 5000
    assert [group.count for group in batch.failures()] == [5000]


# Pipelines


def test_then_maps_over_results_job_by_job(q, worker, tmp_path):
    paths = [tmp_path / "b", tmp_path / "a"]
    batch = q.map(hold, paths)
    upper = batch.then(str.upper).then(lambda text: text * 2)
    assert upper.counts["deferred"] == 2
    assert upper[1].waits_for == [f"{upper[1].batch.state.waits_for}:1"]
    paths[0].touch()
    assert upper[0].result(timeout=30) == "BB", "it does not wait for its neighbour"
    assert upper[1].is_deferred
    paths[1].touch()
    assert upper.results(timeout=30) == ["BB", "AA"]


def test_three_stages_over_very_many_items(q, worker):
    batch = q.map(lambda x: x + 1, range(30_000))
    last = batch.then(lambda x: x * 2).then(str)
    assert last.results(timeout=120) == [str(2 * (x + 1)) for x in range(30_000)]
    assert len(last) == 30_000


def test_then_after_the_end_and_of_what_is_not_plain(q, worker):
    batch = q.map(lambda x: [x], range(1000)).wait(timeout=30)
    assert batch.then(lambda values: values[0]).results(timeout=30) == list(range(1000))
    points = q.map(Point, range(10))
    assert points.then(lambda point: point.x + 1).results(timeout=30) == list(range(1, 11))


def test_where_a_job_fails_the_next_one_of_its_row_does_and_comes_back_with_it(q, worker, tmp_path):
    def pick(i):
        if i % 10 == 3 and not (tmp_path / "mended").exists():
            raise ValueError(f"{i} is bad")
        return i

    batch = q.map(pick, range(2000))
    last = batch.then(lambda x: x + 1).then(lambda x: x * 2)
    found = last.results(timeout=60, errors="return")
    for i, value in enumerate(found):
        if i % 10 == 3:
            assert isinstance(value, errors.DependencyFailed)
            assert f"{batch.id}:{i} failed (ValueError: {i} is bad)" in str(value)
        else:
            assert value == 2 * (i + 1)
    assert last.counts["failed"] == 200
    assert [group.count for group in last.failures()] == [200], "they are one kind of failure"
    (tmp_path / "mended").touch()
    assert batch.retry() == 200
    assert last.results(timeout=60) == [2 * (i + 1) for i in range(2000)]


def test_a_pipeline_can_be_canceled_and_run_again_at_any_stage(q, worker, tmp_path):
    batch = q.map(hold, [tmp_path / "go"] * 4)
    second = batch.then(str.upper)
    third = second.then(str.lower)
    assert second[1].cancel()
    with pytest.raises(errors.DependencyFailed, match=f"{second.id}:1 was canceled"):
        third[1].result(timeout=30)
    assert second.cancel() == 3
    third.wait(timeout=30)
    assert third.counts["failed"] == 4
    (tmp_path / "go").touch()
    batch.wait(timeout=30)
    assert second.retry() == 4
    assert third.results(timeout=30) == ["go"] * 4


def test_then_goes_to_another_queue_with_options(q, worker, workers):
    workers.start("stage-two")
    batch = q.map(abs, [-1, -2])
    named = batch.then(str, queue="stage-two", label="as text", job_timeout=30)
    assert named.results(timeout=30) == ["1", "2"]
    assert (named.origin, named.label) == ("stage-two", "as text")
    for options in ({"depends_on": batch}, {"delay": 5}, {"at_front": True}):
        with pytest.raises(errors.UsageError, match="each job starts when"):
            batch.then(str, **options)


def test_many_threads_build_chains_at_once(q, worker):
    found = {}

    def build(start):
        job = q.enqueue(abs, start)
        for _ in range(20):
            job = q.enqueue(add, job, 1)
        found[start] = job

    threads = [threading.Thread(target=build, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {start: job.result(timeout=60) for start, job in found.items()} == {start: start + 20 for start in range(6)}
