"""What the process has for one job only: environment, random numbers, filters, limits. The next job finds none of it.

All of it is compared after each job, and put back where it differs. What lies inside of libraries is not known here.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import hashlib
import importlib
import locale
import logging
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nbqueue.payload.surroundings import Settings, decimal_context, filters_from

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""

_signal: Any = importlib.import_module("_signal")
"""What `signal` is made of: its functions make no enums, which takes twenty times as long."""

_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGHUP", "SIGPIPE")
    if hasattr(signal, name)
]


class State:
    """The state of this process as it is now, which all jobs shall find.

    Examples
    --------
    >>> state = State()
    >>> os.environ["COLOR"] = "green"
    >>> state.restore()
    >>> "COLOR" in os.environ
    False
    """

    def __init__(self) -> None:
        self._decimal: Any = None
        self._numpy_errors: dict[str, Any] | None = None
        self._settings = ""
        self._environment, self._warnings, self._libraries = _Environment(), _Warnings(), _Libraries()
        self._parts: list[Callable[[], None]] = [
            self._environment.restore, _Modes().restore, _Signals().restore, _Interpreter().restore,
            self._warnings.restore, _Logging().restore, _RandomNumbers().restore, self._libraries.restore,
            _Descriptors().restore,
        ]  # fmt: skip

    def use(self, settings: Settings, digest: str) -> None:
        """The next jobs find these settings, too; `digest` tells whether they are those that are used already."""
        if digest == self._settings:
            return
        self._settings = digest
        self._environment.use(settings.get("environment", {}))
        self._warnings.use(settings.get("warnings", []))
        self._libraries.use(settings.get("mpmath"))
        self._decimal = decimal_context(settings["decimal"]) if "decimal" in settings else None
        self._numpy_errors = settings.get("numpy_errors")

    def context(self) -> contextvars.Context:
        """Where the next job runs: what it sets of it, such as numpy's treatment of errors, ends with it."""
        context = contextvars.copy_context()
        decimal = sys.modules.get("decimal")
        if decimal is not None:  # whose part of the context is an object that can be changed
            if self._decimal is None:
                self._decimal = decimal.DefaultContext.copy()
            context.run(decimal.setcontext, self._decimal.copy())
        if self._numpy_errors is not None:
            import numpy as np

            context.run(functools.partial(np.seterr, **self._numpy_errors))
        return context

    def quiet(self) -> None:
        """No timer that a job has set goes off any more."""
        _signal.setitimer(_signal.ITIMER_REAL, 0)

    def restore(self) -> None:
        """Put back what differs, when it is quiet."""
        for restore in self._parts:
            restore()


class _Descriptors:
    """Those of stdout and stderr, which a job may close or redirect."""

    def __init__(self) -> None:
        self._kept = [os.dup(number) for number in (1, 2)]
        self._are = [self._identity(number) for number in (1, 2)]

    @staticmethod
    def _identity(number: int) -> tuple[int, ...] | None:
        try:
            return os.fstat(number)[:3]  # mode, inode and device
        except OSError:  # it was closed
            return None

    def restore(self) -> None:
        if [self._identity(1), self._identity(2)] == self._are:
            return
        for number, kept, was in zip((1, 2), self._kept, self._are, strict=True):
            if self._identity(number) != was:
                os.dup2(kept, number)


class _Environment:
    def __init__(self) -> None:
        self._before = dict(os.environb)
        self._own = dict(self._before)
        self._now: Any = getattr(os.environ, "_data", os.environb)  # the dictionary itself is compared ten times faster

    def use(self, changes: Mapping[str, str | None]) -> None:
        self._before = dict(self._own)
        for name, value in changes.items():
            if value is None:
                self._before.pop(os.fsencode(name), None)
            else:
                self._before[os.fsencode(name)] = os.fsencode(value)
        self.restore()

    def restore(self) -> None:
        if self._now == self._before:
            return
        for name in os.environb.keys() - self._before.keys():
            del os.environb[name]
        for name, value in self._before.items():
            if os.environb.get(name) != value:
                os.environb[name] = value
        time.tzset()


class _Modes:
    """The file mode mask, the locale, resource limits."""

    def __init__(self) -> None:
        self._mask = os.umask(0o077)
        os.umask(self._mask)
        self._locale = locale.setlocale(locale.LC_ALL)
        had = "resource" in sys.modules
        import resource

        self._limits = {
            number: resource.getrlimit(number)
            for number in {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
        }
        if not had:  # a job that imports it may change them
            del sys.modules["resource"]

    def restore(self) -> None:
        os.umask(self._mask)
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)
        resource = sys.modules.get("resource")
        if resource is not None:
            for number, limits in self._limits.items():
                if resource.getrlimit(number) != limits:
                    with contextlib.suppress(ValueError, OSError):  # a hard limit cannot be raised again
                        resource.setrlimit(number, limits)


