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
    FOLLOWS    nothing: each is called with the result of the job of the same index in the batch that the header names
    SEPARATE   an entry of its own for each, behind a table of offsets: nothing is shared, one that cannot be read
               does not spoil its neighbours, and big buffers (arrays) stay outside of the pickle
    FAILURE    the pickled description of an error

Frames, of which entries are made, are bytes behind a table of their sizes: number u16 | sizes u64 * number | frames.
Large ones begin a multiple of 64 bytes before the end, so that an array can be used where it is.

On the embedded server a large body is in a file (`files.py`): the layout has the bit IN_FILE, and token (16 bytes) |
size u64 stand for the body.

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
from nbqueue.payload.memory import ALIGNED, MappedFile, Nameless

VERSION = 4
"""Of the format. It also goes up when something moves that is pickled by its name: an error, what runs a cell."""

ATOMS, TUPLES, SEPARATE, FAILURE, FOLLOWS = range(5)

IN_FILE = 0x80
"""The bit beside a layout that tells that the body is in a file."""

HEADER = struct.Struct("<BBHB")

REFERENCE = struct.Struct("<16sQ")
"""What stands for a body that is in a file: a token that nobody has seen before, and its size."""

DIGEST_SIZE, SIGNATURE_SIZE = 16, 32

INPUTS = bytes(DIGEST_SIZE)
"""Stands in a header between the digests of functions and the references to results that calls are made with."""

PIECE = 256 * 1024 * 1024
"""Bytes of a record that Redis gets as one value, of which it takes 512 MB at most. What comes after them is another
value, so that one of just as many bytes is always followed by one more."""

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
    content: memoryview | MappedFile

    @property
    def file(self) -> MappedFile | None:
        """The file that the body is in, if it is in one."""
        return self.content if isinstance(self.content, MappedFile) else None

    @property
    def body(self) -> memoryview:
        """The body; of one that is in a file, a mapping that is the caller's.

        Raises
        ------
        CorruptPayload
            The file is not there any more.
        """
        return self.content.view() if isinstance(self.content, MappedFile) else self.content


def size_of(pieces: Pieces) -> int:
    """Bytes of what is kept in pieces."""
    return sum(map(len, pieces))


def weight_of(record: Blob | MappedFile | Nameless) -> int:
    """Bytes of a record, and of its body if that is in a file."""
    if isinstance(record, MappedFile):
        return record.size
    size = len(record)
    if isinstance(record, Nameless):
        return size
    if size > HEADER.size + REFERENCE.size and record[1] & IN_FILE:
        size += REFERENCE.unpack_from(record, size - REFERENCE.size)[1]
    return size


def pieces_of(record: Blob) -> list[Blob]:
    """The values as which Redis gets a record: itself, as a rule."""
    if len(record) < PIECE:
        return [record]
    view = memoryview(record)
    return [view[start : start + PIECE] for start in range(0, len(view) + 1, PIECE)]


def whole_of(pieces: Sequence[Blob | None]) -> Blob | None:
    """The record of its pieces; None if one of them is not there."""
    if len(pieces) == 1:
        return pieces[0]
    found = [piece for piece in pieces if piece is not None]
    return memoryview(bytearray().join(found)) if len(found) == len(pieces) else None


# The header


def pack_header(layout: int, count: int, digests: Sequence[bytes]) -> bytes:
    return HEADER.pack(VERSION, layout, count, len(digests)) + b"".join(digests)


def functions_of(record: Blob) -> list[bytes]:
    """The digests of the functions that a record of calls needs, without verifying or unpickling it."""
    digests = _digests_of(record)
    return digests[: digests.index(INPUTS)] if INPUTS in digests else digests


def inputs_of(record: Blob) -> list[bytes]:
    """The results of other jobs that a record of calls needs: references, see `values.ResultOf`."""
    digests = _digests_of(record)
    return digests[digests.index(INPUTS) + 1 :] if INPUTS in digests else []


