"""When jobs that failed run again: what users say, and how it is described to workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbqueue import errors
from nbqueue.store.description import RetryDescription

_JITTER = 0.5
"""The part of a delay with backoff that is left to chance: jobs that failed together do not come back together."""


@dataclass(frozen=True, slots=True, init=False)
class Retry:
    """A job that failed runs again, after a while, up to `max` times.

    Parameters
    ----------
    max : int
        How often, after the first time.
    interval : float or sequence of float
        Seconds before it runs again: the same each time, or one for each time, of which the last holds for all further
        ones. By default 0; with `backoff` 1.
    backoff : float, optional
        Each time so many times as long, with a part that is left to chance (up to a half less).
    max_delay : float, optional
        Seconds that are never exceeded.
    on : type or tuple of types
        Exceptions after which it runs again, with those that inherit from them; by default all of `Exception`, also
        `JobTimeout`.

    Examples
    --------
    >>> q.enqueue(fetch, url, retry=Retry(max=3, interval=[1, 10, 60]))
    >>> q.map(fetch, urls, retry=Retry(5, backoff=2, max_delay=300, on=(ConnectionError, TimeoutError)))
    """

    max: int
    intervals: tuple[float, ...]
    backoff: float
    max_delay: float | None
    on: tuple[type[BaseException], ...]

    def __init__(
        self, max: int, interval: float | Sequence[float] | None = None, *, backoff: float | None = None,
        max_delay: float | None = None, on: type[BaseException] | Sequence[type[BaseException]] = (),
    ) -> None:  # fmt: skip
        if not isinstance(max, int) or isinstance(max, bool) or max < 1:
            raise errors.UsageError(f"Retry(max={max!r}): a whole number from 1 on is accepted")
        if interval is None:
            interval = 0 if backoff is None else 1
        if backoff is not None and (not _is_time(backoff) or backoff < 1):
            raise errors.UsageError(f"Retry(backoff={backoff!r}): a number from 1 on is accepted")
        if max_delay is not None and not _is_time(max_delay):
            raise errors.UsageError(f"Retry(max_delay={max_delay!r}): seconds from 0 on are accepted")
        kinds = (on,) if isinstance(on, type) else tuple(on)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise errors.UsageError(f"Retry(on={on!r}): an exception class is accepted, or a tuple of them")
        for name, value in (("max", max), ("intervals", _intervals("Retry", interval)), ("backoff", backoff or 1.0),
                            ("max_delay", max_delay), ("on", kinds)):  # fmt: skip
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, given: Retry | int) -> Retry:
        """From what `retry=` was given.

        Raises
        ------
        UsageError
        """
        if isinstance(given, Retry):
            return given
        if isinstance(given, int) and not isinstance(given, bool):
            return cls(given)
        raise errors.WrongType(f"retry={given!r}: a number is accepted, or Retry(max, interval, ...)")

    def describe(self) -> RetryDescription:
        """It, for workers."""
        return RetryDescription(
            self.max, self.intervals, self.backoff, self.max_delay, _JITTER if self.backoff > 1 else 0.0,
            tuple(f"{kind.__module__}:{kind.__qualname__}" for kind in self.on),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, init=False)
class Repeat:
    """A job that has returned runs again, after a while, `times` times.

    It has ended when it has returned for the last time, or has failed; what it returned before is in `job.attempts`,
    whose last 20 are kept. With `retry=` a time that failed counts, too.

    Parameters
    ----------
    times : int
        How often, after the first time.
    interval : float or sequence of float
        Seconds before it runs again: the same each time, or one for each time, of which the last holds for all further
        ones.

    Examples
    --------
    >>> job = q.enqueue(measure, repeat=Repeat(times=9, interval=60))
    """

    times: int
    intervals: tuple[float, ...]

    def __init__(self, times: int, interval: float | Sequence[float] = 0) -> None:
        if not isinstance(times, int) or isinstance(times, bool) or times < 1:
            raise errors.UsageError(f"Repeat(times={times!r}): a whole number from 1 on is accepted")
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "intervals", _intervals("Repeat", interval))

    @classmethod
    def of(cls, given: Repeat | int) -> Repeat:
        """From what `repeat=` was given.

        Raises
        ------
        UsageError
        """
        if isinstance(given, Repeat):
            return given
        if isinstance(given, int) and not isinstance(given, bool):
            return cls(given)
        raise errors.WrongType(f"repeat={given!r}: a number is accepted, or Repeat(times, interval)")

    def describe(self) -> RetryDescription:
        """It, for workers."""
        return RetryDescription(self.times, self.intervals)


def _intervals(what: str, interval: float | Sequence[float]) -> tuple[float, ...]:
    intervals = (interval,) if isinstance(interval, int | float) else tuple(interval)
    if not intervals or not all(map(_is_time, intervals)):
        raise errors.UsageError(
            f"{what}(interval={interval!r}): seconds from 0 on are accepted, or a list of them, one for each time"
        )
    return tuple(map(float, intervals))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
