"""Parts of all markup: colours, glyphs, text sizes, bars, notices, frames.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which all kinds of colour vision can tell apart;
each state has a glyph and a word as well.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from nbqueue.client.problem import Problem
from nbqueue.view.shown import RunningShown
from nbqueue.view.words import number, percent

COLORS = {
    "finished": "#009e73", "failed": "#d55e00", "canceled": "#8c8c8c", "running": "#56b4e9", "waiting": "#808080",
}  # fmt: skip

GLYPHS = {
    "finished": "✓", "failed": "✕", "canceled": "⊘", "running": "▸", "waiting": "○", "paused": "‖", "submitting": "↑",
}  # fmt: skip

GREY = "rgba(128,128,128,.22)"

FAINT = "rgba(128,128,128,.1)"

NORMAL = "font-size:13px;line-height:20px;font-variant-numeric:tabular-nums"

SMALL = "font-size:12px;line-height:18px;opacity:.72"

MONO = "font-family:Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:12px"

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
    """Code within a sentence."""
    style = f"{MONO};background:{GREY};border-radius:3px;padding:1px 5px;white-space:nowrap"
    return f'<code style="{style}">{esc(text)}</code>'


def glyph(state: str) -> str:
    """The sign of a state, in its colour."""
    return f'<span style="color:{COLORS.get(state, "inherit")};font-weight:700">{GLYPHS[state]}</span>'


def ends(left: str, right: str, style: str = NORMAL) -> str:
    """Left and right on one line, on two where it is narrow."""
    return (
        f'<div style="display:flex;flex-wrap:wrap;justify-content:space-between;column-gap:16px;{style}">'
        f"<div>{left}</div> <div>{right}</div></div>"
    )


def small(markup: str) -> str:
    """A line in small print."""
    return f'<div style="{SMALL}">{markup}</div>'


def frame(inside: str, padding: str = "7px 12px 6px 12px") -> str:
    """A border around the whole of a panel."""
    style = f"border:1px solid rgba(128,128,128,.28);border-radius:6px;padding:{padding};box-sizing:border-box"
    return f'<div style="{style};max-width:860px">{inside}</div>'


def bar(counts: Mapping[str, int], total: int, height: int = 9, *, live: bool = False) -> str:
    """One bar of jobs by state; a segment of three failed jobs in a million is still three pixels wide."""
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
        f'height:{height}px;background-color:{GREY};border-radius:3px;overflow:hidden;margin:5px 0px 3px 0px">'
        f"{''.join(parts)}</div>"
    )


def job_bar(job: RunningShown, label: str = "") -> str:
    """How far a job is that runs, if it says so: a thin bar and words."""
    progress = job.progress
    if progress is None:
        return ""
    share = progress.share
    bar = ""
    if share is not None:
        bar = (
            f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{int(100 * share)}" '
            f'title="{percent(share)}" style="flex:0 0 28%;height:5px;background-color:{GREY};border-radius:3px;'
            f'overflow:hidden"><div style="width:{100 * share:.1f}%;height:5px;background-color:{COLORS["running"]};'
            f'background-image:{_HATCH}"></div></div>'
        )
    name = f'<span style="min-width:4ch">{esc(label)}</span>' if label else ""
    words = f'<span style="overflow:hidden;text-overflow:ellipsis">{esc(job.words)}</span>'
    return f'<div style="{SMALL};display:flex;align-items:center;gap:8px;white-space:nowrap">{name}{bar}{words}</div>'


def pre(text: str, margin: str = "4px 0px 4px 0px") -> str:
    """A traceback, or another text as it is."""
    style = (
        f"{MONO};line-height:17px;margin:{margin};padding:6px 9px 6px 9px;overflow:auto;white-space:pre;"
        f"max-height:340px;background-color:{FAINT};border-radius:4px"
    )
    return f'<pre style="{style}">{esc(text)}</pre>'


def output_lines(lines: Sequence[str]) -> str:
    """The last lines that jobs printed."""
    if not lines:
        return ""
    style = f"{MONO};line-height:17px;opacity:.72;margin:2px 0px 0px 0px;white-space:pre-wrap;background:none"
    return f'<pre style="{style}">' + "\n".join(esc(line) for line in lines) + "</pre>"


def notice(markup: str, state: str = "waiting") -> str:
    """A paragraph that something is to be known about."""
    return (
        f'<div style="{NORMAL};border-left:3px solid {COLORS[state]};background-color:{FAINT};'
        f'padding:3px 9px 3px 9px;margin:5px 0px 2px 0px">{markup}</div>'
    )


def wrong(words: str) -> str:
    """A notice in words that something is wrong."""
    return notice(esc(words), "failed")


def problem(found: Problem) -> str:
    """A notice why nobody serves a batch or a job; the command that helps as code."""
    words = esc(sentence(found.words))
    if not found.command:
        return notice(words, "failed")
    return notice(f"{words}. Run {code(found.command)} {esc(found.where)}.", "failed")


def sentence(words: str) -> str:
    """Words with a capital letter in front."""
    return words[:1].upper() + words[1:]


def reloaded(again: str, what: str = "what it shows at the end is not saved with the notebook") -> str:
    """A notice for who loaded the page anew; `again` is the code that draws the panel once more."""
    return notice(f"The page was loaded anew: this panel goes on, but {what}. {code(again)} draws all of it again.")
