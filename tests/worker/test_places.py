"""Jobs that wait for other jobs: they give their places away, and never more run at once than the worker has places."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import wait_until

from nbqueue import errors
from nbqueue.worker import places


def waits(q, n=1):
    """Until so many jobs of the worker wait for others."""
    return wait_until(lambda: any(int(worker.fields.get("waiting", 0)) == n for worker in q.workers()))


def most_at_once(path: Path) -> int:
    """How many jobs ran at once, as they have written themselves: when they began (+1) and ceased (-1) to run."""
    steps = sorted((int(at), int(step)) for at, step in map(str.split, path.read_text().splitlines()))
    running, most = 0, 0
    for _, step in steps:
        running += step
        most = max(most, running)
    assert running == 0
    return most


@pytest.fixture
def tree(namespace, tmp_path):
    """Jobs that submit jobs and wait for them, in a way of one's choice, and write down when they run."""
    path = tmp_path / "steps"

    def note(step):
        with path.open("a") as file:
            file.write(f"{time.monotonic_ns()} {step}\n")

    def collect(batch, how):
        if how == "result":
            return [job.result() for job in batch]
        if how == "wait":
            return [job.wait().return_value() for job in batch.jobs]
        if how == "iterate":
            return list(batch)
        if how == "as_completed":
            return [job.result() for job in batch.as_completed()]
        return batch.wait().results() if how == "wait for all" else batch.results()

    def grow(levels, width=2, how="results"):
        """How many leaves there are."""
        from nbqueue import Queue

        note(1)
        if levels == 0:
            time.sleep(0.002)
            note(-1)
            return 1
        own = Queue(namespace=namespace, progress=False)
        if how == "result":
            below = [own.enqueue(grow, levels - 1, width, how) for _ in range(width)]
        else:
            below = own.map(grow, [levels - 1] * width, [width] * width, [how] * width)
        note(-1)
        found = collect(below, how)
        note(1)
        own.close()
        note(-1)
        return sum(found)

    return grow


@pytest.mark.parametrize("how", ["result", "wait", "results", "wait for all", "iterate", "as_completed"])
def test_three_levels_of_jobs_end_on_one_child(q, workers, tree, tmp_path, how):
    workers.start(children=1)
    assert q.enqueue(tree, 2, 2, how).result(timeout=60) == 4
    assert most_at_once(tmp_path / "steps") == 1
    assert q.workers()[0].children == 1


def test_many_jobs_that_wait_at_two_levels_end_on_two_children_of_which_two_run_at_once(q, workers, tree, tmp_path):
    workers.start(children=2)
    assert q.enqueue(tree, 3, 4).result(timeout=60) == 64
    assert most_at_once(tmp_path / "steps") == 2


def test_more_jobs_wait_than_may_give_their_places_away_and_none_stands_still(q, workers, namespace):
    workers.start(children=2)

    def leaf(x):
        return x

    def branch(x):
        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        found = sum(own.map(leaf, [x] * 3).results())
        own.close()
        return found

    def root():
        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        found = own.map(branch, range(100)).results()
        own.close()
        return found

    assert q.enqueue(root).result(timeout=90) == [3 * x for x in range(100)]


def test_fibonacci_by_jobs(q, worker, namespace, tmp_path):
    path = tmp_path / "steps"

    def fibonacci(n):
        from nbqueue import Queue

        def note(step):
            with path.open("a") as file:
                file.write(f"{time.monotonic_ns()} {step}\n")

        note(1)
        if n < 2:
            note(-1)
            return n
        own = Queue(namespace=namespace, progress=False)
        one, other = own.enqueue(fibonacci, n - 1), own.enqueue(fibonacci, n - 2)
        note(-1)
        found = one.result() + other.result()
        own.close()
        return found

    assert q.enqueue(fibonacci, 6).result(timeout=60) == 8
    assert most_at_once(tmp_path / "steps") <= 2


def test_coroutines_and_threads_of_a_job_wait_as_it_does(q, workers, namespace):
    workers.start(children=1)

    async def awaits():
        import asyncio

        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        jobs = [own.enqueue(abs, -x) for x in range(3)]
        found = await asyncio.gather(*jobs, own.map(abs, [-3, -4]))
        own.close()
        return found

    def asks_in_threads():
        from concurrent.futures import ThreadPoolExecutor

        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        jobs = [own.enqueue(abs, -x) for x in range(5)]
        with ThreadPoolExecutor(3) as threads:
            found = list(threads.map(lambda job: job.result(), jobs))
        own.close()
        return found

    assert q.enqueue(awaits).result(timeout=30) == [0, 1, 2, [3, 4]]
    assert q.enqueue(asks_in_threads).result(timeout=30) == [0, 1, 2, 3, 4]


