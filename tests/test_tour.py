"""The README's story, one idea a test. Read this first."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import time

import pytest
from conftest import run_as_notebook, wait_until

from nbqueue import Queue, call, errors
from nbqueue.client.bar import Lines


def test_a_function_of_a_notebook_is_mapped_over_items(namespace, worker):
    done = run_as_notebook(
        """
        import sys
        from nbqueue import Queue

        q = Queue(namespace=sys.argv[1])
        rates = {"EUR": 2}

        def score(x):
            return x * rates["EUR"]

        print(q.map(score, range(5)).results())
        """,
        namespace,
    )
    assert done.stdout == "[0, 2, 4, 6, 8]\n", done.stderr


def test_a_single_call_is_a_job(q, worker):
    job = q.enqueue(pow, 2, 10)
    assert job.result(timeout=20) == 1024
    assert job.is_finished
    assert job.args == (2, 10)
    assert job.func_name == "pow"


def test_results_come_in_input_order_as_they_become_available(q, worker):
    batch = q.map(lambda x: x + 1, range(1000))
    assert list(batch) == list(range(1, 1001))
    assert len(batch) == 1000
    assert batch[17].result() == 18
    assert [job.index for job in batch[2:4]] == [2, 3]


def test_jobs_come_in_the_order_of_ending(q, worker):
    batch = q.map(str, range(100))
    jobs = list(batch.as_completed(timeout=20))
    assert sorted(job.index for job in jobs) == list(range(100))
    assert all(job.return_value() == str(job.index) for job in jobs)


def test_calls_of_several_functions_keep_their_order(q, worker):
    batch = q.enqueue_many([(abs, (-1,)), call(sorted, "ba", reverse=True), (dict, (), {"a": 1})])
    assert batch.results(timeout=20) == [1, ["b", "a"], {"a": 1}]
    assert q.starmap(pow, [(2, 3), (3, 2)]).results(timeout=20) == [8, 9]
    assert q.map(pow, [2, 3], [3, 2]).results(timeout=20) == [8, 9]


def test_what_failed_is_grouped_and_raises_the_functions_own_exception(q, worker):
    def invert(x):
        return 1 / x

    batch = q.map(invert, [1, 0, 2, 0])
    with pytest.raises(ZeroDivisionError) as caught:
        batch.results(timeout=20)
    assert "return 1 / x" in str(caught.value.__cause__)
    assert batch.results(errors="skip") == [1, 0.5]
    assert [type(r) for r in batch.results(errors="return")] == [float, ZeroDivisionError, float, ZeroDivisionError]
    (group,) = batch.failures()
    assert (group.type, group.message, group.count) == ("ZeroDivisionError", "division by zero", 2)
    assert group.job.index in (1, 3)
    assert "return 1 / x" in group.traceback


def test_what_failed_runs_again_and_what_finished_never(q, worker, tmp_path):
    seen = tmp_path / "seen"
    good = tmp_path / "good"

    def work(x):
        with seen.open("a") as file:
            file.write(f"{x}\n")
        if x % 2 and not good.exists():
            raise RuntimeError("not yet")
        return x

    batch = q.map(work, range(6)).wait(20)
    assert batch.counts["failed"] == 3
    good.touch()
    assert batch.retry() == 3
    assert batch.results(timeout=20) == list(range(6))
    assert sorted(seen.read_text().split()) == ["0", "1", "1", "2", "3", "3", "4", "5", "5"]
    assert batch[1].attempt == 2
    assert batch[0].attempt == 1
    assert batch.failures() == []


def test_a_batch_is_found_again_from_another_process(q, worker, namespace):
    batch = q.map(abs, range(-3, 0))
    found = run_as_notebook(
        """
        import sys
        from nbqueue import Queue

        batch = Queue(namespace=sys.argv[1]).batch(sys.argv[2])
        print(batch.results(), Queue(namespace=sys.argv[1]).last() == batch)
        """,
        namespace,
        batch.id,
    )
    assert found.stdout == "[3, 2, 1] True\n", found.stderr
    assert q.fetch_job(f"{batch.id}:1").result() == 2


def test_lambdas_closures_methods_partials_and_coroutines_run(q, worker):
    class Scale:
        def __init__(self, by):
            self.by = by

        def __call__(self, x):
            return x * self.by

        def twice(self, x):
            return 2 * x * self.by

    async def slowly(x):
        await asyncio.sleep(0)
        return x

    @functools.lru_cache
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    y = 10
    assert q.map(lambda x: x + y, [1]).results(timeout=20) == [11]
    assert q.map(Scale(3), [1, 2]).results(timeout=20) == [3, 6]
    assert q.map(Scale(3).twice, [1]).results(timeout=20) == [6]
    assert q.map(functools.partial(pow, 2), [3]).results(timeout=20) == [8]
    assert q.map(slowly, [1, 2]).results(timeout=20) == [1, 2]
    assert q.enqueue(fib, 50).result(timeout=20) == 12586269025
    assert type(q.enqueue(Scale, 4).result(timeout=20)).__name__ == "Scale"


def test_a_long_wait_writes_a_line_now_and_then_where_there_is_no_terminal(namespace, worker, monkeypatch, capsys):
    monkeypatch.setattr(Lines, "FIRST", 0.0)
    monkeypatch.setattr(Lines, "NEXT", 0.0)
    queue = Queue(namespace=namespace)
    batch = queue.map(time.sleep, [0.05] * 60, label="naps")
    batch.wait(30)
    lines = capsys.readouterr().err.splitlines()
    assert len(set(lines)) == len(lines) >= 1, "only what has changed"
    assert all(re.fullmatch(rf"nbqueue: naps \({batch.id}\): \d+ of 60 done", line) for line in lines)
    queue.close()


def test_a_batch_and_a_job_can_be_awaited(q, worker):
    async def work():
        batch = q.map(abs, [-1, -2])
        job = q.enqueue(abs, -3)
        return await batch, await job

    assert asyncio.run(work()) == ([1, 2], 3)


@pytest.mark.parametrize("has_url", [False, True])
def test_a_job_can_submit_jobs_to_where_it_came_from(namespace, private, workers, has_url):
    url = private().url if has_url else None
    with contextlib.closing(Queue(connection=url, namespace=namespace, progress=False)) as q:
        workers.start(*(["--url", url] if url else []))

        def split(text):
            from nbqueue import Queue

            return Queue(namespace=namespace).map(str.upper, text).id

        assert q.batch(q.enqueue(split, "ab").result(timeout=20)).results(timeout=20) == ["A", "B"]
        with pytest.raises(errors.CannotPickle, match=r"variable 'q'.*Queue .*import q` is the queue"):
            q.enqueue(lambda: len(q))


def test_none_as_a_result_is_told_apart_from_not_finished(q, worker, tmp_path):
    from nbqueue.errors import NotFinished

    go = tmp_path / "go"

    def wait():
        import time

        while not go.exists():
            time.sleep(0.01)

    job = q.enqueue(wait)
    with pytest.raises(NotFinished):
        job.return_value()
    go.touch()
    assert job.wait(20).return_value() is None
    assert job.is_finished


def test_queues_are_counted_paused_and_emptied(q, workers):
    q.pause()
    batch = q.map(abs, range(5))
    workers.start()
    assert (q.count, len(q), len(q.job_ids), q.is_paused) == (5, 5, 5, True)
    assert q.jobs[0] == batch[0]
    assert q.empty() == 5
    assert batch.counts["canceled"] == 5
    again = q.map(abs, range(5))
    q.resume()
    assert again.results(timeout=20) == list(range(5))
    assert batch.retry() == 5
    assert batch.results(timeout=20) == list(range(5))


def test_a_call_recurs_until_its_schedule_is_removed(q, worker):
    schedule = q.every(0.2, pow, 2, 10, name="powers")
    wait_until(lambda: schedule.count >= 2)
    assert schedule.jobs()[-1].result(timeout=20) == 1024
    assert [one.name for one in q.schedules()] == ["powers"]
    assert schedule.remove()
    nightly = q.cron("0 3 * * *", pow, 2, 10, name="nightly", timezone="Europe/Berlin")
    assert (nightly.next_run.hour, nightly.next_run.minute) == (3, 0)


def test_an_empty_iterable_is_a_finished_batch(q):
    batch = q.map(abs, [])
    assert (len(batch), batch.done, batch.results(), batch.progress) == (0, True, [], 1.0)


def test_a_generator_runs_while_it_is_still_being_read(q, worker):
    """Its second half depends on a result of its first one."""
    go = Queue(namespace=q.namespace, progress=False)

    def items():
        yield 1
        (batch,) = wait_until(go.batches)
        yield batch[0].result(timeout=20) + 1

    assert q.map(lambda x: x * 10, items()).results(timeout=20) == [10, 110]


def test_big_arrays_come_through_and_can_be_written_to(q, worker):
    import numpy as np

    def double(a):
        a *= 2
        return a

    arrays = [np.full(200_000, float(i)) for i in range(4)]
    results = q.map(double, arrays).results(timeout=30)
    for i, result in enumerate(results):
        assert (result == 2.0 * i).all()
        result += 1
