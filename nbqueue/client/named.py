"""Which function is meant: what is given, what a text names, what `nbqueue.job` has decorated."""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, Self

from nbqueue import errors
from nbqueue.payload.pickling import is_importable


class Decorated:
    """A function that has more to it than its call, as `nbqueue.job` gives it; jobs call the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.__name__ = self.__qualname__ = ""
        functools.update_wrapper(self, function)
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        """As a method of a class, it is called as one."""
        return self if instance is None else types.MethodType(self, instance)

    def __copy__(self) -> Self:
        """Itself, as of any function."""
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def to_send(self) -> Callable[..., Any]:
        """What a worker finds by its name, if it does; else the function, which then travels."""
        return self if is_importable(self) else self.__wrapped__


def function_of(function: Any, kwargs: dict[str, Any] | None = None) -> Callable[..., Any]:
    """The function that is meant, with constant keyword arguments if there are any.

    Parameters
    ----------
    function : callable or str
        'package.module.function' is imported here and now.
    kwargs : dict, optional

    Raises
    ------
    WrongType
        It is not callable.
    UsageError
        Nothing of that name can be imported.
    """
    if isinstance(function, str):
        function = _imported(function)
    if isinstance(function, Decorated):
        function = function.to_send()
    if not callable(function):
        raise errors.WrongType(
            f"{function!r:.80} is not callable: give the function itself and its arguments, "
            "as in q.enqueue(func, 1, 2), not the result of calling it"
        )
    checked: Callable[..., Any] = function
    if kwargs is None or kwargs == {}:
        return checked
    if not isinstance(kwargs, dict) or not all(isinstance(name, str) for name in kwargs):
        raise errors.WrongType(f"kwargs={kwargs!r:.80}: a dict of keyword arguments for each call is accepted")
    return functools.partial(function, **kwargs)


def _imported(name: str) -> Any:
    """What a dotted name stands for: a function of a module, a method of a class in one, a builtin."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise errors.UsageError(
            f"{name!r} names no function: 'package.module.function' does, or give the function itself"
        )
    if len(parts) == 1:
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise errors.UsageError(
            f"{name!r} names no function: 'package.module.function' does. One of the notebook is given itself, as in "
            f"q.enqueue({name}, ...)"
        )
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if not _exists(name, module):
            continue
        found = _module(name, module)
        for n, part in enumerate(parts[length:], length + 1):
            if not hasattr(found, part):
                raise errors.UsageError(
                    f"{name!r} cannot be imported: there is no {part!r} in {'.'.join(parts[: n - 1])}"
                )
            found = getattr(found, part)
        return found
    raise errors.UsageError(f"{name!r} cannot be imported: there is no module {parts[0]!r} here")


def _exists(name: str, module: str) -> bool:
    """Whether there is such a module; asking imports the packages that it is in."""
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(error.name + ".")):
            return False  # one of its parents is none, or no package
        raise _cannot_import(name, error) from error
    except Exception as error:
        raise _cannot_import(name, error) from error


def _module(name: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise _cannot_import(name, error) from error


def _cannot_import(name: str, error: Exception) -> errors.UsageError:
    return errors.UsageError(f"{name!r} cannot be imported: {type(error).__name__}: {error}")
