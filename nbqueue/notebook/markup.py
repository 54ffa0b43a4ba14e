"""What panels look like: plain data in, HTML out. No notebook, no Redis.

Two kinds of HTML are made here:

- live parts, for `ipywidgets.HTML`, which keeps everything;
- what stays when a batch has ended, and is saved. A notebook that is not trusted drops `<style>`, `var()`, `<svg>`,
  `role` and `aria-*`; GitHub drops all styles. So it has inline styles only, inherits the colour of the text, its greys
  are transparent (light and dark), and its facts are words with real separators between them.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which all kinds of colour vision can tell apart;
each state has a glyph and a word as well.
"""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace

from nbqueue.view.seen import BatchSeen, WorkerSeen
from nbqueue.view.shown import ORDER, BatchShown, FailureShown
from nbqueue.view.words import clock, many, number, size, time_of_day, took

COLORS = {
    "finished": "#009e73", "failed": "#d55e00", "canceled": "#8c8c8c", "running": "#56b4e9", "waiting": "#808080",
}  # fmt: skip

GLYPHS = {
    "finished": "✓", "failed": "✕", "canceled": "⊘", "running": "▸", "waiting": "○", "paused": "‖", "submitting": "↑",
}  # fmt: skip

_GREY = "rgba(128,128,128,.22)"

_FAINT = "rgba(128,128,128,.1)"

_LINE = "1px solid rgba(128,128,128,.28)"

_FONT = "font-size:13px;line-height:20px;font-variant-numeric:tabular-nums"

_SMALL = "font-size:12px;line-height:18px;opacity:.72"

_MONO = "font-family:Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12px"

_HATCH = "repeating-linear-gradient(45deg,rgba(255,255,255,.45) 0px 2px,rgba(255,255,255,0) 2px 5px)"

STYLE = """<style>
.nbq{border:1px solid rgba(128,128,128,.28);border-radius:6px;padding:7px 12px 6px;box-sizing:border-box;
  max-width:860px;margin:2px 20px 2px 0;overflow:hidden}
.nbq .jupyter-widgets{margin:0;min-width:0} .nbq .widget-html-content{line-height:20px;min-width:0}
.nbq .widget-html{overflow:hidden}
.nbq .jupyter-button{flex:none;height:22px;line-height:20px;width:auto;padding:0 9px;margin-left:6px;font-size:12px;
  border-radius:4px;background:transparent;color:inherit;border:1px solid rgba(128,128,128,.45);box-shadow:none}
.nbq .jupyter-button:hover{background:rgba(128,128,128,.16)} .nbq .jupyter-button:disabled{opacity:.45}
.nbq .jupyter-button:focus-visible{outline:2px solid #56b4e9}
.nbq summary:focus-visible{outline:2px solid #56b4e9}
</style>"""
"""For live panels only: what is saved has no style sheet."""


def esc(text: object) -> str:
    """Text that came from users or their code."""
    return html.escape(str(text))


def code(text: str) -> str:
    style = f"{_MONO};background:{_GREY};border-radius:3px;padding:1px 5px;white-space:nowrap"
    return f'<code style="{style}">{esc(text)}</code>'


def glyph(state: str) -> str:
    return f'<span style="color:{COLORS.get(state, "inherit")};font-weight:700">{GLYPHS[state]}</span>'


def _ends(left: str, right: str, style: str = _FONT) -> str:
    """Left and right on one line, on two where it is narrow."""
    return (
        f'<div style="display:flex;flex-wrap:wrap;justify-content:space-between;column-gap:16px;{style}">'
        f"<div>{left}</div> <div>{right}</div></div>"
    )


def _bar(counts: dict[str, int], total: int, height: int = 9, *, live: bool = False) -> str:
    """One bar; a segment of three failed jobs in a million is still three pixels wide."""
    parts = []
    for state in ("finished", "failed", "canceled", "running"):
        n = counts.get(state, 0)
        if n:
            image = "" if state == "finished" else f"background-image:{_HATCH};"
            parts.append(
                f'<div title="{number(n)} {state}" style="width:{100 * n / max(1, total):.2f}%;'
                f'min-width:3px;background-color:{COLORS[state]};{image}"></div>'
            )
    done = sum(counts.get(state, 0) for state in ("finished", "failed", "canceled"))
    role = (
        f' role="progressbar" aria-valuemin="0" aria-valuenow="{done}" aria-valuemax="{total}"'
        f' aria-label="{done} of {total} jobs done"'
    )
    return (
        f'<div{role if live else ""} title="{number(done)} of {number(total)} done" style="display:flex;'
        f'height:{height}px;background-color:{_GREY};border-radius:3px;overflow:hidden;margin:5px 0px 3px 0px">'
        f"{''.join(parts)}</div>"
    )


