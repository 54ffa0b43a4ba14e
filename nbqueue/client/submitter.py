"""Submitting to one queue, with options that are the same for all calls."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sized
from dataclasses import replace
from typing import Any

from nbqueue import errors
from nbqueue.cells.run import run_cell
from nbqueue.client import hooks
from nbqueue.client.batch import Batch
from nbqueue.client.cell_job import CellJob
from nbqueue.client.handle import Handle, Progress
from nbqueue.client.job import Job
from nbqueue.client.named import function_of
from nbqueue.client.named_jobs import taken_name
from nbqueue.client.options import JobOptions, Options
from nbqueue.client.packing import Call, CallPacker, FollowPacker, ItemPacker, Packer, TuplePacker, as_call
from nbqueue.client.session import Session
from nbqueue.client.submission import IdTaken, Submission
from nbqueue.payload.functions import Code, name_of
from nbqueue.payload.serializers import Encoding
from nbqueue.store.description import BOUND, MANY, ONE, CellDescription

_TRIES = 10
"""Ids that are made up for a batch, before it is given up: one is taken once in hundreds of thousands of times."""


_STILL = frozenset({list, tuple, range})
"""Types of iterables that give what they hold, and run no code of the user's."""

_MOST_ZIPPED = 100_000
"""Tuples of arguments that are made in advance."""


class Submitter:
    """Submits calls with options of its own, and passes everything else on to the functions: `Queue.options`.

    Parameters
    ----------
    session : Session
    queue : str
    options : JobOptions
    progress : {"auto", "bar", False}
        How batches show progress.
    serializer : object, optional
        What makes bytes of arguments and results, if it is not ours: from `payload.serializers.chosen`.

    Examples
    --------
    >>> q.options(job_timeout=60).enqueue(pow, 2, 10).result()
    1024
    """

    def __init__(
        self, session: Session, queue: str, options: JobOptions, progress: Progress, serializer: Any = None
    ) -> None:  # fmt: skip
        self._session = session
        self._queue = queue
        self._options = options
        self._progress = progress
        self._serializer = serializer

    def _encoding(self) -> tuple[Encoding | None, Code | None]:
        """What makes bytes of arguments and results, and its code, as it is now."""
        return (None, None) if self._serializer is None else self._session.codes.encoding(self._serializer)

    def enqueue(self, func: Callable[..., Any] | str, /, *args: Any, **kwargs: Any) -> Job:
        """Submit one call; all arguments are the function's own. See `Queue.enqueue`."""
        session, options = self._session, self._options
        func = function_of(func)
        code = session.codes.pack(func, share=self._options.share)
        if options.label is not None or options.meta is not None or options.job_id is not None:
            return Job(self._submit([Call(func, args, kwargs)], name_of(func), code.imports, ONE), 0)
        serializer = None
        if self._serializer is not None:
            encoding, serializer = self._encoding()
            options = replace(options, encoding=encoding)
        submitted = time.monotonic()
        id, index = session.open_batches.append(self._queue, options, code, args, kwargs, serializer)
        session.knows_per_block(id, 1)
        session.fleet.attend_now_and_then(self._queue)
        return Job(Batch(session, id, progress=self._progress), index, waits_since=submitted)

    def map(
        self, func: Callable[..., Any] | str, /, *iterables: Iterable[Any], kwargs: dict[str, Any] | None = None
    ) -> Batch:
        """Submit a call for each item. See `Queue.map`."""
        self._refuse_name()
        if not iterables:
            raise errors.UsageError("map: give at least one iterable of arguments, as in q.map(func, items)")
        for items in iterables:
            check_iterable(items)
        session = self._session
        encoding, serializer = self._encoding()
        what = BOUND if kwargs and encoding is None else ONE
        func, kwargs = _with_constants(func, kwargs, encoding)
        code = session.codes.pack(func, share=self._options.share)
        if len(iterables) == 1:
            packer: ItemPacker = ItemPacker(session.seal, session.codes, code, encoding, kwargs, calls=what)
            return self._run(
                iterables[0], packer, name_of(func), imports=code.imports, encoding=encoding, serializer=serializer
            )
        packer = TuplePacker(session.seal, session.codes, code, encoding, kwargs, calls=what)
        lengths = [len(items) for items in iterables if isinstance(items, Sized)]
        expected = min(lengths) if len(lengths) == len(iterables) else None
        calls: Iterable[Any] = zip(*iterables, strict=False)
        if expected is not None and expected <= _MOST_ZIPPED and {type(each) for each in iterables} <= _STILL:
            calls = list(calls)
        return self._run(
            calls, packer, name_of(func), expected, imports=code.imports, encoding=encoding, serializer=serializer
        )

    def starmap(
        self, func: Callable[..., Any] | str, iterable: Iterable[Iterable[Any]], /, *,
        kwargs: dict[str, Any] | None = None,
    ) -> Batch:  # fmt: skip
        """Submit a call for each tuple of arguments. See `Queue.starmap`."""
        self._refuse_name()
        check_iterable(iterable)
        session = self._session
        encoding, serializer = self._encoding()
        what = BOUND if kwargs and encoding is None else ONE
        func, kwargs = _with_constants(func, kwargs, encoding)
        code = session.codes.pack(func, share=self._options.share)
        packer = TuplePacker(session.seal, session.codes, code, encoding, kwargs, calls=what)
        return self._run(
            iterable, packer, name_of(func), imports=code.imports, encoding=encoding, serializer=serializer
        )

    def enqueue_many(self, calls: Iterable[Any], /, *, imports: Collection[str] = ()) -> Batch:
        """Submit calls of functions that may differ, in which modules of these names may be imported. See
        `Queue.enqueue_many`."""
        self._refuse_name()
        check_iterable(calls)
        first, calls = _peek(calls)
        name = name_of(as_call(first).function) if first is not None else "calls"
        return self._submit(calls, name, imports)

    def follow(self, followed: Handle, func: Callable[..., Any] | str) -> Batch:
        """Submit a call for each job of a batch, with its result. See `Batch.then`.

        Raises
        ------
        UsageError
            The batch gets further jobs, or there is an option that makes no sense here.
        """
        self._refuse_name()
        session, options, state = self._session, self._options, followed.state
        if options.depends.on or options.due or options.at_front:
            raise errors.UsageError("then(): each job starts when the one before it has ended; no option changes that")
        if state.is_submitting:
            raise errors.UsageError(f"batch {followed.id} is being submitted: then() needs all of its jobs")
        func = function_of(func)
        code = session.codes.pack(func, share=options.share)
        packer = FollowPacker(session.seal, session.codes, code, followed.id, state.per_block)
        return self._run(
            range(state.total), packer, name_of(func), imports=code.imports, encoding=None, serializer=None,
            follows=followed.id,
        )  # fmt: skip

    def _refuse_name(self) -> None:
        if self._options.job_id is not None:
            raise errors.UsageError(f"job_id={self._options.job_id!r} names one job, of enqueue, and not a batch")

    def _submit(self, calls: Iterable[Any], name: str, imports: Collection[str], what: str = MANY) -> Batch:
        encoding, serializer = self._encoding()
        packer = CallPacker(self._session.seal, self._session.codes, encoding, calls=what)
        return self._run(calls, packer, name, imports=imports, encoding=encoding, serializer=serializer)

    def _run(
        self, items: Iterable[Any], packer: Packer, name: str, expected: int | None = None, *,
        imports: Collection[str], encoding: Encoding | None, serializer: Code | None, follows: str = "",
    ) -> Batch:  # fmt: skip
        options = self._options
        if serializer is not None:
            imports = {*imports, *serializer.imports}
        attached = self._session.codes.attached(
            imports, options.environment, settings=options.settings, callbacks=options.callbacks
        )
        if encoding is not None:
            options, attached = replace(options, encoding=encoding), replace(attached, serializer=serializer)
        if isinstance(items, Sized):
            expected = len(items)
        if type(items) not in _STILL:  # others may give the same object again and again, changed
            items = iter(items)
        for _ in range(_TRIES):
            submission = Submission(self._session, self._queue, options, name, packer, attached, follows=follows)
            try:
                with taken_name(self._session.store, options, submission.batch):
                    return self._show(submission, items, name, expected)
            except IdTaken as taken:
                if taken.items is not None:
                    items = itertools.chain(taken.items, items)
        raise errors.SubmitError(f"no id was free for a batch, {_TRIES} times in a row: too many batches are kept")

    def _show(self, submission: Submission, items: Iterable[Any], name: str, expected: int | None) -> Batch:
        """Submit, and show it."""
        batch = Batch(self._session, submission.batch, progress=self._progress)
        display = hooks.display(self._progress)
        if display is not None:
            display.begin(batch, self._options.label or name, expected)
        self._session.fleet.attend_now_and_then(self._queue)
        try:
            submission.run(items)
        except BaseException:
            if display is not None:
                display.fail(batch)
            raise
        self._session.knows_per_block(batch.id, submission.per_block)
        if display is not None:
            display.accept(batch)
        return batch


