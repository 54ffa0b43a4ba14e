"""Variables that cells in the background bring: unbound until then, and bound between cells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbqueue.client.cell_job import CellJob

_ABSENT = object()


@dataclass
class Promise:
    """The variables that one job brings."""

    job: CellJob
    names: tuple[str, ...]
    namespace: dict[str, Any]
    former: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] | None = None
    """What came back, once it has; empty if it failed or was canceled."""
    problems: dict[str, str] = field(default_factory=dict)
    brought: list[str] = field(default_factory=list)
    on_kept: Callable[[Promise], None] | None = None
    """Called when the names are bound again."""


class Promises:
    """All that is still to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[str, Promise] = {}

    def make(
        self,
        job: CellJob,
        names: Sequence[str],
        namespace: dict[str, Any],
        on_kept: Callable[[Promise], None] | None = None,
    ) -> Promise:
        """Unbind names until a job brings them. What another job had promised is this one's from now on."""
        promise = Promise(job, tuple(names), namespace, on_kept=on_kept)
        with self._lock:
            for name in names:
                earlier = next((one for one in self._pending.values() if name in one.former), None)
                if earlier is not None and name not in namespace:
                    promise.former[name] = earlier.former.pop(name)
                else:
                    promise.former[name] = namespace.pop(name, _ABSENT)
                if earlier is not None:
                    earlier.former.pop(name, None)
            self._pending[job.id] = promise
        return promise

    def job_of(self, name: str) -> CellJob | None:
        """The job that brings a variable."""
        with self._lock:
            return next((one.job for one in self._pending.values() if name in one.former), None)

    def jobs_of(self, names: Iterable[str]) -> list[tuple[str, CellJob]]:
        """Those of some names that are still to come."""
        found = ((name, self.job_of(name)) for name in sorted(names))
        return [(name, job) for name, job in found if job is not None]

    def settle(self, job: CellJob) -> None:
        """Read what came back of a job that has ended; binds nothing. Any thread.

        Raises
        ------
        NbqueueError
            Nothing is known of it.
        """
        with self._lock:
            promise = self._pending.get(job.id)
        if promise is None or promise.values is not None:
            return
        values, problems = job.brought()
        with self._lock:
            if promise.values is None:
                promise.values, promise.problems = values, problems

    def keep(self) -> None:
        """Bind what has come. Between cells, in the thread that runs them."""
        with self._lock:
            settled = [promise for promise in self._pending.values() if promise.values is not None]
        for promise in settled:
            self._keep(promise)

    def collect(self, job_id: str) -> None:
        """Bind what a job brings now, because the code that runs has waited for it."""
        if not self._pending or threading.current_thread() is not threading.main_thread():
            return
        with self._lock:
            promise = self._pending.get(job_id)
        if promise is not None:
            self.settle(promise.job)
            if promise.values is not None:
                self._keep(promise)

    def _keep(self, promise: Promise) -> None:
        with self._lock:
            if self._pending.pop(promise.job.id, None) is None:
                return
            values, namespace = promise.values or {}, promise.namespace
            for name, former in promise.former.items():
                if name in namespace:  # it was assigned meanwhile: whoever did that wants it so
                    promise.problems.setdefault(
                        name, f"{name!r} was assigned meanwhile and is left alone; job.variables has it"
                    )
                elif name in values:
                    namespace[name] = values[name]
                    promise.brought.append(name)
                elif former is not _ABSENT:
                    namespace[name] = former
            promise.former.clear()
        if promise.on_kept is not None:
            promise.on_kept(promise)


PROMISES = Promises()
