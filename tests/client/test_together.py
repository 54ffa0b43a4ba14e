"""What is offered works together: each pair of features that meet in one job."""

from __future__ import annotations

import json
import time
import zlib

import pytest
from conftest import wait_until

from nbqueue import Callback, Dependency, Queue, Retry, errors


class Compressed:
    @staticmethod
    def dumps(value):
        return zlib.compress(json.dumps(value).encode())

    @staticmethod
    def loads(data):
        return json.loads(zlib.decompress(data))


def hold(path):
    while not path.exists():
        time.sleep(0.005)
    return path.name


def fail(x):
    raise ValueError(f"{x} is bad")


def say(result):
    print("said", result)


@pytest.fixture(params=[Compressed, "json"], ids=["own", "json"])
def serialized(request, q):
    queue = Queue(namespace=q.namespace, serializer=request.param, progress=False)
    yield queue
    queue.close()


def test_a_callback_gets_what_the_function_returned_whatever_the_serializer(serialized, worker):
    job = serialized.enqueue(sorted, [3, 1, 2], on_success=say)
    assert job.result(timeout=30) == [1, 2, 3]
    assert job.output == "said [1, 2, 3]\n"


def test_results_that_a_serializer_has_made_can_be_waited_for(serialized, q, worker, tmp_path):
    first = serialized.map(sorted, [[2, 1], [4, 3]])
    after = q.enqueue(abs, -1, depends_on=first)
    assert after.result(timeout=30) == 1
    with pytest.raises(errors.UsageError, match="a serializer of your own cannot take that"):
        serialized.enqueue(len, first)
    with pytest.raises(errors.UsageError, match="a serializer of your own cannot take that"):
        serialized.map(len, [first[0]])


def test_a_result_of_a_serializer_that_can_be_imported_is_taken_by_others(q, worker):
    queue = Queue(namespace=q.namespace, serializer="json", progress=False)
    first = queue.map(sorted, [[2, 1], [4, 3]])
    assert first.then(sum).results(timeout=30) == [3, 7]
    assert q.enqueue(lambda found: found, first).result(timeout=30) == [[1, 2], [3, 4]]
    queue.close()


def test_a_result_of_a_serializer_that_does_not_come_along_is_told(q, worker):
    class Own(Compressed):
        """Defined right here."""

    queue = Queue(namespace=q.namespace, serializer=Own, progress=False)
    first = queue.map(sorted, [[2, 1]])
    with pytest.raises(errors.DependencyFailed, match="a serializer that cannot be imported"):
        first.then(sum).results(timeout=30)
    queue.close()


def test_what_takes_results_runs_again_with_a_mended_function(q, worker):
    first = q.map(abs, [-1, -2, -3])
    row, single = first.then(fail), q.enqueue(fail, first)
    row.wait(timeout=30)
    single.wait(timeout=30)
    assert row.retry(func=lambda x: x * 2) == 3
    assert row.results(timeout=30) == [2, 4, 6]
    assert single.retry(func=sum)
    assert single.result(timeout=30) == 6


def test_dependents_come_back_with_a_mended_function(q, worker):
    first = q.map(fail, [1, 2])
    row = first.then(str)
    first.wait(timeout=30)
    with pytest.raises(errors.DependencyFailed):
        row.results(timeout=30)
    assert first.retry(func=abs) == 2
    assert row.results(timeout=30) == ["1", "2"]


def test_what_was_canceled_while_it_waited_gets_a_mended_function(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    batch = q.map(fail, [-1, -2], depends_on=first)
    row = first.batch.then(fail)
    for one in (batch, row):
        one.cancel()
        assert one.retry(func=repr) == len(one)
        assert one.counts["deferred"] == len(one)
    (tmp_path / "go").touch()
    assert batch.results(timeout=30) == ["-1", "-2"]
    assert row.results(timeout=30) == ["'go'"]


def test_dependents_start_when_the_callback_is_over(q, worker, tmp_path):
    def slowly(result):
        hold(tmp_path / "go")

    first = q.enqueue(abs, -1, on_success=Callback(slowly, timeout=30))
    after = q.enqueue(str, first)
    wait_until(lambda: first.is_started)
    assert after.is_deferred
    (tmp_path / "go").touch()
    assert after.result(timeout=30) == "1"


def test_callbacks_of_jobs_that_wait_for_others(q, worker):
    first = q.enqueue(abs, -1)
    second = q.enqueue(str, first, on_success=say)
    assert second.result(timeout=30) == "1"
    assert second.output == "said 1\n"
    row = q.map(abs, [-1, -2]).then(str, on_success=say)
    assert row.results(timeout=30) == ["1", "2"]
    assert [job.output for job in row.jobs] == ["said 1\n", "said 2\n"]


def test_what_waits_for_others_is_given_up_after_its_time_in_the_queue(q, worker, tmp_path):
    first = q.enqueue(hold, tmp_path / "go")
    patient = q.enqueue(abs, -1, depends_on=first, ttl=0.3)
    wait_until(lambda: first.is_started)
    time.sleep(0.5)  # longer than it would wait in the queue, where it is not yet
    (tmp_path / "go").touch()
    assert patient.result(timeout=30) == 1


@pytest.mark.filterwarnings("ignore:queue default is paused")  # said to who waits before its time is up
def test_what_depends_on_a_job_that_is_given_up_fails(q, workers, tmp_path):
    q.pause()
    first = q.enqueue(abs, -1, ttl=0.2)
    after, anyway = q.enqueue(str, first), q.enqueue(abs, -2, depends_on=Dependency(first, allow_failure=True))
    workers.start()
    with pytest.raises(errors.DependencyFailed, match=f"because job {first.id} failed .JobExpired"):
        after.result(timeout=30)
    q.resume()
    assert anyway.result(timeout=30) == 2


def test_a_job_that_waits_for_its_retry_holds_its_dependents(q, worker, tmp_path):
    def flaky(path):
        if not path.exists():
            path.touch()
            raise OSError("not yet")
        return 5

    first = q.enqueue(flaky, tmp_path / "mark", retry=Retry(3, interval=0.2), on_success=say)
    assert q.enqueue(abs, first).result(timeout=30) == 5
    assert first.output == "said 5\n"


def test_a_job_waits_inside_for_what_depends_on_others(q, workers):
    workers.start(children=1)

    def outer(x, namespace):
        queue = Queue(namespace=namespace, progress=False)
        one = queue.enqueue(abs, x)
        return sum(queue.map(abs, [one, -1]).then(lambda y: y + 1).results())

    assert q.enqueue(outer, -5, q.namespace).result(timeout=60) == 8


def test_names_of_jobs_can_be_waited_for(q, worker):
    first = q.enqueue(abs, -7, job_id="seven")
    assert q.enqueue(str, first).result(timeout=30) == "7"
    assert q.enqueue(str, 1, depends_on=first.id).result(timeout=30) == "1"
