"""Every error that nbqueue raises, in one tree.

NbqueueError
├── ServerError                 no server can be reached or started
│   ├── ServerUnreachable       a Redis did not answer (which URL, what to do)
│   └── ServerFull              the server's memory limit is reached, or its disk is full
├── PayloadError                something cannot be sent or read
│   ├── CannotPickle            a function, argument or result cannot be pickled
│   ├── CorruptPayload          bytes that are not what nbqueue wrote
│   └── SignatureError          a payload that was not signed with this key
├── NotFound                    there is no such batch or job
│   └── ResultExpired           its records are gone
├── NotFinished                 asked for the result of a job that has not ended
├── WaitTimeout                 a wait took longer than its `timeout` (also a `TimeoutError`)
├── SubmitError                 a batch could not be submitted as a whole
├── UsageError                  an argument that makes no sense (also a `ValueError`)
│   └── WrongType               it is of a kind that is not accepted there (also a `TypeError`)
└── JobError                    how a job ended when it was not the function's own exception
    ├── JobFailed               the function's exception could not be rebuilt here
    ├── JobExited               the function was left by `sys.exit` or the like, which is no `Exception`
    ├── JobTimeout              the job ran longer than its `job_timeout`
    ├── JobCanceled             the job was canceled
    ├── DependencyFailed        a job that it waited for failed or was canceled; it did not run
    ├── JobExpired              the job waited for longer than its `ttl`, and was given up
    └── JobKilled               its process died (by what, in words)

Errors about one job carry its id in `job_id`.
"""

from __future__ import annotations


class NbqueueError(Exception):
    """The base of all errors of nbqueue."""

    job_id: str | None = None


class ServerError(NbqueueError):
    """No server can be reached or started."""


class ServerUnreachable(ServerError, ConnectionError):
    """The server did not answer; the message names its URL and what to do."""


class ServerFull(ServerError):
    """The server's memory limit is reached, or its disk is full: nothing more is accepted until there is room."""


class PayloadError(NbqueueError):
    """Something cannot be sent to a worker, or read back."""


class CannotPickle(PayloadError, TypeError):
    """A function, an argument or a result cannot be pickled; the message names the part that cannot."""


class CorruptPayload(PayloadError):
    """A record in Redis is not what nbqueue wrote there."""


class SignatureError(PayloadError):
    """A payload was not signed with this key, or was moved to another place. It was not unpickled."""


class NotFound(NbqueueError, LookupError):
    """There is no such batch or job on this server."""


class ResultExpired(NotFound):
    """The job is known to have ended, but its record is gone."""


class NotFinished(NbqueueError):
    """The job has not ended yet, and the call does not wait."""


class WaitTimeout(NbqueueError, TimeoutError):
    """A wait took longer than its `timeout`. The jobs go on."""


class SubmitError(NbqueueError):
    """A batch could not be submitted as a whole. What was submitted of it has been canceled."""


class UsageError(NbqueueError, ValueError):
    """An argument that makes no sense; the message says which and what is accepted."""


class WrongType(UsageError, TypeError):
    """An argument of a kind that is not accepted there; the message says which and what is accepted."""


class JobError(NbqueueError):
    """A job ended otherwise than by returning or by an exception that can be rebuilt here."""


class JobFailed(JobError):
    """The function raised an exception that could not be rebuilt here; the message is its text, and says why."""


class RetryLater(JobError):
    """Raised by a job that shall run again after a while, such as when somebody else is not ready.

    It counts as an attempt. With `retry=` it can be done `max` times, otherwise as often as one likes.

    Parameters
    ----------
    delay : float
        Seconds.
    why : str
        Kept with the attempt.

    Examples
    --------
    >>> def fetch(url):
    ...     if is_limited(url):
    ...         raise nbqueue.RetryLater(30, "too many requests")
    """

    def __init__(self, delay: float, why: str = "") -> None:
        if not isinstance(delay, int | float) or isinstance(delay, bool) or not 0 <= delay < float("inf"):
            raise UsageError(f"RetryLater({delay!r}): seconds from 0 on are accepted")
        super().__init__(f"to run again in {delay:g} seconds" + (f": {why}" if why else ""))
        self.delay = float(delay)
        self.why = why

    def __reduce__(self) -> tuple[type[RetryLater], tuple[float, str]]:
        return RetryLater, (self.delay, self.why)


class ResultUnreadable(JobError):
    """The function returned, and what it returned cannot be unpickled here: why is the `__cause__` of this error."""


class JobExited(JobError):
    """The function was left by what is no `Exception`, such as `sys.exit()`: that is the `__cause__` of this error."""


class JobTimeout(JobError, TimeoutError):
    """The job ran longer than its `job_timeout`."""


class JobCanceled(JobError):
    """The job was canceled before it ended."""


class DependencyFailed(JobError):
    """The job did not run, because one that it waited for failed or was canceled; the message says which."""


class JobExpired(JobError):
    """The job still waited in the queue after its `ttl`, and was given up."""


class JobKilled(JobError):
    """The process that ran the job died; the message says of what."""


class DependencyWarning(UserWarning):
    """Jobs that failed because of others were not run again: they come back with those; the message says which."""


class NoWorkerWarning(UserWarning):
    """Somebody waits for jobs that no worker serves; the message says what to run."""


class LoadingWarning(UserWarning):
    """Each call of a function loads much anew, so that what it changes is not seen by the next; told once."""


class LargeWarning(UserWarning):
    """A function or an argument is above 50 MB; the message says what of it is large. Told once for each."""


class ChangedWarning(UserWarning):
    """A job runs again as it was submitted, and its function stands otherwise in the notebook now."""


class OptionWarning(UserWarning):
    """An argument was taken for an option, and the function has a parameter of that name; told once."""
