"""What is going on, for people and programs: queues, workers and recent batches of one namespace.

`look` reads, and changes nothing. `show` and `show_batch` write for any terminal: states are told apart by character
too, not by colour alone.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nbqueue import machine, settings
from nbqueue.client.batch import eta_of, rate_of
from nbqueue.client.queues import nobody_serves
from nbqueue.store import requests
from nbqueue.store.reaper import vanished
from nbqueue.store.requests import BatchState, WorkerState
from nbqueue.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nbqueue.client.batch import Batch


RECENT = 10
"""Batches that are listed."""

GROUPS = 20
"""Errors of a batch that are listed."""


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """A queue: jobs of all its batches, and who serves it."""

    name: str
    waiting: int
    running: int
    finished: int
    failed: int
    canceled: int
    batches: int
    workers: int
    is_paused: bool
    problem: str
    """What keeps its jobs from running, in words; '' if nothing does."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker as it described itself at its last beat."""

    name: str
    host: str
    pid: int
    queues: list[str]
    environment: str
    """In words."""
    children: int
    busy: int
    jobs: int
    failed: int
    memory: int
    """Bytes that its children hold."""
    since: float
    running: list[str]
    """Ids of jobs."""
    is_dead: bool
    """Its process is on this machine, and has gone."""


@dataclass(frozen=True, slots=True)
class BatchSeen:
    """A batch at one moment."""

    id: str
    label: str
    queue: str
    environment: str
    state: str
    """'submitting', 'waiting', 'running', 'paused', 'done' or 'canceled'."""
    total: int
    finished: int
    failed: int
    canceled: int
    running: int
    waiting: int
    submitted_at: float
    ended_at: float | None
    elapsed: float
    """Seconds from the submission to the end, or to now."""
    rate: float
    """Jobs per second."""
    eta: float | None
    busy: float
    """Seconds that its jobs took, all together."""
    reason: str
    """Why it was canceled."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A namespace at one moment. Times are seconds since the epoch, by the server's clock."""

    url: str
    namespace: str
    at: float
    queues: list[QueueSeen]
    workers: list[WorkerSeen]
    batches: list[BatchSeen]
    """The newest ones, newest first."""

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return dataclasses.asdict(self)


def look(store: Store) -> Overview:
    """Read what is there.

    Raises
    ------
    ServerUnreachable
    """
    seconds, microseconds = store.run("TIME")
    now = int(seconds) + int(microseconds) / 1e6
    states = store.call(requests.batches(10**6))
    workers = store.call(requests.workers())
    here = machine.identity()
    dead = {worker.id for worker in workers if vanished(worker, here)}
    alive = [worker for worker in workers if worker.id not in dead]
    names = sorted({state.queue for state in states} | {queue for worker in alive for queue in worker.queues})
    paused = {name for name in names if store.run("EXISTS", store.key(f"queue:{name}:paused"))}
    return Overview(
        url=store.url,
        namespace=store.namespace,
        at=now,
        queues=[_queue(name, states, alive, name in paused) for name in names],
        workers=[see_worker(worker, is_dead=worker.id in dead) for worker in workers],
        batches=[see(state, now) for state in states[:RECENT]],
    )


def _queue(name: str, states: list[BatchState], workers: list[WorkerState], is_paused: bool) -> QueueSeen:
    mine = [state for state in states if state.queue == name]
    serving = [worker for worker in workers if name in worker.queues]
    problem = "it is paused" if is_paused else ""
    for environment in sorted({state.environment for state in mine if state.queued > 0}):
        if not problem and not any(worker.environment == environment for worker in serving):
            problem = nobody_serves(name, environment, workers)
    return QueueSeen(
        name=name,
        waiting=sum(state.queued for state in mine),
        running=sum(state.started for state in mine),
        finished=sum(state.finished for state in mine),
        failed=sum(state.failed for state in mine),
        canceled=sum(state.canceled for state in mine),
        batches=len(mine),
        workers=len(serving),
        is_paused=is_paused,
        problem=problem,
    )


def see_worker(worker: WorkerState, *, is_dead: bool = False) -> WorkerSeen:
    """A worker as it described itself."""
    import json

    fields = worker.fields
    return WorkerSeen(
        name=worker.name,
        host=fields.get("host", ""),
        pid=int(fields.get("pid", 0)),
        queues=worker.queues,
        environment=settings.environment_in_words(worker.environment),
        children=worker.children,
        busy=int(fields.get("busy", 0)),
        jobs=int(fields.get("jobs", 0)),
        failed=int(fields.get("failed", 0)),
        memory=int(fields.get("memory", 0)),
        since=float(fields.get("since", 0)),
        running=[str(id) for id, _ in json.loads(fields.get("running") or "[]")],
        is_dead=is_dead,
    )