class Parent:
    """A job that waits for one on queue `elsewhere`, where another worker runs it until `gate` opens."""

    def __init__(self, q, workers, directory):
        workers.start("elsewhere", children=1)
        self.gate, self.cleaned, self.pids = directory / "gate", directory / "cleaned", directory / "pids"
        namespace, gate, cleaned, pids = q.namespace, self.gate, self.cleaned, self.pids

        def hold(x):
            while not gate.exists():
                time.sleep(0.01)
            return x

        def wait(x=1):
            import nbqueue
            from nbqueue import Queue

            with pids.open("a") as file:
                file.write(f"{os.getpid()}\n")
            own = Queue("elsewhere", namespace=namespace, progress=False)
            try:
                return nbqueue.get_current_job().attempt, own.enqueue(hold, x).result()
            finally:
                cleaned.touch()
                own.close()

        self.function = wait


@pytest.fixture
def parent(q, workers, tmp_path):
    made = Parent(q, workers, tmp_path)
    yield made
    made.gate.touch()


def test_that_jobs_wait_is_told_while_others_run(q, workers, parent):
    workers.start(children=1)
    job = q.enqueue(parent.function)
    waits(q)
    assert q.enqueue(abs, -2).result(timeout=20) == 2
    running = q.enqueue(time.sleep, 60)
    (mine,) = [worker.name for worker in q.workers() if "default" in worker.queues]
    wait_until(lambda: all(worker.fields["busy"] == "1" for worker in q.workers()))
    told = subprocess.run(
        [sys.executable, "-m", "nbqueue", "info", "--namespace", q.namespace],
        capture_output=True, text=True, timeout=30, check=True,
    ).stdout  # fmt: skip
    assert f"{mine}: 1 run, 1 waits for other jobs" in told
    running.cancel()
    parent.gate.touch()
    assert job.result(timeout=20) == (1, 1)
    wait_until(lambda: all(worker.fields.get("waiting", "0") == "0" for worker in q.workers()))


def test_who_reads_what_is_there_gives_nothing_away(q, worker, namespace):
    done = q.enqueue(abs, -1).wait(20).id

    def read():
        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        found = own.fetch_job(done).result()
        own.close()
        return found

    assert q.enqueue(read).result(timeout=20) == 1
    before = q.workers()[0].beat
    wait_until(lambda: q.workers()[0].beat > before + 1)
    assert "waiting" not in q.workers()[0].fields


def test_a_job_that_asks_to_be_told_of_others_keeps_its_place(q, workers, namespace):
    workers.start(children=1)

    def ask():
        import nbqueue
        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        batch = own.map(abs, [-1])
        batch.on_done(str)
        own.batch(nbqueue.get_current_job().batch_id).on_done(str)
        time.sleep(1)
        return batch.id, batch.counts["queued"]

    id, queued = q.enqueue(ask).result(timeout=30)
    assert queued == 1
    assert q.batch(id).results(timeout=20) == [1]


def test_who_goes_on_takes_the_next_place_before_jobs_that_wait_to_begin(q, workers, parent):
    workers.start(children=1)
    job = q.enqueue(parent.function)
    waits(q)
    later = q.map(time.sleep, [0.2] * 30)
    wait_until(lambda: later.counts["started"])
    parent.gate.touch()
    job.result(timeout=20)
    assert later.counts["queued"] > 15
    later.cancel()


def test_a_killed_child_that_waits_is_one_attempt_of_its_job(q, workers, parent):
    workers.start(children=1)
    job = q.enqueue(parent.function)
    waits(q)
    os.kill(int(parent.pids.read_text()), signal.SIGKILL)
    wait_until(lambda: len(parent.pids.read_text().split()) == 2)
    parent.gate.touch()
    assert job.result(timeout=20) == (2, 1)
    assert q.enqueue(abs, -2).result(timeout=20) == 2


def test_a_job_that_waits_is_canceled(q, workers, parent):
    workers.start(children=1)
    job = q.enqueue(parent.function)
    waits(q)
    assert job.cancel()
    with pytest.raises(errors.JobCanceled):
        job.result(timeout=20)
    wait_until(parent.cleaned.exists)
    assert q.enqueue(abs, -2).result(timeout=20) == 2
    waits(q, 0)


def test_the_time_that_a_job_waits_counts_for_its_limit(q, workers, parent):
    workers.start(children=1)
    job = q.enqueue(parent.function, job_timeout=1)
    with pytest.raises(errors.JobTimeout):
        job.result(timeout=20)
    wait_until(parent.cleaned.exists)
    assert q.enqueue(abs, -2).result(timeout=20) == 2


