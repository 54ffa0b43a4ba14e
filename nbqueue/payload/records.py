"""Records: how signed bytes are laid out. All else of this package stands on it.

A record (all numbers little-endian):

    header     version u8 | layout u8 | count u16 | functions u8 | digest (16 bytes) per function
    signature  32 bytes
    body       of code: frames(source files by name, the pickled function, its buffers)
               of calls: what `count` neighbouring calls are made with
               of outcomes: status u8, attempt u8, started f64, worker (u8 length, text), durations f32 * count,
               holes (u16 number, u16 offsets), what the calls returned; or the failure of a single one

Layouts of calls and of returned values:

    ATOMS      one pickle of a list: values that nobody can change (int, str, None, ...), so that sharing is not seen
    TUPLES     one pickle of a list of tuples of such values (calls with several arguments)
    SEPARATE   an entry of its own for each, behind a table of offsets: nothing is shared, one that cannot be read
               does not spoil its neighbours, and big buffers (arrays) stay outside of the pickle
    FAILURE    the pickled description of an error

Frames, of which entries are made, are bytes behind a table of their sizes: number u16 | sizes u64 * number | frames.

The signature is HMAC-SHA256 over kind, namespace, batch, first index, the header and the body (`seal.py`): a record
that was changed, or put into another place, is refused before anything in it is unpickled. The first half of the
signature of code is its digest, under which it is stored.
"""

from __future__ import annotations

import array
import itertools
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nbqueue import errors

VERSION = 3
"""Of the format. It also goes up when something moves that is pickled by its name: an error, what runs a cell."""

ATOMS, TUPLES, SEPARATE, FAILURE = range(4)

HEADER = struct.Struct("<BBHB")

DIGEST_SIZE, SIGNATURE_SIZE = 16, 32

LIMIT = 512 * 1024 * 1024 - 1024
"""Bytes: what Redis takes as one value, less the header."""

LARGE_RECORD = 64 * 1024
"""Bytes of a record that is made in memory that is used again."""

MOST_FRAMES = 2**16 - 1

Blob = bytes | memoryview

Pieces = list[Blob]
"""What is joined once only, at the end: copies of what is large cost more than pickling it."""


@dataclass(frozen=True, slots=True)
class Record:
    """A verified record."""

    layout: int
    count: int
    digests: list[bytes]
    signature: bytes
    body: memoryview


def size_of(pieces: Pieces) -> int:
    """Bytes of what is kept in pieces."""
    return sum(map(len, pieces))


def check_size(what: str, size: int) -> None:
    """Refuse what Redis would not take.

    Raises
    ------
    TooLarge
    """
    if size > LIMIT:
        raise errors.TooLarge(
            f"{what}: {size / 2**20:,.0f} MB pickled, and Redis stores at most 512 MB in one value. "
            "Write it to a file that the workers can read, and pass its path"
        )


# The header


def pack_header(layout: int, count: int, digests: Sequence[bytes]) -> bytes:
    return HEADER.pack(VERSION, layout, count, len(digests)) + b"".join(digests)


def functions_of(record: Blob) -> list[bytes]:
    """The digests of the functions that a record of calls needs, without verifying or unpickling it."""
    count = record[4]
    return [
        bytes(record[i : i + DIGEST_SIZE]) for i in range(HEADER.size, HEADER.size + count * DIGEST_SIZE, DIGEST_SIZE)
    ]


def wrong_version(what: str, version: int) -> errors.CorruptPayload:
    """The error that tells whose record it is that this version cannot read."""
    if 0 < version < VERSION:
        return errors.CorruptPayload(
            f"{what}: the batch was submitted by an older nbqueue, in format {version}, and this one reads format "
            f"{VERSION}. Submit it again, or read it with the nbqueue that it was submitted with"
        )
    return errors.CorruptPayload(
        f"{what}: in format {version}, and this nbqueue reads format {VERSION}. If a newer one submitted the "
        "batch, update this one"
    )


# Frames


def with_sizes(frames: Pieces) -> Pieces:
    """Frames, behind the table of their sizes."""
    return [struct.pack(f"<H{len(frames)}Q", len(frames), *map(len, frames)), *frames]


def split_frames(data: memoryview) -> list[memoryview]:
    (number,) = struct.unpack_from("<H", data)
    sizes = struct.unpack_from(f"<{number}Q", data, 2)
    frames, start = [], 2 + 8 * number
    for size in sizes:
        frames.append(data[start : start + size])
        start += size
    return frames


# Tables of entries


def table_of(entries: Sequence[Pieces]) -> Pieces:
    """Entries, behind the table of their offsets."""
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