def see(state: BatchState, now: float) -> BatchSeen:
    """A batch at a given time, by the server's clock."""
    return BatchSeen(
        id=state.id,
        label=str(state.about.get("label") or ""),
        queue=state.queue,
        environment=settings.environment_in_words(state.environment),
        state=_state(state),
        total=state.total,
        finished=state.finished,
        failed=state.failed,
        canceled=state.canceled,
        running=state.started,
        waiting=state.queued,
        submitted_at=state.submitted_at,
        ended_at=state.ended_at,
        elapsed=max(0.0, (state.ended_at or now) - state.submitted_at),
        rate=rate_of(state, now),
        eta=eta_of(state, now),
        busy=state.busy,
        reason=state.reason,
    )


def _state(state: BatchState) -> str:
    if state.is_canceled and not state.is_retried and state.done:
        return "canceled"
    if state.is_submitting:
        return "submitting"
    if state.done:
        return "done"
    if state.is_paused:
        return "paused"
    return "running" if state.started or state.ended else "waiting"


MARKS = (("finished", "█", "#", "green"), ("failed", "x", "x", "bold red"), ("canceled", "-", "-", "magenta"),
         ("running", "▒", ">", "cyan"), ("waiting", "·", ".", "dim"))  # fmt: skip
"""How the jobs of a bar are drawn: what they are, the character, that of a terminal without Unicode, the style."""


def show(overview: Overview, console: Console | None = None) -> None:
    """Write an overview to the terminal."""
    console = console or _console()
    where = f"{overview.url}" + ("" if overview.namespace == "default" else f", namespace {overview.namespace}")
    _say(console, where, "dim")
    if not (overview.queues or overview.workers or overview.batches):
        _say(console, "Nothing here yet: no workers, no batches.")
        return
    if overview.queues:
        console.print(_queues(overview.queues))
        for queue in overview.queues:
            if queue.problem:
                _say(console, f"! {queue.name}: {queue.problem}", "yellow")
        console.print()
    if overview.workers:
        console.print(_workers(overview.workers, overview.at))
    else:
        _say(console, "No workers.")
    if overview.batches:
        console.print()
        console.print(_heading(console))
        for batch in overview.batches:
            _show_counts(console, batch, overview.at)


def show_batch(batch: Batch, console: Console | None = None) -> None:
    """Write what became of a batch: its counts, what failed, grouped, and how to run that again.

    Raises
    ------
    NotFound
    """
    console = console or _console()
    state, now = batch.state, batch.queue.now()
    seen = see(state, now)
    console.print(_heading(console))
    _show_counts(console, seen, now)
    about = state.about
    facts = [f"queue {seen.queue}", seen.environment, f"function {about.get('function', '')}"]
    facts += [f"submitted on {about['host']} in {about['directory']}"] if about.get("directory") else []
    _say(console, ", ".join(facts), "dim", indent=8)
    if seen.reason:
        _say(console, f"canceled: {seen.reason}", indent=8)
    if seen.failed:
        groups = batch.failures()
        for group in groups[:GROUPS]:
            console.print()
            _say(console, f"{group.count:,} x {group.type}: {group.message}", "bold")
            _say(console, f"such as job {group.job.id}", indent=4)
            for line in group.traceback.rstrip().splitlines():
                _say(console, line, "dim", indent=4)
        if len(groups) > GROUPS:
            _say(console, f"\nand {len(groups) - GROUPS:,} other errors: q.batch({seen.id!r}).failures() has them all")
    if seen.failed or seen.canceled:
        console.print()
        what = " or ".join(word for word, n in (("failed", seen.failed), ("was canceled", seen.canceled)) if n)
        _say(console, f"Run again what {what}: nbqueue retry {seen.id}")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _say(console: Console, text: str, style: str = "", *, indent: int = 0) -> None:
    """A line, which the terminal folds where it is too long: so it can be copied whole."""
    console.print(_text(" " * indent + text, style), soft_wrap=True)