def _strip(row: bytes) -> str:
    if not row:
        return ""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", len(row), 1, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", b"".join(bytes.fromhex(COLORS[state][1:]) for state in ORDER))
        + chunk(b"tRNS", bytes([56]))  # waiting is transparent, which suits light and dark
        + chunk(b"IDAT", zlib.compress(b"\0" + row, 9))
        + chunk(b"IEND", b"")
    )
    return (
        f'<img alt="state of each job, in order" title="every job, first to last" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}" style="display:block;width:100%;height:5px;'
        f'margin:0px 0px 5px 0px;border-radius:2px;image-rendering:pixelated">'
    )


def notice(markup: str, state: str = "waiting") -> str:
    """A paragraph that something is to be known about."""
    return (
        f'<div style="{_FONT};border-left:3px solid {COLORS[state]};background-color:{_FAINT};'
        f'padding:3px 9px 3px 9px;margin:5px 0px 2px 0px">{markup}</div>'
    )


def _counts(batch: BatchSeen) -> dict[str, int]:
    return {"finished": batch.finished, "failed": batch.failed, "canceled": batch.canceled, "running": batch.running}


def _total(shown: BatchShown) -> int:
    return max(shown.batch.total, shown.expected or 0)


def title(shown: BatchShown) -> str:
    """Its glyph, its label, its state."""
    return f'<div style="{_FONT}">{glyph(shown.state)} <b>{esc(shown.batch.label)}</b> · {esc(shown.words)}</div>'


def _rate(rate: float) -> str:
    return f"{number(round(rate))}/s" if rate >= 100 else f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"


def _pace(shown: BatchShown) -> str:
    batch = shown.batch
    words = [_rate(batch.rate)] if batch.rate > 0 else []
    if batch.ended_at is not None:
        return " · ".join([*words, f"took {took(batch.elapsed)}"])
    words.append(f"{clock(batch.elapsed)} elapsed")
    if batch.eta is not None and batch.state == "running":
        words.append(f"{clock(batch.eta)} left")
    return " · ".join(words)


def _counts_line(shown: BatchShown) -> str:
    """How many jobs finished, failed, were canceled, run."""
    words = [
        f"{glyph(state)} {number(n)} {state}" for state, n in _counts(shown.batch).items() if n and state != "finished"
    ]
    return " · ".join([f"<b>{number(shown.batch.finished)}</b> of {number(_total(shown))} finished", *words])


def bar(shown: BatchShown, *, live: bool) -> str:
    """One bar of all its jobs, by state."""
    return _bar(_counts(shown.batch), _total(shown), live=live)


def strip(shown: BatchShown) -> str:
    """The state of every job in order, as a picture one pixel high: some 300 bytes, however many jobs."""
    return _strip(shown.strip)


def numbers(shown: BatchShown) -> str:
    """How many jobs did what, how fast, how long."""
    return _ends(_counts_line(shown), _pace(shown))


def _middle(shown: BatchShown) -> str:
    return bar(shown, live=False) + strip(shown) + numbers(shown)


def _times(failure: FailureShown) -> str:
    return f"{glyph('failed')} <b>{number(failure.count)} &times;</b> "


def failure_count(failure: FailureShown) -> str:
    """What changes of a group of failures."""
    return f'<div style="{_FONT};margin:3px 6px 1px 0px;white-space:nowrap">{_times(failure)}</div>'


def failure_details(failure: FailureShown, count: str = "") -> str:
    """What stays the same of it, so that an opened traceback stays open."""
    example = f"first: job {failure.index}" + (f", {code(failure.call)}" if failure.call else "")
    pre = (
        f"{_MONO};line-height:17px;margin:4px 0px 4px 16px;padding:6px 9px 6px 9px;overflow:auto;white-space:pre;"
        f"max-height:340px;background-color:{_FAINT};border-radius:4px"
    )
    message = failure.message if len(failure.message) <= 300 else failure.message[:299] + "…"
    return (
        f'<details style="{_FONT};margin:3px 0px 1px 0px"><summary style="cursor:pointer">{count}'
        f"{esc(failure.type)}{': ' if message else ''}{esc(message)}"
        f' <span style="opacity:.72"> · {example}</span></summary><pre style="{pre}">{esc(failure.traceback)}</pre>'
        "</details>"
    )