class _Signals:
    def __init__(self) -> None:
        self._numbers = list(map(int, _SIGNALS))
        self._handlers = list(map(_signal.getsignal, self._numbers))

    def restore(self) -> None:
        if list(map(_signal.getsignal, self._numbers)) != self._handlers:
            for number, handler in zip(self._numbers, self._handlers, strict=True):
                if handler is not None:
                    signal.signal(number, handler)


class _Interpreter:
    def __init__(self) -> None:
        self._recursion = sys.getrecursionlimit()
        self._switching = sys.getswitchinterval()
        self._hooks = _hooks()
        self._argv = list(sys.argv)
        self._collects = gc.isenabled()
        self._traced = sys.gettrace(), sys.getprofile()  # by whoever measures us

    def restore(self) -> None:
        if sys.getrecursionlimit() != self._recursion:
            sys.setrecursionlimit(self._recursion)
        if sys.getswitchinterval() != self._switching:
            sys.setswitchinterval(self._switching)
        if _hooks() != self._hooks:
            sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook, sys.stdin = self._hooks
        if sys.argv != self._argv:
            sys.argv[:] = self._argv
        if gc.isenabled() != self._collects:
            (gc.enable if self._collects else gc.disable)()
        if (sys.gettrace(), sys.getprofile()) != self._traced:
            sys.settrace(self._traced[0])
            sys.setprofile(self._traced[1])


def _hooks() -> tuple[Any, ...]:
    return sys.excepthook, sys.displayhook, sys.unraisablehook, sys.breakpointhook, sys.stdin


class _Warnings:
    """Filters for a certain text, module or kind of warning stay that were added while modules were imported: they are
    the modules'."""

    def __init__(self) -> None:
        self._filters = list(warnings.filters)
        self._own = self._filters
        self._show = warnings.showwarning
        self._modules = len(sys.modules)

    def use(self, plain: Sequence[Any]) -> None:
        """Filters of the notebook in the place of this process's own; those that libraries have added here stay."""
        sent = filters_from(plain)
        of_libraries = [one for one in self._filters if one not in self._own and _is_certain(one) and one not in sent]
        self._filters = [*sent, *of_libraries] if sent else [*of_libraries, *self._own]
        self.restore()

    def restore(self) -> None:
        if warnings.filters != self._filters:
            if len(sys.modules) > self._modules:
                news = [one for one in warnings.filters if one not in self._filters and _is_certain(one)]
                self._filters = news + self._filters
            warnings.resetwarnings()  # tells the interpreter that they change
            warnings.filters[:] = self._filters  # type: ignore[index] # it is a list
        self._modules = len(sys.modules)
        if warnings.showwarning is not self._show:
            warnings.showwarning = self._show


def _is_certain(one: Any) -> bool:
    _, text, kind, module, _ = one
    return bool(text or module) or getattr(kind, "__module__", "builtins") != "builtins"


class _Logging:
    """Levels and handlers of the loggers there are; what is new since is as if it had just been made."""

    def __init__(self) -> None:
        self._root = logging.root
        self._disabled = logging.root.manager.disable
        self._saved: dict[str, tuple[int, list[logging.Handler], bool, bool]] = {}
        self._handlers: Any = getattr(logging, "_handlerList", [])
        self._changes = 0
        manager: Any = logging.root.manager
        self._clear = manager._clear_cache
        manager._clear_cache = self._note  # it is called whenever a level is set
        self._saved = {name: _setup_of(logger) for name, logger in self._loggers().items()}
        self._seen = self._mark()

    def _note(self) -> None:
        self._changes += 1
        self._clear()

    def _loggers(self) -> dict[str, logging.Logger]:
        named = logging.root.manager.loggerDict
        return {"": self._root, **{name: log for name, log in named.items() if isinstance(log, logging.Logger)}}

    def _mark(self) -> tuple[Any, ...]:
        root = self._root
        return self._changes, len(self._handlers), len(root.handlers), root.level, logging.root.manager.disable

    def restore(self) -> None:
        if self._mark() == self._seen:
            return
        for name, logger in self._loggers().items():
            level, handlers, propagate, disabled = self._saved.get(name, (logging.NOTSET, [], True, False))
            if logger.level != level:
                logger.setLevel(level)
            if logger.handlers != handlers:
                logger.handlers[:] = handlers
            logger.propagate, logger.disabled = propagate, disabled
        if logging.root.manager.disable != self._disabled:
            logging.disable(self._disabled)
        self._seen = self._mark()


