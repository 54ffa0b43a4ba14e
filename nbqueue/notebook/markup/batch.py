"""A batch: the parts of its live panel, and the whole of it as a saved notebook keeps it."""

from __future__ import annotations

import base64
import struct
import zlib

from nbqueue.notebook.markup.parts import (
    COLORS,
    NORMAL,
    SMALL,
    bar,
    code,
    ends,
    esc,
    frame,
    glyph,
    job_bar,
    notice,
    output_lines,
    pre,
    problem,
    reloaded,
    sentence,
    small,
    wrong,
)
from nbqueue.view.shown import ORDER, BatchShown, FailureShown, RunningShown
from nbqueue.view.words import clock, many, number, percent, rate, time_of_day, took

_FOOT = f"{SMALL};margin:3px 0px 0px 0px"

_NAMED = 3
"""Jobs that run which are named."""

_MESSAGE = 300
"""Characters of an error's message that are shown."""


def caption(label: str, id: str, total: str, variable: str = "q") -> str:
    """The line above the panel, which survives whatever happens to the page and the kernel."""
    later = code(f"{variable}.batch({id!r}).show()")
    return small(f"{esc(label)} · {esc(total)}batch {esc(id)} · later: {later}")


def title(shown: BatchShown) -> str:
    """Its glyph, its label, its state."""
    return f'<div style="{NORMAL}">{glyph(shown.state)} <b>{esc(shown.batch.label)}</b> · {esc(shown.words)}</div>'


def progress(shown: BatchShown, *, live: bool) -> str:
    """One bar of all its jobs, by state."""
    return bar(shown.batch.counts, shown.total, live=live)


def strip(shown: BatchShown) -> str:
    """The state of every job in order, as a picture one pixel high: some 300 bytes, however many jobs."""
    if not shown.strip:
        return ""
    return (
        f'<img alt="state of each job, in order" title="every job, first to last" '
        f'src="data:image/png;base64,{base64.b64encode(_png(shown.strip)).decode()}" style="display:block;width:100%;'
        f'height:5px;margin:0px 0px 5px 0px;border-radius:2px;image-rendering:pixelated">'
    )