def now_line(shown: BatchShown) -> str:
    """Who serves it, and what runs."""
    words = [f"<b>{esc(shown.did)}</b>"] if shown.did else []
    if not shown.workers:
        return _small_line(words)
    words += [f"{many(shown.workers, 'worker')}, {many(shown.children, 'child', 'children')}"]
    if shown.behind:
        words[-1] += f", all busy with {esc(shown.behind)}"
    if shown.now:
        shown_now = [f"{number(index)} ({clock(seconds)})" for index, seconds in shown.now[:3]]
        more = max(shown.batch.running, len(shown.now)) - len(shown_now)
        words.append("now " + ", ".join(shown_now) + (f" and {number(more)} more" if more > 0 else ""))
    return _small_line(words)


def _small_line(words: Sequence[str]) -> str:
    style = f"{_SMALL};white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
    return f'<div style="{style}">{" · ".join(words)}</div>' if words else ""


def output_lines(lines: Sequence[str]) -> str:
    """The last lines that jobs printed."""
    if not lines:
        return ""
    style = f"{_MONO};line-height:17px;opacity:.72;margin:2px 0px 0px 0px;white-space:pre-wrap;background:none"
    return f'<pre style="{style}">' + "\n".join(esc(line) for line in lines) + "</pre>"


def notices(shown: BatchShown) -> str:
    """What is to be known about it while it is live."""
    found = []
    if shown.problem:
        found.append(problem(shown.problem))
    found.append(launched(shown))
    if shown.is_reloaded:
        found.append(reloaded(f"q.batch({shown.batch.id!r}).show()"))
    return "".join(found)


def launched(shown: BatchShown) -> str:
    """That a worker was started for it, if nothing is wrong."""
    if shown.problem or shown.launched is None:
        return ""
    if not shown.launched:
        return notice("Starting a worker on this machine.", "running")
    words = f"Started a worker with {many(shown.launched, 'child', 'children')} on this machine."
    return notice(f"{words} It leaves after an hour without work. {code('q.workers()')}", "running")


def problem(words: str) -> str:
    """Why nobody serves a batch or a job."""
    return notice(_with_command(words), "failed")


def reloaded(again: str, what: str = "what it shows at the end is not saved with the notebook") -> str:
    """What somebody has to know who loaded the page anew; `again` is the code that draws it once more."""
    return notice(f"The page was loaded anew: this panel goes on, but {what}. {code(again)} draws all of it again.")


def _with_command(problem: str) -> str:
    """A problem in words, the command that helps as code."""
    what, run, rest = problem.partition(" Run: ")
    command, _, where = rest.partition("   (")
    words = esc(what[:1].upper() + what[1:])
    return f"{words} Run {code(command)} {esc(where.rstrip(')'))}." if run else words


def job_caption(label: str, later: str) -> str:
    """The line above a job."""
    return small(f"{esc(label)} · later: {code(later)}")


def small(markup: str) -> str:
    """A line in small print."""
    return f'<div style="{_SMALL}">{markup}</div>'


def caption(label: str, id: str, total: str, variable: str = "q") -> str:
    """The line above the panel, which survives whatever happens to the page and the kernel."""
    return (
        f'<div style="{_SMALL}">{esc(label)} · {esc(total)}batch {esc(id)} · later: '
        f"{code(f'{variable}.batch({id!r}).show()')}</div>"
    )


def ended(shown: BatchShown, name: str) -> str:
    """The whole panel of a batch that has ended, as the saved notebook keeps it.

    Parameters
    ----------
    name : str
        How the reader reaches the batch in code.
    """
    batch = shown.batch
    shown = replace(shown, batch=replace(batch, running=0)) if batch.ended_at else shown
    if batch.failed or batch.canceled:
        what = "the rest" if not batch.failed else f"{number(batch.failed + batch.canceled)} again"
        again = [f"{code(f'{name}.retry()')} runs {what}", code(f"{name}.results(errors='return')")]
    else:
        again = [code(f"{name}.results()")]
    when = time_of_day(batch.submitted_at)
    if batch.ended_at is not None:
        when += f" to {time_of_day(batch.ended_at)}"
    reason = f'<div style="{_SMALL}">{esc(batch.reason)}</div>' if batch.reason and shown.state == "canceled" else ""
    return _frame(
        title(shown)
        + _middle(shown)
        + reason
        + "".join(failure_details(failure, _times(failure)) for failure in shown.failures)
        + output_lines(shown.output)
        + _ends(" · ".join(again), f"batch {batch.id} · {when}", _SMALL + ";margin:3px 0px 0px 0px")
    )


