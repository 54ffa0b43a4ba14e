"""What is seen, written for any terminal: states are told apart by character too, not by colour alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nbqueue.client.batch import Batch
from nbqueue.view.seen import BatchSeen, Overview, QueueSeen, WorkerSeen, see
from nbqueue.view.words import duration, pace, shares, short, size

LATER = ("deferred", "scheduled")
"""States that are told of where there are such jobs."""

GROUPS = 20
"""Errors of a batch that are listed."""

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
    state, now = batch.state, batch.session.now()
    seen = see(state, now)
    console.print(_heading(console))
    _show_counts(console, seen, now)
    described = state.description
    facts = [f"queue {seen.queue}", seen.environment, f"function {described.function}"]
    facts += [f"submitted on {described.host} in {described.directory}"] if described.directory else []
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
    later = (name for name in LATER if any(getattr(queue, name) for queue in queues))
    numbers = ("waiting", *later, "running", "finished", "failed", "canceled", "batches", "workers")
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

    counts = [(name, getattr(batch, name)) for name in (*(name for name, *_ in MARKS), *LATER)]
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
