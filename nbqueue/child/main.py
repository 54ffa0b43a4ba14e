"""A child of a worker: the process that executes user code.

It is a fresh interpreter with an empty `__main__`. It is handed runs over a socket, verifies and unpickles calls, runs
them one after the other in its main thread, and signs what they return. It never talks to Redis. What it has loaded it
keeps from job to job.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nbqueue import errors, machine
from nbqueue.child import context, forks
from nbqueue.child.callbacks import call_back, ended_as, problem_of
from nbqueue.child.context import LastWords, Running, Telling
from nbqueue.child.coroutines import Coroutines
from nbqueue.child.current import CurrentJob
from nbqueue.child.displays import Displays
from nbqueue.child.hints import add_hints
from nbqueue.child.inputs import Inputs
from nbqueue.child.loading import Block, Functions
from nbqueue.child.modules import Modules
from nbqueue.child.place import Place
from nbqueue.child.progress import follow_tqdm
from nbqueue.child.report import Report
from nbqueue.child.state import State, seed_job
from nbqueue.child.streams import Printing
from nbqueue.child.tracebacks import describe, of_user
from nbqueue.child.turn import Turn
from nbqueue.payload.callbacks import GIVEN, ON_FAILURE, ON_STOPPED, ON_SUCCESS
from nbqueue.payload.files import Files
from nbqueue.payload.memory import Buffers
from nbqueue.payload.mended import Mended, unpack_mended
from nbqueue.payload.modules import Source
from nbqueue.payload.outcomes import Failure, pack_value
from nbqueue.payload.seal import Seal
from nbqueue.payload.surroundings import Settings
from nbqueue.protocol import messages
from nbqueue.protocol.descriptors import Descriptors
from nbqueue.protocol.messages import CalledBack, Displayed, Do, Done, GoesOn, Meta, Show, Waits
from nbqueue.protocol.page import CANCEL, Page
from nbqueue.protocol.ring import Writer
from nbqueue.store.description import Description, RetryDescription
from nbqueue.store.requests.running import CANCELED, Shown

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""

_described = functools.lru_cache(maxsize=16)(Description.from_json)
"""The description of a batch; of single calls, each of which is a run, the same one comes again and again."""


class _Stopped(BaseException):
    """Raised inside the running job when its time is up or it was canceled; `except Exception` does not catch it."""


def main() -> None:
    """Serve the worker at the other end of the socket; arguments are its file descriptor, that of the page, and those
    to read what is written to the descriptors 1 and 2."""
    sys.modules["__main__"] = types.ModuleType("__main__")
    _heed_signals()
    link = socket.socket(fileno=int(sys.argv[1]))
    page = Page(int(sys.argv[2]))
    link.set_inheritable(False)  # what a job starts, and leaves behind, shall not keep them open
    os.set_inheritable(page.fd, False)
    descriptors = Descriptors(int(sys.argv[3]), int(sys.argv[4]))
    for fd in descriptors.fds:
        os.set_inheritable(fd, False)
    preload = sys.argv[5:]
    sys.argv[:] = [""]
    inbox = messages.Inbox()
    incoming = messages.receive(link, inbox)
    hello = next(incoming, None)
    if not isinstance(hello, messages.Hello):
        return
    printing = Printing(Writer(page.ring), descriptors, page.alone)
    printing.install()
    files = Files(Path(hello.files), hello.namespace) if hello.files else None
    child = Child(link, page, Seal(hello.key, hello.namespace, files), hello.worker, printing, hello.namespace)
    os.register_at_fork(after_in_child=child.forked)
    try:
        child.displays.install()
        _preload(preload)
        signal.signal(signal.SIGUSR1, child.on_signal)
        child.begin()
        last_words = LastWords(printing.keep, child.handed_on)
        telling = Telling(page)
        context.use(Running(child.show, _Stopped, descriptors, telling, last_words, child.turn, child.current_job))
        follow_tqdm()
        for message in incoming:
            if isinstance(message, Do):
                child.do(message)
    except BaseException as error:
        if child.is_fork:  # made outside of a job's function, such as by a module that is imported for it
            forks.leave(error)
        raise
    child.close()


def _heed_signals() -> None:
    """Heed what `nohup` and the like have made all processes of a session ignore: programs that jobs start could not be
    interrupted, and would go on when their terminal is closed."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def _preload(modules: list[str]) -> None:
    for module in modules:
        try:
            __import__(module.removeprefix(messages.OPTIONAL))
        except ImportError:
            if not module.startswith(messages.OPTIONAL):
                raise


