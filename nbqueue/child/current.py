"""The job that runs, as its own function sees it."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from nbqueue import errors
from nbqueue.child import context

_MOST_META = 64 * 1024
"""Bytes of `meta` as JSON."""


class CurrentJob:
    """The job that runs: what `get_current_job` returns.

    Attributes
    ----------
    id : str
        Batch and index: 'k3f9x2:17'.
    batch_id : str
    index : int
    attempt : int
        The number of this start, from 1.
    origin : str
        The name of its queue.
    meta : dict
        What it was submitted with, and what an earlier attempt has saved. It is the job's own: `save_meta` has it kept.
    timeout : float, optional
        Seconds that it may take.
    """

    def __init__(
        self, batch_id: str, index: int, attempt: int, origin: str, meta: Mapping[str, Any], timeout: float | None,
        save: Callable[[bytes], None], namespace: str = "default",
    ) -> None:  # fmt: skip
        self.batch_id, self.index, self.attempt, self.origin = batch_id, index, attempt, origin
        self.meta = dict(meta)
        self.timeout = timeout
        self._save, self._namespace = save, namespace
        self._queue: Any = None

    def __repr__(self) -> str:
        return f"<CurrentJob {self.id}>"

    @property
    def id(self) -> str:
        return f"{self.batch_id}:{self.index}"

    def get_id(self) -> str:
        """RQ's name for `id`."""
        return self.id

    @property
    def queue(self) -> Any:
        """Its queue, on the server that it came from."""
        if self._queue is None:  # by its name, here only: a child needs no client
            made = importlib.import_module("nbqueue.client.queues").Queue
            self._queue = made(self.origin, namespace=self._namespace, progress=False)
        return self._queue

    @property
    def batch(self) -> Any:
        """The batch that it belongs to, as `q.batch(id)` gives it."""
        return self.queue.batch(self.batch_id)

    @property
    def output(self) -> str:
        """The text that it has put out up to a moment ago: see `Job.output`."""
        return str(self.queue.fetch_job(self.id).output)

    def save_meta(self) -> None:
        """Have `meta` kept: from then on `job.meta` is that for everybody, also after the job has ended.

        Raises
        ------
        UsageError
            It holds what JSON cannot, or is larger than 64 KB.
        """
        self._save(meta_as_json(self.id, self.meta))


def meta_as_json(job_id: str, meta: dict[str, Any]) -> bytes:
    """The `meta` of a job, as it is kept.

    Raises
    ------
    UsageError
        It holds what JSON cannot, or is larger than 64 KB.
    """
    try:
        text = json.dumps(meta).encode()
    except (TypeError, ValueError) as error:
        raise errors.UsageError(f"meta of job {job_id}: only what JSON can hold is accepted ({error})") from None
    if len(text) > _MOST_META:
        raise errors.UsageError(
            f"meta of job {job_id} is {len(text):,} bytes: up to {_MOST_META:,} are kept. What is large belongs into "
            "the result, or a file"
        )
    return text


_made_here: ContextVar[CurrentJob | None] = ContextVar("nbqueue_job", default=None)


@contextlib.contextmanager
def made_here(job: CurrentJob) -> Iterator[None]:
    """A call is made without a worker; it is the current job meanwhile."""
    token = _made_here.set(job)
    try:
        yield
    finally:
        _made_here.reset(token)


def get_current_job() -> CurrentJob | None:
    """The job that runs here; None outside of a job, and in processes that a job has started.

    It is the same object as long as the job runs.

    Returns
    -------
    CurrentJob or None

    Examples
    --------
    >>> import nbqueue
    >>> def train(epochs):
    ...     job = nbqueue.get_current_job()
    ...     for epoch in range(epochs):
    ...         job.meta["epoch"] = epoch
    ...         job.save_meta()
    ...     return job.id
    """
    made = _made_here.get()
    if made is not None:
        return made
    running = context.running()
    return None if running is None else running.job()