def _digests_of(record: Blob) -> list[bytes]:
    count = record[4]
    return [
        bytes(record[i : i + DIGEST_SIZE]) for i in range(HEADER.size, HEADER.size + count * DIGEST_SIZE, DIGEST_SIZE)
    ]


def digest_of(record: Blob) -> bytes:
    """The digest of a record that names no functions: what it is stored under."""
    return bytes(record[HEADER.size : HEADER.size + DIGEST_SIZE])


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
    sizes = [len(frame) for frame in frames]
    pieces: Pieces = [struct.pack(f"<H{len(sizes)}Q", len(sizes), *sizes)]
    if max(sizes, default=0) < LARGE_RECORD:
        return pieces + frames
    for frame, gap in zip(frames, _gaps(sizes), strict=True):
        pieces.append(frame)
        if gap:
            pieces.append(bytes(gap))
    return pieces


def _gaps(sizes: Sequence[int]) -> list[int]:
    """Bytes behind each frame."""
    gaps, distance = [], 0
    for size in reversed(sizes):
        gaps.append(-(distance + size) % ALIGNED if size >= LARGE_RECORD else 0)
        distance += size + gaps[-1]
    return gaps[::-1]


def frame_sizes(pieces: Pieces) -> tuple[int, ...]:
    """Bytes of each frame, from pieces that `with_sizes` has made."""
    return struct.unpack_from(f"<{(len(pieces[0]) - 2) // 8}Q", pieces[0], 2)


def split_frames(data: memoryview) -> list[memoryview]:
    (number,) = struct.unpack_from("<H", data)
    sizes = struct.unpack_from(f"<{number}Q", data, 2)
    frames, start = [], 2 + 8 * number
    gaps = _gaps(sizes) if len(data) > LARGE_RECORD else [0] * number
    for size, gap in zip(sizes, gaps, strict=True):
        frames.append(data[start : start + size])
        start += size + gap
    return frames


# Tables of entries


def table_of(entries: Sequence[Pieces]) -> Pieces:
    """Entries, behind the table of their offsets."""
    offsets, position = array.array("Q", [0]), 0
    for entry in entries:
        position += size_of(entry)
        offsets.append(position)
    return [table_bytes(offsets), *itertools.chain.from_iterable(entries)]


def table_bytes(offsets: array.array[int]) -> bytes:
    """A table of offsets as it stands in a record."""
    if sys.byteorder == "big":
        offsets = offsets[:]
        offsets.byteswap()
    return offsets.tobytes()


class Entries:
    """The entries of a record, behind what else is in its body.

    Parameters
    ----------
    record : Record
    position : int
        Where their table begins in the body.
    holds : bool
        They can be read when their file has been removed, if there are not very many of them.
    """

    __slots__ = ("_body", "_count", "_file", "_held", "_position", "is_own")

    def __init__(self, record: Record, position: int = 0, *, holds: bool = False) -> None:
        self._count, self._position = record.count, position
        self.is_own = record.file is not None and record.count == 1
        """An entry is a mapping that is the caller's, to be written to."""
        self._file = record.file if self.is_own else None
        self._held = self._file.hold() if self._file is not None and holds else None
        self._body = memoryview(b"") if self.is_own else record.body[position:]

    def __getitem__(self, offset: int) -> memoryview:
        body = self._body if self._file is None else self._mapped(self._file)[self._position :]
        start, end = struct.unpack_from("<2Q", body, 8 * offset)
        table = 8 * (self._count + 1)
        return body[table + start : table + end]

    def whole(self) -> tuple[memoryview, tuple[int, ...]]:
        """All entries, one behind the other, and their offsets in that."""
        body = self._body if self._file is None else self._mapped(self._file)[self._position :]
        return body[8 * (self._count + 1) :], struct.unpack_from(f"<{self._count + 1}Q", body)

    def _mapped(self, file: MappedFile) -> memoryview:
        if self._held is None or file.is_there():
            return file.view()
        return memoryview(bytearray(self._held))

    def is_empty(self, offset: int) -> bool:
        """Whether the entry stands for what is stored elsewhere."""
        return self._file is None and not self[offset]