def _png(row: bytes) -> bytes:
    """One row of states, as colours."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", len(row), 1, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", b"".join(bytes.fromhex(COLORS[state][1:]) for state in ORDER))
        + chunk(b"tRNS", bytes([56]))  # waiting is transparent, which suits light and dark
        + chunk(b"IDAT", zlib.compress(b"\0" + row, 9))
        + chunk(b"IEND", b"")
    )


def numbers(shown: BatchShown) -> str:
    """Its counts, its pace, its time."""
    finished = f"<b>{number(shown.batch.counts['finished'])}</b> of {number(shown.total)} finished"
    others = [f"{glyph(state)} {number(n)} {state}" for state, n in _other_counts(shown)]
    others += [f"{number(n)} {state}" for state, n in shown.batch.later.items() if n]
    return ends(" · ".join([finished, *others]), _pace(shown))


def _other_counts(shown: BatchShown) -> list[tuple[str, int]]:
    return [(state, n) for state, n in shown.batch.counts.items() if n and state in ("failed", "canceled", "running")]


def _pace(shown: BatchShown) -> str:
    batch = shown.batch
    words = [rate(batch.rate)] if batch.rate > 0 else []
    if batch.known.ended_at is not None:
        return " · ".join([*words, f"took {took(batch.elapsed)}"])
    words.append(f"{clock(batch.elapsed)} elapsed")
    if batch.eta is not None and batch.state == "running":
        words.append(f"{clock(batch.eta)} left")
    return " · ".join(words)


def now_line(shown: BatchShown) -> str:
    """Its workers, and the jobs that run now."""
    words = [f"<b>{esc(shown.did)}</b>"] if shown.did else []
    if shown.workers:
        words.append(f"{many(shown.workers, 'worker')}, {many(shown.children, 'child', 'children')}")
        if shown.behind:
            words[-1] += f", all busy with {esc(shown.behind)}"
        if shown.now:
            first = [f"{number(job.index)} ({_how_far(job)})" for job in shown.now[:_NAMED]]
            more = max(shown.batch.known.started, len(shown.now)) - len(first)
            words.append("now " + ", ".join(first) + (f" and {number(more)} more" if more > 0 else ""))
    style = f"{SMALL};white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
    return f'<div style="{style}">{" · ".join(words)}</div>' if words else ""


def _how_far(job: RunningShown) -> str:
    share = job.progress.share if job.progress is not None else None
    return clock(job.seconds) + (f", {percent(share)}" if share is not None else "")


def job_bars(shown: BatchShown) -> str:
    """How far the jobs are that run, those that say so."""
    saying = [job for job in shown.now if job.progress is not None][:_NAMED]
    return "".join(job_bar(job, number(job.index) if shown.total > 1 else "") for job in saying)


def failure_count(failure: FailureShown) -> str:
    """The count of a group of failures, which changes."""
    return f'<div style="{NORMAL};margin:3px 6px 1px 0px;white-space:nowrap">{_times(failure)}</div>'


def _times(failure: FailureShown) -> str:
    return f"{glyph('failed')} <b>{number(failure.count)} &times;</b> "


def failure_details(failure: FailureShown, count: str = "") -> str:
    """The rest of the group, which stays the same, so that an opened traceback stays open."""
    example = f"first: job {failure.index}" + (f", {code(failure.call)}" if failure.call else "")
    traceback = pre(failure.traceback, "4px 0px 4px 16px")
    message = failure.message if len(failure.message) <= _MESSAGE else failure.message[: _MESSAGE - 1] + "…"
    return (
        f'<details style="{NORMAL};margin:3px 0px 1px 0px"><summary style="cursor:pointer">{count}'
        f"{esc(failure.type)}{': ' if message else ''}{esc(message)}"
        f' <span style="opacity:.72"> · {example}</span></summary>{traceback}</details>'
    )


def notices(shown: BatchShown) -> str:
    """All notices about a live batch."""
    found = [wrong(sentence(shown.unreachable))] if shown.unreachable else []
    if shown.problem is not None and not shown.unreachable:
        found.append(problem(shown.problem))
    found.append(launched(shown))
    found.append(versions(shown))
    if shown.is_reloaded:
        found.append(reloaded(f"q.batch({shown.batch.known.id!r}).show()"))
    return "".join(found)


def versions(shown: BatchShown) -> str:
    """A notice of packages that workers have in other versions."""
    if not shown.versions:
        return ""
    rows = [("package", "here", "workers"), *((name, there, here or "none") for name, there, here in shown.versions)]
    table = "".join("<tr>" + "".join(f"{_CELL}{esc(word)}</td>" for word in row) + "</tr>" for row in rows)
    return notice(f'Workers have other versions of packages.<table style="{SMALL}">{table}</table>')


_CELL = '<td style="padding:0px 14px 0px 0px;text-align:left">'


def launched(shown: BatchShown) -> str:
    """A notice of the worker that was started for it, if nothing is wrong."""
    if shown.is_stuck or shown.launched is None:
        return ""
    if not shown.launched:
        return notice("Starting a worker on this machine.", "running")
    words = f"Started a worker with {many(shown.launched, 'child', 'children')} on this machine."
    return notice(f"{words} It leaves after an hour without work. {code('q.workers()')}", "running")


def ended(shown: BatchShown, name: str) -> str:
    """The whole panel of a batch that has ended, as the saved notebook keeps it.

    Parameters
    ----------
    shown : BatchShown
    name : str
        How the reader reaches the batch in code.
    """
    known = shown.batch.known
    if known.failed or known.canceled:
        what = "the rest" if not known.failed else f"{number(known.failed + known.canceled)} again"
        again = [f"{code(f'{name}.retry()')} runs {what}", code(f"{name}.results(errors='return')")]
    else:
        again = [code(f"{name}.results()")]
    when = time_of_day(known.submitted_at)
    if known.ended_at is not None:
        when += f" to {time_of_day(known.ended_at)}"
    reason = small(esc(known.reason)) if known.reason and shown.state == "canceled" else ""
    return _whole(shown, reason, output_lines(shown.output), " · ".join(again), when)


def interrupted(shown: BatchShown, name: str, words: str) -> str:
    """The panel of a batch that goes on while nobody draws it any more: the kernel has gone."""
    return _whole(shown, "", "", f"{code(f'{name}.show()')} comes back to it", esc(words))


def _whole(shown: BatchShown, reason: str, output: str, again: str, when: str) -> str:
    return frame(
        title(shown)
        + progress(shown, live=False)
        + strip(shown)
        + numbers(shown)
        + reason
        + "".join(failure_details(failure, _times(failure)) for failure in shown.failures)
        + output
        + ends(again, f"batch {shown.batch.known.id} · {when}", _FOOT)
    )


def plain(shown: BatchShown) -> str:
    """The panel in one line of text."""
    words = [f"{number(shown.batch.counts['finished'])} of {number(shown.total)} finished"]
    words += [f"{number(n)} {state}" for state, n in _other_counts(shown)]
    return f"{shown.batch.label}: {shown.words}, {', '.join(words)} (batch {shown.batch.known.id})"
