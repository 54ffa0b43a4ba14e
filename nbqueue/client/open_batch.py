"""The batch that single calls are appended to."""

from __future__ import annotations

import time
from typing import Any

from nbqueue.backend import Backend
from nbqueue.client.codes import Codes
from nbqueue.client.options import JobOptions
from nbqueue.client.submission import _place
from nbqueue.payload.calls import pack_arguments, pack_entries, pack_items
from nbqueue.payload.functions import Code
from nbqueue.payload.records import Blob
from nbqueue.store.keys import new_id, new_token
from nbqueue.store.requests import submitting
from nbqueue.store.requests.request import BULK
from nbqueue.store.requests.submitting import Opening


class OpenBatch:
    """The batch that single calls of one kind are appended to."""

    _MOST_JOBS = 1000
    _SECONDS = 60.0

    def __init__(self, backend: Backend, codes: Codes, queue: str, options: JobOptions) -> None:
        self._store = backend.store
        self._seal = backend.seal
        self._codes = codes
        self._options = options
        self._count = 0
        self._since = time.monotonic()
        self._made_at = _place()
        self._stored: set[bytes] = set()
        self.id = new_id()
        while self._store.run("EXISTS", self._store.key(f"batch:{self.id}")):
            self.id = new_id()
        about = options.about("single calls", single=True)
        self._opening = Opening(
            self.id, new_token(), queue, backend.environment, 1, about, options.weight, options.result_ttl
        )
        self.is_closed = False

    @property
    def is_over(self) -> bool:
        """Whether another one shall be made: also where calls have another directory, or path to modules, by now."""
        is_full = self._count >= self._MOST_JOBS or time.monotonic() - self._since > self._SECONDS
        return self.is_closed or is_full or self._made_at != _place()

    def append(self, code: Code, args: tuple[Any, ...], kwargs: dict[str, Any], at_front: bool) -> int | None:
        """Submit one call; returns its index, or None if the batch takes no more."""
        index = self._count
        record: Blob | None = None
        if not kwargs and len(args) == 1:
            record = pack_items(self._seal, self.id, index, code.digest, args)
        if record is None:
            entry = pack_arguments(0, args, kwargs)
            record = pack_entries(self._seal, self.id, index, [code.digest], [entry])
        try:
            is_known = code.digest in self._stored
            if is_known and not at_front and len(record) < BULK:
                request = submitting.append(self.id, self._opening.token, index, code.digest, record)
                if self._store.call(request):
                    self._count += 1
                    return index
            body = b"" if is_known else self._codes.record(code.digest)
            answer = self._submit(index, code.digest, body, record, at_front)
            if answer == "code":
                answer = self._submit(index, code.digest, self._codes.record(code.digest), record, at_front)
        except BaseException:
            self.is_closed = True  # whether it was accepted is not known: this index is not used again
            raise
        if answer != "ok":
            self.is_closed = True
            return None
        self._stored.add(code.digest)
        self._count += 1
        return index

    def _submit(self, index: int, digest: bytes, body: bytes, record: Blob, at_front: bool) -> str:
        request = submitting.submit(
            self._opening, index, 1, {digest: body}, [(f"b{index}", record)], is_last=True, at_front=at_front
        )
        return self._store.call(request).answer