def _text(text: str, style: str = "") -> Text:
    """What users and their code wrote, without what would steer the terminal."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() or c == "\n" else " " for c in text), style=style, overflow="fold")


def _table(*columns: tuple[str, bool]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, is_number in columns:
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table


def _queues(queues: list[QueueSeen]) -> Table:
    numbers = ("waiting", "running", "finished", "failed", "canceled", "batches", "workers")
    table = _table(("queue", False), *((name, True) for name in numbers))
    for queue in queues:
        table.add_row(_text(queue.name), *(short(getattr(queue, name)) for name in numbers))
    return table


def _workers(workers: list[WorkerSeen], now: float) -> Table:
    table = _table(("worker", False), ("host", False), ("queues", False), ("environment", False),
                   ("busy", True), ("jobs", True), ("memory", True), ("since", True))  # fmt: skip
    for worker in workers:
        table.add_row(
            _text(worker.name), _text(worker.host), _text(" ".join(worker.queues)), _text(worker.environment),
            "dead" if worker.is_dead else f"{worker.busy}/{worker.children}",
            short(worker.jobs), size(worker.memory), duration(now - worker.since),
        )  # fmt: skip
    return table


def _heading(console: Console) -> Text:
    """What the characters of the bars mean."""
    line = _text("batches  ", "bold")
    for name, mark, plain, style in MARKS:
        line.append(f" {_mark(console, mark, plain)}", style)
        line.append(f" {name} ", "dim")
    return line


def _show_counts(console: Console, batch: BatchSeen, now: float) -> None:
    """Two lines: what it is and how it goes, then the bar and the counts."""
    from rich.table import Table

    counts = [(name, getattr(batch, name)) for name, *_ in MARKS]
    words = ", ".join(f"{short(n)} {name}" for name, n in counts if n) or "no jobs"
    if sum(n > 0 for _, n in counts) > 1:
        words += f" of {short(batch.total)}"
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(width=6, no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(_text(batch.id, "bold"), _line(batch.label.replace("\n", " ")), _text(pace(batch, now), "dim"))
    console.print(grid, width=min(console.width, 80))
    bar = _bar(console, batch, 24)
    console.print(_text(" " * 8) + bar + _text(f"  {words}"), soft_wrap=True)


def _line(text: str) -> Text:
    line = _text(text)
    line.overflow, line.no_wrap = "ellipsis", True
    return line


def _bar(console: Console, batch: BatchSeen, width: int) -> Text:
    line = _text("")
    cells = shares([getattr(batch, name) for name, *_ in MARKS], width)
    for (_, mark, plain, style), n in zip(MARKS, cells, strict=True):
        line.append(_mark(console, mark, plain) * n, style)
    line.append(" " * (width - sum(cells)))
    return line


def _mark(console: Console, mark: str, plain: str) -> str:
    return plain if console.options.ascii_only else mark


def shares(counts: list[int], width: int) -> list[int]:
    """Cells of a bar for each count: `width` in all, at least one for each that is not 0.

    Examples
    --------
    >>> shares([998, 1, 0, 0, 1], 10)
    [8, 1, 0, 0, 1]
    """
    total = sum(counts)
    if total == 0:
        return [0] * len(counts)
    cells = [max(1, math.floor(n * width / total)) if n else 0 for n in counts]
    most = counts.index(max(counts))
    cells[most] += width - sum(cells)
    return cells


def short(number: int) -> str:
    """A number in at most six characters: 99,999, 123k, 4.56M."""
    if number < 100_000:
        return f"{number:,}"
    return f"{number // 1000}k" if number < 1_000_000 else f"{number / 1e6:.3g}M"


def size(bytes: int) -> str:
    """Bytes as people read them: '1.5 GB'."""
    return f"{bytes / 2**20:,.0f} MB" if bytes < 2**30 else f"{bytes / 2**30:,.1f} GB"


def duration(seconds: float) -> str:
    """Seconds as people read them: '3.1 s', '12 min', '5 h', '8 d'."""
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for limit, unit, name in ((99, 1, "s"), (5940, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} d"


def pace(batch: BatchSeen, now: float) -> str:
    """How a batch goes: '577 jobs/s, done in 3.1 s, 2 min ago'."""
    rate = f"{short(round(batch.rate)) if batch.rate >= 10 else f'{batch.rate:.2g}'} jobs/s"
    if batch.ended_at is not None and batch.state in ("done", "canceled"):
        words = [f"{batch.state} in {duration(batch.elapsed)}", f"{duration(now - batch.ended_at)} ago"]
        return ", ".join(([rate] if batch.finished + batch.failed > 0 else []) + words)
    words = [f"{batch.state} for {duration(batch.elapsed)}"]
    if batch.rate:
        words.insert(0, rate)
        words += [f"{duration(batch.eta)} left"] if batch.eta is not None and batch.state == "running" else []
    return ", ".join(words)
