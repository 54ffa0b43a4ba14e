"""`@job("queue")`: a function that can be submitted by a method of its own, as RQ's users know it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Unpack

from nbqueue import errors
from nbqueue.client.job import Job
from nbqueue.client.named import Decorated
from nbqueue.client.options import JobOptions, Options
from nbqueue.client.queues import Queue
from nbqueue.payload.pickling import is_importable, travels_by_value
from nbqueue.store.connection import Source

_OF_A_CALL = {"depends_on", "at_front"}
"""Options that each call has for itself."""


class JobFunction(Decorated):
    """A function with a queue to which it can be submitted: see `job`. Called, it is the function that it was.

    It goes along with functions that refer to it. There, `enqueue` goes to the queue of the same name and namespace on
    the server that the job came from.
    """

    def __init__(
        self, function: Callable[..., Any], queue: Queue | str, connection: Source | None, options: Options
    ) -> None:
        super().__init__(function)
        self._queue = queue
        self._connection = connection
        self._options = options

    def __repr__(self) -> str:
        return f"<job {self.__wrapped__!r}>"

    def __reduce__(self) -> str | tuple[Callable[..., JobFunction], tuple[Any, ...]]:
        if is_importable(self) and not travels_by_value(self.__module__):
            return str(self.__qualname__)
        name, namespace = (
            (self._queue, "default") if isinstance(self._queue, str) else (self._queue.name, self._queue.namespace)
        )
        return _as_sent, (self.__wrapped__, name, namespace, self._options)

    @property
    def queue(self) -> Queue:
        """The queue that it is submitted to."""
        if isinstance(self._queue, str):  # made when it is needed: what only defines functions needs none
            self._queue = Queue(self._queue, connection=self._connection)
        return self._queue

    def enqueue(self, *args: Any, **kwargs: Any) -> Job:
        """Submit a call with these arguments, which are all the function's own; but for `depends_on` and `at_front`,
        where it has no arguments of these names.

        Examples
        --------
        >>> @job("default", timeout=60)
        ... def add(x, y):
        ...     return x + y
        >>> add.enqueue(1, y=2).result()
        3
        """
        options = self._options
        if named := _OF_A_CALL & kwargs.keys():
            own = inspect.signature(self.__wrapped__).parameters.keys()
            more: Any = {name: kwargs.pop(name) for name in named - own}
            options = {**options, **more}
        return self.queue.options(**options).enqueue(self, *args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Job:
        """RQ's older name for `enqueue`."""
        return self.enqueue(*args, **kwargs)


def job(
    queue: Queue | str,
    connection: Source | None = None,
    *,
    timeout: float | str | None = None,
    **options: Unpack[Options],
) -> Callable[[Callable[..., Any]], JobFunction]:
    """Decorate a function that is submitted by `enqueue`, or `delay`, of its own, and can be called as before.

    Parameters
    ----------
    queue : Queue or str
        The queue, or its name.
    connection : str or redis.Redis, optional
        Where a queue is that is given by its name; see `Queue`.
    timeout : float or str, optional
        RQ's name for `job_timeout`.
    **options
        See `Queue.enqueue`.

    Raises
    ------
    UsageError
        An option that makes no sense, or is none.

    Examples
    --------
    >>> from nbqueue import job
    >>> @job("default", timeout="5m", result_ttl="1d")
    ... def add(x, y):
    ...     return x + y
    >>> add(1, 2), add.delay(1, 2).result()
    (3, 3)
    """
    if not isinstance(queue, Queue | str):
        raise errors.WrongType(f"job({queue!r:.80}): a queue or its name is needed, as in @job('default')")
    if timeout is not None:
        options["job_timeout"] = timeout
    JobOptions.of(options)  # said where the function is defined, not where it is first submitted

    def decorate(function: Callable[..., Any]) -> JobFunction:
        if not callable(function):
            raise errors.WrongType(f"{function!r:.80} is not callable: @job('default') stands before a function")
        return JobFunction(function, queue, connection, options)

    return decorate


def _as_sent(function: Callable[..., Any], name: str, namespace: str, options: Options) -> JobFunction:
    return JobFunction(function, Queue(name, namespace=namespace), None, options)
