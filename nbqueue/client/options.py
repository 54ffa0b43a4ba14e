"""The options with which something is submitted.

A new option is added here, in the transition that needs it, and in the docs.
"""

from __future__ import annotations

import datetime
import difflib
import inspect
import os
import re
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from nbqueue import errors, machine, settings
from nbqueue.client.callback import Callback
from nbqueue.client.depending import NAME, NO_DEPENDENCIES, Dependencies
from nbqueue.client.retries import Repeat, Retry
from nbqueue.payload.callbacks import GIVEN
from nbqueue.payload.functions import Code, name_of
from nbqueue.payload.serializers import Encoding
from nbqueue.store.description import MANY, CellDescription, Description

_WEEK = 7 * 86400
"""Seconds."""


class Options(TypedDict, total=False):
    """The options of `enqueue`, `map`, `starmap`, `enqueue_many` and `Queue.options`, with RQ's names."""

    job_timeout: float | str | None
    """Seconds, or "90s", "5m", "2h"; by default that of the queue, which is none. None, or RQ's -1, is no limit."""
    result_ttl: float | str | None
    """Time for which outcomes are kept after the batch has ended; 7 days by default, -1 for ever."""
    failure_ttl: float | str | None
    """The same where jobs of the batch failed or were canceled; by default no other time."""
    ttl: float | str | datetime.timedelta | None
    """Time after which it is given up if it still waits: seconds, "5m", a timedelta; never by default, or with -1."""
    label: str | None
    """Its name where people read it; by default the function's."""
    description: str | None
    """RQ's name for `label`."""
    meta: dict[str, Any] | None
    """Kept with it; what JSON can hold."""
    at_front: bool
    """Before all others that wait in the queue."""
    priority: float
    """Weight in the fair share; 2 gets twice the time of 1, the default."""
    retry: Retry | int | None
    """How often a job that failed runs again, and when; see `Retry`."""
    repeat: Repeat | int | None
    """How often a job that has returned runs again; see `Repeat`."""
    delay: float | str | datetime.timedelta
    """Time until it may start: seconds, "90s", "5m", a timedelta."""
    depends_on: Any
    """What has to finish before: a job, a batch, the id of one, a `Dependency`, or a list of them."""
    on_success: Callback | Callable[..., Any] | str | None
    """Called with the job, None and its result where it ran, after it has returned; see `Callback`."""
    on_failure: Callback | Callable[..., Any] | str | None
    """Called with the job, None, and the type, value and traceback of the error, after it has failed for good."""
    on_stopped: Callback | Callable[..., Any] | str | None
    """Called with the job and None, after it was canceled while it ran."""
    job_id: str | None
    """A name for the job of `enqueue`, by which it is found, too, as long as no other has it; see `unique`."""
    unique: bool
    """No other job has its `job_id`, also none that has ended."""
    share: bool
    """Calls that run in the same process share the function with its globals and closure, as a cache in one of them
    wants. By default each call finds what was submitted."""
    seed: int | None
    """Of `random`, `numpy.random` and `torch` in the jobs: job i begins with the stream that
    `numpy.random.SeedSequence(seed).spawn(n)[i]` gives, whichever process runs it, and each time."""


@dataclass(frozen=True, slots=True)
class Attached:
    """What jobs find where they run, beside their functions."""

    modules: Code | None = None
    settings: Code | None = None
    serializer: Code | None = None
    callbacks: tuple[tuple[str, Code, float], ...] = ()
    """What is called after them: the name of the option, the function, the seconds that it may take."""

    def digests(self) -> list[bytes]:
        codes = self.modules, self.settings, self.serializer, *(code for _, code, _ in self.callbacks)
        return [code.digest for code in codes if code is not None]


NOTHING = Attached()

NO_VERSIONS: Mapping[str, str] = {}


