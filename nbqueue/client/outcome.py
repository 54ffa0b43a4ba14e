"""The outcome of one job: its value or failure, from the record that Redis keeps."""

from __future__ import annotations

import json
from typing import Any

from nbqueue import errors
from nbqueue.cells.value import CellValue
from nbqueue.client.session import Session
from nbqueue.payload.explain import hint_for_unpickling
from nbqueue.payload.outcomes import Failure, Outcomes
from nbqueue.payload.records import Blob
from nbqueue.store.keys import IN_WORDS


class RemoteTraceback(Exception):
    """The cause of an exception that a job raised: its traceback in the worker, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Outcome:
    """The outcome of one job."""

    def __init__(self, outcomes: Outcomes | None, words: dict[str, Any] | None = None) -> None:
        self.outcomes = outcomes
        self.words = words

    @property
    def is_failed(self) -> bool:
        """Whether the call did not return."""
        return self.outcomes is None or self.outcomes.is_failed

    def failure(self) -> Failure:
        """The failure of the call, in words."""
        if self.outcomes is not None:
            return self.outcomes.failure()
        words = self.words or {}
        message = str(words.get("message", ""))
        return Failure(str(words.get("type", "JobError")), message, f"{words.get('type')}: {message}\n")

    def exception(self, job_id: str) -> Exception:
        """The exception that `result` raises: the function's own where it can be rebuilt, if it is an `Exception`."""
        failure = self.failure()
        rebuilt = failure.exception()
        remote = RemoteTraceback(f"{failure.traceback}\n(in nbqueue job {job_id})")
        error: Exception
        if isinstance(rebuilt, str):
            kind = _OWN_ERRORS.get(failure.type, errors.JobFailed)
            text = failure.message if kind is not errors.JobFailed else f"{failure.type}: {failure.message}"
            if rebuilt:
                text += f" (only its text is here, as it cannot be rebuilt: {rebuilt})"
            error = kind(f"job {job_id}: {text}")
            error.__cause__ = remote
        elif isinstance(rebuilt, Exception):
            error = rebuilt
            _first_of(error).__cause__ = remote
        else:
            # Raised here, it would end the caller's script, or look like the user's own interrupt.
            _first_of(rebuilt).__cause__ = remote
            error = errors.JobExited(f"job {job_id} {_left_by(rebuilt)}")
            error.__cause__ = rebuilt
        if isinstance(error, errors.NbqueueError):
            error.job_id = job_id
        return error


def _first_of(error: BaseException) -> BaseException:
    """The exception with which a chain of causes began, as far as it is shown: in front of it stands what happened in
    the worker."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if before is None:
            break
        error = before
    return error


def _left_by(error: BaseException) -> str:
    """How a function was left by what is no `Exception`."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({'' if error.code is None else repr(error.code)})"
    text = str(error)
    return f"raised {type(error).__name__}" + (f": {text}" if text else "")


def value_of(outcomes: Outcomes, batch: str, index: int) -> Any:
    """The return value of a job; of a cell, the value of its last expression.

    Raises
    ------
    ResultUnreadable
        It cannot be unpickled here.
    """
    try:
        value = outcomes.value(index)
        return value.value() if type(value) is CellValue else value
    except Exception as error:
        unreadable = errors.ResultUnreadable(
            f"job {batch}:{index} returned, and what it returned cannot be read here: {type(error).__name__}: {error}"
            + (f". Here, {hint}" if (hint := hint_for_unpickling(error)) else "")
        )
        unreadable.job_id = f"{batch}:{index}"
        raise unreadable from error


_OWN_ERRORS: dict[str, type[errors.NbqueueError]] = {
    kind.__name__: kind
    for kind in (errors.JobTimeout, errors.JobCanceled, errors.JobKilled, errors.DependencyFailed, errors.JobExpired,
                 errors.ResultExpired,
                 errors.SignatureError, errors.CorruptPayload, errors.CannotPickle, errors.ServerFull)
}  # fmt: skip


def read(session: Session, batch: str, index: int, own: Blob, block: Blob) -> Outcome | None:
    """The outcome of a job, from its own record or that of its block; None if neither tells.

    Raises
    ------
    SignatureError, CorruptPayload
    """
    if own:
        return read_own(session, batch, index, own)
    if block:
        per_block = session.per_block(batch)
        outcomes = Outcomes(session.seal, batch, index // per_block * per_block, block, find=session.serializer)
        if index in outcomes:
            return Outcome(outcomes)
    return None


def read_own(session: Session, batch: str, index: int, own: Blob, *, once: bool = False) -> Outcome:
    """The outcome of a job, from its own record; `once` as for `Outcomes`."""
    if own[:1] != IN_WORDS:
        return Outcome(Outcomes(session.seal, batch, index, own, once=once, find=session.serializer))
    try:
        words: dict[str, Any] = json.loads(bytes(own[len(IN_WORDS) :]))
    except ValueError as error:
        raise errors.CorruptPayload(f"the outcome of job {batch}:{index} is not what nbqueue wrote") from error
    return Outcome(None, words)


def canceled(job_id: str, reason: str) -> errors.JobCanceled:
    """The exception that the result of a canceled job raises."""
    error = errors.JobCanceled(f"job {job_id} was canceled" + (f": {reason}" if reason else ""))
    error.job_id = job_id
    return error
