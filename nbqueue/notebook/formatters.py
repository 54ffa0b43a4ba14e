"""Display formatters of queues, workers and schedules: what they look like as the last expression of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbqueue import machine
from nbqueue.client.fleet import Workers
from nbqueue.client.queues import Queue
from nbqueue.client.schedules import Schedule, Schedules
from nbqueue.notebook.markup.parts import esc, notice, problem, wrong
from nbqueue.notebook.markup.tables import batches_table, schedules_table, workers_table
from nbqueue.view.recurring import ScheduleSeen
from nbqueue.view.seen import RECENT, BatchSeen, WorkerSeen, look, see_worker
from nbqueue.view.words import many, number


def install(shell: Any) -> None:
    """Have them shown so from now on."""
    html = shell.display_formatter.formatters["text/html"]
    html.for_type(Queue, queue_html)
    html.for_type(Workers, workers_html)
    html.for_type(Schedule, schedule_html)
    html.for_type(Schedules, schedules_html)
    plain = shell.display_formatter.formatters["text/plain"]
    plain.for_type(Workers, lambda workers, printer, _: printer.text(serving([see_worker(w) for w in workers])))


def queue_html(queue: Queue) -> str:
    """A queue: its workers and counts in a line, its recent batches as a table, its schedules as another."""
    if not queue.is_async:
        return f"<b>{esc(queue.name)}</b>: calls are made here, at once (is_async=False)"
    seen = look(queue.store)
    mine = next((found for found in seen.queues if found.name == queue.name), None)
    words = [
        f"<b>{esc(queue.name)}</b>",
        serving([worker for worker in seen.workers if queue.name in worker.queues and not worker.is_dead]),
    ]
    if mine is not None:
        run = "1 job runs" if mine.running == 1 else f"{number(mine.running)} jobs run"
        words.append(f"{run}, {number(mine.waiting)} wait")
    batches = [BatchSeen(batch.state, seen.at) for batch in queue.batches(RECENT)]
    if len(batches) > 1:
        words.append("this notebook's batches first")
    waits = wrong(mine.problem) if mine is not None and mine.problem else ""
    schedules = queue.schedules()
    recurring = schedules_html(schedules, "<b>schedules</b>") if schedules else ""
    return batches_table(batches, " · ".join(words)) + waits + recurring


def schedule_html(schedule: Schedule) -> str:
    """A schedule as it is now, as a table of one row."""
    schedule.refresh()
    return schedules_html(Schedules([schedule]), "")


def schedules_html(schedules: Schedules, caption: str | None = None) -> str:
    """Schedules as a table, and what keeps them from running; `caption` is HTML."""
    seen = [ScheduleSeen(schedule.state) for schedule in schedules]
    active = [schedule for schedule in schedules if not schedule.state.is_paused]
    of_each = {schedule.state.environment: schedule for schedule in active}
    said = "".join(problem(found) for schedule in of_each.values() if (found := schedule.problem) is not None)
    for state in (schedule.state for schedule in active):
        if state.problem:
            said += notice(f"<b>{esc(state.name)}</b> cannot start: {esc(state.problem)}", "failed")
    return schedules_table(seen, many(len(seen), "schedule") if caption is None else caption) + said


def workers_html(workers: Workers) -> str:
    """Workers as a table."""
    seen = [see_worker(worker) for worker in workers]
    return workers_table(seen, serving(seen), machine.name())


def serving(workers: Sequence[WorkerSeen]) -> str:
    """The number of workers and of their children, in words."""
    if not workers:
        return "no workers"
    children = sum(worker.children for worker in workers)
    return f"{many(len(workers), 'worker')}, {many(children, 'child', 'children')}"
