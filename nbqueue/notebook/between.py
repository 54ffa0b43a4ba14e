"""What happens between cells: variables that cells in the background bring are bound when no cell runs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from nbqueue import errors
from nbqueue.client import hooks
from nbqueue.client.cell_job import CellJob
from nbqueue.client.job import Job
from nbqueue.notebook.arriving import Promise, Promises
from nbqueue.view.shown import STATES

_LOOK = 1.0
"""Seconds between two tries to reach a server that is away."""


class Between:
    """Knows when no cell runs, and binds then what has come.

    Parameters
    ----------
    shell : InteractiveShell
    promises : Promises
        What is still to come.
    """

    def __init__(self, shell: Any, promises: Promises) -> None:
        self._shell = shell
        self._promises = promises
        self._running = 0
        hooks.when_waited_for(promises.collect)
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", self._end)

    def expect(self, job: CellJob, names: Sequence[str], arrived: Callable[[Promise], None] | None) -> None:
        """Unbind variables until a job brings them; `arrived` is called when they are bound again."""
        promise = self._promises.make(job, names, self._shell.user_ns, arrived)
        threading.Thread(target=self._wait_for, args=(promise,), name="nbqueue-promise", daemon=True).start()

    def _begin(self, *_: Any) -> None:
        if self._running == 0:
            self._promises.keep()
        self._running += 1

    def _end(self, result: Any = None) -> None:
        self._running = max(0, self._running - 1)  # the cell that loads this ends without having begun
        error = getattr(result, "error_in_exec", None)
        if isinstance(error, NameError):
            self._explain(str(getattr(error, "name", "")))
        if self._running == 0:
            self._promises.keep()

    def _wait_for(self, promise: Promise) -> None:
        """In a thread: read what a job brings when it has ended, and have it bound as soon as no cell runs."""
        while promise.former:
            try:
                promise.job.wait()
                self._promises.settle(promise.job)
            except errors.NotFound:
                promise.values = {}
            except errors.NbqueueError:  # the server is away; the panel says so
                time.sleep(_LOOK)
                continue
            loop = getattr(getattr(self._shell, "kernel", None), "io_loop", None)
            if loop is not None:
                loop.add_callback(self._keep_if_idle)
            return

    def _keep_if_idle(self) -> None:
        if self._running == 0:
            self._promises.keep()

    def _explain(self, name: str) -> None:
        """Say where a variable is that a cell has missed."""
        job = self._promises.job_of(name)
        if job is None:
            return
        try:
            cell = job.batch.description.cell
            own = (cell and cell.name) or f"q.fetch_job({job.id!r})"
            what = job_in_words(job)
        except errors.NbqueueError:  # the server is away, and the panel says so
            own, what = f"q.fetch_job({job.id!r})", f"job {job.id}"
        print(
            f"nbqueue: {name!r} comes from {what}. It is bound when that has finished; {own}.wait() waits for it",
            file=sys.stderr,
        )


def job_in_words(job: Job) -> str:
    """A cell in the background: its name, its id, what it does."""
    described = job.batch.description
    name = (described.cell and described.cell.name) or described.label
    return f"{name} (job {job.id}), which is {state_of(job)}"


def state_of(job: Job) -> str:
    """'waiting', 'running', 'finished', 'failed' or 'canceled'."""
    status = job.get_status()
    return STATES.get(status, status)
