"""A cell in the background, as what a panel shows; its outputs appear below (outputs.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nbqueue import errors
from nbqueue.cells.messages import last_line
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import CellJob
from nbqueue.client.problem import Problem
from nbqueue.notebook.arriving import Promise
from nbqueue.notebook.markup import batch as batch_markup
from nbqueue.notebook.markup import job as markup
from nbqueue.notebook.markup import parts as pieces
from nbqueue.notebook.panels.display import Bundle, outcome_of
from nbqueue.notebook.panels.job import CANCEL, LEFT, TIPS
from nbqueue.notebook.panels.outputs import Outputs
from nbqueue.notebook.widgets import Parts
from nbqueue.store.requests.looking import WorkerState
from nbqueue.view.shown import BatchShown, JobShown
from nbqueue.view.snapshot import Follower, see_job
from nbqueue.view.words import clock, listed

_ERROR = 118
"""Characters of an error that are shown beside the state."""


class CellContent:
    """The content of a panel that shows a cell in the background.

    Parameters
    ----------
    job : CellJob
    label : str
    outputs : Outputs
    brings : sequence of str
        The variables that come into the notebook at the end.
    """

    tips = TIPS

    def __init__(self, job: CellJob, label: str, outputs: Outputs, brings: Sequence[str]) -> None:
        self.job = job
        self.batch = job.batch
        self._outputs = outputs
        self._brings = brings
        self._follower = Follower(Batch(job.batch.session, job.batch.id), label)
        self._seen: BatchShown | None = None
        self._shown = JobShown(job.id, label, "queued")
        self._promise: Promise | None = None
        self._said = ""

    @property
    def id(self) -> str:
        return self.job.id

    @property
    def problem(self) -> Problem | None:
        return self._seen.problem if self._seen is not None else None

    def look(self, workers: Sequence[WorkerState] | None, now: float | None) -> bool:
        if workers is not None and now is not None:
            try:
                self._seen = self._follower.look(workers, now)
            except errors.NotFound:
                self._seen = None
        shown = see_job(self.job, self._shown.label)
        if shown.status == "failed":
            error = self.job.exception()
            message = " ".join(str(error).split())
            shown = replace(shown, outcome=f"{type(error).__name__}: {message}"[:_ERROR])
        if shown.is_live:
            running = self._seen.now[0] if self._seen is not None and self._seen.now else None
            shown = replace(shown, running=running)
        self._shown = replace(shown, does=self._does(shown)) if shown.is_live else shown
        return shown.is_live

    def parts(self, *, is_reloaded: bool, unreachable: str = "") -> Parts:
        buttons = (CANCEL,) if self._shown.is_live else ()
        return Parts(
            markup.line(self._ended()), above=(markup.progress(self._shown),),
            below=(self._notes(is_reloaded, unreachable),), buttons=buttons,
        )  # fmt: skip

    def bundle(self, *, is_left: bool = False) -> Bundle:
        shown = replace(self._ended(), does=LEFT if is_left else "")
        return {"text/html": markup.framed(shown), "text/plain": markup.plain(shown)}

    def revive(self) -> None:
        self._said, self._seen = "", None
        self._shown = JobShown(self.id, self._shown.label, "queued")
        self._shown = replace(self._shown, does=self._does(self._shown))

    def act(self, button: str) -> None:
        self._said = outcome_of(button, lambda: "" if self.job.cancel() else "It had ended.")

    def arrive(self, promise: Promise) -> None:
        """Its variables are bound."""
        self._promise = promise

    def _does(self, shown: JobShown) -> str:
        words, seen = shown.state, self._seen
        if shown.does:
            words = shown.does
        elif seen is not None and shown.status == "queued":
            words = seen.words
        elif seen is not None:
            words = "running" if shown.running is None else f"running for {clock(shown.running.seconds)}"
        return words + (f", brings back {listed(self._brings)}" if self._brings else "")

    def _ended(self) -> JobShown:
        """With what is known of its outputs and variables."""
        shown, promise = self._shown, self._promise
        if shown.is_live or shown.status == "gone":
            return shown
        if any(kind == "error" for kind, _ in self._outputs.shown):  # else it did not end by itself
            shown = replace(shown, traceback="")
        if promise is None:
            return shown
        if promise.brought and shown.status != "failed":
            are = "is" if len(promise.brought) == 1 else "are"
            shown = replace(shown, outcome=f"{listed(promise.brought)} {are} here")
        return replace(shown, problems=tuple(promise.problems.values()))

    def _notes(self, is_reloaded: bool, unreachable: str) -> str:
        if unreachable:
            return pieces.wrong(unreachable)
        notes = []
        if self._shown.is_live:
            notes += [pieces.problem(self.problem)] if self.problem is not None else []
            notes += [pieces.notice(pieces.esc(self._said))] if self._said else []
        if is_reloaded:
            again = f"q.fetch_job({self.id!r}).show()"
            notes.append(pieces.reloaded(again, "what the cell puts out from now on is not shown below"))
        if self._shown.is_live:
            notes.append(batch_markup.launched(self._seen) if self._seen is not None else "")
            line = last_line(self._outputs.shown) if is_reloaded else ""
            notes.append(pieces.output_lines([line] if line else []))
        return "".join(notes)
