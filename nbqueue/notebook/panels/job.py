"""A job, as what a panel shows: a line while it waits and runs, then how it ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from nbqueue import errors
from nbqueue.client.job import Job
from nbqueue.client.problem import Problem
from nbqueue.notebook.markup import job as markup
from nbqueue.notebook.markup import parts as pieces
from nbqueue.notebook.panels.display import Bundle, outcome_of, show
from nbqueue.notebook.widgets import Parts
from nbqueue.store.requests.looking import WorkerState
from nbqueue.view.shown import JobShown, RunningShown
from nbqueue.view.snapshot import Attendant, running_of, see_job
from nbqueue.view.words import clock

CANCEL = "Cancel"

TIPS = {CANCEL: "Cancel it, or stop it if it runs"}

LEFT = "the kernel was shut down; it goes on"


class JobContent:
    """The content of a panel that shows a job.

    Parameters
    ----------
    job : Job
    """

    tips = TIPS

    def __init__(self, job: Job) -> None:
        self.job = job
        self.batch = job.batch
        self.problem: Problem | None = None
        self._shown = JobShown(job.id, _name_of(job), "queued")
        self._attendant = Attendant(job.batch.session)
        self._since = time.monotonic()
        self._said = ""

    @property
    def id(self) -> str:
        return self.job.id

    def look(self, workers: Sequence[WorkerState] | None, now: float | None) -> bool:
        shown = see_job(self.job, self._shown.label)
        if shown.is_live:
            shown = replace(
                shown,
                does=shown.does or f"{shown.state} for {clock(time.monotonic() - self._since)}",
                running=self._running(workers or (), now or 0.0),
            )
        self._shown = shown
        if shown.status != "queued":
            self.problem = None
        elif workers is not None:
            self.problem = self._attendant.problem(lambda: self.batch.state)
        return shown.is_live

    def _running(self, workers: Sequence[WorkerState], now: float) -> RunningShown | None:
        running = [job for worker in workers for job in worker.running]
        return next((job for job in running_of(self.batch.id, running, now) if job.index == self.job.index), None)

    def parts(self, *, is_reloaded: bool, unreachable: str = "") -> Parts:
        notes = []
        if unreachable:
            notes.append(pieces.wrong(unreachable))
        elif self._shown.is_live:
            notes += [pieces.problem(self.problem)] if self.problem is not None else []
            notes += [pieces.notice(pieces.esc(self._said))] if self._said else []
        if is_reloaded and not unreachable:
            notes.append(pieces.reloaded(f"q.fetch_job({self.id!r}).show()"))
        buttons = (CANCEL,) if self._shown.is_live else ()
        return Parts(
            markup.line(self._shown), above=(markup.progress(self._shown),), below=("".join(notes),), buttons=buttons
        )

    def bundle(self, *, is_left: bool = False) -> Bundle:
        shown = replace(self._shown, does=LEFT if is_left else "")
        return {"text/html": markup.framed(shown), "text/plain": markup.plain(shown)}

    def revive(self) -> None:
        self._since, self._said = time.monotonic(), ""
        self._shown = JobShown(self.id, self._shown.label, "queued", does="waiting for 0:00")

    def act(self, button: str) -> None:
        self._said = outcome_of(button, lambda: "" if self.job.cancel() else "It had ended.")

    def show_displayed(self) -> None:
        """Draw what it displayed."""
        for displayed in self.job.rich_output:
            show(displayed)

    def show_value(self) -> None:
        """Draw its result as that draws itself, if it has finished."""
        if self._shown.status == "finished":
            value = self.job.return_value()
            if value is not None:
                show(value)


def _name_of(job: Job) -> str:
    try:
        return job.func_name
    except errors.NbqueueError:
        return "job"
