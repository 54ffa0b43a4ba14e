"""When something recurs, computed from plain text and a given time: for clients and workers alike.

`cronsim`, and the database of time zones, are loaded when the first schedule asks for them.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from nbqueue import errors

_MOST_COUNTED = 1000
"""Times that are counted one by one."""

_NAMED = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip

_ACCEPTED = (
    "five fields are accepted (minute, hour, day of the month, month, day of the week), as in '*/5 * * * *' or "
    "'0 9 * * mon-fri', six with seconds in front, or '@hourly', '@daily', '@weekly', '@monthly', '@yearly'"
)


@dataclass(frozen=True, slots=True)
class Timetable:
    """The times at which something recurs: those of a cron expression in a time zone, or every so many seconds.

    Examples
    --------
    >>> Timetable(interval=60.0).next_after(1000.0, since=970.0)
    1030.0
    >>> Timetable.read(Timetable(cron="0 6 * * *", zone="Europe/Berlin").to_text()).zone
    'Europe/Berlin'
    """

    cron: str = ""
    zone: str = ""
    """Its name in the IANA's database."""
    interval: float = 0.0
    """Seconds; above 0 if there is no cron expression."""

    @classmethod
    def of_cron(cls, expression: str, zone: str) -> Timetable:
        """From what a user gave.

        Raises
        ------
        UsageError
            Says which field makes no sense, or that it never comes.
        """
        if not isinstance(expression, str):
            raise errors.WrongType(f"cron({expression!r:.80}): a text is accepted: {_ACCEPTED}")
        text = " ".join(expression.split())
        found = cls(cron=_NAMED.get(text.lower(), text), zone=zone)
        found.next_after(0.0)
        return found

    @classmethod
    def read(cls, text: str) -> Timetable:
        """What `to_text` wrote."""
        kind, _, rest = text.partition(" ")
        if kind == "every":
            return cls(interval=float(rest))
        zone, _, expression = rest.partition(" ")
        return cls(cron=expression, zone=zone)

    def to_text(self) -> str:
        return f"every {self.interval!r}" if self.interval else f"cron {self.zone} {self.cron}"

    def __str__(self) -> str:
        """In words: 'every 10 minutes', '0 6 * * * (Europe/Berlin)'."""
        return f"every {_span(self.interval)}" if self.interval else f"{self.cron} ({self.zone})"

    def next_after(self, time: float, since: float | None = None) -> float:
        """The first time after another one, in seconds since the epoch.

        Parameters
        ----------
        time : float
        since : float, optional
            One of its times, from which intervals are counted; else they begin at `time`.

        Raises
        ------
        UsageError
            The time zone or the form of the expression is not known here, or it never comes.
        """
        if self.interval:
            since = time if since is None else since
            found = since + (math.floor((time - since) / self.interval) + 1) * self.interval
            return found if found > time else found + self.interval  # where floats are coarse
        return next(self._after(time))

    def _after(self, time: float) -> Iterator[float]:
        """All times of a cron expression after another one.

        A time that the clocks leave out comes right after the gap. One that comes twice is meant once, unless the
        expression has a star for minutes or hours: then it goes by the time that passes.
        """
        import cronsim  # here, because most clients and workers have no schedules

        try:
            moments = cronsim.CronSim(self.cron, datetime.fromtimestamp(time, zone_of(self.zone)))
        except cronsim.CronSimError as error:
            raise errors.UsageError(f"cron({self.cron!r}): {str(error).lower()}: {_ACCEPTED}") from None
        for moment in moments:
            found = moment.timestamp()
            if found > time:  # in an hour that comes twice, cronsim's first one may be that of the hour before
                yield found
        raise errors.UsageError(f"cron({self.cron!r}): that never comes: {_ACCEPTED}")

    def count(self, first: float, last: float) -> int:
        """How many of its times there are from one of them on until another time, both included; 1,000 at most."""
        if last < first:
            return 0
        if self.interval:
            return min(_MOST_COUNTED, math.floor((last - first) / self.interval) + 1)
        n = 1
        for time in self._after(first):
            if time > last or n == _MOST_COUNTED:
                break
            n += 1
        return n


@dataclass(frozen=True, slots=True)
class Turn:
    """What is done with a schedule that is due."""

    runs: bool
    skipped: int
    """Times that are passed over, because the run before had not ended."""
    next_due: float


def decide(timetable: Timetable, due: float, now: float, *, is_busy: bool, busy_until: float | None) -> Turn:
    """What is done now with a schedule that was due: one run, however many times were missed, or none.

    Parameters
    ----------
    timetable : Timetable
    due, now : float
    is_busy : bool
        The run before has not ended, and the next one shall not overlap with it.
    busy_until : float or None
        When it ended; None if that does not matter. What was due until then is passed over, also if no worker had the
        time to see it.

    Examples
    --------
    >>> decide(Timetable(interval=10.0), 100.0, 165.0, is_busy=False, busy_until=None)
    Turn(runs=True, skipped=0, next_due=170.0)
    """
    next_due = timetable.next_after(now, due)
    if is_busy:
        return Turn(False, timetable.count(due, now), next_due)
    if busy_until is None or busy_until < due:
        return Turn(True, 0, next_due)
    return Turn(timetable.next_after(busy_until, due) <= now, timetable.count(due, busy_until), next_due)


def zone_of(name: str) -> tzinfo:
    """The time zone of a name.

    Raises
    ------
    UsageError
        It is not known here.
    """
    if name == "UTC":
        return UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        pass
    known = zoneinfo.available_timezones()
    if not known:
        raise errors.UsageError(f"timezone={name!r}: this host has no database of time zones: pip install tzdata")
    close = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f". Did you mean {close[0]!r}?" if close else ""
    raise errors.UsageError(f"timezone={name!r}: a name such as 'Europe/Berlin' or 'UTC' is accepted{hint}")


def _span(seconds: float) -> str:
    """Seconds in the largest unit that divides them: '10 minutes', 'hour', '1.5 seconds'."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= unit and seconds % unit == 0:
            return name if seconds == unit else f"{seconds / unit:,.0f} {name}s"
    return f"{seconds:g} seconds"
