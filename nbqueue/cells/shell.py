"""Runs a notebook's cell outside of its kernel, with IPython's own semantics. IPython is imported with this module.

A small subclass of IPython's shell, of which a process has one. Whatever the cell prints, displays, returns or fails
with is handed on as native Jupyter messages, see `outputs`. Between cells the shell forgets: the namespace, `In` and
`Out`, `from __future__` imports, open figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import io
import os
import re
import subprocess
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

import traitlets
from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.compilerop import CachingCompiler
from IPython.core.display_trap import DisplayTrap
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from nbqueue import machine
from nbqueue.cells.capture import Emit, Outputs
from nbqueue.cells.joiner import LIMIT
from nbqueue.child import forks
from nbqueue.child.bundles import as_json_bundle, is_bar_of_tqdm
from nbqueue.child.context import LastWords
from nbqueue.payload.sources import learn_label
from nbqueue.protocol.descriptors import Descriptors

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""

_STARTS_TASK = re.compile(r"\b(create_task|ensure_future|get_running_loop)\b")

_TRACEBACK = 256 * 1024
"""Characters of a traceback at most."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """How a cell ended."""

    value: Any
    """Of its last expression; None where there is none, or it was silenced by `;`."""
    error: BaseException | None
    """What it raised, which has been put out. The traceback begins in the cell."""
    namespace: dict[str, Any]
    """The dictionary that it was given, with what it assigned."""


class Cell:
    """Runs cells, one after the other, in the main thread. A process can have one.

    Parameters
    ----------
    emit : callable
        Called with the type and the content of each Jupyter message, in order, in a thread of its own: `stream`,
        `display_data`, `update_display_data`, `execute_result`, `error`, `clear_output`. JSON can be made of the
        contents. Each display has an id in `transient`.
    stop : type
        An exception that is raised into a running cell from outside. It leaves `run` as it is, and is not put out.
    limit : int
        Characters of text, and as many of rich output, that a cell may leave. What is beyond is cut, and said to be.
    descriptors : Descriptors, optional
        Where what is written to the process's own descriptors can be read: it is put out, too.
    last_words : LastWords, optional
        Where what is printed is kept until it was handed on.

    Examples
    --------
    >>> cell = Cell(lambda kind, content: print(kind, content["data"]["text/plain"]))
    >>> cell.run("2 * x", {"x": 21}).value
    execute_result 42
    42
    """

    def __init__(
        self, emit: Emit, *, stop: type[BaseException] = KeyboardInterrupt, limit: int = LIMIT,
        descriptors: Descriptors | None = None, last_words: LastWords | None = None,
    ) -> None:  # fmt: skip
        self._stop = stop
        self._outputs = Outputs(emit, limit=limit, descriptors=descriptors, last_words=last_words)
        InteractiveShell.clear_instance()  # a function that mentioned get_ipython() may have made one
        # Without the size IPython 8 would wake up a thread that is not there, by an Event that a signal can break.
        config = Config({"HistoryManager": {"enabled": False, "db_cache_size": 10**9}})
        self._shell = _Shell.instance(config=config, outputs=self._outputs, stop=stop)
        # That loads them all: IPython 9 would never again find a magic whose first use was stopped.
        self._shell.magics_manager.lsmagic_docs(brief=True)
        # IPython says so on SystemExit.
        warnings.filterwarnings("ignore", "To exit: use 'exit', 'quit', or Ctrl-D", UserWarning)

    def close(self) -> None:
        """End the thread that hands on."""
        self._outputs.stop()

    def run(
        self, raw_cell: str, namespace: dict[str, Any], *, number: int = 1, silent: bool = False,
        prepare: Callable[[], None] | None = None,
    ) -> CellResult:  # fmt: skip
        """Run one cell.

        Parameters
        ----------
        raw_cell : str
            As it was typed, with magics, `!commands`, top-level `await`.
        namespace : dict
            Its variables. The cell runs in this very dictionary, which is `__main__` meanwhile: functions that have it
            as their globals see what the cell assigns.
        number : int
            The execution count that is shown: `Out[3]`, `Cell In[3], line 1`.
        silent : bool
            Neither show nor return the last expression.
        prepare : callable, optional
            Called before the cell is run, when what is printed is put out already.

        Returns
        -------
        CellResult
            With what the cell itself raised.

        Raises
        ------
        BaseException
            `stop`, when it was raised into the cell. All that the cell put out has been handed on.
        Exception
            What `emit` raised.
        """
        before = _Process()
        stopped: BaseException | None = None
        result: CellResult | None = None
        try:
            result = self._run(raw_cell, namespace, number, silent, prepare)
        except self._stop as error:
            stopped = error
            _end_what_ipython_began(error)
        finally:
            while True:
                try:
                    if self._outputs.is_fork:  # made by the cell, which has ended in it, too
                        _leave_fork(result, stopped or sys.exc_info()[1])
                    self._leave(before)
                    break
                except self._stop as error:  # it came late: first everything is put back
                    stopped = error
        if stopped is not None:
            raise stopped.with_traceback(self._shell.in_cell(stopped.__traceback__))
        assert result is not None
        return result

    def _run(
        self, raw_cell: str, namespace: dict[str, Any], number: int, silent: bool, prepare: Callable[[], None] | None
    ) -> CellResult:
        shell = self._shell
        main = shell.begin(namespace, number)
        self._outputs.open()
        sys.stdout, sys.stderr, sys.stdin = self._outputs.stdout, self._outputs.stderr, _NoInput()
        sys.modules["__main__"] = main
        _prepare_libraries(shell)
        if prepare is not None:
            prepare()
        ended = shell.run_cell(raw_cell, store_history=not silent, silent=silent)
        error = ended.error_before_exec or ended.error_in_exec
        if error is not None:
            error.__traceback__ = shell.in_cell(error.__traceback__)
        return CellResult(ended.result, error, namespace)

    def _leave(self, before: _Process) -> None:
        """Put everything back. Can be done again if it was cut short."""
        before.restore()
        self._shell.end()
        self._outputs.close()


def _leave_fork(result: CellResult | None, raised: BaseException | None) -> NoReturn:
    """End a fork of a cell. IPython has told what the cell has raised there, except for `SystemExit`."""
    if result is None:
        forks.leave(raised)
    forks.leave(SystemExit(1) if result.error and not isinstance(result.error, SystemExit) else result.error)


class _Process:
    """What of the process is different while a cell runs."""

    def __init__(self) -> None:
        self._streams = sys.stdout, sys.stderr, sys.stdin
        self._main = sys.modules["__main__"]
        self._backend = os.environ.get("MPLBACKEND")
        os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as kernels have it

    def restore(self) -> None:
        if self._backend is None:
            os.environ.pop("MPLBACKEND", None)
        else:
            os.environ["MPLBACKEND"] = self._backend
        sys.stdout, sys.stderr, sys.stdin = self._streams
        sys.modules["__main__"] = self._main
        # They hold the frames of the cell, and so its variables.
        for name in ("last_type", "last_value", "last_traceback", "last_exc"):
            if hasattr(sys, name):
                delattr(sys, name)
        close = getattr(sys.modules.get("matplotlib.pyplot"), "close", None)
        if close is not None:
            close("all")


class _Main(types.ModuleType):
    """A `__main__` whose variables are those of a given dictionary, for whoever looks something up in it by name."""

    def __init__(self, variables: dict[str, Any]) -> None:
        super().__init__("__main__")
        super().__setattr__("_nbqueue_variables", variables)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        variables: dict[str, Any] = self._nbqueue_variables
        return variables

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self.__dict__[name]
        except KeyError:
            raise AttributeError(f"module '__main__' has no attribute {name!r}") from None


class _NoInput(io.TextIOBase):
    """`sys.stdin` while a cell runs: there is nobody to ask."""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> NoReturn:
        raise io.UnsupportedOperation(
            "a cell in the background cannot ask for input: assign what it needs to a variable before"
        )

    def readline(self, size: int = -1) -> NoReturn:  # type: ignore[override]
        self.read()


def _prepare_libraries(shell: InteractiveShell) -> None:
    """Make libraries behave as in a notebook that were imported before the shell was there, or set otherwise since."""
    if "matplotlib" in sys.modules:
        shell.enable_matplotlib("inline")
    pandas = sys.modules.get("pandas")
    if pandas is not None and pandas.get_option("display.max_columns") == 0:  # as in a terminal
        pandas.set_option("display.max_columns", 20)


class _Compiler(CachingCompiler):
    """Gives cells file names that depend on their source alone."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        name = f"<cell-{hashlib.sha256(raw_code.encode()).hexdigest()[:12]}>"
        self.names.add(name)
        learn_label(name, f"Cell In[{number}]")
        return name


