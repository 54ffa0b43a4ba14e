"""Calls packed as blocks."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.client.awaited import Awaited
from nbqueue.client.codes import Codes
from nbqueue.client.depending import NO_DEPENDENCIES, Dependencies, may_have_results, with_results
from nbqueue.client.named import function_of
from nbqueue.payload.calls import (
    of_function,
    pack_arguments,
    pack_encoded,
    pack_entries,
    pack_following,
    pack_items,
    pack_plain,
    pack_tuples,
)
from nbqueue.payload.functions import Code
from nbqueue.payload.memory import Buffers
from nbqueue.payload.pickling import IMMUTABLE
from nbqueue.payload.records import INPUTS, Blob, Pieces, size_of
from nbqueue.payload.seal import Seal
from nbqueue.payload.serializers import Encoding
from nbqueue.payload.values import ResultOf, SharedValue
from nbqueue.payload.versions import packages_of
from nbqueue.store.description import MANY, ONE

_MOST_CALLS = 256
"""Calls in a block at most."""

_BLOCK_BYTES = 64 * 1024
"""Bytes of a block, about."""

_MOST_KEPT = 4_000_000
"""Bytes of calls that are kept when they were pickled to see how large they are."""

_PLAIN_CALL, _PLAIN_NUMBER = 16, 8
"""Bytes of a pickled call of plain values beside these; of a number in it, about."""

_LARGE = 16 * 1024
"""Bytes of a call that is stored by itself."""

_SHARED = 64 * 1024
"""Bytes of an argument that is stored once if it comes again."""

_MOST_REPEATED, _MOST_HELD = 64, 2
"""Arguments of which it is remembered that they have come, and those among them that are held for it."""

_MOST_RESULTS = 150
"""Results of other jobs that a call takes one by one, for the same reason."""

_MOST_VALUES = 100
"""Values that the calls of a block share at most: a header has room for 255 digests, of functions and of these."""

_WEIGHED = frozenset({str, bytes, bytearray, tuple, list, dict})
"""Types whose values are seen to be small without pickling them."""

LIGHT = frozenset({int, float, bool, complex, type(None)})
"""Types whose values weigh nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one function; make it with `nbqueue.call`."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Packed:
    """A call as it was when an iterable gave it: the next item may be the same object, changed."""

    code: Code
    entry: Pieces
    values: tuple[Value, ...] = ()
    """Arguments that are stored by themselves, and results of other jobs."""


Value = Code | ResultOf
"""What a call needs beside its entry."""


@dataclass(slots=True)
class _Repeated:
    """An argument that has come, and may come again."""

    object: Callable[[], Any]
    is_held: bool = False
    code: Code | None = None
    """As it was packed last."""
    is_worth_it: bool = True


