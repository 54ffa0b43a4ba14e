"""nbqueue's figures: `python -m benchmarks.ours PART`, with `NBQUEUE_HOME` set and two children at work.

Run as `__main__`, so that its functions are shipped by value, as those of a notebook are. They return what can be
checked: a result that only repeats the argument would not tell that the function ran.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbqueue
from benchmarks import figures, stage
from benchmarks.figures import LIMIT, NAP, Figure, Measure, Sizes, System, check
from benchmarks.panels import measure_panels
from nbqueue import Queue, errors
from nbqueue.store.description import Description
from nbqueue.store.keys import new_token
from nbqueue.store.requests import steering, submitting
from nbqueue.store.requests.submitting import Opening

OURS = System.NBQUEUE


def plus_one(x: int) -> int:
    return x + 1


def same(value: Any) -> Any:
    return value


def nap(x: int) -> int:
    time.sleep(NAP)
    return x


def measure_map(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Submit integers and read all results; checked when the clock has stopped."""

    def one_round() -> tuple[float, Any]:
        start = time.perf_counter()
        batch = queue.map(plus_one, range(sizes.jobs))
        results = batch.results(timeout=LIMIT)
        took = time.perf_counter() - start
        check(results, range(1, sizes.jobs + 1))
        batch.delete()
        return took, batch

    yield Figure.median(OURS, Measure.MAP, figures.rates(one_round, sizes.jobs, sizes.rounds), sizes.jobs)