def then(followed: Handle, func: Callable[..., Any] | str, queue: str, options: Options, progress: Progress) -> Batch:
    """Submit a call for each job of a batch, with its result: what `Batch.then` does, which documents it."""
    return Submitter(followed.session, queue, JobOptions.of(options), progress).follow(followed, func)


_IMPORT = re.compile(r"^[ \t]*(?:import|from)[ \t]+([A-Za-z_]\w*)", re.MULTILINE)
"""The top name of a module that a cell imports."""


def enqueue_cell(
    submitter: Submitter, raw_cell: str, packed: bytes, cell: CellDescription, *, number: int = 1,
    settings: bytes = b"",
) -> CellJob:  # fmt: skip
    """Submit a cell of a notebook: what `%%enqueue` does, which documents it.

    Parameters
    ----------
    submitter : Submitter
        Whose options name the cell.
    raw_cell : str
    packed : bytes
        The variables that it reads, from `pack_cell`.
    cell : CellDescription
    number : int
        The execution count that is shown.
    settings : bytes
        Settings of the notebook that go along, from `pack_settings`.
    """
    one = Call(run_cell, (raw_cell, packed, list(cell.returns), number, settings), {})
    return CellJob(submitter.enqueue_many([one], imports=_IMPORT.findall(raw_cell)), 0)


def _with_constants(
    function: Callable[..., Any] | str, kwargs: dict[str, Any] | None, encoding: Encoding | None
) -> tuple[Callable[..., Any], dict[str, Any] | None]:
    """The function with constant keyword arguments, as a part of it; apart where a serializer takes arguments."""
    whole = function_of(function, kwargs)
    return (whole, None) if encoding is None else (function_of(function), kwargs)


def check_iterable(items: Any) -> None:
    if not isinstance(items, Iterable):
        raise errors.WrongType(f"{items!r:.80} is not iterable: a list, a range, a generator of arguments is needed")


def _peek(items: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """The first item, and an iterable that still has it."""
    if isinstance(items, list | tuple):
        return (items[0] if items else None), items
    iterator: Iterator[Any] = iter(items)
    for first in iterator:
        return first, itertools.chain([first], iterator)
    return None, []
