"""The frame of what is signed: header, layouts, tables of entries. Everything else of this package stands on it."""

from __future__ import annotations

import array
import itertools
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nbqueue import errors

ATOMS, TUPLES, SEPARATE, FAILURE = range(4)

LIMIT = 512 * 1024 * 1024 - 1024
"""Bytes: what Redis takes as one value, less the header."""

VERSION = 1

HEADER = struct.Struct("<BBHB")

DIGEST_SIZE, SIGNATURE_SIZE = 16, 32

LARGE_RECORD = 64 * 1024
"""Bytes of a record that is made in memory that is used again."""

Blob = bytes | memoryview

Pieces = list[Blob]
"""What is joined once only, at the end: copies of what is large cost more than pickling it."""


def size_of(pieces: Pieces) -> int:
    """Bytes of what is kept in pieces."""
    return sum(map(len, pieces))


def pack_header(layout: int, count: int, digests: Sequence[bytes]) -> bytes:
    return HEADER.pack(VERSION, layout, count, len(digests)) + b"".join(digests)


@dataclass(frozen=True, slots=True)
class Record:
    """A verified record."""

    layout: int
    count: int
    digests: list[bytes]
    body: memoryview


def functions_of(record: Blob) -> list[bytes]:
    """The digests of the functions that a record of calls needs, without verifying or unpickling it."""
    count = record[4]
    return [
        bytes(record[i : i + DIGEST_SIZE]) for i in range(HEADER.size, HEADER.size + count * DIGEST_SIZE, DIGEST_SIZE)
    ]


def with_sizes(frames: Pieces) -> Pieces:
    return [struct.pack(f"<H{len(frames)}Q", len(frames), *map(len, frames)), *frames]


def split_frames(data: memoryview) -> list[memoryview]:
    (number,) = struct.unpack_from("<H", data)
    sizes = struct.unpack_from(f"<{number}Q", data, 2)
    frames, start = [], 2 + 8 * number
    for size in sizes:
        frames.append(data[start : start + size])
        start += size
    return frames


def table_of(entries: Sequence[Pieces]) -> Pieces:
    offsets, position = array.array("Q", [0]), 0
    for entry in entries:
        position += size_of(entry)
        offsets.append(position)
    if sys.byteorder == "big":
        offsets.byteswap()
    return [offsets.tobytes(), *itertools.chain.from_iterable(entries)]


def entry_at(body: memoryview, count: int, index: int) -> memoryview:
    start, end = struct.unpack_from("<2Q", body, 8 * index)
    table = 8 * (count + 1)
    return body[table + start : table + end]


def check_size(what: str, size: int) -> None:
    if size > LIMIT:
        raise errors.TooLarge(
            f"{what}: {size / 2**20:,.0f} MB pickled, and Redis stores at most 512 MB in one value. "
            "Write it to a file that the workers can read, and pass its path"
        )