def test_the_time_that_it_waits_for_a_place_does_too(q, workers, parent, tmp_path):
    workers.start(children=1)
    blocks = tmp_path / "blocks"

    def block():
        blocks.touch()
        time.sleep(60)

    job = q.enqueue(parent.function, job_timeout=3)
    waits(q)
    long = q.enqueue(block)
    wait_until(blocks.exists)
    parent.gate.touch()
    with pytest.raises(errors.JobTimeout):
        job.result(timeout=20)
    long.cancel()


def test_a_worker_that_leaves_finishes_jobs_and_those_that_wait_for_them(q, workers, namespace, tmp_path):
    process = workers.start(children=1)
    runs, seconds = tmp_path / "runs", 2 * places._LEAVING

    def run():
        runs.touch()
        time.sleep(seconds)
        return "done"

    def ask():
        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        found = own.enqueue(run).result()
        own.close()
        return found

    job = q.enqueue(ask)
    wait_until(runs.exists)
    process.send_signal(signal.SIGTERM)
    assert job.result(timeout=30) == "done"
    assert process.wait(20) == 0


def test_what_only_waits_in_a_worker_that_leaves_is_given_back(q, workers, parent):
    process = workers.start(children=1)
    job = q.enqueue(parent.function)
    waits(q)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert "its job is given back" in process.log.read_text()
    assert job.get_status() == "queued"
    parent.gate.touch()
    workers.start(children=1)
    assert job.result(timeout=20) == (1, 1)


def test_a_job_that_waits_for_itself_is_told_so(q, worker, namespace):
    def wait_for(how):
        import nbqueue
        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        mine = nbqueue.get_current_job()
        batch = own.batch(mine.batch_id)
        if how == "job":
            return own.fetch_job(mine.id).result()
        if how == "iterate":
            return list(batch)
        if how == "as_completed":
            return list(batch.as_completed())
        return batch.results() if how == "all" else batch.wait()

    for how in ("job", "iterate", "as_completed", "all", "wait"):
        job = q.map(wait_for, [how]).wait(20)[0]
        with pytest.raises(errors.UsageError, match=rf"job {job.id} waits for (itself|all jobs of batch)") as caught:
            job.result()
        assert caught.value.job_id == job.id


def test_a_job_waits_for_neighbours_that_were_handed_over_with_it(q, workers, namespace):
    workers.start(children=1)

    def look(x, ahead, id):
        from nbqueue import Queue

        if not ahead:
            return x
        own = Queue(namespace=namespace, progress=False)
        found = own.fetch_job(f"{own.batches()[0].id}:{x + ahead}").result()
        own.close()
        return found

    q.map(look, range(500), [0] * 500, [""] * 500).wait(20)  # its time is known
    batch = q.map(look, range(500), [7 if x in (100, 300) else -7 if x == 200 else 0 for x in range(500)], [""] * 500)
    found = batch.results(timeout=30)
    assert [x for x in range(500) if found[x] != x] == [100, 200, 300]
    assert (found[100], found[200], found[300]) == (107, 193, 307)


def test_a_job_that_kills_its_process_is_told_to_the_one_that_waits_for_it(q, workers, namespace):
    workers.start(children=1)

    def ask():
        from nbqueue import Queue

        own = Queue(namespace=namespace, progress=False)
        try:
            return own.enqueue(os._exit, 3).result()
        except errors.JobKilled as error:
            return str(error)
        finally:
            own.close()

    assert "exit code 3" in q.enqueue(ask).result(timeout=60)


SMALL = "import nbqueue.worker.places as places; places._MOST_EACH = places._MOST_AT_LEAST = 1"


def test_at_the_bound_a_job_keeps_its_place_and_that_is_told(q, workers, parent):
    process = workers.start(children=1, first=SMALL)
    jobs = [q.enqueue(parent.function, x) for x in (1, 2)]
    wait_until(lambda: any(worker.fields.get("crowded") == "1" for worker in q.workers()))
    assert "1 jobs wait for other jobs here without a place, and no more can" in process.log.read_text()
    parent.gate.touch()
    assert [job.result(timeout=20) for job in jobs] == [(1, 1), (1, 2)]


def test_children_that_have_stood_in_for_others_leave(q, workers, tree):
    process = workers.start(children=1, first="import nbqueue.worker.places as places; places._SPARE = 0.2")
    children = psutil.Process(process.pid).children
    assert q.enqueue(tree, 2, 2).result(timeout=60) == 4
    wait_until(lambda: len(children()) == 2)  # one, and the guard
    assert q.enqueue(abs, -1).result(timeout=20) == 1
