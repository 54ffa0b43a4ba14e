"""Records of calls: what functions are called with.

Neighbouring calls share a record, in the layout that suits their arguments: `pack_items` and `pack_tuples` for values
that nobody can change, `pack_entries` for all others, each pickled for itself by `pack_arguments`.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

from nbqueue.payload.explain import cannot_pickle
from nbqueue.payload.memory import Buffers
from nbqueue.payload.pickling import (
    IMMUTABLE,
    SERIALIZER,
    can_pickle,
    entry_of_pickle,
    has_plain,
    plain_entries,
    plain_values,
)
from nbqueue.payload.records import (
    ATOMS,
    FOLLOWS,
    INPUTS,
    SEPARATE,
    TUPLES,
    Blob,
    Entries,
    Pieces,
    table_of,
)
from nbqueue.payload.seal import Seal
from nbqueue.payload.serializers import Encoded, Find, find_serializer
from nbqueue.payload.values import ResultOf, result_of

MOST_TOGETHER = 256 * 1024
"""Bytes of pickled values at which neighbouring calls are packed each for itself."""

_KWARGS = 0x80
"""The bit beside a function's number that tells of keyword arguments."""

Call = tuple[bytes, tuple[Any, ...], dict[str, Any]]
"""A call: the digest of its function, positional and keyword arguments."""


def pack_items(seal: Seal, batch: str, first: int, digest: bytes, items: Sequence[Any]) -> bytes | None:
    """Neighbouring calls of one function with one argument each, if these are all immutable values and not large, else
    None."""
    if not set(map(type, items)) <= IMMUTABLE:
        return None
    pickled = pickle.dumps(items, 5)
    if len(items) > 1 and len(pickled) > MOST_TOGETHER:
        return None
    return seal.close(b"calls", batch, first, ATOMS, len(items), [digest], [pickled])


def pack_tuples(seal: Seal, batch: str, first: int, digest: bytes, items: Sequence[tuple[Any, ...]]) -> bytes | None:
    """The same for calls with several arguments."""
    if not all(set(map(type, item)) <= IMMUTABLE for item in items):
        return None
    pickled = pickle.dumps(items, 5)
    if len(items) > 1 and len(pickled) > MOST_TOGETHER:
        return None
    return seal.close(b"calls", batch, first, TUPLES, len(items), [digest], [pickled])


def pack_plain(seal: Seal, batch: str, first: int, digest: bytes, calls: Sequence[tuple[Any, ...]]) -> bytes | None:
    """Neighbouring calls of one function with positional arguments, if these are small plain values that somebody can
    change (dicts, lists, ...), else None: each call is pickled for itself."""
    body = plain_entries(calls, b"\0")
    return None if body is None else seal.close(b"calls", batch, first, SEPARATE, len(calls), [digest], body)


