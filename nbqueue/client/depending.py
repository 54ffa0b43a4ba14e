"""What jobs wait for before they start: other jobs and batches, given by `depends_on=` or as arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nbqueue import errors
from nbqueue.client.awaited import Awaited
from nbqueue.payload.values import ResultOf
from nbqueue.store import keys
from nbqueue.store.requests.submitting import Deferred, DependsOn
from nbqueue.store.store import Store

_ID = re.compile(r"([a-z][a-z2-9]{5})(?::(\d+))?")

NAME = re.compile(r"[\w.-]{1,200}")
"""What users may call a job: `job_id=`."""

_CONTAINERS = frozenset({list, tuple, dict})
"""Types of arguments in which jobs and batches are looked for."""


class Dependency:
    """Jobs that others wait for, with what is different from just naming them in `depends_on=`.

    Parameters
    ----------
    jobs : Job, Batch, str or a list of them
        Ids are accepted, too, and the names that jobs were given by `job_id=`.
    allow_failure : bool
        Those that wait start also if one of them fails or is canceled. Otherwise they fail then: `DependencyFailed`.
    enqueue_at_front : bool
        They go before all others of the queue when they need not wait any more.

    Examples
    --------
    >>> job = q.enqueue(clean_up, depends_on=Dependency(batch, allow_failure=True))
    """

    def __init__(self, jobs: Any, allow_failure: bool = False, enqueue_at_front: bool = False) -> None:
        self.jobs = jobs
        self.allow_failure = allow_failure
        self.enqueue_at_front = enqueue_at_front
        self.on = tuple(_named(jobs, may_fail=bool(allow_failure)))
        """What they wait for."""
        if not self.on:
            raise errors.UsageError("Dependency(jobs=[]): at least one job or batch is needed")

    def __repr__(self) -> str:
        more = ", allow_failure=True" * self.allow_failure + ", enqueue_at_front=True" * self.enqueue_at_front
        return f"Dependency({[one.name for one in self.on]}{more})"


@dataclass(frozen=True, slots=True)
class Dependencies:
    """All that a job waits for."""

    on: tuple[DependsOn, ...] = ()
    at_front: bool = False
    texts: frozenset[str] = frozenset()
    """Which of them were given as text, and may be names: see `found_by_name`."""

    @classmethod
    def of(cls, value: Any) -> Dependencies:
        """From what was given as `depends_on`.

        Raises
        ------
        UsageError
            It is nothing that can be waited for, or an id that cannot be; a `WrongType` where its kind is wrong.
        """
        if value is None:
            return NO_DEPENDENCIES
        given = [value] if isinstance(value, Dependency | Awaited | str) or not _is_list(value) else list(value)
        found: dict[tuple[str, int | None], DependsOn] = {}
        texts: set[str] = set()
        at_front = False
        for one in given:
            texts.update(_texts(one.jobs if isinstance(one, Dependency) else one))
            dependency = one if isinstance(one, Dependency) else None
            at_front |= dependency is not None and dependency.enqueue_at_front
            for on in dependency.on if dependency is not None else _named(one, may_fail=False):
                found[on.batch, on.index] = on
        return cls(tuple(found.values()), at_front, frozenset(texts))

    def may_fail(self, batch: str, index: int | None) -> bool:
        """Whether it was said of this one that jobs start also if it failed."""
        return any(on.may_fail for on in self.on if (on.batch, on.index) in ((batch, index), (batch, None)))

    def with_results(self, results: Iterable[ResultOf]) -> tuple[DependsOn, ...]:
        """These, and the jobs whose results are arguments."""
        known = {(on.batch, on.index) for on in self.on}
        more = {(one.batch, one.index): DependsOn(one.batch, one.index, one.may_fail) for one in results}
        return (*self.on, *(on for key, on in more.items() if key not in known))


NO_DEPENDENCIES = Dependencies()


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _named(value: Any, *, may_fail: bool) -> Iterable[DependsOn]:
    if isinstance(value, Awaited):
        return value.as_dependency(may_fail=may_fail)
    if isinstance(value, str):
        match = _ID.fullmatch(value)
        if match is None and not NAME.fullmatch(value):
            raise errors.UsageError(
                f"depends_on={value!r}: the id of a job ('k3f9x2:17') or of a batch ('k3f9x2') is accepted, and what a "
                "job was named by job_id="
            )
        if match is None:
            return [DependsOn(value, None, may_fail)]
        return [DependsOn(match[1], None if match[2] is None else int(match[2]), may_fail)]
    if _is_list(value):
        return [on for one in value for on in _named(one, may_fail=may_fail)]
    raise errors.WrongType(
        f"depends_on={value!r:.80}: a job, a batch, the id of one, a Dependency, or a list of them is accepted"
    )


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Awaited) or not _is_list(value):
        return []
    return [text for one in value for text in _texts(one)]


def found_by_name(depends: Dependencies, store: Store) -> Dependencies:
    """The same where names stand for the jobs that have them; an id of what is there is no name.

    Raises
    ------
    NotFound
        There is no job of such a name.
    """

    def found(on: DependsOn) -> DependsOn:
        is_id = _ID.fullmatch(on.name) is not None
        if on.name not in depends.texts or (is_id and store.run("EXISTS", store.key(keys.batch(on.batch)))):
            return on
        holder = store.named(on.name)
        if holder is None and not is_id:
            raise errors.NotFound(
                f"depends_on={on.name!r}: there is no job of this name on this server, in this namespace, and the id "
                "of a job looks like 'k3f9x2:17', that of a batch like 'k3f9x2'"
            )
        return on if holder is None else DependsOn(holder, 0, on.may_fail)

    return replace(depends, on=tuple(map(found, depends.on)), texts=frozenset())


class Arguments(NamedTuple):
    """Arguments in which results stand for jobs and batches."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[ResultOf, ...]