class _Publisher(DisplayPublisher):
    """`display()` and `clear_output()`."""

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        source: object = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **kwargs: Any,
    ) -> None:
        self._validate_data(data, metadata)
        if is_bar_of_tqdm(data):
            return  # the panel shows it
        content = {**as_json_bundle(data, metadata), "transient": dict(transient or {})}
        _outputs_of(self).put("update_display_data" if update else "display_data", content)

    def clear_output(self, wait: bool = False) -> None:
        _outputs_of(self).put("clear_output", {"wait": bool(wait)})


class _Hook(DisplayHook):
    """The last expression."""

    def start_displayhook(self) -> None:
        """Nothing: the message is put out in one step."""

    def write_output_prompt(self) -> None:
        """Nothing: the message has the number."""

    def write_format_data(self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None) -> None:
        content = {**as_json_bundle(format_dict, md_dict), "execution_count": self.prompt_count}
        _outputs_of(self).put("execute_result", content)

    def finish_displayhook(self) -> None:
        """Nothing, as above."""


def _outputs_of(part: Any) -> Outputs:
    outputs: Outputs = part.shell.outputs
    return outputs


class _Shell(InteractiveShell):
    """IPython's shell, with outputs instead of a terminal."""

    outputs = traitlets.Instance(Outputs)
    stop = traitlets.Type(BaseException)
    display_page = traitlets.Bool(True)  # what help and the like show goes to the outputs
    display_pub_class = traitlets.Type(_Publisher)
    displayhook_class = traitlets.Type(_Hook)

    kernel = None
    """That there is such an attribute is how pandas knows a notebook from a terminal."""
    _stopped: BaseException | None = None
    _waits = False
    """The cell awaits nothing, and starts tasks."""
    _loop: asyncio.AbstractEventLoop | None = None
    """In a fork: that of the process which it is a copy of."""
    _compiler = _Compiler()

    # From cell to cell

    def begin(self, namespace: dict[str, Any], number: int) -> _Main:
        """Forget the last cell, and take a namespace; returns it as a module."""
        self._stopped = None
        self.user_ns = namespace
        self.user_module = main = _Main(namespace)
        self.compile = self._compiler = _Compiler()
        # A stop may have hit the former ones in the middle of their work.
        self.builtin_trap = BuiltinTrap(shell=self)
        self.display_trap = DisplayTrap(hook=self.displayhook)
        self.execution_count = number
        self.ast_node_interactivity = "last_expr"
        self.autoawait = True
        self.loop_runner = self._run_coroutine
        history: Any = self.history_manager
        history.reset(new_session=False)
        history.db_input_cache.clear()
        history.input_hist_parsed = [""] * number
        history.input_hist_raw = [""] * number
        for name in ("_i00", "_i", "_ii", "_iii"):
            setattr(history, name, "")
        own = dict(namespace)
        self.user_ns_hidden.clear()
        self.init_user_ns()
        for name in ("_", "__", "___"):
            setattr(self.displayhook, name, namespace.setdefault(name, ""))
        namespace.setdefault("__name__", "__main__")
        namespace.setdefault("__doc__", None)
        namespace.update(own)
        return main

    def end(self) -> None:
        """Let go of what belongs to the cell."""
        self.user_ns = {}
        self.user_module = _Main(self.user_ns)
        self.user_ns_hidden.clear()
        self.last_execution_result = None
        self.displayhook.exec_result = None
        self.displayhook._ = self.displayhook.__ = self.displayhook.___ = ""
        history: Any = self.history_manager
        history.output_hist = {}
        self.InteractiveTB.tb = None

    def in_cell(self, frames: types.TracebackType | None) -> types.TracebackType | None:
        """A traceback, from the cell on."""
        inner = frames
        while inner is not None and inner.tb_frame.f_code.co_filename not in self._compiler.names:
            inner = inner.tb_next
        return inner or frames

    @property
    def user_global_ns(self) -> dict[str, Any]:
        namespace: dict[str, Any] = self.user_ns
        return namespace

    def init_sys_modules(self) -> None:
        """Nothing: `__main__` is replaced while a cell runs only."""

    def init_virtualenv(self) -> None:
        """Nothing, as in a kernel."""

    # Errors. IPython catches whatever a cell raises; that it should stop goes on.

    def run_cell(self, *args: Any, **kwargs: Any) -> Any:
        result = super().run_cell(*args, **kwargs)
        self._go_on(result.error_before_exec)
        self._go_on(result.error_in_exec)
        return result

    def _go_on(self, error: BaseException | None) -> None:
        """Raise what stops the cell again, if it is that, or what came of it in a `finally` that did not expect it."""
        while error is not None:
            if isinstance(error, self.stop):
                raise error
            error = error.__context__

    def showtraceback(self, exc_tuple: Any = None, *args: Any, **kwargs: Any) -> None:
        error = exc_tuple[1] if exc_tuple is not None else sys.exc_info()[1]
        self._go_on(error)
        if self._stopped is None and not (self.outputs.is_fork and isinstance(error, SystemExit)):
            super().showtraceback(exc_tuple, *args, **kwargs)

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        lines = "\n".join(stb)
        if len(lines) > _TRACEBACK:
            half = _TRACEBACK // 2
            stb = [lines[:half], f"[nbqueue: {len(lines) - 2 * half:,} characters were cut here]", lines[-half:]]
        try:
            message = str(evalue)
        except Exception as broken:  # noqa: BLE001 - __str__ is user code
            message = f"(it cannot be shown: {type(broken).__name__} in its __str__)"
        content = {"ename": etype.__name__, "evalue": message[:_TRACEBACK], "traceback": list(stb)}
        self.outputs.put("error", content)

    def _format_exception_for_storage(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Nothing: the history is not kept."""
        return {}

    def _tee(self, channel: str) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        """Nothing: the history would keep a copy of all that is printed."""
        return contextlib.nullcontext()

    # What needs a user at the keyboard, or a screen

    def enable_gui(self, gui: str | None = None) -> None:
        if gui not in (None, "inline"):
            raise UsageError(f"a cell in the background has no screen for {gui}; use %matplotlib inline")

    def enable_matplotlib(self, gui: str | None = None) -> Any:
        if gui not in (None, "inline", "auto", "agg"):
            print(f"A cell in the background has no screen for {gui}: its figures come inline.", file=sys.stderr)
            gui = "inline"
        return super().enable_matplotlib(gui)

    def set_next_input(self, s: str, replace: bool = False) -> None:
        print("A cell in the background cannot change the notebook. The text would have been:", file=sys.stderr)
        print(s)

    def ask_exit(self) -> NoReturn:
        raise SystemExit

    # Top-level await

    def should_run_async(self, raw_cell: str, **kwargs: Any) -> bool:
        """Also where the cell starts a task, for which a loop has to run, as in a kernel."""
        self._waits = False
        if super().should_run_async(raw_cell, **kwargs):
            return True
        self._waits = bool(_STARTS_TASK.search(raw_cell)) and "asyncio.run(" not in raw_cell
        return self._waits

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the cell in an event loop of its own; what it leaves behind there is cancelled."""
        loop = asyncio.new_event_loop()
        main = loop.create_task(coroutine)

        def is_stop(error: BaseException | None) -> bool:
            """Whether a callback or another task was to stop: then the cell is."""
            if not isinstance(error, self.stop):
                return False
            if not main.done():
                self._stopped = error
                main.cancel()
            return True

        def on_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            if not is_stop(context.get("exception")):
                loop.default_exception_handler(context)

        def make_task(loop: asyncio.AbstractEventLoop, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
            task = asyncio.Task(coroutine, loop=loop, **kwargs)
            # Not exception(), which would say that somebody has taken notice of it.
            task.add_done_callback(lambda task: is_stop(getattr(task, "_exception", None)) and task.exception())
            return task

        loop.set_exception_handler(on_error)
        loop.set_task_factory(make_task)
        try:
            try:
                result = loop.run_until_complete(main)
            except self.stop as error:  # it came while the loop slept
                self._stopped = error
            if self._waits and self._stopped is None and not self.outputs.is_fork:
                self._wait_for_tasks(loop)
            if self._stopped is not None:
                raise self._stopped
            return result
        finally:
            if self.outputs.is_fork:
                self._loop = loop  # whoever closes it, or drops it, changes what the other process waits for
            else:
                self._close(loop)

    def _wait_for_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the tasks end that a cell has started which awaits nothing: it ends with them."""
        try:
            while self._stopped is None and (left := asyncio.all_tasks(loop)):
                loop.run_until_complete(asyncio.wait(left))
                for task in left:
                    error = None if task.cancelled() else task.exception()
                    if error is not None and not isinstance(error, self.stop):
                        traceback.print_exception(error)
        except self.stop as error:
            self._stopped = error

    def _close(self, loop: asyncio.AbstractEventLoop) -> None:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        if left and self._stopped is None:
            tasks = "An asyncio task" if len(left) == 1 else f"{len(left)} asyncio tasks"
            print(
                f"{tasks} that the cell had started did not end before it, and had to be cancelled. "
                "In the background nothing goes on after the last line: await what was started.",
                file=sys.stderr,
            )


def _end_what_ipython_began(error: BaseException) -> None:
    """End the command that `!` or `%%bash` was waiting for, which IPython does on KeyboardInterrupt only."""
    pexpect = sys.modules.get("pexpect")
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__", "").startswith("IPython."):
            for value in list(frame.f_locals.values()):
                if pexpect is not None and isinstance(value, pexpect.spawn):
                    value.close(force=True)  # its terminal, too, which ends what runs in that
                elif isinstance(value, asyncio.subprocess.Process) and value.returncode is None:
                    machine.kill_tree(value.pid)
                elif isinstance(value, subprocess.Popen):
                    with value:  # closes its pipes
                        if value.poll() is None:
                            machine.kill_tree(value.pid)
                elif inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                    value.close()  # it never began, and would complain so in a later cell
