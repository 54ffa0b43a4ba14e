"""`job.result`: a method that is not taken for the value it waits for.

In RQ `job.result` is a property. Who knows it from there, and forgets the parentheses here, would go on with a bound
method, which is true, has a text, and is equal to nothing.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Generic, NoReturn, Self, TypeVar, overload

from nbqueue import errors

T = TypeVar("T")


class WaitingCall(Generic[T]):
    """A method of a job, to be called: as a value it is refused in words, apart from its `repr`."""

    def __init__(self, job: object, function: Callable[..., T]) -> None:
        self.__self__ = job
        self._function = self.__wrapped__ = function
        self.__name__, self.__qualname__, self.__doc__ = function.__name__, function.__qualname__, function.__doc__

    def __call__(self, timeout: float | None = None) -> T:
        __tracebackhide__ = True
        return self._function(self.__self__, timeout)

    def __repr__(self) -> str:
        return f"<bound method {self._function.__qualname__} of {self.__self__!r}>"

    def __hash__(self) -> int:
        return hash((self.__self__, self._function))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, str]]:
        return getattr, (self.__self__, self._function.__name__)

    def __get__(self, instance: object, owner: type | None = None) -> Self:
        """With this, `help` and `inspect.isroutine` take it for the method that it is."""
        return self

    @property
    def __func__(self) -> Callable[..., T]:
        return self._function

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self._function)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def _refuse(self, *_: object) -> NoReturn:
        error = errors.WrongType("job.result() waits for the value; job.return_value() gives it without waiting")
        error.job_id = getattr(self.__self__, "id", None)
        raise error

    __bool__ = __str__ = __format__ = __len__ = __iter__ = __contains__ = __getitem__ = _refuse
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _refuse
    __int__ = __float__ = __complex__ = __index__ = __neg__ = __pos__ = __abs__ = __round__ = _refuse


class waiting_call(Generic[T]):
    """Makes a method that waits one that is refused as a value."""

    def __init__(self, function: Callable[..., T]) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self._function = function

    @overload
    def __get__(self, job: None, kind: type) -> Callable[..., T]: ...
    @overload
    def __get__(self, job: object, kind: type | None = None) -> WaitingCall[T]: ...
    def __get__(self, job: object, kind: type | None = None) -> Callable[..., T] | WaitingCall[T]:
        return self._function if job is None else WaitingCall(job, self._function)