def _seconds_until_repeated(repeat: RetryDescription | None, attempt: int) -> float | None:
    """When a job that has returned runs again; None if it does not."""
    return repeat.seconds_after(attempt) if repeat is not None and attempt <= repeat.max else None


class Child:
    """Runs jobs, one after the other."""

    def __init__(
        self, link: socket.socket, page: Page, seal: Seal, worker: str, printing: Printing, namespace: str
    ) -> None:
        self._link = link
        self._page = page
        self._cells = page.cells
        self.is_fork = False
        """This is a fork that a job has made; of what is the child's it has a copy of the memory only."""
        self._printing = printing
        self._seal = seal
        self._worker, self._namespace = worker, namespace
        self._functions = Functions(seal)
        self._inputs = Inputs(seal, self._serializer)
        self._functions.results = self._inputs.result
        self._coroutines = Coroutines()
        self.displays = Displays(page.cells, self._send_from_job)
        self._place = Place()
        self._modules = Modules()
        self._state: State
        self._description = Description()
        """Of the present run's batch."""
        self._limit = 0.0
        """Seconds that each job of the present run may take, for its error."""
        self._run: Do
        self._returned: Any = None
        """What a job has returned, of which a serializer has made something, for its callback."""
        self._current: tuple[int, CurrentJob] | None = None
        """The index of the job that has asked for itself, and what it got."""
        self._report: Report | None = None
        self._is_reporting = False
        self._has_missed = False
        """A signal came while something was said."""
        self._sending = threading.Lock()
        self._buffers = Buffers()
        self.turn = Turn(page, self._send_from_job)

    def begin(self) -> None:
        """The process is as its jobs shall find it."""
        self._state = State()

    def close(self) -> None:
        self._coroutines.close()

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
        if cells[Page.INDEX] < 0:
            return
        if self._is_reporting:
            self._has_missed = True
            return
        self._report_before()
        is_meant = cells[Page.INDEX] == cells[Page.SOFT_INDEX] and cells[Page.NUMBER] == cells[Page.SOFT_NUMBER]
        if is_meant and not machine.is_starting_process(frame):
            cells[Page.SOFT_INDEX] = -1
            machine.interrupt_group()
            raise _Stopped

    def _report_before(self) -> None:
        """Report what ended before the job that runs: others may wait for it."""
        if self._report is not None:
            self._is_reporting = True
            try:
                self._report.before_running()
            finally:
                self._is_reporting = False

    def do(self, run: Do) -> None:
        """Run the jobs of a run, up to where the worker says to stop."""
        self._functions.add(run.functions, forget=run.forget)
        self._inputs.use(run.inputs)
        self._run, self._current = run, None
        cells = self._cells
        cells[Page.INDEX] = -1
        cells[Page.HANDED_ON] = 0
        cells[Page.NUMBER] = run.number
        description = self._description = _described(run.description)
        self._limit = description.timeout or 0.0
        self._place.use(description.directory, description.path)
        problem = self._prepare(run, description)
        report = self._report = Report(self._send, self._seal, self._worker, run, self._buffers)
        self._printing.redirect()
        self._printing.begin(run.number, report.running)
        own = dict(run.calls)
        position = run.start
        if run.decided:
            self._conclude(run, report)
            position = run.stop
        while position < run.stop and not self._is_stopped(run.number, position):
            number = position // run.per_block
            first = number * run.per_block
            stop = min(run.stop, first + run.per_block)
            self._place.enter()
            block = Block(
                self._functions, self._seal, run.batch, first, own.get(f"b{number}"), own, problem, self._inputs,
                range(position, stop),
            )  # fmt: skip
            position = self._do_block(run.number, block, report, position, stop)
            if position < stop:
                break
            report.close_block(number)
        self._functions.scope()  # of the last call, nothing is kept
        self._printing.end()
        report.end()

    def _prepare(self, run: Do, description: Description) -> Exception | None:
        """Have the modules and settings of a batch, and no function of another one; returns what is wrong with them."""
        problem = None
        sources: Mapping[str, Source] = {}
        settings: Settings = {}
        mended: Mended | None = None
        try:
            mended = unpack_mended(self._seal, run.batch, run.mended) if run.mended else None
            sources = self._functions.modules(description.modules if mended is None else mended.modules)
            settings = self._functions.settings(description.settings)
        except Exception as error:  # noqa: BLE001 - is the outcome of each of its jobs
            problem = error
        function = None if mended is None else mended.function
        has_modules = self._modules.use(run.batch if function is None else f"{run.batch} {function.hex()}", sources)
        self._state.use(settings, description.settings)
        self._functions.begin(
            run.batch,
            share=description.share,
            is_single=description.is_single,
            has_modules=has_modules,
            function=function,
        )
        return problem

    def _serializer(self, name: str) -> Any:
        """The serializer of a result that a call takes, which is that of the call's own batch."""
        if name != self._description.serializer:
            raise errors.DependencyFailed(
                "the result that it takes was made by a serializer that cannot be imported, and does not come along: "
                "put that into a module, or submit both on a queue with serializer=, the second with depends_on="
            )
        return self._functions.serializer(name)

    def _send(self, message: Done | Show | Displayed | Meta | CalledBack | Waits | GoesOn) -> None:
        with self._sending:  # what a cell puts out comes from a thread of its own
            messages.send(self._link, message)

    def current_job(self) -> CurrentJob | None:
        """The job that runs, for its own function."""
        index = self._cells[Page.INDEX]
        if index < 0:
            return None
        if self._current is None or self._current[0] != index:
            run, described = self._run, self._description
            meta = {**described.meta, **json.loads(run.metas.get(index, "{}"))}

            def save(text: bytes) -> None:
                self._send_from_job(Meta(run.number, index, text))

            job = CurrentJob(
                run.batch,
                index,
                run.attempts.get(index, 0) + 1,
                described.queue,
                meta,
                described.timeout,
                save,
                self._namespace,
            )
            self._current = index, job
        return self._current[1]

    def _send_from_job(self, said: Displayed | Meta | CalledBack | Waits | GoesOn) -> None:
        if threading.current_thread() is not threading.main_thread():
            self._send(said)
            return
        was_reporting, self._is_reporting = self._is_reporting, True  # no signal comes in between
        try:
            self._send(said)
        finally:
            self._is_reporting = was_reporting
        if self._has_missed and not was_reporting:  # a report is asked for once
            self._has_missed = False
            if self._cells[Page.INDEX] >= 0:
                self._report_before()

    def show(self, shown: Shown) -> None:
        """Have Redis keep what the running job puts out; one thread at a time."""
        self._send(Show(self._cells[Page.NUMBER], shown))

    def handed_on(self, count: int) -> None:
        """The worker was told of so many bytes that the running cell has printed."""
        self._cells[Page.HANDED_ON] = count

    def _is_stopped(self, number: int, index: int) -> bool:
        cells = self._cells
        return cells[Page.SKIP] >= number or (cells[Page.STOP_NUMBER] == number and index >= cells[Page.STOP])

    def _do_block(self, number: int, block: Block, report: Report, start: int, stop: int) -> int:
        """Run the jobs of one block; returns the index after the last one that ran."""
        cells, clock = self._cells, time.monotonic_ns
        INDEX, SINCE, STOP_NUMBER, STOP = Page.INDEX, Page.SINCE, Page.STOP_NUMBER, Page.STOP
        COROUTINE = types.CoroutineType
        function, atoms, first = block.function, block.atoms, block.first
        repeat = self._description.repeat
        callbacks = self._description.callbacks
        needs_care = self._description.seed is not None or repeat is not None or bool(callbacks)
        is_alone = block.is_self_contained and not needs_care
        now = clock()
        for index in range(start, stop):
            if cells[STOP_NUMBER] == number and index >= cells[STOP]:
                return index
            began = now
            try:
                cells[SINCE] = began
                cells[INDEX] = index
                if is_alone:
                    value = function(atoms[index - first])  # type: ignore[misc]
                    if type(value) is COROUTINE:
                        value = self._coroutines.run(value)
                else:
                    began, value = self._call(block, index)
                if self.is_fork:
                    forks.leave()
                if not (is_alone or (block.leaves_nothing and not needs_care)):
                    self._end_output()
                cells[INDEX] = -1
            except BaseException as error:  # noqa: BLE001 - whatever user code raises is its outcome
                if self.is_fork:
                    forks.leave(error.with_traceback(of_user(error.__traceback__)))
                self._end_output()
                cells[INDEX] = -1
                is_loading, cells[Page.IS_LOADING] = bool(cells[Page.IS_LOADING]), 0
                self._state.quiet()
                began, now = cells[SINCE], clock()
                if isinstance(error, _Stopped) and cells[Page.SOFT_REASON] == CANCEL:
                    report.canceled(index, now - began)
                    if ON_STOPPED in callbacks:
                        self._call_back(report, index, ON_STOPPED)
                    self._put_back()
                    return index + 1
                again = None if is_loading else self._seconds_until_again(error, report.attempt(index))
                holds = again is None and ON_FAILURE in callbacks
                if holds:
                    error = self._as_told(error)
                report.failed(index, now - began, self._failure(error, is_loading=is_loading), again, holds=holds)
                if holds:
                    self._call_back(report, index, ON_FAILURE, type(error), error, of_user(error.__traceback__))
                del error
                self._put_back()
            else:
                if is_alone or (block.leaves_nothing and not needs_care):
                    now = clock()
                    report.finished(index, now - began, value)
                else:
                    self._state.quiet()
                    now = clock()
                    again = _seconds_until_repeated(repeat, report.attempt(index))
                    holds = again is None and ON_SUCCESS in callbacks
                    report.finished(index, now - began, value, again, holds=holds)
                    if holds:
                        self._call_back(
                            report, index, ON_SUCCESS, self._returned if self._description.serializer else value
                        )
                        self._returned = None
                    self._put_back()
                    function, is_alone = block.function, block.is_self_contained and not needs_care
                value = None
        return stop

    def _call(self, block: Block, index: int) -> tuple[int, Any]:
        """Load a call, if it is not, and make it; returns when it was made, and what it returned. The time limit holds
        for either."""
        cells = self._cells
        function = block.function
        args: tuple[Any, ...]
        kwargs: dict[str, Any]
        if function is not None:
            args, kwargs = (block.atoms[index - block.first],), {}
        else:
            cells[Page.IS_LOADING] = 1
            function, args, kwargs = block.load(index)
        description = self._description
        if description.seed is not None:
            seed_job(description.seed, 0 if description.is_single else index)
        cells[Page.SINCE] = began = time.monotonic_ns()  # an error in a fork that unpickling has made, which ends so
        cells[Page.IS_LOADING] = 0
        job = self._state.context()
        value = job.run(function, *args, **kwargs)
        if type(value) is types.CoroutineType:
            value = self._coroutines.run(value, job)
        if description.serializer and not self.is_fork:
            self._returned = value if ON_SUCCESS in description.callbacks else None
            value = pack_value(job.run(self._functions.encode, description.serializer, value))
        return began, value

    def _call_back(self, report: Report, index: int, which: str, *values: Any) -> None:
        """Tell how a job ended, and call what is to be called after it. It changes nothing of that."""
        problem, unpacked = "", report.decide()
        if unpacked is not None:  # what it returned cannot be recorded
            which, values = ON_FAILURE, (type(unpacked), unpacked, None)
        if which in self._description.callbacks:
            problem = self._problem_of_callback(report, index, which, values)
        self._send_from_job(CalledBack(self._run.number, index, problem))

    def _conclude(self, run: Do, report: Report) -> None:
        """Call back what could not be in the process that has run the job."""
        index = run.start
        if run.decided == CANCELED:
            report.canceled(index, 0)
            self._call_back(report, index, ON_STOPPED)
        else:
            seconds, failure, error = ended_as(self._seal, run.batch, index, run.decided)
            report.concluded(index, seconds, run.decided, failure)
            self._call_back(report, index, ON_FAILURE, type(error), error, None)
        self._put_back()

    def _problem_of_callback(self, report: Report, index: int, which: str, values: tuple[Any, ...]) -> str:
        """Call back as a part of the job, whose output gets what it prints; what went wrong, in words."""
        cells, problem = self._cells, ""
        digest, limit = self._description.callbacks[which]
        report.calling_back = index
        cells[Page.IS_CALLING_BACK] = 1 + list(GIVEN).index(which)
        try:
            cells[Page.SINCE] = time.monotonic_ns()
            cells[Page.INDEX] = index
            function = self._functions.load(bytes.fromhex(digest), self._functions.scope(), index)
            context = self._state.context()
            job = self.current_job()
            value = context.run(call_back, function, which, (job, None, *values))
            if type(value) is types.CoroutineType:
                self._coroutines.run(value, context)
            if self.is_fork:
                forks.leave()
            cells[Page.INDEX] = -1
        except BaseException as error:  # noqa: BLE001 - whatever user code raises is told, and changes nothing
            if self.is_fork:
                forks.leave(error.with_traceback(of_user(error.__traceback__)))
            cells[Page.INDEX] = -1
            if isinstance(error, _Stopped):
                problem = f"{which}: it ran longer than its time limit of {limit:g} seconds\n"
            else:
                problem = problem_of(error, which, values)
            self._printing.redirect()
            print(problem, end="", file=sys.stderr)
        self._end_output()
        cells[Page.IS_CALLING_BACK] = 0
        report.calling_back = None
        return problem

    def _end_output(self) -> None:
        """All that the job has put out is told before it has ended."""
        self._printing.drain()
        if self.displays.pending:
            self.displays.flush()

    def _put_back(self) -> None:
        """The next job finds the process as this one has."""
        self._state.restore()
        self._printing.redirect()
        self._place.enter()

    def _seconds_until_again(self, error: BaseException, attempt: int) -> float | None:
        """When a job that has failed runs again; None if it does not."""
        retry = self._description.retry
        if isinstance(error, errors.RetryLater):
            return error.delay if retry is None or attempt <= retry.max else None
        kind = errors.JobTimeout if isinstance(error, _Stopped) else type(error)
        if retry is None or attempt > retry.max or not retry.is_for(kind):
            return None
        return retry.seconds_after(attempt, random.SystemRandom().random())  # not the job's generator

    def _as_told(self, error: BaseException) -> BaseException:
        """An error of a job, as its user knows it."""
        if not isinstance(error, _Stopped):
            return error
        text = f"it ran longer than its job_timeout of {self._limit:g} seconds"
        return errors.JobTimeout(text).with_traceback(error.__traceback__)

    def _failure(self, error: BaseException, *, is_loading: bool) -> Failure:
        error = self._as_told(error)
        with contextlib.suppress(Exception):  # `__str__` of an error is user code
            add_hints(error, self._description, is_loading=is_loading)
        return describe(error)
