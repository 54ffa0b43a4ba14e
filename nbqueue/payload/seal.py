"""Signing and verifying: the one owner of the key.

A record is signed for its place (kind, namespace, batch, first index), and opened nowhere else. What could not be
verified is not given back, so that nobody unpickles it.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Sequence

from nbqueue import errors
from nbqueue.payload.files import CODE, Files, Held
from nbqueue.payload.memory import ALIGNED, Buffers, MappedFile
from nbqueue.payload.records import (
    DIGEST_SIZE,
    FAILURE,
    HEADER,
    IN_FILE,
    LARGE_RECORD,
    PIECE,
    REFERENCE,
    SEPARATE,
    SIGNATURE_SIZE,
    VERSION,
    Blob,
    Pieces,
    Record,
    digest_of,
    pack_header,
    size_of,
    wrong_version,
)

_CHUNK = 128 * 1024
"""Bytes that are copied and signed while they are in the processor's cache."""

_SEPARATE, _SHARED = 64 * 1024, 1024 * 1024
"""Bytes of a body that is put into a file: of a single call or outcome, or what is stored by its digest; of several."""

_SAMPLE, _SAMPLED = 1024, 64 * 1024
"""So many bytes of so many are looked at to name what is stored by its digest."""

_MOST = 1_000_000_000
"""Bytes that go to a server: at a gigabyte it closes the connection (`client-query-buffer-limit`)."""

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
    files : Files, optional
        Where large bodies are kept, if not in the server.
    """

    def __init__(self, key: bytes, namespace: str, files: Files | None = None) -> None:
        self.files = files
        self._unsigned = hmac.new(key, digestmod="sha256")
        """Copied for each signature: to begin with the key takes as long as all that follows."""
        self._namespace = namespace.encode() + b"\0"

    def close(
        self, kind: bytes, batch: str, first: int, layout: int, count: int, digests: Sequence[bytes], body: Pieces
    ) -> bytes:
        """Header, signature and body as one record.

        Raises
        ------
        PayloadError
            It is larger than what a server takes.
        ServerFull, ServerError
            It is to be put into a file, and cannot.
        """
        if layout != FAILURE and self._belongs_in_file(count, body):  # how a job failed is told on a full disk, too
            header, token = pack_header(layout | IN_FILE, count, digests), os.urandom(16)
            assert self.files is not None
            self.files.write(_name_of_file(kind, batch, first, count, b"", token), body)
            return self._refer(kind, batch, first, header, token, size_of(body))
        self._check_size(kind, batch, first, body)
        header = pack_header(layout, count, digests)
        return b"".join((header, self._sign(kind, batch, first, header, body), *body))

    def close_stored(self, kind: bytes, body: Pieces, *, by_samples: bool = False) -> tuple[bytes, Held | None]:
        """The same for what is stored by its digest; and what keeps the file of its body, if it is in one.

        Parameters
        ----------
        kind : bytes
        body : list of bytes
        by_samples : bool
            Of a body that goes into a file only some bytes are looked at for its digest; it is compared with another
            of the same samples, if that is there. For what is loaded from the file each time: once that was removed,
            something else may get the same digest.

        Raises
        ------
        ServerFull, ServerError
            See `close`.
        """
        if not self._belongs_in_file(1, body):
            if not (HEADER.size + SIGNATURE_SIZE + size_of(body)) % PIECE:
                body = [*body, bytes(ALIGNED)]  # its last piece would be empty, which stands for one that is known
            return self.close(kind, "", 0, SEPARATE, 1, (), body), None
        header = pack_header(SEPARATE | IN_FILE, 1, ())
        looked_at = _samples_of(body) if by_samples else body
        token = self._sign(kind, "", 0, header, looked_at)[:16]  # the same for what is the same
        while True:
            record = self._refer(kind, "", 0, header, token, size_of(body))
            assert self.files is not None
            held = self.files.keep(_name_of_file(kind, "", 0, 1, digest_of(record), token), body)
            if held is not None:
                return record, held
            token = os.urandom(16)  # it differs elsewhere from what has the same samples

    def close_in(
        self, buffers: Buffers | None, kind: bytes, batch: str, first: int, layout: int, count: int,
        digests: Sequence[bytes], body: Pieces,
    ) -> Blob:  # fmt: skip
        """The same; a large record in memory that is used again, where there is such."""
        if buffers is None or (size := size_of(body)) < LARGE_RECORD or self._belongs_in_file(count, body):
            return self.close(kind, batch, first, layout, count, digests, body)
        self._check_size(kind, batch, first, body)
        header = pack_header(layout, count, digests)
        code = self._unsigned.copy()
        code.update(self._place(kind, batch, first) + header)
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

    def _check_size(self, kind: bytes, batch: str, first: int, body: Pieces) -> None:
        if size_of(body) > _MOST:
            raise errors.PayloadError(
                f"{_called(kind, batch, first)}: {size_of(body) / 1e6:,.0f} MB pickled, and a server takes no more "
                f"than {_MOST / 1e6:,.0f} MB at once. Write it to a file that the workers can read, and pass its path"
            )

    def _belongs_in_file(self, count: int, body: Pieces) -> bool:
        return self.files is not None and size_of(body) >= (_SEPARATE if count == 1 else _SHARED)

    def _refer(self, kind: bytes, batch: str, first: int, header: bytes, token: bytes, size: int) -> bytes:
        """The record of a body that is in a file."""
        reference = REFERENCE.pack(token, size)
        return header + self._sign(kind, batch, first, header, [reference]) + reference

    def open(self, kind: bytes, batch: str, first: int, given: Blob | MappedFile) -> Record:
        """Verify a record and take it apart; what was given in a file stays there.

        Raises
        ------
        CorruptPayload
            The bytes are not a record, or one of another version.
        SignatureError
            It was signed with another key, changed, or put into another place.
        """
        record: Blob = given.view() if isinstance(given, MappedFile) else given
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
        if layout & IN_FILE:
            called = _called(kind, batch, first)
            token, size = REFERENCE.unpack(body)
            name = _name_of_file(kind, batch, first, count, signature[:DIGEST_SIZE], token)
            return Record(layout & ~IN_FILE, count, digests, signature, self._open_file(called, name, size))
        if isinstance(given, MappedFile):
            return Record(layout, count, digests, signature, given.behind(end + SIGNATURE_SIZE))
        return Record(layout, count, digests, signature, body)

    def _open_file(self, called: str, name: str, size: int) -> MappedFile:
        if self.files is None:
            raise errors.CorruptPayload(
                f"{called}: {size / 1e6:,.1f} MB that are kept in a file beside the embedded server, which only its "
                "user can read, on its host: without NBQUEUE_URL and without a URL as argument"
            )
        try:
            return self.files.open(name, size)
        except errors.CorruptPayload as error:
            raise errors.CorruptPayload(f"{called}: {error}") from error.__cause__

    def open_stored(self, kind: bytes, digest: bytes, record: Blob | MappedFile, other: str) -> Record:
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
        code = self._unsigned.copy()
        if size_of(body) < _JOINED:
            code.update(b"".join((place, header, *body)))
            return code.digest()
        code.update(place + header)  # no copy of what is large
        for piece in body:
            code.update(piece)
        return code.digest()

    def _place(self, kind: bytes, batch: str, first: int) -> bytes:
        return b"%s\0%s%s\0%d\0" % (kind, self._namespace, batch.encode(), first)


def _samples_of(body: Pieces) -> Pieces:
    """Some bytes of large pieces instead of all: who finds a file of the name that comes of them compares the rest."""
    samples: Pieces = []
    for piece in body:
        samples.append(struct.pack("<Q", len(piece)))
        if len(piece) <= _SAMPLED:
            samples.append(piece)
        else:
            samples += (piece[at : at + _SAMPLE] for at in range(0, len(piece), _SAMPLED))
            samples.append(piece[-_SAMPLE:])
    return samples


def _name_of_file(kind: bytes, batch: str, first: int, count: int, digest: bytes, token: bytes) -> str:
    if not batch:
        return f"{CODE}/{digest.hex()}"
    return f"{batch}/{kind.decode()}-{first}-{count}-{token.hex()}"


def _called(kind: bytes, batch: str, first: int) -> str:
    return f"{kind.decode()} of {batch}:{first}" if batch else kind.decode()
