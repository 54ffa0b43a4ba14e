"""Schedules at one moment, for people and programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from nbqueue import errors
from nbqueue.store.schedule_state import ScheduleState
from nbqueue.store.timetable import zone_of
from nbqueue.view.words import time_of_day

_SOON = timedelta(hours=20)
"""Until then a time of day says which day is meant."""


@dataclass(frozen=True, slots=True)
class ScheduleSeen:
    """A schedule, and what follows from what Redis knew of it."""

    known: ScheduleState

    @property
    def when(self) -> str:
        """Its times, in words."""
        return str(self.known.timetable)

    @property
    def state(self) -> str:
        """'paused', 'running' (a run has not ended), or 'waiting'."""
        return "paused" if self.known.is_paused else "running" if self.known.is_busy else "waiting"

    @property
    def next_run(self) -> str:
        """When it is due, by this host's clock: '12:05:00', 'Mon 7 Dec 06:00:00', 'now', 'paused'.

        Where the time zone of the schedule has another time, that of this host is named: '02:00:00 UTC'.
        """
        due = self.known.due_at
        if due is None:
            return "paused"
        if due <= self.known.at:
            return "now"
        return day_and_time(due, self.known.at) + self._zone_of(due)

    def _zone_of(self, time: float) -> str:
        zone = self.known.timetable.zone
        here = datetime.fromtimestamp(time).astimezone()
        try:
            is_same = not zone or datetime.fromtimestamp(time, zone_of(zone)).utcoffset() == here.utcoffset()
        except errors.UsageError:  # which is not known on this host
            is_same = False
        return "" if is_same else f" {here.tzname()}"

    @property
    def last_run(self) -> str:
        """When it ran last; '' if it has not."""
        return "" if self.known.last_at is None else day_and_time(self.known.last_at, self.known.at)

    @property
    def last_state(self) -> str:
        """What became of that: 'finished', 'failed', 'canceled', 'running', 'waiting', or '' if it is not kept."""
        return _SHOWN.get(self.known.last_state, self.known.last_state)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        known = self.known
        timetable = known.timetable
        return {
            "queue": known.queue, "name": known.name, "function": known.function, "when": self.when,
            "cron": timetable.cron or None, "timezone": timetable.zone or None,
            "interval": timetable.interval or None, "overlap": known.overlaps, "is_paused": known.is_paused,
            "next_run": known.due_at, "last_run": known.last_at, "last_job": known.last or None,
            "last_state": known.last_state or None, "runs": known.runs, "skipped": known.skipped,
            "skipped_at": known.skipped_at, "batches": known.batches, "problem": known.problem,
        }  # fmt: skip


_SHOWN = {"queued": "waiting", "scheduled": "waiting", "started": "running"}


def day_and_time(seconds: float, now: float) -> str:
    """A time by this host's clock and zone, with its day if it is not near: '12:05:00', 'Mon 7 Dec 06:00:00'."""
    moment = datetime.fromtimestamp(seconds)
    if abs(moment - datetime.fromtimestamp(now)) < _SOON:
        return time_of_day(seconds)
    year = "" if moment.year == datetime.fromtimestamp(now).year else f" {moment.year}"
    return f"{moment:%a} {moment.day} {moment:%b}{year} {time_of_day(seconds)}"
