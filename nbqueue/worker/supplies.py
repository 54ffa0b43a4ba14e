"""What a claimed run needs besides its lease: calls that lie elsewhere, functions, the description of its batch."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from nbqueue import errors
from nbqueue.payload.memory import Nameless, can_be_nameless
from nbqueue.payload.records import PIECE, Blob, functions_of, weight_of, whole_of
from nbqueue.payload.serializers import STORED
from nbqueue.payload.versions import differences
from nbqueue.store import keys
from nbqueue.store.description import Description
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests.running import Claimed
from nbqueue.store.store import Store
from nbqueue.worker.inputs import Inputs, needed

log = logging.getLogger("nbqueue.worker")

_MOST = 1000
"""Functions and descriptions that are kept."""

_MOST_BYTES = 32 * 2**20
"""Bytes of functions that are kept."""

_MAPPED = 256 * 1024
"""Bytes of a function that children map, instead of each having a copy."""

Function = Blob | Nameless
"""The record of a function."""

N = TypeVar("N", bytes, str)

Records = list[Blob | None]


class Supplies:
    """Fetches what claimed runs need, and keeps what they have in common.

    Parameters
    ----------
    store : Store
    requests : Pipeline
    """

    def __init__(self, store: Store, requests: Pipeline) -> None:
        self._store = store
        self._requests = requests
        self._functions: dict[bytes, Function] = {}
        self._can_be_nameless = can_be_nameless()
        self._told: set[tuple[str, str, str]] = set()
        self.versions: dict[str, str] = {}
        """Those packages here that had other versions where jobs were submitted."""
        self._descriptions: dict[bytes, Description] = {}
        self._inputs = Inputs(requests, self._ask_fields)

    def description(self, claimed: Claimed) -> Description:
        description = self._descriptions.get(claimed.description)
        if description is None:
            _make_room(self._descriptions)
            description = self._descriptions[claimed.description] = Description.from_json(claimed.description)
            self._compare(description)
        return description

    def _compare(self, description: Description) -> None:
        """Tell once of packages that have other versions where jobs are submitted."""
        for name, there, here in differences(description.versions):
            if (description.host, name, there) not in self._told:
                self._told.add((description.host, name, there))
                self.versions[name] = here
                log.warning("%s is %s on %s, where jobs are submitted, and %s here",
                            name, there, description.host, here or "not installed")  # fmt: skip

    def fetch(self, claimed: Claimed, then: Callable[[Claimed, dict[bytes, Function]], None]) -> None:
        """Call `then`, at once if nothing is missing, with all calls and the functions that they need.

        A function that is not in Redis any more is empty.
        """
        if claimed.bulk:
            self._fetch_calls(claimed, then)
            return
        if not claimed.inputs and (wanted := needed(claimed)):
            self._inputs.fetch(wanted, lambda inputs: self._fetch_functions(replace(claimed, inputs=inputs), then))
            return
        self._fetch_functions(claimed, then)

    def _fetch_functions(self, claimed: Claimed, then: Callable[[Claimed, dict[bytes, Function]], None]) -> None:
        needed = {digest for _, record in claimed.calls if len(record) > 4 for digest in functions_of(record)}
        if claimed.mended:
            needed.update(functions_of(claimed.mended))
        description = self.description(claimed)
        needed.update(description.digests)
        if description.serializer.startswith(STORED):
            needed.add(bytes.fromhex(description.serializer.removeprefix(STORED)))
        known = {digest: self._functions[digest] for digest in needed if digest in self._functions}
        missing = [digest for digest in needed if digest not in known]
        if not missing:
            then(claimed, known)
            return

        def on_functions(records: Records) -> None:
            found = {
                digest: self._to_hand(record)
                for digest, record in zip(missing, records, strict=True)
                if record is not None
            }
            self._keep(found)
            then(claimed, {**dict.fromkeys(missing, b""), **known, **found})

        def key(digest: bytes, number: int) -> bytes:
            return self._store.key(keys.code(keys.code_piece(digest, number)))

        self._ask_whole(["MGET"], missing, key, on_functions)

    def _to_hand(self, record: Blob) -> Function:
        """A record, so that children map it if it is large."""
        if self._can_be_nameless and len(record) >= _MAPPED:
            with contextlib.suppress(OSError):  # no descriptors are left: then each has a copy
                return Nameless(record)
        return record

    def _keep(self, found: Mapping[bytes, Function]) -> None:
        _make_room(self._functions)
        self._functions.update(found)
        size = sum(map(weight_of, self._functions.values()))
        while size > _MOST_BYTES and len(self._functions) > len(found):
            size -= weight_of(self._functions.pop(next(iter(self._functions))))

    def _fetch_calls(self, claimed: Claimed, then: Callable[[Claimed, dict[bytes, Function]], None]) -> None:
        def on_calls(records: Records) -> None:
            found = zip((name for name, _ in claimed.bulk), records, strict=True)
            calls = claimed.calls + [(name, record) for name, record in found if record is not None]
            self.fetch(replace(claimed, calls=calls, bulk=[]), then)

        self._ask_fields(keys.calls_bulk(claimed.batch), [field for _, field in claimed.bulk], on_calls)

    def _ask_fields(self, hash: str, fields: list[str], then: Callable[[Records], None]) -> None:
        self._ask_whole(["HMGET", self._store.key(hash)], fields, keys.piece, then)

    def _ask_whole(
        self, command: list[Any], names: Sequence[N], piece: Callable[[N, int], Any], then: Callable[[Records], None]
    ) -> None:
        """Ask for values, and for the further pieces of those that have some.

        Parameters
        ----------
        command : list
            What stands before the names.
        names : sequence
        piece : callable
            What stands in the command for a piece of what is called so.
        then : callable
        """
        pieces: list[list[Blob | None]] = [[] for _ in names]

        def ask(wanted: list[int], number: int) -> None:
            def on_records(records: Records) -> None:
                for position, record in zip(wanted, records, strict=True):
                    pieces[position].append(record)
                more = [at for at, record in zip(wanted, records, strict=True) if record and len(record) == PIECE]
                if more:
                    ask(more, number + 1)
                else:
                    then([whole_of(found) for found in pieces])

            self._ask(command[0], [*command[1:], *(piece(names[at], number) for at in wanted)], len(wanted), on_records)

        ask([*range(len(names))], 0)

    def _ask(self, command: str, arguments: list[Any], count: int, then: Callable[[Records], None]) -> None:
        def on_records(records: Any) -> None:
            if isinstance(records, errors.NbqueueError):
                log.error("%s", records)
                records = [None] * count
            then(records)

        self._requests.run(command, *arguments, callback=on_records)


def _make_room(cache: dict[Any, Any]) -> None:
    while len(cache) > _MOST:
        cache.pop(next(iter(cache)))
