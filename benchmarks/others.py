"""The others' figures: `python -m benchmarks.others SYSTEM`, measured as `ours` are.

Those that need a Redis have it at `NBQUEUE_BENCHMARKS_URL`, as `stage.plain_server` starts it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

from benchmarks import figures, stage
from benchmarks.figures import LIMIT, NAP, WORKERS, Figure, Measure, Sizes, System, check

Map = Callable[[Callable[[Any], Any], Sequence[Any]], list[Any]]
"""Runs a function over items and returns all results."""


def plus_one(x: int) -> int:
    return x + 1


def same(value: Any) -> Any:
    return value


def nap(x: int) -> int:
    time.sleep(NAP)
    return x


def measure_pool(sizes: Sizes) -> Iterator[Figure]:
    with ProcessPoolExecutor(WORKERS) as pool:

        def map_all(function: Callable[[Any], Any], items: Sequence[Any], chunksize: int = 1) -> list[Any]:
            return list(pool.map(function, items, timeout=LIMIT, chunksize=chunksize))

        map_100 = partial(map_all, chunksize=100)
        yield from _common(System.POOL_1, map_all, sizes)
        yield from figures.trip_figures(System.POOL_1, lambda i: pool.submit(plus_one, i).result(LIMIT), sizes.trips)
        yield _map(System.POOL_100, map_100, sizes.jobs, sizes.rounds)
        yield _records(System.POOL_100, map_100, sizes.jobs, sizes.rounds)
    with multiprocessing.Pool(WORKERS) as workers:
        yield _map(System.POOL_MAP, workers.map, sizes.jobs, sizes.rounds)
        yield _records(System.POOL_MAP, workers.map, sizes.jobs, sizes.rounds)


def measure_joblib(sizes: Sizes) -> Iterator[Figure]:
    from joblib import Parallel, delayed

    for system, batch_size in ((System.JOBLIB_1, 1), (System.JOBLIB_AUTO, "auto")):
        with Parallel(WORKERS, backend="loky", batch_size=batch_size, timeout=LIMIT) as parallel:

            def map_all(function: Callable[[Any], Any], items: Sequence[Any], parallel: Any = parallel) -> list[Any]:
                call = delayed(function)
                return list(parallel(call(item) for item in items))

            yield from _common(system, map_all, sizes)
            yield from figures.trip_figures(system, partial(_only, map_all), sizes.trips)
    with Parallel(WORKERS, backend="loky", timeout=LIMIT) as parallel:
        yield from _large(
            System.JOBLIB_AUTO,
            lambda function, count, table: list(parallel(delayed(function)(x, table) for x in range(count))),
        )


def measure_dask(sizes: Sizes) -> Iterator[Figure]:
    """Two processes of one thread each. A table is given to all of them in advance, as its documentation says."""
    from distributed import Client, LocalCluster

    def map_all(function: Callable[[int, Any], Any], count: int, table: Any) -> list[Any]:
        there = client.scatter(table, broadcast=True, hash=False)
        return list(client.gather(client.map(function, range(count), table=there, pure=False)))

    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        yield from _large(System.DASK, map_all)


def _large(system: System, map_all: Callable[[Callable[[int, Any], Any], int, Any], list[Any]]) -> Iterator[Figure]:
    """As `ours.measure_large`; for those whose functions have no large closure, which is an argument here."""
    took = []
    for seed in range(4):
        table = figures.make_table(seed)
        start = time.perf_counter()
        results = map_all(figures.item_of, 100, table)
        took.append(time.perf_counter() - start)
        check(results, table[:100])
    yield Figure.median(system, Measure.TABLE, took[1:], 100)
    large = figures.make_table(0, figures.CLOSURE_BYTES)
    yield Figure(system, Measure.CLOSURE_MEMORY, figures.memory_of(map_all(figures.look_at, 8, large)), 8)


def _only(map_all: Map, i: int) -> Any:
    """One job by itself."""
    return map_all(plus_one, [i])[0]


def _common(system: System, map_all: Map, sizes: Sizes) -> Iterator[Figure]:
    yield _map(system, map_all, sizes.jobs, sizes.rounds)
    yield _records(system, map_all, sizes.jobs, sizes.rounds)
    yield _arrays(system, map_all, sizes.arrays)
    yield _naps(system, map_all, sizes.naps)


def _map(system: System, map_all: Map, jobs: int, rounds: int, function: Callable[[int], int] = plus_one) -> Figure:
    def one_round() -> tuple[float, Any]:
        start = time.perf_counter()
        results = map_all(function, range(jobs))
        took = time.perf_counter() - start
        check(results, range(1, jobs + 1))
        return took, None

    return Figure.median(system, Measure.MAP, figures.rates(one_round, jobs, rounds), jobs)


def _records(system: System, map_all: Map, count: int, rounds: int, function: Callable[[Any], Any] = same) -> Figure:
    records = figures.make_records(count)

    def one_round() -> tuple[float, Any]:
        start = time.perf_counter()
        results = map_all(function, records)
        took = time.perf_counter() - start
        check(results, records)
        return took, None

    return Figure.median(system, Measure.RECORDS, figures.rates(one_round, count, rounds), count)


def _arrays(system: System, map_all: Map, count: int, function: Callable[[Any], Any] = same) -> Figure:
    import numpy

    arrays = figures.make_arrays(count)

    def one_round() -> tuple[float, Any]:
        start = time.perf_counter()
        results = map_all(function, arrays)
        took = time.perf_counter() - start
        check(results, arrays, same=numpy.array_equal)
        return took, None

    return Figure.median(system, Measure.ARRAYS, figures.rates(one_round, figures.megabytes(count), 3), count)


def _naps(system: System, map_all: Map, count: int, function: Callable[[int], int] = nap) -> Figure:
    took = []
    for _ in range(3):
        start = time.perf_counter()
        results = map_all(function, range(count))
        took.append((time.perf_counter() - start) / figures.ideal(count))
        check(results, range(count))
    return Figure.median(system, Measure.NAPS, took, count)


def measure_huey(sizes: Sizes) -> Iterator[Figure]:
    """Two process workers that block for the next task; the client looks for a result again after a millisecond."""
    from benchmarks import importable

    def map_all(task: Any, items: Sequence[Any]) -> list[Any]:
        return list(task.map(items).get(blocking=True, timeout=LIMIT, max_delay=0.001))

    client = importable.many.storage.conn
    start = time.perf_counter()
    importable.many_plus_one.map(range(sizes.jobs))
    yield Figure(System.HUEY, Measure.ENQUEUE, sizes.jobs / (time.perf_counter() - start), sizes.jobs)
    importable.many.flush()

    before = figures.used_memory(client)
    waiting = importable.many_plus_one.map(range(sizes.jobs))
    queued = figures.used_memory(client) - before
    with _huey_consumer("many"):
        figures.wait_until(lambda: importable.many.storage.result_store_size() >= sizes.jobs)
        finished = figures.used_memory(client) - before
        check(waiting.get(blocking=True, timeout=LIMIT), range(1, sizes.jobs + 1))
        yield Figure(System.HUEY, Measure.QUEUED, queued / sizes.jobs, sizes.jobs)
        yield Figure(System.HUEY, Measure.FINISHED, finished / sizes.jobs, sizes.jobs)
        yield _map(System.HUEY, map_all, sizes.jobs, sizes.rounds, importable.many_plus_one)
        yield _records(System.HUEY, map_all, sizes.jobs, 3, importable.many_same)
        yield _arrays(System.HUEY, map_all, sizes.arrays, importable.many_same)
        yield _naps(System.HUEY, map_all, sizes.naps, importable.many_nap)
    with _huey_consumer("single"):
        task = importable.single_plus_one
        yield from figures.trip_figures(System.HUEY, lambda i: task(i).get(blocking=True, timeout=LIMIT), sizes.trips)


def _huey_consumer(name: str) -> Any:
    """Two worker processes of a Huey of `importable`: no periodic tasks, no log of every task."""
    return stage.process(
        [sys.executable, "-m", "huey.bin.huey_consumer", f"benchmarks.importable.{name}",
         "-w", str(WORKERS), "-k", "process", "--no-periodic", "--quiet", "-d", "0.001", "-m", "0.001"],
    )  # fmt: skip


def measure_rq(sizes: Sizes) -> Iterator[Figure]:
    """`rq worker-pool`, which forks for each job: fewer jobs, as they take so long."""
    import redis
    from rq import Queue

    from benchmarks import importable

    url = os.environ["NBQUEUE_BENCHMARKS_URL"]
    client = redis.from_url(url)
    queue = Queue("bench", connection=client)

    def submit(jobs: int) -> list[Any]:
        return queue.enqueue_many([Queue.prepare_data(importable.plus_one, (i,)) for i in range(jobs)])

    def result(job: Any) -> Any:
        return job.latest_result(timeout=int(LIMIT)).return_value

    def map_all(_: Any, items: Sequence[int]) -> list[Any]:
        return [result(job) for job in submit(len(items))]

    start = time.perf_counter()
    for i in range(sizes.rq_jobs):
        queue.enqueue(importable.plus_one, i)
    yield Figure(System.RQ, Measure.ENQUEUE, sizes.rq_jobs / (time.perf_counter() - start), sizes.rq_jobs)
    queue.delete(delete_jobs=True)

    submit(1)
    before = figures.used_memory(client)
    waiting = submit(sizes.rq_jobs)
    queued = figures.used_memory(client) - before
    with stage.process([sys.executable, "-m", "rq.cli", "worker-pool", "-q", "-n", str(WORKERS), "-u", url, "bench"]):
        check(map(result, waiting), range(1, sizes.rq_jobs + 1))
        finished = figures.used_memory(client) - before
        yield Figure(System.RQ, Measure.QUEUED, queued / sizes.rq_jobs, sizes.rq_jobs)
        yield Figure(System.RQ, Measure.FINISHED, finished / sizes.rq_jobs, sizes.rq_jobs)
        yield _map(System.RQ, map_all, sizes.rq_jobs, 3)
        yield from figures.trip_figures(
            System.RQ, lambda i: result(queue.enqueue(importable.plus_one, i)), min(100, sizes.trips)
        )
        links = min(50, sizes.links)  # its dependents take no results: only the order is the same
        start = time.perf_counter()
        job = queue.enqueue(importable.plus_one, 0)
        for _ in range(links - 1):
            job = queue.enqueue(importable.plus_one, 0, depends_on=job)
        check([result(job)], [1])
        yield Figure(System.RQ, Measure.CHAIN, (time.perf_counter() - start) * 1000 / links, links)
    client.close()


def measure_celery(sizes: Sizes) -> Iterator[Figure]:
    """Two prefork processes, with Celery's own settings; a client that is told of each result. JSON, so no arrays."""
    from celery import chain, group

    from benchmarks import importable_celery as tasks

    jobs = sizes.celery_jobs

    def map_all(task: Any, items: Sequence[Any]) -> list[Any]:
        return list(group(task.s(item) for item in items).apply_async().get(timeout=LIMIT))

    start = time.perf_counter()
    for i in range(jobs):
        tasks.plus_one.delay(i)
    yield Figure(System.CELERY, Measure.ENQUEUE, jobs / (time.perf_counter() - start), jobs)
    tasks.app.control.purge()

    with tasks.app.broker_connection() as connection:
        client = connection.default_channel.client
        before = figures.used_memory(client)
        waiting = [tasks.plus_one.delay(i) for i in range(jobs)]
        queued = figures.used_memory(client) - before
        with stage.process(
            [sys.executable, "-m", "celery", "-A", "benchmarks.importable_celery", "worker", "-c", str(WORKERS),
             "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"],
        ):  # fmt: skip
            check((result.get(timeout=LIMIT) for result in waiting), range(1, jobs + 1))
            finished = figures.used_memory(client) - before
            yield Figure(System.CELERY, Measure.QUEUED, queued / jobs, jobs)
            yield Figure(System.CELERY, Measure.FINISHED, finished / jobs, jobs)
            yield _map(System.CELERY, map_all, jobs, 3, tasks.plus_one)
            yield _records(System.CELERY, map_all, jobs, 3, tasks.same)
            yield _naps(System.CELERY, map_all, sizes.naps, tasks.nap)
            yield from figures.trip_figures(
                System.CELERY, lambda i: tasks.plus_one.delay(i).get(timeout=LIMIT), sizes.trips
            )
            links = min(100, sizes.links)  # each message carries all links that follow
            start = time.perf_counter()
            result = chain(tasks.plus_one.s(0), *[tasks.plus_one.s()] * (links - 1)).apply_async()
            check([result.get(timeout=LIMIT)], [links])
            yield Figure(System.CELERY, Measure.CHAIN, (time.perf_counter() - start) * 1000 / links, links)


SYSTEMS: dict[str, Callable[[Sizes], Iterator[Figure]]] = {
    "pool": measure_pool,
    "joblib": measure_joblib,
    "dask": measure_dask,
    "huey": measure_huey,
    "rq": measure_rq,
    "celery": measure_celery,
}
NEED_SERVER = ("huey", "rq", "celery")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one of the others.")
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    try:
        figures.report(SYSTEMS[chosen.system](figures.QUICK if chosen.quick else figures.FULL))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
