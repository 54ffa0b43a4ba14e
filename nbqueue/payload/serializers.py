"""Serializers that a user chose, which make bytes of arguments and results in the place of cloudpickle.

What one has made stands in a pickle of ours: it is signed and verified as everything is, and names its serializer, so
that whoever reads it needs nothing else. One that can be imported is named by its place; any other is stored like a
function, and named by its digest.
"""

from __future__ import annotations

import importlib
import io
import json
import pickle
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nbqueue import errors
from nbqueue.payload.pickling import is_importable, travels_by_value

STORED = "#"
"""What stands before the digest of a serializer that is stored like a function."""

Find = Callable[[str], Any]
"""The serializer of a name that begins with `STORED`."""


class Json:
    """JSON, for what comes back from it as it was; tuples, which become lists, are let through."""

    @staticmethod
    def dumps(value: Any) -> str:
        text = json.dumps(value)
        _check_keys(value)
        return text

    loads = staticmethod(json.loads)


def _check_keys(value: Any) -> None:
    """JSON has texts as keys only, and would make texts of others without a word."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r:.40} of a dict is no text, and would come back as one")
        for part in value.values():
            _check_keys(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_keys(part)


class Pickle:
    """The standard library's pickle, which sends functions and classes by their names."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        file = io.BytesIO()
        _Pickler(file, 5).dump(value)
        return file.getvalue()

    loads = staticmethod(pickle.loads)


class _Pickler(pickle.Pickler):
    """Refuses what another process would not find."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type | types.FunctionType) and obj.__module__ == "__main__":
            raise pickle.PicklingError(
                f"{obj.__qualname__} is defined in the notebook, and pickle sends its name alone, under which no other "
                "process finds it"
            )
        return NotImplemented


_OWN: dict[str, Any] = {"json": Json, "pickle": Pickle}
"""Serializers with names."""

_DEFAULT = "cloudpickle"

_ACCEPTED = "'json', 'pickle', 'cloudpickle', or an object or module with dumps() and loads() is accepted"


def chosen(serializer: Any) -> Any | None:
    """The serializer that a user means; None if it is the one that is used anyway.

    Raises
    ------
    UsageError, WrongType
        It is none.
    """
    if isinstance(serializer, types.ModuleType) and serializer.__name__ in (*_OWN, _DEFAULT):
        serializer = serializer.__name__
    if serializer is None or serializer == _DEFAULT:
        return None
    if isinstance(serializer, str):
        return _OWN[serializer] if serializer in _OWN else chosen(_imported(serializer))
    if not callable(getattr(serializer, "dumps", None)) or not callable(getattr(serializer, "loads", None)):
        raise errors.WrongType(f"serializer={serializer!r:.80}: {_ACCEPTED}")
    return serializer


def _imported(name: str) -> Any:
    """A module, or what stands in one."""
    module, _, attribute = name.rpartition(".")
    if all(part.isidentifier() for part in name.split(".")):
        for place, rest in ((name, ""), (module, attribute)):
            try:
                return _found(place, rest)
            except (ImportError, AttributeError, ValueError):
                continue
    raise errors.UsageError(f"serializer={name!r:.80}: {_ACCEPTED}, and nothing of this name can be imported")


def _found(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split(".") if name else ():
        found = getattr(found, part)
    return found


def name_of_importable(serializer: Any) -> str | None:
    """The name of a serializer that every process finds under it; None if it has to be stored."""
    own = next((name for name, known in _OWN.items() if known is serializer), None)
    if own is not None:
        return own
    if isinstance(serializer, types.ModuleType):
        module, name = serializer.__name__, ""
    elif isinstance(serializer, type) and is_importable(serializer):
        module, name = serializer.__module__, serializer.__qualname__
    else:
        return None
    return None if module == "__main__" or travels_by_value(module) else f"{module}:{name}"


def _named(name: str) -> Any:
    """The serializer of a name of `name_of_importable`."""
    return _OWN[name] if name in _OWN else _found(*name.split(":"))


def find_serializer(name: str, find: Find) -> Any:
    """The serializer of any name."""
    return find(name) if name.startswith(STORED) else _named(name)


def _called(serializer: Any) -> str:
    """How a serializer is called where people read it."""
    own = next((name for name, known in _OWN.items() if known is serializer), None)
    name = own or getattr(serializer, "__qualname__", None) or getattr(serializer, "__name__", None)
    return str(name or type(serializer).__qualname__)


@dataclass(frozen=True, slots=True)
class Encoded:
    """What a serializer has made of a value, or of the arguments of a call.

    Unpickled, it is the value, or itself where its serializer is stored: `decode` makes the value of it.
    """

    name: str
    """Of the serializer."""
    data: bytes | str
    is_call: bool

    def __reduce__(self) -> tuple[Any, ...]:
        return _decoded, (self.name, self.data, self.is_call)

    def decode(self, serializer: Any) -> Any:
        """The value; of a call, its positional and keyword arguments.

        Raises
        ------
        PayloadError
            The serializer cannot read what it is said to have made.
        """
        what = "the arguments" if self.is_call else "the result"
        try:
            value = serializer.loads(self.data)
            if not self.is_call:
                return value
            args, kwargs = value
            return tuple(args), dict(kwargs)
        except Exception as error:
            raise errors.PayloadError(
                f"{what} cannot be read by the serializer {_called(serializer)}: {type(error).__name__}: {error}"
            ) from error


def _decoded(name: str, data: bytes | str, is_call: bool) -> Any:
    encoded = Encoded(name, data, is_call)
    return encoded if name.startswith(STORED) else encoded.decode(_named(name))


@dataclass(frozen=True, slots=True)
class Encoding:
    """A serializer in use.

    Examples
    --------
    >>> encoded = Encoding("json", Json).encode_result([1, "a"])
    >>> encoded.data
    '[1, "a"]'
    >>> pickle.loads(pickle.dumps(encoded))
    [1, 'a']
    """

    name: str
    serializer: Any = field(compare=False)

    def encode_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
        """The arguments of a call.

        Raises
        ------
        CannotPickle
            Names the argument that the serializer refuses.
        """
        try:
            return Encoded(self.name, self._dumps((args, kwargs)), True)
        except Exception as error:
            for name, value in [*enumerate(args), *kwargs.items()]:
                try:
                    self._dumps(value)
                except Exception as why:
                    raise self._cannot(f"argument {name!r} cannot be sent to a worker", why) from why
            raise self._cannot("the arguments cannot be sent to a worker", error) from error

    def encode_result(self, value: Any) -> Encoded:
        """What a call returned.

        Raises
        ------
        CannotPickle
        """
        try:
            return Encoded(self.name, self._dumps(value), False)
        except Exception as error:
            raise self._cannot("the result cannot be sent back", error) from error

    def _dumps(self, value: Any) -> bytes | str:
        made = self.serializer.dumps(value)
        if isinstance(made, str | bytes):
            return made
        if isinstance(made, bytearray | memoryview):
            return bytes(made)
        raise TypeError(f"its dumps() gave a {type(made).__qualname__}, and bytes or a text are needed")

    def _cannot(self, what: str, error: Exception) -> errors.CannotPickle:
        return errors.CannotPickle(
            f"{what} by the serializer {_called(self.serializer)}: {type(error).__name__}: {error}. A queue without "
            "serializer= sends almost anything"
        )