def _setup_of(logger: logging.Logger) -> tuple[int, list[logging.Handler], bool, bool]:
    return logger.level, list(logger.handlers), logger.propagate, logger.disabled


class _RandomNumbers:
    """Generators of `random`, `numpy.random` and `torch`: one that a job has used or seeded is seeded anew."""

    def __init__(self) -> None:
        self._random = _mark_of_random()
        self._numpy: Any = None
        self._torch: int | None = None

    def restore(self) -> None:
        if _mark_of_random() != self._random:
            random.seed()
            self._random = _mark_of_random()
        mtrand = sys.modules.get("numpy.random.mtrand")
        if mtrand is not None and _mark_of_numpy(mtrand) != self._numpy:
            mtrand.seed()
            self._numpy = _mark_of_numpy(mtrand)
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "initial_seed") and torch.initial_seed() != self._torch:
            self._torch = torch.seed()


def _mark_of_random() -> Any:
    """What changes when a number is drawn, or the generator is seeded."""
    return _RANDOM_MEMORY.raw if _RANDOM_MEMORY is not None else random.getstate()


def _memory_of_random() -> Any:
    """The index and the first words of the state of `random`, in its memory: to copy it out takes a thousand times as
    long. None where they are not where they were seen to be."""
    import _random
    import ctypes

    instance = getattr(random, "_inst", None)
    if not isinstance(instance, _random.Random) or sys.implementation.name != "cpython":
        return None
    memory = (ctypes.c_char * 12).from_address(id(instance) + object.__basicsize__)
    state = random.getstate()[1]
    words = [int.from_bytes(memory.raw[start : start + 4], sys.byteorder) for start in (0, 4, 8)]
    return memory if words == [state[-1], *state[:2]] else None


_RANDOM_MEMORY = _memory_of_random()


def _mark_of_numpy(mtrand: Any) -> Any:
    generator = mtrand._rand._bit_generator
    memory = _NUMPY_MEMORY.get(id(generator))
    if memory is None:
        memory = _NUMPY_MEMORY[id(generator)] = generator, _memory_of_numpy(generator)
    return repr(generator.state) if memory[1] is None else (id(generator), memory[1].raw)


_NUMPY_MEMORY: dict[int, tuple[Any, Any]] = {}


def _memory_of_numpy(generator: Any) -> Any:
    """The state of a Mersenne twister in its memory: the first words, and the position behind all of them."""
    import ctypes

    state = generator.state
    if state.get("bit_generator") != "MT19937":
        return None
    memory = (ctypes.c_char * (625 * 4)).from_address(generator.ctypes.state_address)
    words = memory.raw
    is_it = words[:2496] == state["state"]["key"].tobytes()
    is_it = is_it and int.from_bytes(words[2496:], sys.byteorder) == state["state"]["pos"]
    return memory if is_it else None


class _Libraries:
    """What of libraries is known well enough: figures that are open, the time that sockets wait, and how numpy treats
    errors, where that does not belong to the context (numpy < 2); the precision of mpmath."""

    def __init__(self) -> None:
        self._precision = 53

    def use(self, precision: int | None) -> None:
        self._precision = precision or 53
        if precision is not None:
            with contextlib.suppress(ImportError):  # who needs it will tell
                importlib.import_module("mpmath")
        self.restore()

    def restore(self) -> None:
        modules = sys.modules
        mpmath: Any = modules.get("mpmath")
        if mpmath is not None and hasattr(mpmath, "mp") and mpmath.mp.prec != self._precision:
            mpmath.mp.prec = self._precision
        figures = modules.get("matplotlib._pylab_helpers")
        if figures is not None and figures.Gcf.figs:
            modules["matplotlib.pyplot"].close("all")
        socket = modules.get("socket")
        if socket is not None and socket.getdefaulttimeout() is not None:
            socket.setdefaulttimeout(None)
        numpy: Any = modules.get("numpy")
        if numpy is not None and getattr(numpy, "__version__", "2") < "2" and numpy.geterr() != _NUMPY_ERRORS:
            numpy.seterr(**_NUMPY_ERRORS)


_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
"""numpy's defaults."""


# Streams of a batch


def seed_job(seed: int, index: int) -> None:
    """Seed the generators of this process for one job of a batch, whichever process runs it, and however often."""
    words = hashlib.sha256(f"{seed}:{index}".encode()).digest()
    random.seed(words)
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(numpy.SeedSequence(seed, spawn_key=(index,)).generate_state(8))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(int.from_bytes(words[:8], "little") >> 1)