def _hex(code: Code | None) -> str:
    return "" if code is None else code.digest.hex()


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of all jobs of a batch, validated."""

    label: str | None = None
    timeout: float | None = None
    """Seconds."""
    result_ttl: int = _WEEK
    """Seconds; below 0 for ever."""
    failure_ttl: int | None = None
    """Seconds, or the same as that."""
    ttl: float | None = None
    """Seconds."""
    priority: float = 1.0
    at_front: bool = False
    share: bool = False
    seed: int | None = None
    retry: Retry | None = None
    repeat: Repeat | None = None
    callbacks: tuple[tuple[str, Callback], ...] = field(default=(), hash=False, compare=False)
    """By the names of their options. Equal ones are known when they are packed: see `Attached`."""
    due: str = field(default="", hash=False, compare=False)
    """When it may start, as `submitting.submit` takes it: each call of an open batch has its own."""
    depends: Dependencies = field(default=NO_DEPENDENCIES, hash=False, compare=False)
    """What it waits for: the same."""
    meta: dict[str, Any] | None = field(default=None, hash=False)
    job_id: str | None = None
    unique: bool = False
    settings: bool = True
    """Settings of this process on which results depend go along."""
    environment: tuple[str, ...] = ()
    """Environment variables that go along to a server that is not the embedded one."""
    encoding: Encoding | None = None
    """What makes bytes of arguments and results, if it is not ours."""
    cell: CellDescription | None = None
    """The cell, of one that runs in the background."""

    @classmethod
    def of(cls, options: Options) -> JobOptions:
        """From what a user gave.

        Raises
        ------
        UsageError
            Names the option that makes no sense, or is none; a `WrongType` where its kind is wrong.
        """
        if unknown := options.keys() - Options.__annotations__.keys():
            raise errors.UsageError("; ".join(map(_not_an_option, sorted(unknown))))
        timeout, priority = options.get("job_timeout"), options.get("priority", 1.0)
        seed, meta = options.get("seed"), options.get("meta")
        is_number = isinstance(seed, int) and not isinstance(seed, bool)
        if seed is not None and not (is_number and 0 <= seed < 2**128):
            kind = errors.UsageError if is_number else errors.WrongType
            raise kind(f"seed={seed!r}: a whole number from 0 on is accepted, below 2**128")
        if not isinstance(priority, int | float) or not priority > 0:
            kind = errors.UsageError if isinstance(priority, int | float) else errors.WrongType
            raise kind(f"priority={priority!r}: a number above 0 is accepted")
        if meta is not None and not isinstance(meta, dict):
            raise errors.WrongType(f"meta={meta!r:.80}: a dict is accepted, of what JSON can hold")
        _check_kinds(options)
        failure_ttl, result_ttl = options.get("failure_ttl"), options.get("result_ttl")
        return cls(
            label=options.get("label") or options.get("description"),
            timeout=None if timeout in (None, -1) else seconds(timeout, "job_timeout"),
            result_ttl=_WEEK if result_ttl is None else _lifetime(result_ttl, "result_ttl"),
            failure_ttl=None if failure_ttl is None else _lifetime(failure_ttl, "failure_ttl"),
            ttl=_patience(options.get("ttl")),
            priority=float(priority),
            at_front=bool(options.get("at_front", False)),
            share=bool(options.get("share", False)),
            retry=Retry.of(retry) if (retry := options.get("retry")) else None,
            repeat=Repeat.of(repeat) if (repeat := options.get("repeat")) else None,
            callbacks=tuple(
                (name, Callback.of(options[name], name))  # type: ignore[literal-required]
                for name in GIVEN
                if options.get(name) is not None
            ),
            due=due_in(options["delay"]) if "delay" in options else "",
            depends=Dependencies.of(options["depends_on"]) if "depends_on" in options else NO_DEPENDENCIES,
            seed=seed,
            meta=meta,
            job_id=_checked_name(options.get("job_id"), options.get("unique")),
            unique=bool(options.get("unique", False)),
        )

    def describe(
        self, function: str, queue: str, *, is_single: bool = False, calls: str = MANY, attached: Attached = NOTHING,
        compiled: Iterable[str] = (), versions: Mapping[str, str] = NO_VERSIONS,
    ) -> Description:  # fmt: skip
        """The description, for workers and for those who look, of a batch that is submitted here and now."""
        try:
            directory = str(Path.cwd())
        except OSError:  # it was deleted
            directory = ""
        return Description(
            label=self.label or function, function=function, calls=calls, queue=queue, directory=directory,
            path=tuple(machine.added_path()),
            modules=_hex(attached.modules), settings=_hex(attached.settings),
            serializer=self.encoding.name if self.encoding is not None else "", compiled=tuple(sorted(compiled)),
            versions=versions,
            host=machine.name(), pid=os.getpid(), notebook=settings.notebook() or "", is_single=is_single,
            timeout=self.timeout, ttl=self.ttl, share=self.share, seed=self.seed,
            retry=self.retry.describe() if self.retry is not None else None,
            repeat=self.repeat.describe() if self.repeat is not None else None,
            callbacks={name: (code.digest.hex(), limit) for name, code, limit in attached.callbacks},
            meta=self.meta or {}, cell=self.cell,
        )  # fmt: skip


def _checked_name(job_id: object, unique: object) -> str | None:
    """The name that a user has made up for a job.

    Raises
    ------
    UsageError, WrongType
    """
    if job_id is None:
        if unique:
            raise errors.UsageError("unique=True: of which name no other job shall be says job_id=")
        return None
    if not isinstance(job_id, str):
        raise errors.WrongType(f"job_id={job_id!r:.80}: a text is accepted")
    if not NAME.fullmatch(job_id):
        raise errors.UsageError(f"job_id={job_id!r:.80}: letters, digits and '_', '-', '.' are accepted, up to 200")
    return job_id


def _check_kinds(options: Options) -> None:
    """Refuse what would be taken for something else."""
    for name in ("label", "description"):
        if not isinstance(options.get(name), str | None):
            raise errors.WrongType(f"{name}={options.get(name)!r:.80}: a text is accepted")
    for name in ("at_front", "share", "unique"):
        if not isinstance(options.get(name), bool | int | None):
            raise errors.WrongType(f"{name}={options.get(name)!r:.80}: True or False is accepted")


def _lifetime(value: float | str, what: str) -> int:
    """Seconds for which something is kept: -1 is for ever, 0 a moment, in which who waits can read it."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value in (-1, 0):
        return -1 if value else 1
    return max(1, int(seconds(value, what)))