def interrupted(shown: BatchShown, name: str, words: str) -> str:
    """The panel of a batch that goes on while nobody draws it any more: the kernel has gone."""
    again = f"{code(f'{name}.show()')} comes back to it"
    return _frame(
        title(shown)
        + _middle(shown)
        + "".join(failure_details(failure, _times(failure)) for failure in shown.failures)
        + _ends(again, f"batch {shown.batch.id} · {esc(words)}", _SMALL + ";margin:3px 0px 0px 0px")
    )


def _frame(inside: str) -> str:
    style = f"border:{_LINE};border-radius:6px;padding:7px 12px 6px 12px;box-sizing:border-box;max-width:860px"
    return f'<div style="{style}">{inside}</div>'


def plain(shown: BatchShown) -> str:
    """The panel in one line of text."""
    batch = shown.batch
    words = [f"{number(batch.finished)} of {number(_total(shown))} finished"]
    words += [f"{number(n)} {state}" for state, n in _counts(batch).items() if n and state != "finished"]
    return f"{batch.label}: {shown.words}, {', '.join(words)} (batch {batch.id})"


def job_title(label: str, state: str, words: str, right: str) -> str:
    """One job while it is live; `state` as that of a job."""
    mark = {"queued": "waiting", "started": "running"}.get(state, state)
    left = f"{glyph(mark)} <b>{esc(label)}</b> · {esc(words)}"
    return _ends(left, f'<span style="{_SMALL}">{esc(right)}</span>')


def traceback(text: str) -> str:
    """A traceback, or another text as it is."""
    style = (
        f"{_MONO};line-height:17px;margin:4px 0px 4px 0px;padding:6px 9px 6px 9px;overflow:auto;white-space:pre;"
        f"max-height:340px;background-color:{_FAINT};border-radius:4px"
    )
    return f'<pre style="{style}">{esc(text)}</pre>'


def job_line(
    label: str, state: str, words: str, right: Sequence[str], below: str = "", *, is_framed: bool = True
) -> str:
    """One job in a line; `state` as that of a job."""
    mark = {"queued": "waiting", "started": "running"}.get(state, state)
    left = f"{glyph(mark)} <b>{esc(label)}</b> · {esc(words)}"
    style = f"border:{_LINE};border-radius:6px;padding:4px 12px 4px 12px;box-sizing:border-box;max-width:860px"
    right_text = f'<span style="{_SMALL}">{" · ".join(right)}</span>'
    if not is_framed:
        return f"<div>{_ends(left, right_text)}{below}</div>"
    return f'<div style="{style}">{_ends(left, right_text)}{below}</div>'


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
    table = f'<table style="{_FONT};border-collapse:collapse;border:none;margin:3px 0px 3px 0px">'
    table += f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>" if rows else "</table>"
    return f'<div style="max-width:860px;overflow-x:auto"><div style="{_FONT}">{caption}</div>{table}</div>'


def batches_table(batches: Sequence[BatchSeen], caption: str) -> str:
    rows = []
    for batch in batches:
        shown = BatchShown(batch)
        bar = f'<div style="width:110px">{_bar(_counts(batch), batch.total, 7)}</div>'
        rows.append([
            esc(batch.id), esc(batch.label), f"{glyph(shown.state)} {shown.state}", bar,
            f"{number(batch.finished + batch.failed)} of {number(batch.total)}",
            number(batch.failed) if batch.failed else "",
            "" if batch.state == "waiting" else clock(batch.elapsed) if batch.ended_at is None else took(batch.elapsed),
            time_of_day(batch.submitted_at),
        ])  # fmt: skip
    return _table(("batch", "label", "state", "", ">done", ">failed", ">took", "when"), rows, caption)


def workers_table(workers: Sequence[WorkerSeen], caption: str, here: str = "") -> str:
    rows = [
        [esc(worker.name), "this machine" if worker.host == here else esc(worker.host), esc(", ".join(worker.queues)),
         esc(worker.environment), f"{worker.busy} of {worker.children}", number(worker.jobs), size(worker.memory),
         time_of_day(worker.since)]
        for worker in workers
    ]  # fmt: skip
    return _table(("worker", "host", "queues", "environment", ">busy", ">jobs done", ">memory", "since"), rows, caption)