def pack_arguments(function: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Pieces:
    """One call as an entry of its own; `function` is the position of its digest in the record's header.

    Raises
    ------
    CannotPickle
        Names the argument, and what of it cannot be pickled.
    """
    try:
        flags, both = (_KWARGS, (args, kwargs)) if kwargs else (0, args)
        entry = [bytes([function | flags]), *SERIALIZER.dumps(both)]
    except Exception as error:
        for name, value in [*enumerate(args), *kwargs.items()]:
            what = f"argument {name}" if isinstance(name, int) else f"argument {name!r}"
            if not can_pickle(value):
                raise cannot_pickle(what, value, error) from error
        raise cannot_pickle("the arguments", args, error) from error
    return entry


def pack_encoded(function: int, encoded: Encoded) -> Pieces:
    """The same of arguments that a serializer of the user's has made bytes of."""
    return [bytes([function | _KWARGS]), *entry_of_pickle(pickle.dumps(encoded, 5))]


def of_function(entry: Pieces, function: int) -> Pieces:
    """The entry of a call for a record in whose header its function has another position."""
    return [bytes([function | entry[0][0] & _KWARGS]), *entry[1:]]


def pack_entries(
    seal: Seal,
    batch: str,
    first: int,
    digests: Sequence[bytes],
    entries: Sequence[Pieces],
    buffers: Buffers | None = None,
) -> Blob:
    """Neighbouring calls from their entries; an empty entry stands for a large call that is stored by itself."""
    return seal.close_in(buffers, b"calls", batch, first, SEPARATE, len(entries), digests, table_of(entries))


def pack_following(seal: Seal, batch: str, first: int, count: int, digest: bytes, followed: str) -> bytes:
    """Neighbouring calls of one function, each with the result of the job of the same index in another batch."""
    return seal.close(b"calls", batch, first, FOLLOWS, count, [digest, INPUTS, ResultOf(followed).reference()], [])


class Calls:
    """A verified record of neighbouring calls, unpickled one by one.

    Parameters
    ----------
    once : bool
        Each is asked for once, and nobody else has the record: large buffers need not be copied.
    find : callable, optional
        Finds the serializer of arguments that another one than ours has made bytes of.

    Raises
    ------
    SignatureError, CorruptPayload
        See `Seal.open`.
    """

    def __init__(
        self, seal: Seal, batch: str, first: int, record: Blob, *, once: bool = False, find: Find | None = None
    ) -> None:  # fmt: skip
        opened = seal.open(b"calls", batch, first, record)
        self.first, self.count = first, opened.count
        self._layout, self._digests = opened.layout, opened.digests
        self._once, self._find = once, find
        self.is_plain = False
        """The arguments of the call that was asked for last are plain values, which no code of the user's has made."""
        self._list: list[Any] | None = pickle.loads(opened.body) if opened.layout in (ATOMS, TUPLES) else None
        self.follows = ResultOf.referred(self._digests[-1]).batch if opened.layout == FOLLOWS else None
        """The batch with whose results the calls are made."""
        self._entries = None if opened.layout == FOLLOWS else Entries(opened)

    def atoms(self, part: range) -> list[Any] | None:
        """The single arguments of the calls of a part, by their places behind the first one, where they are plain
        values and the function is the same: the fast way. Each is given out once."""
        if self._layout == ATOMS:
            return self._list
        if self._layout != SEPARATE or self._entries is None or len(self._digests) != 1 or self._entries.is_own:
            return None
        found = plain_values(self._entries, range(part.start - self.first, part.stop - self.first), b"\0")
        if found is None or set(map(len, found)) != {1}:
            return None
        return [None] * (part.start - self.first) + [args[0] for args in found]

    def digest(self) -> bytes:
        return self._digests[0]

    def digest_of(self, index: int) -> bytes:
        """The digest of the function of a call, which is not unpickled."""
        if self._list is not None or self._entries is None:
            return self._digests[0]
        return self._digests[self._entries[index - self.first][0] & ~_KWARGS]

    def is_elsewhere(self, index: int) -> bool:
        """Whether the call is large and stored by itself."""
        return self._list is None and self._entries is not None and self._entries.is_empty(index - self.first)

    def __getitem__(self, index: int) -> Call:
        offset = index - self.first
        if self._list is not None:
            value = self._list[offset]
            return self._digests[0], value if self._layout == TUPLES else (value,), {}
        if self._entries is None:
            assert self.follows is not None
            self.is_plain = False
            return self._digests[0], (result_of(self.follows, index),), {}
        entry = self._entries[offset]
        self.is_plain = has_plain(entry[1:])
        function, loaded = entry[0], SERIALIZER.loads(entry[1:], once=self._once or self._entries.is_own)
        if type(loaded) is Encoded and self._find is not None:
            loaded = loaded.decode(find_serializer(loaded.name, self._find))
        args, kwargs = loaded if function & _KWARGS else (loaded, {})
        return self._digests[function & ~_KWARGS], args, kwargs