def _patience(ttl: float | str | datetime.timedelta | None) -> float | None:
    """Seconds after which a job is given up that still waits; None is never."""
    if ttl is None or (isinstance(ttl, int | float) and not isinstance(ttl, bool) and ttl == -1):
        return None
    if isinstance(ttl, datetime.timedelta):
        ttl = ttl.total_seconds()
    if ttl == 0 and not isinstance(ttl, bool):
        raise errors.UsageError("ttl=0: a job would be given up before a worker can take it. -1 is for ever")
    return seconds(ttl, "ttl")


def due_in(delay: float | str | datetime.timedelta) -> str:
    """So much later than when it is submitted, as `submitting.submit` takes it; less than none is now, which is said.

    Raises
    ------
    UsageError
    """
    if isinstance(delay, datetime.timedelta):
        delay = delay.total_seconds()
    if isinstance(delay, int | float) and not isinstance(delay, bool) and delay <= 0:
        if delay < 0:
            _tell_of_past(f"delay={delay:g} is in the past")
        return ""
    return f"+{seconds(delay, 'delay'):.6f}"


def due_at(time: datetime.datetime) -> str:
    """At a time; one without a time zone is local time. What lies in the past is due now, which is said.

    Raises
    ------
    UsageError
    """
    if not isinstance(time, datetime.datetime):
        raise errors.WrongType(f"enqueue_at({time!r}): a datetime is accepted; enqueue_in takes a delay")
    if time.timestamp() < datetime.datetime.now(datetime.UTC).timestamp() - 1:
        _tell_of_past(f"{time} has passed")
    return f"{time.timestamp():.6f}"


def _tell_of_past(what: str) -> None:
    warnings.warn(f"{what}: the job may start now", errors.OptionWarning, stacklevel=5)


_MEANT = {"timeout": "job_timeout"}
"""Options that go by other names elsewhere, and by none that is close."""


def _not_an_option(name: str) -> str:
    """What is said of a name that is no option."""
    known = [other for other in (*Options.__annotations__, "progress") if other != name]
    close = [_MEANT[name]] if name in _MEANT else difflib.get_close_matches(name, known, 1)
    return f"{name}: not an option" + (f". Did you mean {close[0]!r}?" if close else "")


def take_options(kwargs: dict[str, Any]) -> Options:
    """Take the options out of keyword arguments."""
    taken: Options = {name: kwargs.pop(name) for name in Options.__annotations__ if name in kwargs}  # type: ignore[assignment]
    return taken


def refuse_unknown(function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse keyword arguments that a function of Python cannot take: they were meant as options, or are misspelt.

    Raises
    ------
    WrongType
    """
    plain = function.__func__ if isinstance(function, types.MethodType) else function
    if type(plain) is not types.FunctionType or plain.__code__.co_flags & inspect.CO_VARKEYWORDS:
        return
    code = plain.__code__
    known = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    if unknown := sorted(kwargs.keys() - set(known)):
        words = "; ".join(_LACKING.get(name) or _not_an_option(name) for name in unknown)
        raise errors.WrongType(f"{name_of(function)}() has no parameter {', '.join(map(repr, unknown))}. {words}")


_LACKING = {
    "pipeline": "pipeline: not needed, enqueue_many and map submit many calls at once",
}
"""What is said of RQ's options that have no counterpart."""


_told: set[tuple[str, str]] = set()
"""Functions and arguments of which it was said that they are taken for options."""


def tell_of_claimed(
    function: Callable[..., Any], options: Options, *, taker: str = "enqueue",
    instead: str = "q.options(...).enqueue({name}, {argument}=...)",
) -> None:  # fmt: skip
    """Say once that an argument is taken for an option, where the function has a parameter of that name, too."""
    if not options:
        return
    try:
        parameters = inspect.signature(function).parameters.keys()
    except (TypeError, ValueError):  # not known, as for some builtins
        return
    name = name_of(function)
    for argument in sorted(options.keys() & parameters):
        if (name, argument) not in _told:
            _told.add((name, argument))
            warnings.warn(
                f"{name}() has a parameter {argument!r}, and so has {taker}: it is taken for the option. "
                f"{instead.format(name=name, argument=argument)} passes everything on to the function",
                errors.OptionWarning,
                stacklevel=3,
            )


def seconds(value: float | str, what: str) -> float:
    """Seconds, from a number or "90s", "5m", "2h", "1d".

    Raises
    ------
    UsageError
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd]?)\s*", value)
        if match and float(match[1]) > 0:
            return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if 0 < value < float("inf"):
            return float(value)
    else:
        raise errors.WrongType(f"{what}={value!r:.80}: {_ACCEPTED}")
    raise errors.UsageError(f"{what}={value!r}: {_ACCEPTED}")


_ACCEPTED = "seconds above 0 are accepted, or '90s', '5m', '2h', '1d'"
