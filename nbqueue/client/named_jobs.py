"""Ids that users make up for jobs: names, beside the ids that the jobs have anyway."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nbqueue import errors
from nbqueue.client.options import JobOptions
from nbqueue.store.requests import submitting
from nbqueue.store.store import Store

_WAITING = 30 * 86400
"""Seconds, beside the lifetime of its results, for which a name is kept: so long a job may wait and run."""

_FOR_EVER = 10 * 365 * 86400


@contextlib.contextmanager
def taken_name(store: Store, options: JobOptions, batch: str) -> Iterator[None]:
    """While the block submits a batch, and from then on, its job has the name that the options say, if they do.

    Raises
    ------
    UsageError
        Another job has it.
    """
    name = options.job_id
    if name is None:
        yield
        return
    holder = store.call(submitting.take_name(name, batch, _seconds(options), is_unique=options.unique))
    if holder != batch:
        state = store.batch(holder)
        words = "is being submitted" if state is None else "has ended" if state.done else "has not ended"
        error = errors.UsageError(
            f"job_id={name!r} is taken: job {holder}:0 of that name {words}"
            + (". With unique=True the name is free when that job was deleted" if options.unique else "")
        )
        error.job_id = f"{holder}:0"
        raise error
    try:
        yield
    except BaseException:
        with contextlib.suppress(errors.NbqueueError):
            store.call(submitting.release_name(name, batch))
        raise


def _seconds(options: JobOptions) -> int:
    lifetimes = (options.result_ttl, options.failure_ttl or 0)
    if min(lifetimes) < 0:
        return _FOR_EVER
    delay = float(options.due) if options.due.startswith("+") else 0.0
    return int(max(lifetimes) + delay) + _WAITING
