"""The state in Redis: what is read of it. It is changed by sending requests, with `Store.call`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from nbqueue import errors
from nbqueue.payload.records import PIECE, Blob, whole_of
from nbqueue.store import keys
from nbqueue.store.keys import POINTER, EndedRun, read_run
from nbqueue.store.link import Link
from nbqueue.store.requests import looking
from nbqueue.store.requests.looking import (
    PLACES,
    BatchState,
    CallRecords,
    Counted,
    JobState,
    OutcomeRecords,
    Page,
    QueueState,
    batch_state,
    read_entries,
)
from nbqueue.store.requests.request import Request, Run
from nbqueue.store.requests.running import MOST_RICH, Entry
from nbqueue.store.runs import united, without

_PAGE = 500
"""Batches that are read with one request: others wait for the server meanwhile."""

_EXPIRED = 100
"""Batches that have expired and are forgotten with one request."""


class Store(Link):
    """The state of one namespace on one Redis; see `Link`, which sends."""

    def batch(self, id: str) -> BatchState | None:
        """The state of a batch; None if there is none of this id."""
        return batch_state(id, self.run("HGETALL", self.key(keys.batch(id))))

    def batches(self, most: int, queue: str = "") -> list[BatchState]:
        """The newest batches of a queue, or of all, the newest first."""
        return self._listed(lambda n, after: looking.batches(n, queue, after), most)

    def unfinished(self, queue: str) -> list[BatchState]:
        """The batches of a queue that have jobs to do, or get some, the newest first."""
        found = self._listed(lambda n, after: looking.unfinished(n, queue, after), None)
        return [state for state in found if state.ended_at is None]

    def _listed(self, request: Callable[[int, str], Request[Page]], most: int | None) -> list[BatchState]:
        found: list[BatchState] = []
        end = ""
        while most is None or len(found) < most:
            page = self.call(request(_PAGE if most is None else min(_PAGE, most - len(found)), end))
            found += page.batches
            end = page.end
            if not end:
                break
        return found

    def queue(self, name: str) -> QueueState:
        """How many jobs a queue has, by environment and state. Takes as long however many batches there are.

        Where hundreds of batches have expired since somebody looked, what has ended in them may still be counted.
        """
        (state,) = self.call(looking.queues(name))
        return state

    def queues(self) -> list[QueueState]:
        """The same of all queues that have batches, by name."""
        while self.call(looking.forget_expired(_EXPIRED)) == _EXPIRED:
            pass
        found = self.call(looking.queues())
        return sorted(found, key=lambda queue: queue.name)

    def outcomes(self, batch: str, start: int, stop: int) -> OutcomeRecords | None:
        """The records of the outcomes of neighbouring jobs, of some 4 MB at most; None if there is no such batch."""
        found = self.call(looking.outcomes(batch, start, stop))
        if found is None:
            return None
        pointers = {name: record for name, record in found.records.items() if record[:1] == POINTER}
        if not pointers:
            return found
        records = found.records | self._followed(batch, pointers)
        return replace(found, records={name: record for name, record in records.items() if record})

    def job(self, batch: str, index: int) -> JobState | None:
        """One job; None if there is no such batch."""
        state = self.call(looking.job(batch, index))
        if state is None:
            return None
        if state.own[:1] == POINTER:
            return replace(state, own=self._followed(batch, {"own": state.own})["own"])
        if state.block[:1] == POINTER:
            return replace(state, block=self._followed(batch, {"block": state.block})["block"])
        return state

    def _followed(self, batch: str, pointers: dict[str, Blob]) -> dict[str, Blob]:
        """The records that pointers stand for; empty where they are not there any more."""
        fields = [bytes(pointer[len(POINTER) :]) for pointer in pointers.values()]
        records = self.bulk(keys.outcomes_bulk(batch), fields)
        return {name: record or b"" for name, record in zip(pointers, records, strict=True)}

    def calls(self, batch: str, index: int) -> CallRecords | None:
        """The records that a call is in, empty where it is not; None if there is no such batch."""
        found = self.call(looking.calls(batch, index))
        if found is None or not found.token or found.own:
            return found
        fields = [f"{found.token}:b{index // found.per_block}", f"{found.token}:{index}"]
        block, own = self.bulk(keys.calls_bulk(batch), fields)
        return replace(found, block=found.block or block or b"", own=own or b"")

    def now(self) -> float:
        """The server's time, seconds since the epoch."""
        seconds, microseconds = self.run("TIME")
        return int(seconds) + int(microseconds) / 1e6

    def ended(self, batch: str, offset: int, most: int) -> list[EndedRun]:
        """Entries of the list of what has ended, from a position on."""
        found = self.run("LRANGE", self.key(keys.ended(batch)), offset, offset + most - 1)
        return [EndedRun.read(entry) for entry in found]

    def ended_count(self, batch: str) -> int:
        """How many entries that list has."""
        return int(self.run("LLEN", self.key(keys.ended(batch))))

    def queued(self, batch: str) -> list[tuple[int, int]]:
        """The runs that wait, in order: first index, and the index after the last one."""
        return [read_run(entry) for entry in self.run("LRANGE", self.key(keys.queued(batch)), 0, -1)]

    def scheduled(self, batch: str) -> list[Run]:
        """The runs that wait for a time, the first that is due first."""
        return self._in_state(batch, "scheduled")

    def deferred(self, batch: str) -> list[Run]:
        """The runs that wait for other jobs."""
        return self._in_state(batch, "deferred")

    def waiting(self, batch: str) -> list[Run]:
        """The runs that are queued, in order, and behind them what runs alone on a worker."""
        return self._in_state(batch, "queued")

    def _in_state(self, batch: str, state: str) -> list[Run]:
        found = self.call(looking.places(batch, state))
        return [] if found is None else found.runs[state]

    def due(self, batch: str, index: int) -> float | None:
        """When a job is due that waits for a time, in seconds since the epoch; None if it does not."""
        found = self.run("ZRANGE", self.key(keys.scheduled(batch)), 0, -1, "WITHSCORES")
        for entry, score in zip(found[::2], found[1::2], strict=True):
            start, stop = read_run(entry)
            if start <= index < stop:
                return float(score)
        return None

    def in_state(self, batch: str, state: str) -> list[Run]:
        """The jobs of a batch that are in a state, by their index, without those that were deleted."""
        found = self.call(looking.places(batch, *(PLACES if state == "finished" else [state])))
        if found is None:
            return []
        if state == "finished":
            elsewhere = [run for runs in found.runs.values() for run in runs]
            return list(without([(0, found.total)], [*elsewhere, *found.deleted]))
        return list(without(united(found.runs[state]), found.deleted))

    def counted(self, queue: str, state: str) -> Iterator[Counted]:
        """The batches of a queue that have jobs in a state, the oldest first, read page by page."""
        end = ""
        while True:
            page = self.call(looking.counted(queue, state, _PAGE, end))
            yield from page.batches
            end = page.end
            if not end:
                return

    def failed(self, batch: str) -> list[int]:
        """The indices of the jobs that failed, in any order."""
        return [int(index) for key in (keys.failed, keys.broken) for index in self.run("HKEYS", self.key(key(batch)))]

    def failures(self, batch: str) -> list[FailureSummary]:
        """What failed, by identical error, in any order."""
        fields = self.run("HGETALL", self.key(keys.failures(batch)))
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        return [
            FailureSummary(digest.decode(), int(found.get(b"n:" + digest, b"0")), **json.loads(text))
            for digest, text in found.items()
            if not digest.startswith(b"n:")
        ]

    def function(self, digest: bytes) -> Blob | None:
        """The signed record of a function; None if it is not there (any more)."""
        pieces: list[Blob | None] = []
        while not pieces or ((last := pieces[-1]) is not None and len(last) == PIECE):
            pieces.append(self.run("GET", self.key(keys.code(keys.code_piece(digest, len(pieces))))))
        return whole_of(pieces)

    def has_large(self, names: list[str]) -> list[bool]:
        """Whether there is still what files of large values belong to: see `payload.files.Known`."""
        return [bool(self.run("EXISTS", *map(self.key, keys.of_large(name)))) for name in names]

    def data_directory(self) -> str | None:
        """Where the server keeps its data, on its host; None if it does not tell."""
        try:
            reply = self.run("CONFIG", "GET", "dir")
        except errors.ServerUnreachable:
            raise
        except errors.ServerError:
            return None
        return os.fsdecode(reply[1]) if len(reply) == 2 else None

    def is_paused(self, queue: str) -> bool:
        """Whether a whole queue is paused."""
        return bool(self.run("EXISTS", self.key(keys.paused(queue))))

    def is_suspended(self) -> bool:
        """Whether no worker takes anything."""
        return bool(self.run("EXISTS", self.key(keys.SUSPENDED)))

    def namespaces(self) -> list[str]:
        """The namespaces of the server that have workers."""
        found, cursor = set[str](), b"0"
        while True:
            cursor, names = self.run("SCAN", cursor, "MATCH", keys.WORKERS_OF_ANY, "COUNT", 10000, "TYPE", "zset")
            found |= {keys.namespace_of(name) for name in names}
            if cursor == b"0":
                return sorted(found)

    def submitting(self) -> dict[str, float]:
        """The batches that are being submitted, and how often their submitters have touched them."""
        return self.call(looking.submissions())

    def output(self, batch: str, most: int, after: str = "") -> list[Entry]:
        """The newest entries of what the jobs of a batch have printed, the oldest of these first.

        Parameters
        ----------
        most : int
        after : str
            The id of an entry: if there is none after it, nothing is read.
        """
        key = self.key(keys.output(batch))
        if after and not self.run("XREVRANGE", key, "+", f"({after}", "COUNT", 1):
            return []
        return read_entries(self.run("XREVRANGE", key, "+", "-", "COUNT", most)[::-1])

    def shown(self, batch: str, after: str, most: int) -> list[tuple[str, str, bytes]]:
        """The Jupyter messages that a batch of one cell has put out: ids, types and contents as JSON.

        Parameters
        ----------
        after : str
            The id of one that was read before. Where the part before its hyphen has changed, the cell was started
            again.
        """
        start = f"({after}" if after else "-"
        found = self.run("XRANGE", self.key(keys.shown(batch)), start, "+", "COUNT", most)
        return [(id.decode(), fields[0].decode(), fields[1]) for id, fields in found]

    def rich_output(self, batch: str, index: int | None = None) -> dict[tuple[int, int], tuple[int, bytes]]:
        """Attempt and content (JSON) of what jobs of a batch displayed, or one of them, by index and position."""
        key = self.key(keys.rich(batch))
        if index is None:
            reply = self.run("HGETALL", key)
            found = dict(zip(reply[::2], reply[1::2], strict=True))
        else:
            fields = [b"%d:%d" % (index, position) for position in range(MOST_RICH)]
            found = dict(zip(fields, self.run("HMGET", key, *fields), strict=True))
        rich = {}
        for field, value in found.items():
            if value is not None:
                job, _, position = field.partition(b":")
                attempt, _, content = value.partition(b" ")
                rich[int(job), int(position)] = int(attempt), content
        return dict(sorted(rich.items()))

    def tries(self, batch: str, index: int, attempts: int) -> dict[int, bytes]:
        """The records of those attempts of a job after which it ran again, by their numbers; `attempts` there were."""
        numbers = range(max(1, attempts - _MOST_TRIES + 1), attempts + 1)
        if not numbers:
            return {}
        found = self.run("HMGET", self.key(keys.tries(batch)), *(f"{index}:{number}" for number in numbers))
        return {number: record for number, record in zip(numbers, found, strict=True) if record}

    def named(self, name: str) -> str | None:
        """The batch whose job has a name of the user's; None if none has."""
        found = self.run("HGET", self.key(keys.named(name)), "batch")
        return None if found is None else found.decode()

    def meta(self, batch: str, index: int) -> dict[str, Any] | None:
        """What a job has saved of its `meta`; None if nothing."""
        found = self.run("HGET", self.key(keys.meta(batch)), index)
        saved: dict[str, Any] | None = None if found is None else json.loads(found)
        return saved

    def callback_error(self, batch: str, index: int) -> tuple[int, str] | None:
        """The attempt of a job whose callback went wrong last, and how; None if none did."""
        found = self.run("HGET", self.key(keys.callbacks(batch)), index)
        if found is None:
            return None
        attempt, _, text = found.partition(b" ")
        return int(attempt), text.decode("utf-8", "replace")

    def has_dropped_rich_output(self, batch: str) -> bool:
        """Whether jobs of a batch displayed more than is kept."""
        return bool(self.run("HEXISTS", self.key(keys.batch(batch)), "rich_full"))


_MOST_TRIES = 20
"""Attempts of a job whose outcomes are kept, beside its last one."""


@dataclass(frozen=True, slots=True)
class FailureSummary:
    """Failures of the same type and message."""

    digest: str
    count: int
    type: str
    message: str
    example: int
    """The index of one of the jobs."""
    traceback: str
