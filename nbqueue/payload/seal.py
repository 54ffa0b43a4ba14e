"""Signing and verifying: the one owner of the key.

A record is signed for its place (kind, namespace, batch, first index), and opened nowhere else. What could not be
verified is not given back, so that nobody unpickles it.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Sequence

from nbqueue import errors
from nbqueue.payload.memory import Buffers
from nbqueue.payload.records import (
    DIGEST_SIZE,
    HEADER,
    LARGE_RECORD,
    SIGNATURE_SIZE,
    VERSION,
    Blob,
    Pieces,
    Record,
    pack_header,
    size_of,
    wrong_version,
)

_CHUNK = 128 * 1024
"""Bytes that are copied and signed while they are in the processor's cache."""

_JOINED = 4096
"""Bytes below which a copy is cheaper than a call for each piece."""


class Seal:
    """Signs and verifies payloads with one key, for one namespace.

    Parameters
    ----------
    key : bytes
        The secret that clients and workers share.
    namespace : str
        Payloads of another namespace are refused, whatever their key.
    """

    def __init__(self, key: bytes, namespace: str) -> None:
        self._key = key
        self._namespace = namespace.encode() + b"\0"

    def close(
        self, kind: bytes, batch: str, first: int, layout: int, count: int, digests: Sequence[bytes], body: Pieces
    ) -> bytes:
        """Header, signature and body as one record."""
        header = pack_header(layout, count, digests)
        return b"".join((header, self._sign(kind, batch, first, header, body), *body))

    def close_in(
        self, buffers: Buffers | None, kind: bytes, batch: str, first: int, layout: int, count: int,
        digests: Sequence[bytes], body: Pieces,
    ) -> Blob:  # fmt: skip
        """The same; a large record in memory that is used again, where there is such."""
        if buffers is None or (size := size_of(body)) < LARGE_RECORD:
            return self.close(kind, batch, first, layout, count, digests, body)
        header = pack_header(layout, count, digests)
        code = hmac.new(self._key, self._place(kind, batch, first) + header, "sha256")
        start = len(header)
        position = start + SIGNATURE_SIZE
        record = buffers.take(position + size)
        record[:start] = header
        for piece in body:
            for offset in range(0, len(piece), _CHUNK):
                end = position + min(_CHUNK, len(piece) - offset)
                record[position:end] = piece[offset : offset + _CHUNK]
                code.update(record[position:end])
                position = end
        record[start : start + SIGNATURE_SIZE] = code.digest()
        return record

    def open(self, kind: bytes, batch: str, first: int, record: Blob) -> Record:
        """Verify a record and take it apart.

        Raises
        ------
        CorruptPayload
            The bytes are not a record, or one of another version.
        SignatureError
            It was signed with another key, changed, or put into another place.
        """
        try:
            version, layout, count, functions = HEADER.unpack_from(record)
        except struct.error:
            raise errors.CorruptPayload(
                f"{_called(kind, batch, first)}: a record of {len(record)} bytes is too short to be one"
            ) from None
        if version != VERSION:
            raise wrong_version(_called(kind, batch, first), version)
        end = HEADER.size + functions * DIGEST_SIZE
        body = memoryview(record)[end + SIGNATURE_SIZE :]
        header = bytes(record[:end])
        signature = bytes(record[end : end + SIGNATURE_SIZE])
        if not hmac.compare_digest(signature, self._sign(kind, batch, first, header, [body])):
            raise errors.SignatureError(
                f"{_called(kind, batch, first)}: the signature does not hold, nothing was unpickled. Clients and "
                "workers need the same NBQUEUE_KEY; or somebody changed the record"
            )
        digests = [header[i : i + DIGEST_SIZE] for i in range(HEADER.size, end, DIGEST_SIZE)]
        return Record(layout, count, digests, signature, body)

    def open_stored(self, kind: bytes, digest: bytes, record: Blob, other: str) -> Record:
        """The same for a record that is stored by its digest; `other` says in words that it is another one.

        Raises
        ------
        SignatureError, CorruptPayload
            See `open`; or it is the record of another.
        """
        opened = self.open(kind, "", 0, record)
        if opened.signature[:DIGEST_SIZE] != digest:
            raise errors.SignatureError(other)
        return opened

    def _sign(self, kind: bytes, batch: str, first: int, header: bytes, body: Pieces) -> bytes:
        place = self._place(kind, batch, first)
        if size_of(body) < _JOINED:
            return hmac.digest(self._key, b"".join((place, header, *body)), "sha256")
        code = hmac.new(self._key, place + header, "sha256")  # no copy of what is large
        for piece in body:
            code.update(piece)
        return code.digest()

    def _place(self, kind: bytes, batch: str, first: int) -> bytes:
        return b"%s\0%s%s\0%d\0" % (kind, self._namespace, batch.encode(), first)


def _called(kind: bytes, batch: str, first: int) -> str:
    return f"{kind.decode()} of {batch}:{first}" if batch else kind.decode()
