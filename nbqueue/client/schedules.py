"""Calls that recur: what a user says of them, and the schedules that come of it. Workers start their runs."""

from __future__ import annotations

import functools
import itertools
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from nbqueue import errors, machine
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import job_of
from nbqueue.client.depending import NO_DEPENDENCIES, with_results
from nbqueue.client.job import Job
from nbqueue.client.options import JobOptions, Options, seconds
from nbqueue.client.packing import Call
from nbqueue.client.problem import Problem
from nbqueue.client.session import Session
from nbqueue.payload.calls import pack_arguments
from nbqueue.payload.functions import Code, name_of
from nbqueue.payload.records import size_of
from nbqueue.payload.versions import packages_of
from nbqueue.store.keys import new_token
from nbqueue.store.requests import looking, running, steering, submitting
from nbqueue.store.schedule_state import MOST_BYTES, ScheduleState, pack_call
from nbqueue.store.timetable import Timetable, zone_of

_SHORTEST = 0.1
"""Seconds between two runs, at least."""

_TRIES = 10
"""Times that a run out of turn is tried, while others start runs of the same schedule."""

_OPTIONS = frozenset({
    "job_timeout", "result_ttl", "failure_ttl", "label", "description", "meta", "at_front", "priority", "retry",
    "share", "seed",
})  # fmt: skip
"""The options that runs of a schedule may have."""


class Schedule:
    """A call that recurs: `Queue.cron` and `Queue.every` make it, workers start its runs.

    A view of what is in Redis: it goes on when this process has ended, and `q.schedules()` finds it again.
    """

    def __init__(self, session: Session, state: ScheduleState) -> None:
        self._session = session
        self.state = state
        """As it was read last."""

    def __repr__(self) -> str:
        state = self.state
        paused = ", paused" if state.is_paused else ""
        return f"<Schedule {state.name}: {state.timetable}{paused}>"

    @property
    def name(self) -> str:
        """Its name, of which there is one in a queue."""
        return self.state.name

    @property
    def queue(self) -> str:
        """The name of its queue."""
        return self.state.queue

    @property
    def when(self) -> str:
        """When it recurs, in words: 'every 10 minutes', '0 6 * * * (Europe/Berlin)'."""
        return str(self.state.timetable)

    @property
    def timezone(self) -> str | None:
        """The time zone of a cron expression; None if it recurs after a while."""
        return self.state.timetable.zone or None

    def refresh(self) -> ScheduleState:
        """Read it anew.

        Raises
        ------
        NotFound
            It was removed.
        """
        self.state = _find(self._session, self.queue, self.name)
        return self.state

    @property
    def next_run(self) -> datetime | None:
        """When it is due next, in its own time zone; None while it is paused."""
        return self._moment(self.refresh().due_at)

    @property
    def last_run(self) -> datetime | None:
        """When its last run was submitted; None if there is none."""
        return self._moment(self.refresh().last_at)

    def _moment(self, time: float | None) -> datetime | None:
        if time is None:
            return None
        zone = self.state.timetable.zone
        return datetime.fromtimestamp(time, zone_of(zone)) if zone else datetime.fromtimestamp(time).astimezone()

    @property
    def count(self) -> int:
        """How many runs it has had."""
        return self.refresh().runs

    @property
    def skipped(self) -> int:
        """How many were passed over because the run before had not ended."""
        return self.refresh().skipped

    @property
    def is_paused(self) -> bool:
        """Whether it starts nothing."""
        return self.refresh().is_paused

    @property
    def last_job(self) -> Job | None:
        """The job of its last run; None if there is none, or it is not kept any more."""
        return next(iter(self.jobs(1)), None)

    def jobs(self, limit: int = 100) -> list[Job]:
        """Its runs, the newest first, as far as they are kept: see `result_ttl`, and 10 batches of 1,000 at most."""
        found: list[Job] = []
        for id in self.refresh().batches:
            state = self._session.store.batch(id)
            if state is not None:
                batch = Batch(self._session, id)
                newest = range(state.total - 1, -1, -1)
                found += [job_of(batch, index) for index in itertools.islice(newest, limit - len(found))]
            if len(found) >= limit:
                break
        return found

    @property
    def problem(self) -> Problem | None:
        """What keeps its runs from starting: nobody serves it, or its queue is paused. On the embedded server a worker
        is started if there is none."""
        return self._session.fleet.attend(self.queue, self.state.environment)

    def pause(self) -> None:
        """Start nothing until `resume`; what runs goes on.

        Raises
        ------
        NotFound
        """
        if not self._session.store.call(steering.pause_schedule(self.queue, self.name)):
            raise _not_found(self._session, self.name, self.queue)

    def resume(self) -> None:
        """Go on after `pause`, at the next time: what was due meanwhile is not caught up with.

        Raises
        ------
        NotFound
        """
        state = self.refresh()
        due = state.timetable.next_after(state.at, float(state.due))
        if self._session.store.call(steering.resume_schedule(self.queue, self.name, due)) < 0:
            raise _not_found(self._session, self.name, self.queue)
        self._session.fleet.attend_now_and_then(self.queue)

    def remove(self) -> bool:
        """Forget it; whether it was there. Its runs, with their results, stay as long as they would have."""
        return self._session.store.call(steering.remove_schedule(self.queue, self.name))

    def run_now(self) -> Job:
        """Start a run out of turn, also while it is paused; when it is due next stays the same.

        Raises
        ------
        SubmitError
            Its last run has not ended, and runs shall not overlap.
        NotFound
        """
        session = self._session
        for _ in range(_TRIES):
            state = self.refresh()
            if state.is_busy and not state.overlaps:
                raise errors.SubmitError(
                    f"schedule {self.name!r} was not run: its last run, job {state.last}, has not ended. With "
                    "overlap=True runs do not wait for each other"
                )
            batch, index = state.place()
            record = state.sign(session.seal, batch, index)
            fired = session.store.call(running.fire(state, in_turn=False, batch=batch, index=index, record=record))
            if fired.answer == "ok":
                for outdated in fired.outdated:
                    session.store.call(steering.delete(outdated))
                session.fleet.attend_now_and_then(self.queue)
                return job_of(Batch(session, batch), index)
        raise errors.SubmitError(f"schedule {self.name!r} was not run: others start runs of it at the same time")