def with_results(args: tuple[Any, ...], kwargs: dict[str, Any], depends: Dependencies) -> Arguments:
    """Put what stands for their results in the places of jobs and batches, also inside of lists, tuples and dicts."""
    found: dict[ResultOf, None] = {}

    def result_of(on: DependsOn) -> ResultOf:
        result = ResultOf(on.batch, on.index, depends.may_fail(on.batch, on.index))
        found[result] = None
        return result

    def replaced(value: Any, within: tuple[int, ...]) -> Any:
        if isinstance(value, Awaited):
            on = value.as_dependency()
            return result_of(on[0]) if on else value.result_here()
        if type(value) not in _CONTAINERS or id(value) in within:
            return value
        within = (*within, id(value))
        if type(value) is dict:
            return _same_if_equal(value, {key: replaced(one, within) for key, one in value.items()})
        return _same_if_equal(value, type(value)([replaced(one, within) for one in value]))

    args = tuple(replaced(value, ()) for value in args)
    kwargs = {name: replaced(value, ()) for name, value in kwargs.items()}
    return Arguments(args, kwargs, tuple(found))


def _same_if_equal(value: Any, new: Any) -> Any:
    """A container itself where nothing of it was replaced: what is the same object twice stays so."""
    old: Callable[[], Iterable[Any]] = value.values if type(value) is dict else value.__iter__
    others: Callable[[], Iterable[Any]] = new.values if type(new) is dict else new.__iter__
    return value if all(one is other for one, other in zip(old(), others(), strict=True)) else new


_MARKS = b"nbqueue.client.job", b"nbqueue.client.batch", b"nbqueue.client.cell_job"
"""The modules whose names are in the pickles of jobs and batches."""


def may_have_results(pickled: Iterable[bytes | memoryview]) -> bool:
    """Whether there may be a job or a batch in a pickle."""
    return any(mark in piece for piece in pickled if type(piece) is bytes for mark in _MARKS)


def deferred_in(
    start: int, stop: int, depends: Dependencies, waiting: Mapping[int, tuple[ResultOf, ...]]
) -> list[Deferred]:
    """What neighbouring jobs wait for: all of them for the same, and some for results of their own.

    Examples
    --------
    >>> on, one = DependsOn("k3f9x2"), (ResultOf("xyzabc", 1),)
    >>> [(found.start, found.stop) for found in deferred_in(0, 9, Dependencies((on,)), {4: one, 5: one})]
    [(0, 4), (4, 6), (6, 9)]
    """
    found: list[Deferred] = []
    for index in [*sorted(waiting), stop]:
        if depends.on and start < index:
            found.append(Deferred(start, index, depends.on, depends.at_front))
        if index < stop:
            on = depends.with_results(waiting[index])
            if found and found[-1].stop == index and found[-1].on == on:
                found[-1] = Deferred(found[-1].start, index + 1, on, depends.at_front)
            else:
                found.append(Deferred(index, index + 1, on, depends.at_front))
        start = index + 1
    return found


def unknown_dependency(name: str) -> errors.NotFound:
    """The error that something waits for what is not there."""
    what = "job" if ":" in name else "batch"
    error = errors.NotFound(
        f"there is no {what} {name} on this server, in this namespace, for others to wait for: it was deleted, or its "
        "results have expired"
    )
    error.job_id = name if what == "job" else None
    return error