def measure_records(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """As with integers, but with values that cannot share one pickle."""
    records = figures.make_records(sizes.jobs)

    def one_round() -> tuple[float, Any]:
        start = time.perf_counter()
        batch = queue.map(same, records)
        results = batch.results(timeout=LIMIT)
        took = time.perf_counter() - start
        check(results, records)
        batch.delete()
        return took, batch

    yield Figure.median(OURS, Measure.RECORDS, figures.rates(one_round, sizes.jobs, sizes.rounds), sizes.jobs)


def measure_many(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """A million, iterated over and checked as they come; and what that adds to this process, after a first job."""
    check(queue.map(plus_one, range(100)), range(1, 101))
    before = _reset_peak_memory()
    start = time.perf_counter()
    batch = queue.map(plus_one, range(sizes.many))
    submitted = time.perf_counter()
    check(batch, range(1, sizes.many + 1))
    end = time.perf_counter()
    added = (_peak_memory() - before) / 1e6
    batch.delete()
    yield Figure(OURS, Measure.MANY, sizes.many / (end - start), sizes.many)
    yield Figure(OURS, Measure.MANY_SUBMIT, submitted - start, sizes.many)
    yield Figure(OURS, Measure.MANY_READ, end - submitted, sizes.many)
    yield Figure(OURS, Measure.MEMORY, added, sizes.many)


def _peak_memory() -> int:
    """Bytes of memory that this process had at most."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):  # macOS, where ru_maxrss are bytes
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _reset_peak_memory() -> int:
    """Bytes it has now, and from where its peak counts anew. (Where it cannot be reset, the peak so far.)"""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_memory()


def measure_submit(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Submit while no job of the queue may start; run and check them then."""

    def one_round() -> tuple[float, Any]:
        queue.pause()
        start = time.perf_counter()
        batch = queue.map(plus_one, range(sizes.jobs))
        took = time.perf_counter() - start
        queue.resume()
        check(batch.results(timeout=LIMIT), range(1, sizes.jobs + 1))
        batch.delete()
        return took, batch

    yield Figure.median(OURS, Measure.SUBMIT, figures.rates(one_round, sizes.jobs, sizes.rounds), sizes.jobs)


def measure_ping(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """What a call to the server takes on this machine at least: it varies with how deep its CPUs sleep."""
    took = []
    for _ in range(2000):
        start = time.perf_counter()
        queue.store.run("PING")
        took.append(time.perf_counter() - start)
    yield Figure.median(OURS, Measure.PING, [seconds * 1000 for seconds in took], len(took))


def measure_trip(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    yield from measure_ping(queue, sizes)
    yield from figures.trip_figures(OURS, lambda i: queue.enqueue(plus_one, i).result(LIMIT), sizes.trips)


def measure_enqueue(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """The loop alone, to a paused queue and while jobs already run; checked then."""

    def one_round(*, paused: bool) -> tuple[float, Any]:
        if paused:
            queue.pause()
        start = time.perf_counter()
        jobs = [queue.enqueue(plus_one, i) for i in range(sizes.singles)]
        took = time.perf_counter() - start
        if paused:
            queue.resume()
        check((job.result(LIMIT) for job in jobs), range(1, sizes.singles + 1))
        return took, jobs

    for measure, paused in ((Measure.ENQUEUE, True), (Measure.ENQUEUE_RUNNING, False)):
        rates = figures.rates(partial(one_round, paused=paused), sizes.singles, 3)
        yield Figure.median(OURS, measure, rates, sizes.singles)


def measure_bytes(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Memory of the server with jobs that wait in a paused queue, and with the same jobs when they have finished."""
    check(queue.map(plus_one, range(100)), range(1, 101))
    check([queue.enqueue(plus_one, 1).result(LIMIT)], [2])
    yield from _stored(
        queue, sizes.jobs, Measure.QUEUED, Measure.FINISHED,
        submit=lambda n: queue.map(plus_one, range(n)), results=lambda batch: batch.results(timeout=LIMIT),
    )  # fmt: skip
    yield from _stored(
        queue, sizes.stored_singles, Measure.QUEUED_SINGLE, Measure.FINISHED_SINGLE,
        submit=lambda n: [queue.enqueue(plus_one, i) for i in range(n)],
        results=lambda jobs: [job.result(LIMIT) for job in jobs],
    )  # fmt: skip


def _stored(
    queue: Queue, jobs: int, queued: Measure, finished: Measure,
    *, submit: Callable[[int], Any], results: Callable[[Any], list[Any]],
) -> Iterator[Figure]:  # fmt: skip
    client = queue.connection
    queue.pause()
    before = figures.used_memory(client)
    submitted = submit(jobs)
    waiting = figures.used_memory(client)
    queue.resume()
    check(results(submitted), range(1, jobs + 1))
    ended = figures.used_memory(client)
    yield Figure(OURS, queued, (waiting - before) / jobs, jobs)
    yield Figure(OURS, finished, (ended - before) / jobs, jobs)


def measure_arrays(queue: Queue, sizes: Sizes, system: System = OURS) -> Iterator[Figure]:
    import numpy

    arrays = figures.make_arrays(sizes.arrays)

    def one_round() -> tuple[float, Any]:
        start = time.perf_counter()
        batch = queue.map(same, arrays)
        results = batch.results(timeout=LIMIT)
        took = time.perf_counter() - start
        check(results, arrays, same=numpy.array_equal)
        batch.delete()
        return took, batch

    yield Figure.median(
        system, Measure.ARRAYS, figures.rates(one_round, figures.megabytes(sizes.arrays), 3), sizes.arrays
    )


def measure_large(queue: Queue, sizes: Sizes, system: System = OURS) -> Iterator[Figure]:
    """One large table for many calls, as their argument and in a closure."""
    took = []
    for seed in range(4):
        table = figures.make_table(seed)
        start = time.perf_counter()
        batch = queue.map(figures.item_of, range(100), [table] * 100)
        results = batch.results(timeout=LIMIT)
        took.append(time.perf_counter() - start)
        check(results, table[:100])
        batch.delete()
    yield Figure.median(system, Measure.TABLE, took[1:], 100)

    def item(x: int) -> float:
        return float(table[x])

    took = []
    for _ in range(4):
        start = time.perf_counter()
        results = queue.map(item, range(100)).results(timeout=LIMIT)
        took.append(time.perf_counter() - start)
        check(results, table[:100])
    yield Figure.median(system, Measure.CLOSURE, took[1:], 100)
    large = figures.make_table(0, figures.CLOSURE_BYTES)
    looks = queue.map(lambda x: figures.look_at(x, large), range(8)).results(timeout=LIMIT)
    yield Figure(system, Measure.CLOSURE_MEMORY, figures.memory_of(looks), 8)


def measure_remote(_: Queue, sizes: Sizes) -> Iterator[Figure]:
    """The same through a server that is reached by its URL, with two workers of one child each, as two hosts have."""
    with tempfile.TemporaryDirectory() as directory, stage.plain_server(Path(directory) / "server") as url:
        command = [sys.executable, "-m", "nbqueue", "worker", "-n", "1", "--url", url]
        with stage.process(command), stage.process(command):
            queue = Queue(connection=url, progress=False)
            figures.wait_until(lambda: len(queue.workers()) == figures.WORKERS)
            yield from measure_arrays(queue, sizes, System.NBQUEUE_URL)
            yield from measure_large(queue, sizes, System.NBQUEUE_URL)
            queue.close()


def measure_naps(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Jobs of 10 ms, against the time that two children need at best."""
    took = []
    for _ in range(3):
        start = time.perf_counter()
        results = queue.map(nap, range(sizes.naps)).results(timeout=LIMIT)
        took.append((time.perf_counter() - start) / figures.ideal(sizes.naps))
        check(results, range(sizes.naps))
    yield Figure.median(OURS, Measure.NAPS, took, sizes.naps)


def fail_once(x: int) -> int:
    job = nbqueue.get_current_job()
    if job is None or job.attempt == 1:
        raise ValueError("once")
    return x


def measure_later(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Jobs that all become due while nothing else is to do, one that is submitted then, and jobs that fail once."""
    took, other = [], []
    for _ in range(sizes.rounds):
        batch = queue.map(plus_one, range(sizes.due), delay=3)
        due = max(job.due_at.timestamp() for job in (batch[0], batch[-1]) if job.due_at)
        time.sleep(max(0.0, due - time.time()))
        start = time.perf_counter()
        job = queue.options(label="another").enqueue(plus_one, 1)
        check([job.result(timeout=LIMIT)], [2])
        other.append(time.perf_counter() - start)
        batch.wait(timeout=LIMIT)
        took.append(time.perf_counter() - start)
        check(batch.results(), range(1, sizes.due + 1))
        batch.delete()
    yield Figure.median(OURS, Measure.DUE, took, sizes.due)
    yield Figure.median(OURS, Measure.DUE_OTHER, other, 1)
    again = []
    for _ in range(3):
        start = time.perf_counter()
        batch = queue.map(fail_once, range(sizes.retried), retry=nbqueue.Retry(1))
        check(batch.results(timeout=LIMIT), range(sizes.retried))
        again.append(time.perf_counter() - start)
        batch.delete()
    yield Figure.median(OURS, Measure.RETRIED, again, sizes.retried)


def measure_idle(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """A worker with nothing to do, and one for which there is much to do later, in one run and each at its own time."""

    def trip() -> float:
        one = lambda i: queue.enqueue(plus_one, i).result(LIMIT)  # noqa: E731
        return min(figures.trip_figures(OURS, one, sizes.trips)[0].value for _ in range(5))

    [worker] = queue.workers()
    pid = int(worker.fields["pid"])
    alone = trip()
    time.sleep(2)
    yield Figure(OURS, Measure.IDLE, figures.share_of_a_core(pid, sizes.idle), 0)
    many = queue.map(plus_one, range(sizes.many), delay=10**6)
    singles = [queue.enqueue_in(10**5 + i, plus_one, i) for i in range(sizes.singles)]
    time.sleep(2)
    yield Figure(OURS, Measure.LATER_IDLE, figures.share_of_a_core(pid, sizes.idle), sizes.many)
    yield Figure(OURS, Measure.LATER_TRIP, trip() / alone, sizes.many)
    for batch in [many, *{job.batch.id: job.batch for job in singles}.values()]:
        batch.delete()


def measure_chains(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Jobs that take the results of others: whole batches, one after the other, and many of one."""
    ratios = []
    for _ in range(sizes.rounds):
        start = time.perf_counter()
        first = queue.map(plus_one, range(sizes.due))
        second = first.then(plus_one)
        check(second.results(timeout=LIMIT), range(2, sizes.due + 2))
        piped = time.perf_counter() - start
        start = time.perf_counter()
        one = queue.map(plus_one, range(sizes.due))
        other = queue.map(plus_one, one.results(timeout=LIMIT))
        check(other.results(timeout=LIMIT), range(2, sizes.due + 2))
        ratios.append((time.perf_counter() - start) / piped)
        for batch in (first, second, one, other):
            batch.delete()
    yield Figure.median(OURS, Measure.THEN, ratios, 2 * sizes.due)
    took = []
    for _ in range(3):
        start = time.perf_counter()
        job = queue.enqueue(plus_one, 0)
        for _ in range(sizes.links - 1):
            job = queue.enqueue(plus_one, job)
        check([job.result(timeout=LIMIT)], [sizes.links])
        took.append((time.perf_counter() - start) * 1000 / sizes.links)
    yield Figure.median(OURS, Measure.CHAIN, took, sizes.links)
    start = time.perf_counter()
    jobs = [queue.enqueue(plus_one, i) for i in range(sizes.fans)]
    batches = [queue.map(plus_one, [job] * 100) for job in jobs]
    for i, batch in enumerate(batches):
        check(batch.results(timeout=LIMIT), [i + 2] * 100)
    yield Figure(OURS, Measure.FAN, time.perf_counter() - start, 100 * sizes.fans)
    for batch in batches:
        batch.delete()


def measure_count(queue: Queue, sizes: Sizes) -> Iterator[Figure]:
    """Count what waits, among batches of one job that were canceled."""
    queue.pause()
    waiting = queue.map(plus_one, range(100))
    for i in range(sizes.ended):
        opening = Opening(f"ended{i}", new_token(), queue.name, queue.environment, 1, Description().to_json())
        queue.store.call(submitting.submit(opening, 0, 1, {}, [("b0", b"call")], is_last=True))
        queue.store.call(steering.cancel(opening.batch, "enough"))
    took = []
    for _ in range(sizes.trips):
        start = time.perf_counter()
        count = queue.count
        took.append((time.perf_counter() - start) * 1000)
        check([count], [100])
    for i in range(sizes.ended):
        queue.store.call(steering.delete(f"ended{i}"))
    waiting.delete()
    queue.resume()
    yield Figure.median(OURS, Measure.COUNT, took, sizes.ended)


PARTS: dict[str, Callable[[Queue, Sizes], Iterator[Figure]]] = {
    "map": measure_map,
    "records": measure_records,
    "many": measure_many,
    "submit": measure_submit,
    "trip": measure_trip,
    "enqueue": measure_enqueue,
    "bytes": measure_bytes,
    "arrays": measure_arrays,
    "large": measure_large,
    "remote": measure_remote,
    "naps": measure_naps,
    "later": measure_later,
    "chains": measure_chains,
    "idle": measure_idle,
    "count": measure_count,
    "panels": measure_panels,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one part, on the embedded server of NBQUEUE_HOME.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore", errors.LargeWarning)
    queue = Queue(progress=False)
    try:
        figures.report(PARTS[chosen.part](queue, figures.QUICK if chosen.quick else figures.FULL))
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        queue.close()


if __name__ == "__main__":
    main()