class Schedules(list[Schedule]):
    """Schedules; a notebook shows them as a table."""


def schedules(session: Session, queue: str = "") -> Schedules:
    """The schedules of a queue, or of all, by name."""
    found = session.store.call(looking.schedules(queue))
    return Schedules(Schedule(session, state) for state in found)


def schedule(session: Session, queue: str, name: str) -> Schedule:
    """One of them.

    Raises
    ------
    NotFound
    """
    return Schedule(session, _find(session, queue, name))


def _find(session: Session, queue: str, name: str) -> ScheduleState:
    found = session.store.call(looking.schedules(queue, name))
    if not found:
        raise _not_found(session, name, queue)
    return found[0]


def _not_found(session: Session, name: str, queue: str) -> errors.NotFound:
    names = ", ".join(repr(state.name) for state in session.store.call(looking.schedules(queue)))
    there = f"there are: {names}" if names else "it has none"
    return errors.NotFound(f"there is no schedule {name!r} in queue {queue}; {there}")


# Making one


def timetable_of_cron(expression: str, timezone: str | tzinfo | None) -> Timetable:
    """The times of a cron expression, in a time zone or that of this process.

    Raises
    ------
    UsageError
    """
    return Timetable.of_cron(expression, _zone_name(timezone))


def timetable_of_interval(interval: float | str | timedelta) -> Timetable:
    """Again and again after a while.

    Raises
    ------
    UsageError
    """
    if isinstance(interval, timedelta):
        interval = interval.total_seconds()
    found = seconds(interval, "every")
    if found < _SHORTEST or found == float("inf"):
        raise errors.UsageError(f"every({interval!r}): {_SHORTEST:g} seconds are the least")
    return Timetable(interval=found)


def _zone_name(timezone: str | tzinfo | None) -> str:
    if timezone is None:
        found = machine.time_zone()
        if found is None:
            raise errors.UsageError(
                "the name of this machine's time zone is not known: say which is meant, as in "
                "q.cron(..., timezone='Europe/Berlin')"
            )
        return found
    name = "UTC" if timezone is UTC else getattr(timezone, "key", timezone)
    if not isinstance(name, str):
        raise errors.WrongType(f"timezone={timezone!r:.80}: a name such as 'Europe/Berlin' or a ZoneInfo is accepted")
    zone_of(name)
    return name