class Packer:
    """Packs calls of one form."""

    def __init__(self, seal: Seal, codes: Codes, encoding: Encoding | None = None) -> None:
        self._seal = seal
        self._codes = codes
        self._encoding = encoding
        """What makes bytes of arguments, if it is not ours."""
        self.packages: set[str] = set()
        """The top names of modules that their functions, and first arguments, are of or refer to."""
        self.notes_packages = codes.compares_versions
        """Those of arguments are still looked for."""
        self._buffers = Buffers()
        self._weighed: dict[int, tuple[Pieces, tuple[Value, ...]]] = {}
        """Entries of the first calls, which were pickled to see how large they are."""
        self.calls = MANY
        """What they have in common, see `Description`."""
        self.is_still = False
        """No code of the user's runs between two calls that are packed."""
        self.held: list[Code] = []
        """Values that are to be sent with what was packed: whoever sends it takes them."""
        self._repeated: dict[int, _Repeated] = {}
        """Arguments that may be large and come again, by their ids."""
        self.depends: Dependencies = NO_DEPENDENCIES
        """What all calls wait for."""
        self.waiting: dict[int, tuple[ResultOf, ...]] = {}
        """Calls that were packed and take results of other jobs, by their indices: whoever sends them takes these."""

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        """The digest of its function, positional and keyword arguments."""
        raise NotImplementedError

    def take(self, index: int, item: Any) -> Any:
        """An item that an iterable has just given, as something that nobody can change any more.

        Raises
        ------
        CannotPickle, ServerFull
        """
        raise NotImplementedError

    def _freeze(self, index: int, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        entry, values = self._entry(index, 0, args, kwargs)
        # Parts of arrays are the arrays' own memory, as it will be when it is looked at.
        return Packed(code, [part if isinstance(part, bytes) else bytes(part) for part in entry], values)

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        """A record of plain values, where that is possible."""
        raise NotImplementedError

    def calls_per_block(self, items: list[Any]) -> int:
        """The number of calls that make a block, from the size of the first ones."""
        sizes: list[int] = []
        kept = 0
        if self._encoding is None:
            self._expect_repeated(items)
        for position, item in enumerate(items):
            if type(item) is Packed:
                sizes.append(size_of(item.entry))
                continue
            _, args, kwargs = self.call(item)
            size = None if kwargs else _plain_size(args)
            if size is None:
                before = set(self._repeated)
                entry, values = self._entry(position, 0, args, kwargs)
                size = size_of(entry)
                kept += sum(len(piece) for piece in entry if type(piece) is bytes)  # others are the arrays' own memory
                if kept <= _MOST_KEPT:
                    self._weighed[position] = entry, values
                else:  # it comes once more, and that is no other call
                    for key in self._repeated.keys() - before:
                        del self._repeated[key]
            sizes.append(size)
        if not sizes:
            return _MOST_CALLS
        return max(1, min(_MOST_CALLS, _BLOCK_BYTES * len(sizes) // sum(sizes)))

    def _expect_repeated(self, items: list[Any]) -> None:
        """What comes several times among the first calls is stored once from the first of them on."""
        seen: dict[int, Any] = {}
        for item in items:
            if type(item) is Packed or (type(item) in LIGHT):
                continue
            _, args, kwargs = self.call(item)
            for value in (*args, *kwargs.values()):
                if id(value) in seen and self._may_be_shared(value):
                    self._remember(id(value), value)
                seen[id(value)] = value

    @staticmethod
    def _may_be_shared(value: Any) -> bool:
        """Whether it may be large enough to be stored by itself."""
        kind = type(value)
        return not (kind in LIGHT or isinstance(value, Awaited) or (kind in _WEIGHED and weight_of(value) < _SHARED))

    def _entry(
        self, index: int, function: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Pieces, tuple[Value, ...]]:
        """The entry of a call, and those of its arguments that are stored by themselves, or are results of others."""
        if self.notes_packages:
            self.packages |= packages_of((*args, *kwargs.values()))
        try:
            if self._encoding is not None:
                entry, _ = pack_call(function, args, kwargs, self.depends, self._encoding)
                self._codes.sizes.look("the arguments of a call", args, size_of(entry))
                return entry, ()
            values: list[Value] = []
            if _only_one_can_change((*args, *kwargs.values())):
                stands_for: dict[int, Any] = {}
                args = tuple(self._shared(f"argument {i}", value, values, stands_for) for i, value in enumerate(args))
                kwargs = {
                    name: self._shared(f"argument {name!r}", value, values, stands_for)
                    for name, value in kwargs.items()
                }
            entry, results = pack_call(function, args, kwargs, self.depends)
            if (size := size_of(entry)) > _LARGE:
                self._codes.sizes.look("the arguments of a call", args, size)
            return entry, (*values, *results)
        except errors.PayloadError as error:
            raise type(error)(f"call {index}: {error}") from error.__cause__

    def _shared(self, what: str, value: Any, values: list[Value], stands_for: dict[int, Any]) -> Any:
        """An argument, or what stands for it if it is large and came before: then it is stored once.

        `stands_for` has what stands for arguments of the same call, by their ids: the same object is the same there.
        """
        if not self._may_be_shared(value):
            return value
        key = id(value)
        if key in stands_for:
            return stands_for[key]
        stands_for[key] = value
        known = self._repeated.get(key)
        if known is None or known.object() is not value:
            self._remember(key, value)
            return value
        if not known.is_worth_it:
            return value
        if known.code is None or not self.is_still:  # it may have been changed
            known.code = self._codes.pack_value(what, value, known.code)
        known.is_worth_it = known.code.size >= _SHARED
        if not known.is_worth_it:
            return value
        values.append(known.code)
        stands_for[key] = SharedValue(known.code.digest)
        return stands_for[key]

    def _remember(self, key: int, value: Any) -> None:
        """An argument may come again. It is known by a weak reference, or held, of which there are few."""
        known: _Repeated
        try:
            known = _Repeated(weakref.ref(value))
        except TypeError:
            known = _Repeated(lambda: value, is_held=True)
            held = [key for key, one in self._repeated.items() if one.is_held]
            for oldest in held[: len(held) + 1 - _MOST_HELD]:
                del self._repeated[oldest]
        while len(self._repeated) >= _MOST_REPEATED:
            self._repeated.pop(next(iter(self._repeated)))
        self._repeated[key] = known

    def block(
        self, batch: str, first: int, block: int, items: list[Any], functions: dict[bytes, bytes]
    ) -> Iterator[tuple[str, Blob]]:
        """The field of a block, and those of large calls in it."""
        record = self.fast(batch, first, items, functions)
        if record is not None:
            yield f"b{block}", record
            return
        digests: dict[bytes, int] = {}
        shared: dict[bytes, None] = {}
        """Values that are stored by themselves: behind the functions, whose numbers have seven bits."""
        inputs: dict[bytes, None] = {}
        entries = []
        for index, item in enumerate(items, first):
            digest, packed, values = self._digest_and_entry(index, item)
            functions.setdefault(digest, b"")
            results = self._wait_for(index, values)
            number = digests.setdefault(digest, len(digests))
            entry = of_function(packed, number) if number else packed
            needs = self._needs(values, functions)
            is_full = bool(needs or results) and len(shared) + len(needs) + len(inputs) + len(results) > _MOST_VALUES
            if len(items) > 1 and (size_of(entry) > _LARGE or is_full):
                alone = [digest, *needs, *_as_inputs(results)]
                yield str(index), pack_entries(self._seal, batch, index, alone, [of_function(entry, 0)], self._buffers)
                entry = []
            else:
                shared.update(dict.fromkeys(needs))
                inputs.update(dict.fromkeys(results))
            entries.append(entry)
        header = [*digests, *shared, *_as_inputs(inputs)]
        yield f"b{block}", pack_entries(self._seal, batch, first, header, entries, self._buffers)

    def single(self, batch: str, index: int, item: Any, functions: dict[bytes, bytes]) -> Blob:
        """The record of one call by itself."""
        digest, entry, values = self._digest_and_entry(index, item)
        functions.setdefault(digest, b"")
        needs = [digest, *self._needs(values, functions), *_as_inputs(self._wait_for(index, values))]
        return pack_entries(self._seal, batch, index, needs, [entry], self._buffers)

    def _needs(self, values: tuple[Value, ...], functions: dict[bytes, bytes]) -> list[bytes]:
        """The digests of values that are stored by themselves, which are sent like functions."""
        stored = [value for value in values if isinstance(value, Code)]
        for value in stored:
            functions.setdefault(value.digest, b"")
        self.held += stored
        return list(dict.fromkeys(value.digest for value in stored))

    def _wait_for(self, index: int, values: tuple[Value, ...]) -> list[bytes]:
        """References to the results that a call takes, of which note is taken."""
        results = tuple(value for value in values if isinstance(value, ResultOf))
        if results:
            self.waiting[index] = results
        return [result.reference() for result in results]

    def _digest_and_entry(self, index: int, item: Any) -> tuple[bytes, Pieces, tuple[Value, ...]]:
        """The digest of its function, its entry as that of the first function of a record, and what it needs."""
        if type(item) is Packed:
            return item.code.digest, item.entry, item.values
        digest, args, kwargs = self.call(item)
        weighed = self._weighed.pop(index, None)
        entry, values = weighed if weighed is not None else self._entry(index, 0, args, kwargs)
        return digest, entry, values


def pack_call(
    function: int, args: tuple[Any, ...], kwargs: dict[str, Any], depends: Dependencies,
    encoding: Encoding | None = None,
) -> tuple[Pieces, tuple[ResultOf, ...]]:  # fmt: skip
    """A call as an entry, and the results that it takes in the places of jobs and batches.

    Raises
    ------
    CannotPickle
    UsageError
        It takes very many results, or some through a serializer of the user's.
    """
    if encoding is not None:
        if with_results(args, kwargs, depends).results:
            raise errors.UsageError(
                "a job or batch as an argument stands for its result, and a serializer of your own cannot take that: "
                "submit this call on a queue without serializer=, or give depends_on= and have the function read it"
            )
        return pack_encoded(function, encoding.encode_call(args, kwargs)), ()
    try:
        entry = pack_arguments(function, args, kwargs)
        if not may_have_results(entry):
            return entry, ()
    except errors.CannotPickle:
        if not with_results(args, kwargs, depends).results:
            raise
    call = with_results(args, kwargs, depends)
    if len(call.results) > _MOST_RESULTS:
        raise errors.UsageError(
            f"a call that takes the results of {len(call.results)} jobs and batches, one by one: up to {_MOST_RESULTS} "
            "are accepted. Submit those jobs as one batch, by map or enqueue_many, and give that"
        )
    return pack_arguments(function, call.args, call.kwargs), call.results


def _as_inputs(references: Iterable[bytes]) -> list[bytes]:
    """As they stand in a header, behind the digests."""
    found = [*references]
    return [INPUTS, *found] if found else []


def _only_one_can_change(values: tuple[Any, ...]) -> bool:
    """Whether no argument of a call can be a part of another one: what is stored by itself would be apart from that.

    Arrays and frames hold no other argument.
    """
    others = {id(value): value for value in values if type(value) not in IMMUTABLE}
    return len(others) < 2 or all(_holds_only_numbers(value) for value in others.values())


def _holds_only_numbers(value: Any) -> bool:
    kind = type(value)
    if kind.__module__.partition(".")[0] == "numpy":
        return hasattr(value, "dtype") and not value.dtype.hasobject
    return kind.__module__.partition(".")[0] in ("pandas", "polars", "pyarrow", "torch")


def _plain_size(args: tuple[Any, ...]) -> int | None:
    """About the bytes of a call whose arguments are small plain values, without pickling it; None if they are not."""
    if not set(map(type, args)) <= IMMUTABLE:
        return None
    size = _PLAIN_CALL + sum(len(arg) if isinstance(arg, str | bytes) else _PLAIN_NUMBER for arg in args)
    return size if size <= _LARGE else None


def weight_of(value: Any, depth: int = 2) -> int:
    """Bytes of an item, as far as can be seen without pickling it."""
    kind = type(value)
    if kind in (bytes, str, bytearray):
        return len(value)
    if kind in LIGHT:
        return 0
    if kind is Packed:
        return size_of(value.entry)
    if kind is Call:
        return weight_of((*value.args, *(value.kwargs or {}).values()), depth)
    if kind in (tuple, list, dict):
        parts = value.values() if kind is dict else value
        return sum(weight_of(part, depth - 1) for part in itertools.islice(parts, 1000)) if depth else 0
    if not hasattr(kind, "nbytes"):
        return 0
    try:
        return int(value.nbytes)  # of an array
    except Exception:  # noqa: BLE001 - of something else: it is the user's code
        return 0


class ItemPacker(Packer):
    """Calls of one function with one argument each, and constant keyword arguments that go through a serializer."""

    def __init__(
        self, seal: Seal, codes: Codes, code: Code, encoding: Encoding | None = None,
        kwargs: dict[str, Any] | None = None, *, calls: str = ONE,
    ) -> None:  # fmt: skip
        super().__init__(seal, codes, encoding)
        self.calls = calls
        self._code, self._kwargs = code, kwargs or {}
        self._digest = code.digest
        self.packages |= code.packages

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        return self._digest, (item,), self._kwargs

    def take(self, index: int, item: Any) -> Any:
        return item if type(item) in IMMUTABLE else self._freeze(index, self._code, (item,), self._kwargs)

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        functions.setdefault(self._digest, b"")
        if self._encoding is not None:
            return None
        record = pack_items(self._seal, batch, first, self._digest, items)
        return record or pack_plain(self._seal, batch, first, self._digest, [(item,) for item in items])


class TuplePacker(ItemPacker):
    """Calls of one function with several arguments each."""

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        return self._digest, tuple(item), self._kwargs

    def take(self, index: int, item: Any) -> Any:
        args = tuple(item)
        return args if set(map(type, args)) <= IMMUTABLE else self._freeze(index, self._code, args, self._kwargs)

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        functions.setdefault(self._digest, b"")
        if self._encoding is not None or any(type(item) is Packed for item in items):
            return None
        calls = [tuple(item) for item in items]
        record = pack_tuples(self._seal, batch, first, self._digest, calls)
        return record or pack_plain(self._seal, batch, first, self._digest, calls)


class FollowPacker(Packer):
    """Calls of one function, each with the result of the job of the same index in another batch: the items are nothing
    but the indices."""

    def __init__(self, seal: Seal, codes: Codes, code: Code, followed: str, per_block: int) -> None:
        super().__init__(seal, codes)
        self._digest, self._followed, self._per_block = code.digest, followed, per_block
        self.packages |= code.packages

    def calls_per_block(self, items: list[Any]) -> int:
        return self._per_block

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes:
        functions.setdefault(self._digest, b"")
        return pack_following(self._seal, batch, first, len(items), self._digest, self._followed)


class CallPacker(Packer):
    """Calls of functions that may differ."""

    def __init__(self, seal: Seal, codes: Codes, encoding: Encoding | None = None, *, calls: str = MANY) -> None:
        super().__init__(seal, codes, encoding)
        self.calls = calls
        self._digests: dict[int, tuple[Any, Code]] = {}

    def call(self, item: Any) -> tuple[bytes, tuple[Any, ...], dict[str, Any]]:
        call = as_call(item)
        return self._code_of(call.function).digest, tuple(call.args), call.kwargs or {}

    def take(self, index: int, item: Any) -> Any:
        call = as_call(item)
        return self._freeze(index, self._code_of(call.function), tuple(call.args), call.kwargs or {})

    def _code_of(self, function: Callable[..., Any]) -> Code:
        known = self._digests.get(id(function))
        if known is None or known[0] is not function:
            known = self._digests[id(function)] = (function, self._codes.pack(function))
            self.packages |= known[1].packages
        return known[1]

    def fast(self, batch: str, first: int, items: list[Any], functions: dict[bytes, bytes]) -> bytes | None:
        return None

    def calls_per_block(self, items: list[Any]) -> int:
        return min(100, super().calls_per_block(items))  # a header has room for 127 functions


def as_call(item: Any) -> Call:
    """A call from `(func, args)`, `(func, args, kwargs)` or `nbqueue.call(...)`.

    Raises
    ------
    WrongType
        It is none of these.
    UsageError
        It names a function that cannot be imported.
    """
    if isinstance(item, Call):
        return item
    if isinstance(item, tuple) and 1 <= len(item) <= 3 and (callable(item[0]) or isinstance(item[0], str)):
        args = item[1] if len(item) > 1 else ()
        kwargs = item[2] if len(item) > 2 else {}
        if isinstance(args, tuple | list) and isinstance(kwargs, dict):
            return Call(function_of(item[0]), tuple(args), kwargs)
    raise errors.WrongType(
        f"{item!r:.80} is not a call: (func, args), (func, args, kwargs) or nbqueue.call(func, *args, **kwargs) is"
    )
