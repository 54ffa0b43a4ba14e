"""The figures as Markdown: all of them, the ratios, and what the aims say to them."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import ARRAY_BYTES, FULL, Figure, Measure, Sizes, System

Table = dict[tuple[System, Measure], float]
_PACKAGES = ("nbqueue", "redis", "hiredis", "numpy", "joblib", "distributed", "huey", "rq", "celery")
_RATIO = "nbqueue's rate is … times as high"


@dataclass(frozen=True)
class Aim:
    """What a figure, or how many times another's figure it is, shall be."""

    measure: Measure
    limit: float
    is_least: bool = False
    """Whether more is better."""
    than: System | None = None
    of: Measure | None = None
    """Another figure of the same system."""

    def words(self) -> str:
        bound = f"{'at least' if self.is_least else 'at most'} {number(self.limit)}"
        than = " times " + ", ".join(filter(None, (self.of, self.than))) if self.of or self.than else ""
        return f"{self.measure}: {bound}{than}"

    def reached(self, table: Table) -> float | None:
        ours = table.get((System.NBQUEUE, self.measure))
        if (self.than is None and self.of is None) or ours is None:
            return ours
        theirs = table.get((self.than or System.NBQUEUE, self.of or self.measure))
        return ours / theirs if theirs else None

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.is_least else value <= self.limit


AIMS = (
    Aim(Measure.MAP, 15, True, System.POOL_1),
    Aim(Measure.MAP, 30, True, System.HUEY),
    Aim(Measure.MAP, 1000, True, System.RQ),
    Aim(Measure.MAP, 0.5, True, System.POOL_MAP),
    Aim(Measure.RECORDS, 0.5, True, System.POOL_100),
    Aim(Measure.RECORDS, 4, True, System.POOL_1),
    Aim(Measure.TRIP, 0.6, than=System.HUEY),
    Aim(Measure.TRIP, 3, than=System.POOL_1),
    Aim(Measure.TRIP_99, 2, of=Measure.TRIP),
    Aim(Measure.START_COLD, 330),
    Aim(Measure.ENQUEUE, 20_000, True),
    Aim(Measure.QUEUED, 80),
    Aim(Measure.FINISHED, 120),
    Aim(Measure.QUEUED_SINGLE, 200),
    Aim(Measure.FINISHED_SINGLE, 250),
    Aim(Measure.NAPS, 1.03),
    Aim(Measure.NAPS, 1, than=System.JOBLIB_AUTO),
    Aim(Measure.IDLE, 0.2),
    Aim(Measure.LATER_TRIP, 1.05),
    Aim(Measure.DUE, 3),
    Aim(Measure.DUE_OTHER, 0.3),
    Aim(Measure.THEN, 0.5, True),
    Aim(Measure.CHAIN, 2),
    Aim(Measure.ARRAYS, 1, True, System.POOL_1),
    Aim(Measure.TABLE, 1, than=System.JOBLIB_AUTO),
    Aim(Measure.CLOSURE, 0.1),
    Aim(Measure.CLOSURE_MEMORY, 1, than=System.JOBLIB_AUTO),
    Aim(Measure.COUNT, 2),
    Aim(Measure.MANY_SUBMIT, 4),
    Aim(Measure.MANY_READ, 10),
    Aim(Measure.MEMORY, 150),
    Aim(Measure.PANELS_CPU, 2),
    Aim(Measure.PANELS_BYTES, 2000),
)


def render(figures: Iterable[Figure], facts: dict[str, str], sizes: Sizes) -> str:
    """The whole report."""
    found = list(figures)
    table = {(figure.system, figure.measure): figure.value for figure in found}
    quick = "" if sizes == FULL else f"**Small numbers, to see that it works: a 'million' is {sizes.many:,}.**"
    aims = _aims(table) if sizes == FULL else ""
    parts = [_facts(facts), quick, _figures(table), aims, _method(found, sizes)]
    return "\n\n".join(part for part in parts if part)


def facts(server: str) -> dict[str, str]:
    """Where and with what this was measured."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "CPUs": f"{cpus} x {_cpu_model()}",
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "server": server,
    } | {name: version for name in _PACKAGES if (version := _version(name))}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def number(value: float) -> str:
    """Three digits that mean something, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _rows(rows: Iterable[Iterable[str]]) -> str:
    head, *body = [list(row) for row in rows]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _facts(facts: dict[str, str]) -> str:
    return "; ".join(f"{name} {value}" for name, value in facts.items()) + "."


def _figures(table: Table) -> str:
    systems = [system for system in System if any(key[0] == system for key in table)]
    return _rows(_figure_rows(table, systems))


def _figure_rows(table: Table, systems: list[System]) -> Iterator[list[str]]:
    yield ["", *systems]
    for measure in Measure:
        values = [table.get((system, measure)) for system in systems]
        if any(value is not None for value in values):
            yield [measure, *("" if value is None else number(value) for value in values)]
        if measure is Measure.MAP and (ours := table.get((System.NBQUEUE, measure))) and len(systems) > 1:
            yield [_RATIO, *("" if value is None else f"{number(ours / value)}x" for value in values)]


def _aims(table: Table) -> str:
    rows = [["aim", "here", ""]]
    for aim in AIMS:
        value = aim.reached(table)
        if value is not None:
            rows.append([aim.words(), number(value), "met" if aim.is_met(value) else "**missed**"])
    return _rows(rows) if len(rows) > 1 else ""


def _method(figures: list[Figure], sizes: Sizes) -> str:
    fewer = ""
    if any(figure.system is System.RQ for figure in figures):
        fewer = f" RQ runs {sizes.rq_jobs:,} no-op jobs instead, as they take so long."
    if any(figure.system is System.CELERY for figure in figures):
        fewer += f" Celery runs {sizes.celery_jobs:,}."
    return (
        f"Two worker processes each. Every result is checked. No-op: `x + 1`, {sizes.jobs:,} integers, the median of "
        f"{sizes.rounds} rounds after one that warms up; the million: {sizes.many:,}.{fewer} nbqueue's functions are "
        "those of `__main__`, shipped by value, on its embedded server; the others' Redis is the same server program "
        "with an append-only file, on a Unix socket. Small dicts: of three keys, returned as they are. Submit alone: "
        "to a paused queue. Loop of single submits: nbqueue "
        f"`enqueue`, {sizes.singles:,} times, to a paused queue and while jobs already run; the others without a "
        "worker running. Round trip: "
        f"{sizes.trips} one after the other (RQ 100 at most). Bytes: what `used_memory`, less the buffers of clients "
        "and of the append-only file, grows by, divided by the jobs, with their arguments and results; nbqueue's jobs "
        f"wait in a paused queue, the others' without a worker. Arrays: {sizes.arrays} numpy arrays of "
        f"{ARRAY_BYTES:,} bytes are returned as they are; each counts 1 MB in and 1 MB out. "
        "By URL: a plain server and two workers of one process each. "
        "One table: each round has another one, of which each call returns an item; dask.distributed scatters it. "
        "Memory: the smallest proportional set sizes of the processes in eight jobs that add up the whole table, "
        "which nbqueue has in a closure, and the others as an argument. Jobs of 10 ms: "
        f"{sizes.naps} of `time.sleep(0.01)`; the ideal is half their sum. Start to first result: from the start of a "
        "fresh interpreter to its first line of output. Added memory: the peak of the resident set while a million "
        "integers are submitted and iterated over, less what it was after a first small `map`."
    )
