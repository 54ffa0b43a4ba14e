"""Batches and workers as tables."""

from __future__ import annotations

from collections.abc import Sequence

from nbqueue.notebook.markup.parts import NORMAL, bar, esc, glyph
from nbqueue.view.recurring import ScheduleSeen
from nbqueue.view.seen import BatchSeen, WorkerSeen
from nbqueue.view.shown import BatchShown
from nbqueue.view.words import clock, number, size, time_of_day, took


def batches_table(batches: Sequence[BatchSeen], caption: str) -> str:
    """Batches, a row each; `caption` is HTML."""
    rows = []
    for batch in batches:
        state, known = BatchShown(batch).state, batch.known
        elapsed = clock(batch.elapsed) if known.ended_at is None else took(batch.elapsed)
        rows.append([
            esc(known.id), esc(batch.label), f"{glyph(state)} {state}",
            f'<div style="width:110px">{bar(batch.counts, known.total, 7)}</div>',
            f"{number(known.finished + known.failed)} of {number(known.total)}",
            number(known.failed) if known.failed else "",
            "" if batch.state == "waiting" else elapsed,
            time_of_day(known.submitted_at),
        ])  # fmt: skip
    return _table(("batch", "label", "state", "", ">done", ">failed", ">took", "when"), rows, caption)


def workers_table(workers: Sequence[WorkerSeen], caption: str, here: str = "") -> str:
    """Workers, a row each; `here` is what this machine is called, `caption` is HTML."""
    rows = [
        [esc(worker.name), "this machine" if worker.host == here else esc(worker.host), esc(", ".join(worker.queues)),
         esc(worker.environment), _busy(worker), number(worker.jobs), size(worker.memory),
         time_of_day(worker.since)]
        for worker in workers
    ]  # fmt: skip
    return _table(("worker", "host", "queues", "environment", ">busy", ">jobs done", ">memory", "since"), rows, caption)


def schedules_table(schedules: Sequence[ScheduleSeen], caption: str) -> str:
    """Schedules, a row each; `caption` is HTML."""
    has_skipped = any(schedule.known.skipped for schedule in schedules)
    rows = [
        [esc(schedule.known.name), esc(schedule.when),
         f"{glyph('paused')} paused" if schedule.known.is_paused else esc(schedule.next_run),
         " ".join(filter(None, (_glyph_and_word(schedule.last_state), schedule.last_run))),
         number(schedule.known.runs), *([number(schedule.known.skipped)] if has_skipped else [])]
        for schedule in schedules
    ]  # fmt: skip
    head = ("schedule", "when", "next run", "last run", ">runs", *([">skipped"] if has_skipped else []))
    return _table(head, rows, caption)


def _glyph_and_word(state: str) -> str:
    return f"{glyph(state)} {state}" if state else ""


def _busy(worker: WorkerSeen) -> str:
    waiting = worker.waiting_in_words
    return f"{worker.busy} of {worker.children}" + (f"; {esc(waiting)}" if waiting else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A `>` in front of a column's name aligns it to the right."""
    cell = "padding:2px 12px 2px 0px;border-bottom:1px solid rgba(128,128,128,.18);white-space:nowrap;background:none"
    sides = ["right" if name.startswith(">") else "left" for name in head]
    top = "".join(
        f'<th style="{cell};text-align:{side};font-weight:400;opacity:.72">{name.lstrip(">")}</th>'
        for name, side in zip(head, sides, strict=True)
    )
    body = "".join(
        '<tr style="background:none">'
        + "".join(f'<td style="{cell};text-align:{side}">{value}</td>' for value, side in zip(row, sides, strict=True))
        + "</tr>"
        for row in rows
    )
    table = f'<table style="{NORMAL};border-collapse:collapse;border:none;margin:3px 0px 3px 0px">'
    table += f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>" if rows else "</table>"
    return f'<div style="max-width:860px;overflow-x:auto"><div style="{NORMAL}">{caption}</div>{table}</div>'
