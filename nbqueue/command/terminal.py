"""Overviews and batches, written for any terminal: states are told apart by character too, not by colour alone."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nbqueue.client.batch import Batch
from nbqueue.view.recurring import ScheduleSeen
from nbqueue.view.seen import BatchSeen, Overview, QueueSeen, WorkerSeen
from nbqueue.view.words import duration, number, percent, progress_in_words, short, size

GROUPS = 20
"""Errors of a batch that are listed."""

_MOST_SAYING = 10
"""Jobs that say how far they are which are listed."""

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
    if overview.is_suspended:
        _say(console, "! The workers are suspended: `nbqueue resume` lets jobs start.", "yellow")
    if overview.workers:
        console.print(_workers(overview.workers, overview.at))
        _waiting(console, overview.workers)
        _progress(console, overview.workers)
    else:
        _say(console, "No workers.")
    if overview.batches:
        console.print()
        console.print(_heading(console))
        for batch in overview.batches:
            _show_counts(console, batch)


def show_batch(batch: Batch, console: Console | None = None) -> None:
    """Write what became of a batch: its counts, what failed, grouped, and how to run that again.

    Raises
    ------
    NotFound
    """
    console = console or _console()
    state = batch.state
    seen = BatchSeen(state, batch.session.now())
    console.print(_heading(console))
    _show_counts(console, seen)
    described = state.description
    facts = [f"queue {state.queue}", seen.environment, f"function {described.function}"]
    facts += [f"submitted on {described.host} in {described.directory}"] if described.directory else []
    _say(console, ", ".join(facts), "dim", indent=8)
    if state.reason:
        _say(console, f"canceled: {state.reason}", indent=8)
    if state.failed:
        groups = batch.failures()
        for group in groups[:GROUPS]:
            console.print()
            _say(console, f"{number(group.count)} x {group.type}: {group.message}", "bold")
            _say(console, f"such as job {group.job.id}", indent=4)
            for line in group.traceback.rstrip().splitlines():
                _say(console, line, "dim", indent=4)
        if len(groups) > GROUPS:
            more = number(len(groups) - GROUPS)
            _say(console, f"\nand {more} other errors: q.batch({state.id!r}).failures() has them all")
    if state.failed or state.canceled:
        console.print()
        what = " or ".join(word for word, n in (("failed", state.failed), ("was canceled", state.canceled)) if n)
        _say(console, f"Run again what {what}: nbqueue retry {state.id}")


def show_schedules(schedules: list[ScheduleSeen], console: Console | None = None) -> None:
    """Write a list of schedules."""
    console = console or _console()
    if not schedules:
        _say(console, "No schedules: q.cron(...) and q.every(...) make one.")
        return
    has_others = any(schedule.known.queue != "default" for schedule in schedules)
    table = _table(("schedule", False), *([("queue", False)] if has_others else []), ("when", False),
                   ("next run", False), ("last run", False), ("runs", True), ("skipped", True))  # fmt: skip
    for schedule in schedules:
        known = schedule.known
        table.add_row(
            _text(known.name), *([_text(known.queue)] if has_others else []), _text(schedule.when),
            _text(schedule.next_run), _text(" ".join(filter(None, (schedule.last_state, schedule.last_run)))),
            short(known.runs), short(known.skipped),
        )  # fmt: skip
    console.print(table)
    for schedule in schedules:
        if schedule.known.problem:
            _say(console, f"! {schedule.known.name} cannot start: {schedule.known.problem}", "yellow")


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _say(console: Console, text: str, style: str = "", *, indent: int = 0) -> None:
    """A line, which the terminal folds where it is too long: so it can be copied whole."""
    console.print(_text(" " * indent + text, style), soft_wrap=True)


def _text(text: str, style: str = "") -> Text:
    """What users and their code wrote, without what would steer the terminal."""
    return Text("".join(c if c.isprintable() or c == "\n" else " " for c in text), style=style, overflow="fold")


def _table(*columns: tuple[str, bool]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name, is_number in columns:
        table.add_column(name, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table


def _queues(queues: list[QueueSeen]) -> Table:
    later = ("later",) if any(queue.later for queue in queues) else ()
    numbers = (*later, "waiting", "running", "finished", "failed", "canceled", "batches", "workers")
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


def _waiting(console: Console, workers: list[WorkerSeen]) -> None:
    """Of whom jobs wait for other jobs."""
    for worker in workers:
        if worker.waiting_in_words:
            _say(console, f"{worker.name}: {worker.busy} run, {worker.waiting_in_words}", indent=2)


def _progress(console: Console, workers: list[WorkerSeen]) -> None:
    """How far the jobs are that say so."""
    saying = [(id, progress) for worker in workers for id, progress in worker.progress.items()]
    for id, progress in saying[:_MOST_SAYING]:
        share = "" if progress.share is None else percent(progress.share)
        console.print(_text(f"  {id:<12}  {share:>5}  {progress_in_words(progress, 0)}"), soft_wrap=True)


def _heading(console: Console) -> Text:
    """What the characters of the bars mean."""
    line = _text("batches  ", "bold")
    for name, mark, plain, style in MARKS:
        line.append(f" {_mark(console, mark, plain)}", style)
        line.append(f" {name} ", "dim")
    return line


def _show_counts(console: Console, batch: BatchSeen) -> None:
    """Two lines: what it is and how it goes, then the bar and the counts."""
    counts = batch.counts | batch.later
    words = ", ".join(f"{short(n)} {state}" for state, n in counts.items() if n) or "no jobs"
    if sum(n > 0 for n in counts.values()) > 1:
        words += f" of {short(batch.known.total)}"
    grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
    grid.add_column(width=6, no_wrap=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(no_wrap=True, justify="right")
    grid.add_row(_text(batch.known.id, "bold"), _line(batch.label.replace("\n", " ")), _text(_pace(batch), "dim"))
    console.print(grid, width=min(console.width, 80))
    bar = _bar(console, batch, 24)
    console.print(_text(" " * 8) + bar + _text(f"  {words}"), soft_wrap=True)


def _pace(batch: BatchSeen) -> str:
    """How it goes: '577 jobs/s, done in 3.1 s, 2 min ago'."""
    known = batch.known
    rate = f"{short(round(batch.rate)) if batch.rate >= 10 else f'{batch.rate:.2g}'} jobs/s"
    if known.ended_at is not None and batch.state in ("done", "canceled"):
        words = [f"{batch.state} in {duration(batch.elapsed)}", f"{duration(batch.at - known.ended_at)} ago"]
        return ", ".join(([rate] if known.finished + known.failed > 0 else []) + words)
    words = [batch.waits or f"{batch.state} for {duration(batch.elapsed)}"]
    if batch.rate and not batch.waits:
        words.insert(0, rate)
        words += [f"{duration(batch.eta)} left"] if batch.eta is not None and batch.state == "running" else []
    return ", ".join(words)


def _line(text: str) -> Text:
    line = _text(text)
    line.overflow, line.no_wrap = "ellipsis", True
    return line


def _bar(console: Console, batch: BatchSeen, width: int) -> Text:
    line = _text("")
    counts = batch.counts
    cells = shares([counts[state] for state, *_ in MARKS], width)
    for (_, mark, plain, style), n in zip(MARKS, cells, strict=True):
        line.append(_mark(console, mark, plain) * n, style)
    line.append(" " * (width - sum(cells)))
    return line


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


def _mark(console: Console, mark: str, plain: str) -> str:
    return plain if console.options.ascii_only else mark
