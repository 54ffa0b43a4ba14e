"""A child of a worker: the process that executes user code.

It is a fresh interpreter with an empty `__main__`. It is handed runs over a socket, verifies and unpickles calls, runs
them one after the other in its main thread, and signs what they return. It never talks to Redis. What it has loaded it
keeps from job to job.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbqueue import errors, machine
from nbqueue.child import context, forks
from nbqueue.child.context import Running
from nbqueue.child.report import Report
from nbqueue.child.streams import Printing
from nbqueue.child.tracebacks import describe, of_user
from nbqueue.payload.calls import Call, Calls
from nbqueue.payload.functions import unpack_code
from nbqueue.payload.memory import Buffers
from nbqueue.payload.outcomes import Failure
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal
from nbqueue.protocol import messages
from nbqueue.protocol.messages import Do, Done, Show
from nbqueue.protocol.page import CANCEL, Page
from nbqueue.protocol.ring import Writer
from nbqueue.store.description import Description
from nbqueue.store.requests.running import Shown

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""

_LONG = 1_000_000
"""Nanoseconds of a job after which it is looked where it has left the process; after shorter ones, at each block."""


class _Stopped(BaseException):
    """Raised inside the running job when its time is up or it was canceled; `except Exception` does not catch it."""


def main() -> None:
    """Serve the worker at the other end of the socket; arguments are its file descriptor and that of the page."""
    sys.modules["__main__"] = types.ModuleType("__main__")
    link = socket.socket(fileno=int(sys.argv[1]))
    page = Page(int(sys.argv[2]))
    link.set_inheritable(False)  # what a job starts, and leaves behind, shall not keep them open
    os.set_inheritable(page.fd, False)
    preload = sys.argv[3:]
    sys.argv[:] = [""]
    inbox = messages.Inbox()
    incoming = messages.receive(link, inbox)
    hello = next(incoming, None)
    if not isinstance(hello, messages.Hello):
        return
    printing = Printing(Writer(page.ring))
    printing.install()
    child = Child(link, page, Seal(hello.key, hello.namespace), hello.worker, printing)
    os.register_at_fork(after_in_child=child.forked)
    try:
        _preload(preload)
        signal.signal(signal.SIGUSR1, child.on_signal)
        context.use(Running(child.show, _Stopped))
        for message in incoming:
            if isinstance(message, Do):
                child.do(message)
    except BaseException as error:
        if child.is_fork:  # made outside of a job's function, such as by a module that is imported for it
            forks.leave(error)
        raise
    child.close()


def _preload(modules: list[str]) -> None:
    for module in modules:
        try:
            __import__(module.removeprefix(messages.OPTIONAL))
        except ImportError:
            if not module.startswith(messages.OPTIONAL):
                raise


class Child:
    """Runs jobs, one after the other."""

    def __init__(self, link: socket.socket, page: Page, seal: Seal, worker: str, printing: Printing) -> None:
        self._link = link
        self._page = page
        self._cells = page.cells
        self.is_fork = False
        """This is a fork that a job has made; of what is the child's it has a copy of the memory only."""
        self._printing = printing
        self._seal = seal
        self._worker = worker
        self._records: dict[bytes, bytes] = {}
        self._functions: dict[bytes, Callable[..., Any]] = {}
        self._runner: asyncio.Runner | None = None
        self._home = self._directory = _where()
        self._path: list[str] = []
        self._report: Report | None = None
        self._is_reporting = False
        self._sending = threading.Lock()
        self._buffers = Buffers()

    def close(self) -> None:
        if self._runner is not None:
            self._runner.close()

    def forked(self) -> None:
        """What a fork does first: let go of all that the child shares with the worker, so that none of it can be
        read or written here, whatever runs, nor be kept open."""
        self.is_fork = True
        context.use(None)
        self._link.close()
        self._page.close()

    def on_signal(self, number: int, frame: types.FrameType | None) -> None:
        """Report what ended before the running job; stop that, if it still is the one that is meant.

        What it has started is interrupted with it, as by Jupyter's stop button. Not while it starts a process: the
        worker insists, and the next signal comes soon.
        """
        if self.is_fork:
            return
        cells = self._cells
        if cells[Page.INDEX] < 0 or self._is_reporting:
            return
        if self._report is not None:
            self._is_reporting = True
            try:
                self._report.before_running()
            finally:
                self._is_reporting = False
        is_meant = cells[Page.INDEX] == cells[Page.SOFT_INDEX] and cells[Page.NUMBER] == cells[Page.SOFT_NUMBER]
        if is_meant and not machine.is_starting_process(frame):
            cells[Page.SOFT_INDEX] = -1
            machine.interrupt_group()
            raise _Stopped

    def do(self, run: Do) -> None:
        """Run the jobs of a run, up to where the worker says to stop."""
        if run.forget:
            self._records.clear()
            self._functions.clear()
        self._records.update(run.functions)
        cells = self._cells
        cells[Page.INDEX] = -1
        cells[Page.NUMBER] = run.number
        description = Description.from_json(run.description)
        self._directory = description.directory or self._home
        self._use_path(description.path)
        report = self._report = Report(self._send, self._seal, self._worker, run, self._buffers)
        self._printing.redirect()
        self._printing.begin(run.number, report.running)
        calls = dict(run.calls)
        position = run.start
        while position < run.stop and not self._is_stopped(run.number, position):
            block = position // run.per_block
            first = block * run.per_block
            stop = min(run.stop, first + run.per_block)
            self._enter_directory()
            end = self._do_block(run, report, calls, block, position, stop)
            if end < stop:
                position = end
                break
            position = stop
            report.close_block(block)
        self._printing.end()
        report.end()

    def _send(self, message: Done | Show) -> None:
        with self._sending:  # what a cell puts out comes from a thread of its own
            messages.send(self._link, message)

    def show(self, shown: Shown) -> None:
        """Have Redis keep what the running job puts out; one thread at a time."""
        self._send(Show(self._cells[Page.NUMBER], shown))

    def _is_stopped(self, number: int, index: int) -> bool:
        cells = self._cells
        return cells[Page.SKIP] >= number or (cells[Page.STOP_NUMBER] == number and index >= cells[Page.STOP])

    def _do_block(self, run: Do, report: Report, calls: dict[str, Blob], block: int, start: int, stop: int) -> int:
        """Run the jobs of one block; returns the index after the last one that ran."""
        cells, number, seal = self._cells, run.number, self._seal
        clock, INDEX, SINCE, STOP_NUMBER, STOP = time.monotonic_ns, Page.INDEX, Page.SINCE, Page.STOP_NUMBER, Page.STOP
        COROUTINE = types.CoroutineType
        opened: Calls | None = None
        problem: Exception | None = None
        try:
            record = calls.get(f"b{block}")
            if record is not None:
                opened = Calls(seal, run.batch, block * run.per_block, record, once=True)
        except Exception as error:  # noqa: BLE001 - what is wrong with the record is the outcome of its jobs
            problem = error
        atoms = function = None
        if opened is not None and (atoms := opened.atoms()) is not None:
            try:
                function = self._function(opened.digest())
            except Exception as error:  # noqa: BLE001 - a function that cannot be loaded is the outcome of its jobs
                problem = error
        offset = block * run.per_block
        now = clock()
        for index in range(start, stop):
            if cells[STOP_NUMBER] == number and index >= cells[STOP]:
                return index
            began = now
            try:
                if function is not None and atoms is not None:
                    cells[SINCE] = began
                    cells[INDEX] = index
                    value = function(atoms[index - offset])
                else:
                    if problem is not None:
                        raise problem
                    digest, args, kwargs = self._call(run, calls, opened, index)
                    called = self._function(digest)
                    now = began = clock()
                    cells[SINCE] = began
                    cells[INDEX] = index
                    value = called(*args, **kwargs)
                    args = kwargs = None  # type: ignore[assignment]
                if type(value) is COROUTINE:
                    value = self._await(value)
                if self.is_fork:
                    forks.leave()
                cells[INDEX] = -1
            except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
                if self.is_fork:
                    forks.leave(error.with_traceback(of_user(error.__traceback__)))
                cells[INDEX] = -1
                now = clock()
                if isinstance(error, _Stopped) and cells[Page.SOFT_REASON] == CANCEL:
                    report.canceled(index, now - began)
                    return index + 1
                report.failed(index, now - began, self._failure(error, run))
                del error
            else:
                now = clock()
                report.finished(index, now - began, value)
                value = None
            if now - began > _LONG:
                self._enter_directory()
        return stop

    def _call(self, run: Do, calls: dict[str, Blob], opened: Calls | None, index: int) -> Call:
        if opened is not None and not opened.is_elsewhere(index):
            return opened[index]
        own = calls.get(str(index))
        if own is None:
            raise errors.CorruptPayload(f"the call of job {run.batch}:{index} is not there any more")
        return Calls(self._seal, run.batch, index, own, once=True)[index]

    def _function(self, digest: bytes) -> Callable[..., Any]:
        function = self._functions.get(digest)
        if function is None:
            record = self._records.get(digest)
            if not record:
                raise errors.CorruptPayload(
                    "the function of this job is not in Redis any more: it was deleted or evicted there. Submit the "
                    "call again, and Redis has the function again, also for `retry`"
                )
            function = self._functions[digest] = unpack_code(self._seal, digest, record)
        return function

    def _await(self, coroutine: types.CoroutineType[Any, Any, Any]) -> Any:
        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(coroutine)
        finally:
            # What was stopped, or left running, must not go on inside the next job. It ends as a part of this one,
            # which can be stopped and killed.
            if asyncio.all_tasks(self._runner.get_loop()):
                runner, self._runner = self._runner, None
                with contextlib.suppress(Exception):
                    runner.close()

    def _enter_directory(self) -> None:
        """Be where the batch was submitted from, wherever a job has gone; where that is not there, not elsewhere."""
        if self._directory == _where():
            return
        for directory in (self._directory, self._home):  # another host may not have the first
            try:
                os.chdir(directory)
            except OSError:
                continue
            return

    def _use_path(self, path: Sequence[str]) -> None:
        """Find the modules that the submitter finds."""
        for entry in self._path:
            with contextlib.suppress(ValueError):  # a job has removed it
                sys.path.remove(entry)
        self._path = [entry for entry in path if entry not in sys.path and Path(entry).exists()]
        sys.path += self._path

    def _failure(self, error: BaseException, run: Do) -> Failure:
        if isinstance(error, _Stopped):
            limit = Description.from_json(run.description).timeout or 0.0
            error = errors.JobTimeout(f"it ran longer than its job_timeout of {limit:g} seconds").with_traceback(
                error.__traceback__
            )
        return describe(error)


def _where() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return ""
