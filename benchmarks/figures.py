"""What is measured, how much of it, and what a part reports: one figure a line, as JSON, on its standard output."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

LIMIT = 120.0
"""Seconds that any single wait may take."""
NAP = 0.01
"""Seconds that a job sleeps where the ideal is known."""
WORKERS = 2
ARRAY_BYTES = 1_000_000
TABLE_BYTES = 50_000_000
CLOSURE_BYTES = 200_000_000


class Measure(StrEnum):
    """What a figure is a figure of, with its unit."""

    MAP = "no-op jobs, end to end (jobs/s)"
    RECORDS = "small dicts in and out, end to end (jobs/s)"
    MANY = "a million no-op jobs, end to end (jobs/s)"
    SUBMIT = "submit alone, many at once (jobs/s)"
    PING = "bare PING of the same server, median (ms)"
    ENQUEUE = "loop of single submits, nothing runs (jobs/s)"
    ENQUEUE_RUNNING = "loop of single submits, while they run (jobs/s)"
    TRIP = "round trip of one job, median (ms)"
    TRIP_99 = "round trip of one job, p99 (ms)"
    QUEUED = "bytes per queued job"
    FINISHED = "bytes per finished job"
    QUEUED_SINGLE = "bytes per queued job, submitted one by one"
    FINISHED_SINGLE = "bytes per finished job, submitted one by one"
    ARRAYS = "1 MB arrays in and out (MB/s)"
    TABLE = "100 calls that are given one table of 50 MB, which is new (s)"
    CLOSURE = "100 calls of a function that refers to 50 MB, not for the first time (s)"
    CLOSURE_MEMORY = "two processes whose jobs look at the same 200 MB: memory of both (MB)"
    NAPS = "jobs of 10 ms: times the ideal"
    DUE = "jobs that are due at the same moment: all have run (s)"
    DUE_OTHER = "one job, submitted at that moment, to its result (s)"
    THEN = "map and then: jobs/s, times those of two maps one after the other"
    CHAIN = "chain of single jobs, each with the result of the one before (ms a link)"
    IDLE = "idle worker and its processes: share of a core (%)"
    LATER_IDLE = "the same, with a million jobs that are scheduled for later (%)"
    LATER_TRIP = "round trip of one job then, times that without them"
    FAN = "100 dependents on each of 1,000 jobs: all have run (s)"
    RETRIED = "jobs that fail once: all have run again, at once (s)"
    START_WARM = "start to first result, server and worker running (ms)"
    START_COLD = "start to first result, nothing running (ms)"
    MANY_SUBMIT = "submit a million (s)"
    MANY_READ = "read back a million (s)"
    PANELS_FIRST = "three lines in a fresh kernel, nothing running: to the first finished job in the panel (s)"
    PANELS_CPU = "ten live panels: share of a core (%)"
    PANELS_BYTES = "ten live panels: bytes per panel and update"
    COUNT = "q.count, with tens of thousands of batches that have ended, median (ms)"
    MEMORY = "added to the client by a million (MB)"


class System(StrEnum):
    """Who ran the jobs."""

    NBQUEUE = "nbqueue"
    NBQUEUE_URL = "nbqueue by URL, two workers"
    POOL_1 = "ProcessPoolExecutor, chunksize=1"
    POOL_100 = "ProcessPoolExecutor, chunksize=100"
    POOL_MAP = "multiprocessing.Pool.map"
    JOBLIB_1 = "joblib, batch_size=1"
    JOBLIB_AUTO = "joblib, batch_size=auto"
    DASK = "dask.distributed"
    HUEY = "Huey"
    RQ = "RQ"
    CELERY = "Celery"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    jobs: int = 20_000
    many: int = 1_000_000
    rounds: int = 5
    trips: int = 300
    singles: int = 10_000
    stored_singles: int = 1_000
    arrays: int = 100
    naps: int = 400
    starts: int = 5
    ended: int = 50_000
    due: int = 100_000
    retried: int = 10_000
    links: int = 1_000
    fans: int = 1_000
    rq_jobs: int = 300
    celery_jobs: int = 4_000
    idle: float = 10.0


FULL = Sizes()
QUICK = Sizes(2_000, 50_000, 3, 60, 1_000, 500, 20, 100, 2, 2_000, 10_000, 1_000, 100, 50, 60, 300, 2.0)


@dataclass(frozen=True)
class Figure:
    """One measured number: the median of its samples, where there are several."""

    system: System
    measure: Measure
    value: float
    jobs: int
    samples: tuple[float, ...] = ()

    @classmethod
    def median(cls, system: System, measure: Measure, samples: Sequence[float], jobs: int) -> Figure:
        return cls(system, measure, statistics.median(samples), jobs, tuple(samples))

    @classmethod
    def from_json(cls, line: str) -> Figure:
        fields = json.loads(line)
        system, measure = System(fields.pop("system")), Measure(fields.pop("measure"))
        return cls(system, measure, samples=tuple(fields.pop("samples")), **fields)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def report(figures: Iterable[Figure]) -> None:
    """Tell the process that runs the parts."""
    for figure in figures:
        sys.stdout.write(json.dumps(figure.as_dict()) + "\n")
        sys.stdout.flush()


class WrongResultError(Exception):
    """A job did not return what its function returns: no figure counts."""


def check(results: Iterable[Any], expected: Iterable[Any], *, same: Callable[[Any, Any], Any] | None = None) -> None:
    """Compare every result, and their number.

    Raises
    ------
    WrongResultError
    """
    try:
        for index, (result, wanted) in enumerate(zip(results, expected, strict=True)):
            if not (same(result, wanted) if same else result == wanted):
                raise WrongResultError(f"result {index} is {result!r:.80}, not {wanted!r:.80}")
    except ValueError as error:
        raise WrongResultError(f"results are missing, or there are too many: {error}") from error


def rates(round_of: Callable[[], tuple[float, Any]], count: float, rounds: int) -> list[float]:
    """`count` per second of each round, after one that warms up. A round returns its seconds first."""
    round_of()
    return [count / round_of()[0] for _ in range(rounds)]


def trip_figures(system: System, trip: Callable[[int], Any], trips: int) -> list[Figure]:
    """Median and 99th percentile of single jobs (`i` to `i + 1`), one after the other."""
    took = []
    for i in range(-10, trips):  # the first ten warm up
        start = time.perf_counter()
        result = trip(i)
        seconds = time.perf_counter() - start
        check([result], [i + 1])
        if i >= 0:
            took.append(seconds * 1000)
    p99 = statistics.quantiles(took, n=100, method="inclusive")[98]
    return [Figure.median(system, Measure.TRIP, took, trips), Figure(system, Measure.TRIP_99, p99, trips)]


def used_memory(client: Any) -> int:
    """Bytes that a server's data take: `used_memory` less what buffers of clients and of the append-only file take.

    Reads until nothing is left to free and the number stands still, for five seconds at most.
    """
    last = -1
    for _ in range(25):
        info = client.info("memory")
        now = info["used_memory"] - info.get("mem_clients_normal", 0) - info.get("mem_aof_buffer", 0)
        if info.get("lazyfree_pending_objects", 0) == 0 and abs(now - last) < 256:
            break
        last = now
        time.sleep(0.2)
    return int(now)


def share_of_a_core(pid: int, seconds: float) -> float:
    """Percent of a core that a process, and those that it has started, take for so long."""
    tree = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                tree.append(int(stat.parent.name))
    before = sum(map(_cpu_seconds, tree))
    time.sleep(seconds)
    return 100 * (sum(map(_cpu_seconds, tree)) - before) / seconds


def _cpu_seconds(pid: int) -> float:
    nanoseconds = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        nanoseconds += int(task.read_text().split()[0])
    return nanoseconds / 1e9


def wait_until(look: Callable[[], Any], seconds: float = LIMIT) -> None:
    """Return as soon as `look` returns something true.

    Raises
    ------
    TimeoutError
    """
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come within {seconds:g} seconds")
        time.sleep(0.02)


def make_records(count: int) -> list[dict[str, Any]]:
    """Small dicts, all different: what rows of a table are."""
    return [{"id": i, "name": f"row {i}", "values": [i, i / 2]} for i in range(count)]


def make_arrays(count: int) -> list[Any]:
    """Arrays of `ARRAY_BYTES`, all different."""
    import numpy

    generator = numpy.random.default_rng(0)
    return [generator.random(ARRAY_BYTES // 8) for _ in range(count)]


def make_table(seed: int, size: int = TABLE_BYTES) -> Any:
    """One large array."""
    import numpy

    return numpy.random.default_rng(seed).random(size // 8)


def item_of(x: int, table: Any) -> float:
    """What a job does with a table."""
    return float(table[x])


def look_at(x: int, table: Any) -> tuple[int, int]:
    """Look at all of a table, for long enough that all processes do it at once; which process this is, and what memory
    is its own share (its proportional set size, in bytes) then."""
    total = float(table.sum())
    time.sleep(0.3)
    rollup = Path("/proc/self/smaps_rollup").read_text()
    assert total > 0
    return os.getpid(), next(int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:"))


def memory_of(looks: Iterable[tuple[int, int]]) -> float:
    """Megabytes that the processes have together while all of them look: then the share of each is smallest."""
    smallest: dict[int, int] = {}
    for pid, size in looks:
        smallest[pid] = min(size, smallest.get(pid, size))
    return sum(smallest.values()) / 1e6


def megabytes(arrays: int) -> float:
    """What `arrays` jobs move: each array counts once on its way in and once on its way out."""
    return 2 * arrays * ARRAY_BYTES / 1e6


def ideal(naps: int) -> float:
    """Seconds that `naps` jobs of 10 ms take at best."""
    return naps * NAP / WORKERS
