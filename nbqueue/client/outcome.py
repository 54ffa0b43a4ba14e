"""How one job ended: its value or failure, from the record that Redis keeps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nbqueue import errors
from nbqueue.payload.outcomes import Failure, Outcomes
from nbqueue.payload.records import Blob

if TYPE_CHECKING:
    from nbqueue.client.batch import Batch
from nbqueue.cells.value import CellValue


class RemoteTraceback(Exception):
    """The cause of an exception that a job raised: its traceback in the worker, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Outcome:
    """How one job ended."""

    def __init__(self, outcomes: Outcomes | None, words: dict[str, Any] | None = None) -> None:
        self.outcomes = outcomes
        self.words = words

    @property
    def is_failed(self) -> bool:
        return self.outcomes is None or self.outcomes.is_failed

    def failure(self) -> Failure:
        if self.outcomes is not None:
            return self.outcomes.failure()
        words = self.words or {}
        message = str(words.get("message", ""))
        return Failure(str(words.get("type", "JobError")), message, f"{words.get('type')}: {message}\n")

    def exception(self, job_id: str) -> BaseException:
        """What `result` raises: the function's own exception where it can be rebuilt."""
        failure = self.failure()
        error = failure.exception()
        if error is None:
            kind = _OWN_ERRORS.get(failure.type, errors.JobFailed)
            text = failure.message if kind is not errors.JobFailed else f"{failure.type}: {failure.message}"
            error = kind(f"job {job_id}: {text}")
        if isinstance(error, errors.NbqueueError):
            error.job_id = job_id
        error.__cause__ = RemoteTraceback(f"{failure.traceback}\n(in nbqueue job {job_id})")
        return error


def value_of(outcomes: Outcomes, index: int) -> Any:
    """What a job returned; of a cell, the value of its last expression."""
    value = outcomes.value(index)
    return value.value() if type(value) is CellValue else value


_OWN_ERRORS: dict[str, type[errors.NbqueueError]] = {
    kind.__name__: kind
    for kind in (errors.JobTimeout, errors.JobCanceled, errors.JobKilled, errors.ResultExpired, errors.SignatureError,
                 errors.CorruptPayload, errors.CannotPickle, errors.TooLarge)
}  # fmt: skip


def read(batch: Batch, index: int, own: Blob | None, block: Blob | None) -> Outcome | None:
    """How a job ended, from its own record or that of its block; None if neither tells."""
    seal = batch.queue.seal
    if own is not None:
        if own[:1] == b"!":
            return Outcome(None, words(batch.id, index, own))
        return Outcome(Outcomes(seal, batch.id, index, own))
    if block is not None:
        per_block = batch.queue.per_block(batch.id)
        outcomes = Outcomes(seal, batch.id, index // per_block * per_block, block)
        if index in outcomes:
            return Outcome(outcomes)
    return None


def words(batch: str, index: int, record: Blob) -> dict[str, Any]:
    try:
        words: dict[str, Any] = json.loads(bytes(record[1:]))
    except ValueError as error:
        raise errors.CorruptPayload(f"the outcome of job {batch}:{index} is not what nbqueue wrote") from error
    return words