def check_options(options: Options) -> None:
    """Refuse those that a call which recurs cannot have.

    Raises
    ------
    UsageError
    """
    for name in sorted(options.keys() - _OPTIONS):
        raise errors.UsageError(f"{name}: not an option of a schedule; it may have {', '.join(sorted(_OPTIONS))}")


def save(
    session: Session, queue: str, timetable: Timetable, call: Call, options: JobOptions, name: str | None,
    *, overlap: bool,
) -> Schedule:  # fmt: skip
    """Keep a call that recurs, in the place of that of its name.

    Raises
    ------
    UsageError
        The name is none, or a lambda has none.
    CannotPickle, ServerFull, ServerUnreachable
    """
    function = call.function
    title = _title(name, function)
    args, kwargs = call.args, call.kwargs or {}
    if with_results(args, kwargs, NO_DEPENDENCIES).results:
        raise errors.UsageError(
            f"schedule {title!r}: its runs take no results of other jobs; its function may submit what waits for some"
        )
    entry = pack_arguments(0, args, kwargs)
    if size_of(entry) > MOST_BYTES:  # the function takes them along
        code = session.codes.pack(functools.partial(function, *args, **kwargs), share=options.share)
        entry = pack_arguments(0, (), {})
    else:
        code = session.codes.pack(function, share=options.share)
    record = pack_call(session.seal, queue, title, code.digest, entry)
    attached = session.codes.attached(code.imports)
    packages = {*code.packages, *packages_of((*args, *kwargs.values()))} if session.codes.compares_versions else set()
    description = options.describe(
        name_of(function), queue, is_single=True, attached=attached, compiled=session.codes.compiled,
        versions=session.codes.versions(packages),
    )  # fmt: skip
    lifetimes = submitting.lifetimes(options.result_ttl, options.failure_ttl)
    fields: dict[str, Any] = {
        "record": record, "function": name_of(function), "weight": options.priority, "lifetimes": lifetimes,
        "description": replace(description, label=options.label or title, schedule=title).to_json(),
    }  # fmt: skip
    fields |= {field: 1 for field, is_so in (("at_front", options.at_front), ("overlaps", overlap)) if is_so}
    digests = [code.digest, *attached.digests()]
    before = _save(session, queue, title, timetable, digests, fields, held=(code, attached))
    if name is None and before not in ("", timetable.to_text()):
        warnings.warn(
            f"schedule {title!r}, {Timetable.read(before)}, is replaced: it is {timetable} now. With a name= of its "
            "own, both would be kept",
            errors.OptionWarning,
            stacklevel=4,
        )
    session.fleet.attend(queue, session.environment)
    return schedule(session, queue, title)


def _save(
    session: Session, queue: str, title: str, timetable: Timetable, digests: list[bytes], fields: dict[str, Any],
    *, held: tuple[Code, Any],
) -> str:  # fmt: skip
    """Returns the times of the one that is replaced, or ''; `held` is what has to be there until it is accepted."""
    functions = session.codes.to_send(digests)
    token, due = new_token(), timetable.next_after(session.store.now())
    for _ in range(len(functions) + 1):
        answer = session.store.call(
            submitting.save_schedule(
                queue, title, token, session.environment, due, timetable.to_text(), functions, fields
            )
        )
        if answer.answer == "ok":
            session.codes.accepted(functions)
            return answer.detail
        functions = session.codes.records(functions)
    raise errors.SubmitError(f"schedule {title!r} was not accepted: its function is evicted as soon as it is stored")


def _title(name: str | None, function: Callable[..., Any]) -> str:
    if name is None:
        name = name_of(function)
        if "<" in name:
            raise errors.UsageError(f"{name} has no name of its own: give the schedule one, as in name='report'")
    if not isinstance(name, str):
        raise errors.WrongType(f"name={name!r:.80}: a text is accepted")
    if not re.fullmatch(r"\S(.{0,98}\S)?", name) or not name.isprintable():
        raise errors.UsageError(f"name={name!r:.120}: up to 100 characters that can be printed are accepted")
    return name
