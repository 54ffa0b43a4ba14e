"""What a request is: a script, its arguments, and how to read its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from nbqueue.payload.records import Blob

T = TypeVar("T")


Run = tuple[int, int]
"""First index, and the index after the last one."""

BULK = 64 * 1024
"""Bytes of a record that a script does not touch, because Lua would copy it several times."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Fields of a hash that a plain command writes, in one transaction with the script that makes them count."""

    key: str
    """Its name in `keys.py`."""
    fields: Sequence[tuple[str, Blob]]


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """A script, its arguments, and how to read its answer."""

    script: str
    """Its file in `lua/`: 'running/claim'."""
    arguments: list[bytes]
    read: Callable[[Any], T]
    bulk: Bulk | None = None

    @property
    def name(self) -> str:
        """What is asked for: 'claim'."""
        return self.script.rpartition("/")[2]


def request_to(
    script: str, read: Callable[[Any], T], *arguments: Blob | str | float, bulk: Bulk | None = None
) -> Request[T]:
    return Request(script, [_bytes(argument) for argument in arguments], read, bulk)


def _bytes(value: Blob | str | float) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, memoryview):
        return bytes(value)
    return str(value).encode()


def as_text(reply: Any) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
