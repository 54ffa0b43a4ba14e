"""The state in Redis, and how it is reached.

Every key begins with `nbq:{<namespace>}:`. Bytes that are pickled are signed (payload/seal.py).

| key                              | type   | holds                                                                       |
|----------------------------------|--------|-----------------------------------------------------------------------------|
| `batches`, `queue:<name>:batches` | zset  | batches by the time they were submitted: all, and those of a queue          |
| `queue:<name>:unfinished`        | zset   | those of them that have jobs to do, or get some                             |
| `expiring`, `expiring:jobs`      | zset,  | batches that have ended, by the time at which they expire; `finished failed |
|                                  | hash   | canceled queue environment` of each                                         |
| `batch:<id>`                     | hash   | what never changes (queue, environment, description, calls per block,...), |
|                                  |        | busy (us), flags, and counters: total, and the jobs in each state (queued,  |
|                                  |        | started, deferred, scheduled, finished, failed, canceled)                   |
| `batch:<id>:calls`               | hash   | `b<block>`: signed calls; `<index>`: a large call. Freed when more than     |
|                                  |        | 1,000 jobs have all finished                                                |
| `batch:<id>:queued`              | list   | runs that wait, in order: `10-40`; `s10-40` are suspect                     |
| `batch:<id>:outcomes`            | hash   | `b<block>` and `<index>`: signed outcomes, the job's own wins; `!...` are   |
|                                  |        | plain words, never unpickled; `@...` is the name of a field of the next one |
| `batch:<id>:calls:bulk`,         | hash   | records of 64 KB and more, which no script touches: written and read by     |
|   `:outcomes:bulk`               |        | plain commands (`<token>:<field>`, `<worker>:<lease>:<field>`)              |
| `batch:<id>:ended`               | list   | in the order of ending: `10-40`, `17`, `c10-40` (canceled), `r10-40` (undone) |
| `batch:<id>:canceled`            | list   | runs that were canceled                                                     |
| `batch:<id>:cancels`             | set    | leased jobs that shall be canceled when they come back                      |
| `batch:<id>:failed`              | hash   | index -> digest of its error                                                |
| `batch:<id>:errors`              | hash   | digest -> summary (JSON), `n:<digest>` -> how many                          |
| `batch:<id>:attempts`, `:deaths` | hash   | index -> how often it was started before, how often its process died since  |
|                                  |        | it was submitted or retried                                                 |
| `batch:<id>:output`              | stream | what jobs printed, made when there is some: `job`: `<index> <attempt> <bytes |
|                                  |        | before>`, then `stdout` or `stderr` and text, in turns. The newest 1,000    |
|                                  |        | entries of up to 1,000 bytes; of a job its first and last 32 KB             |
| `batch:<id>:shown`               | stream | Jupyter messages that a cell has put out: id `<start>-<number>`, type,      |
|                                  |        | content (JSON). Less those that later ones make superfluous; 10,000 at most |
| `batch:<id>:deleted`             | string | token of a batch that was deleted: its submission is not taken again        |
| `code:<digest>`                  | string | a signed function; `:batches` (set) need it, `:ended` (string) lives as     |
|                                  |        | long as an ended batch may be run again with it                             |
| `queue:<name>:<env>:jobs`        | hash   | the same counters of all its batches together, and how many these are       |
| `queues`, `queue:<name>:environments` | set | names of queues that have batches, and for which environments              |
| `queue:<name>:<env>:ready`       | zset   | batches from which a job can be taken now, by fair-share tag (seconds)      |
| `queue:<name>:<env>:clock`       | string | virtual time: the tag of the batch that was taken from last                 |
| `queue:<name>:<env>:wake`        | list   | at most one token, for which idle workers wait                              |
| `queue:<name>:<env>:suspects`    | list   | `batch index`: jobs that run alone on a worker; `:worker` (string) is next  |
| `queue:<name>:<env>:starting`    | string | there while the first worker starts by itself; for ten seconds at most      |
| `queue:<name>:paused`            | string | there while the queue is paused                                             |
| `workers`                        | zset   | workers by the number of their last beat                                    |
| `worker:<id>`                    | hash   | its description; numbers of its beat, its last claim, its last output. Each |
|                                  |        | process has an id of its own; the `name` that people see may be others' too |
| `worker:<id>:leases`             | hash   | number -> `batch start stop cost kind`                                      |
| `worker:<id>:orders`             | zset   | orders by number: `stop`, `cancel <batch> <lease>`, `cancel_job <batch>     |
|                                  |        | <index> <lease>`, where leases up to that number are meant                  |
| `submitting`                     | zset   | batches that are being submitted, by number of touches                      |

Each job is in exactly one place: in `queued` (or `suspects`), in a lease, or ended (an outcome, or `canceled`).
Channels: `batch:<id>` tells what happened ('changed', 'outcome <index> <record>', 'ended', 'gone'), `worker:<id>`
that there are orders. They are hints: who waits reads the state.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from nbqueue import errors
from nbqueue.payload.records import Blob
from nbqueue.store.connection import Address, Command, Connection, Source, unreachable
from nbqueue.store.keys import POINTER, EndedRun, read_queued
from nbqueue.store.reply import Reply
from nbqueue.store.requests import looking
from nbqueue.store.requests.looking import (
    BatchState,
    JobState,
    OutcomeRecords,
    Page,
    QueueState,
    batch_state,
    read_entries,
)
from nbqueue.store.requests.request import Request
from nbqueue.store.requests.running import Entry
from nbqueue.store.script import Script

T = TypeVar("T")

_PATIENCE = 10.0
"""Seconds during which a call tries to reach the server again, after it first failed to, before it gives up."""

_PAGE = 500
"""Batches that are read with one request: others wait for the server meanwhile."""


def answer(replies: Sequence[Any]) -> Any:
    """What a request's script answered, from the replies to all its commands."""
    last = replies[-1]
    if len(replies) == 1:
        return last
    if isinstance(last, Reply):  # the transaction was refused, because of one of its commands
        return next(reply for reply in replies if isinstance(reply, Reply))
    return last[-1]


class Store:
    """The state of one namespace on one Redis.

    Threads may share it. A command whose answer was lost is sent again: every transition may be sent twice.

    Parameters
    ----------
    connection : str or redis.Redis
        Where Redis is.
    namespace : str
        Keys of different namespaces never meet.
    restart : callable, optional
        Called when the server is gone; returns where it is now. The embedded server is started again this way.
    """

    def __init__(
        self, connection: Source, namespace: str = "default", *, restart: Callable[[], str] | None = None
    ) -> None:
        self.address = Address(connection)
        self.namespace = namespace
        self.prefix = f"nbq:{{{namespace}}}:".encode()
        self._restart = restart
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def url(self) -> str:
        """Where the server is, without its password."""
        return self.address.url

    def key(self, name: str) -> bytes:
        return self.prefix + name.encode()

    def commands(self, request: Request[Any], *, whole: bool = False) -> list[Command]:
        """The commands that send a request; `whole` sends the text of its script with it."""
        script = Script.named(request.script)
        head = [b"EVAL", script.text] if whole else [b"EVALSHA", script.sha]
        command = [*head, b"1", self.prefix, *request.arguments]
        if request.bulk is None:
            return [command]
        fields: list[Blob] = [part for name, record in request.bulk.fields for part in (name.encode(), record)]
        return [[b"MULTI"], [b"HSET", self.key(request.bulk.key), *fields], command, [b"EXEC"]]

    def call(self, request: Request[T]) -> T:
        """Send a request and wait for what it answers.

        Parameters
        ----------
        request : Request
            From `nbqueue.store.requests`.

        Raises
        ------
        ServerUnreachable
            No answer, also after several tries.
        ServerFull
            The server's memory limit is reached, or its disk is full.
        ServerError
            The server refused the request; the message says why.
        """
        reply = self._ask(self.commands(request))
        if isinstance(reply, Reply) and reply.code == "NOSCRIPT":
            reply = self._ask(self.commands(request, whole=True))
        if isinstance(reply, Reply):
            raise self.refused(reply, request.name)
        return request.read(reply)

    def post(self, request: Request[T]) -> Posted[T]:
        """Send a request; its answer is asked for later, with `Posted.result`."""
        return Posted(self, request)

    def run(self, *command: bytes | str | float) -> Any:
        """Send one plain command, which reads or may be sent twice."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        reply = self._ask([parts])
        if isinstance(reply, Reply):
            raise self.refused(reply, str(command[0]))
        return reply

    def bulk(self, key: str, fields: Sequence[str | bytes]) -> list[memoryview | None]:
        """Large values of a hash, each in memory of its own, which can be written to."""
        names = [field if isinstance(field, bytes) else field.encode() for field in fields]
        command = [b"HMGET", self.key(key), *names]
        reply = self._talk(lambda connection: connection.values(command))
        if isinstance(reply, Reply):
            raise self.refused(reply, "HMGET")
        found: list[memoryview | None] = reply
        return found

    def batch(self, id: str) -> BatchState | None:
        """The state of a batch; None if there is none of this id."""
        return batch_state(id, self.run("HGETALL", self.key(f"batch:{id}")))

    def batches(self, most: int, queue: str = "") -> list[BatchState]:
        """The newest batches of a queue, or of all, the newest first."""
        return self._listed(lambda n, after: looking.batches(n, queue, after), most)

    def unfinished(self, queue: str) -> list[BatchState]:
        """The batches of a queue that have jobs to do, or get some, the newest first."""
        return self._listed(lambda n, after: looking.unfinished(n, queue, after), None)

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
        """How many jobs a queue has, by environment and state. Takes as long however many batches there are."""
        (state,) = self.call(looking.queues(name))
        return state

    def queues(self) -> list[QueueState]:
        """The same of all queues that have batches, by name."""
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
        records = self.bulk(f"batch:{batch}:outcomes:bulk", fields)
        return {name: record or b"" for name, record in zip(pointers, records, strict=True)}

    def calls(self, batch: str, index: int) -> tuple[int, Blob, Blob] | None:
        """Calls per block, the record of the job's block or b'', its own or b''; None if there is no such batch."""
        found = self.call(looking.calls(batch, index))
        if found is None:
            return None
        per_block, token = found[0], found[3]
        block: Blob = found[1]
        own: Blob = found[2]
        if token and not own:
            records = self.bulk(f"batch:{batch}:calls:bulk", [f"{token}:b{index // per_block}", f"{token}:{index}"])
            block, own = block or records[0] or b"", records[1] or b""
        return per_block, block, own

    def now(self) -> float:
        """The server's time, seconds since the epoch."""
        seconds, microseconds = self.run("TIME")
        return int(seconds) + int(microseconds) / 1e6

    def ended(self, batch: str, offset: int, most: int) -> list[EndedRun]:
        """Entries of the list of what has ended, from a position on."""
        found = self.run("LRANGE", self.key(f"batch:{batch}:ended"), offset, offset + most - 1)
        return [EndedRun.read(entry) for entry in found]

    def ended_count(self, batch: str) -> int:
        """How many entries that list has."""
        return int(self.run("LLEN", self.key(f"batch:{batch}:ended")))

    def queued(self, batch: str) -> list[tuple[int, int]]:
        """The runs that wait, in order: first index, and the index after the last one."""
        return [read_queued(entry) for entry in self.run("LRANGE", self.key(f"batch:{batch}:queued"), 0, -1)]

    def failed(self, batch: str) -> list[int]:
        """The indices of the jobs that failed, in any order."""
        return [int(index) for index in self.run("HKEYS", self.key(f"batch:{batch}:failed"))]

    def failures(self, batch: str) -> list[FailureSummary]:
        """What failed, by identical error, in any order."""
        fields = self.run("HGETALL", self.key(f"batch:{batch}:errors"))
        found = dict(zip(fields[::2], fields[1::2], strict=True))
        return [
            FailureSummary(digest.decode(), int(found.get(b"n:" + digest, b"0")), **json.loads(text))
            for digest, text in found.items()
            if not digest.startswith(b"n:")
        ]

    def function(self, digest: bytes) -> bytes | None:
        """The signed record of a function; None if it is not there (any more)."""
        record: bytes | None = self.run("GET", self.key(f"code:{digest.hex()}"))
        return record

    def is_paused(self, queue: str) -> bool:
        """Whether a whole queue is paused."""
        return bool(self.run("EXISTS", self.key(f"queue:{queue}:paused")))

    def is_first_to_start(self, queue: str, environment: str, seconds: int) -> bool:
        """Whether the caller is the one that starts the first worker: for so long nobody else is."""
        key = self.key(f"queue:{queue}:{environment}:starting")
        return self.run("SET", key, "1", "NX", "EX", seconds) is not None

    def submitting(self) -> dict[str, float]:
        """The batches that are being submitted, and how often their submitters have touched them."""
        found = self.run("ZRANGE", self.key("submitting"), 0, -1, "WITHSCORES")
        return {id.decode(): float(touches) for id, touches in zip(found[::2], found[1::2], strict=True)}

    def output(self, batch: str, most: int, after: str = "") -> list[Entry]:
        """The newest entries of what the jobs of a batch have printed, the oldest of these first.

        Parameters
        ----------
        most : int
        after : str
            The id of an entry: if there is none after it, nothing is read.
        """
        key = self.key(f"batch:{batch}:output")
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
        found = self.run("XRANGE", self.key(f"batch:{batch}:shown"), start, "+", "COUNT", most)
        return [(id.decode(), fields[0].decode(), fields[1]) for id, fields in found]

    def refused(self, reply: Reply, what: str) -> errors.ServerError:
        """The error that stands for the server's answer."""
        if reply.code == "OOM" or "OOM command not allowed" in str(reply):
            return errors.ServerFull(
                f"the server at {self.url} has used the memory that it may use (maxmemory), and takes nothing more. "
                "Delete batches that are not needed any more (batch.delete()), or raise its limit"
            )
        if reply.code == "MISCONF":
            reason = str(reply).partition(" script: ")[0].rstrip(".")
            return errors.ServerFull(
                f"the server at {self.url} refused '{what}': {reason}. It cannot write to its disk, and takes nothing "
                "more until it can: make room there"
            )
        if "undeclared key" in str(reply) or "not declared" in str(reply):
            return errors.ServerError(
                f"the server at {self.url} refuses keys that a script did not declare (Dragonfly and ElastiCache "
                "Serverless do): nbqueue needs Redis >= 7.0 or Valkey >= 7.2"
            )
        return errors.ServerError(f"the server at {self.url} refused '{what}': {reply}")

    def open(self) -> Connection:
        """A connection of the caller's own."""
        return self.address.open()

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._leave_to_parent()
        with self._lock:
            connections, self._idle = self._idle, []
        for connection in connections:
            connection.close()

    def _ask(self, commands: Sequence[Command]) -> Any:
        return self._talk(lambda connection: answer(connection.call(commands)))

    def _talk(self, say: Callable[[Connection], Any]) -> Any:
        deadline, pause = float("inf"), 0.02
        while True:
            try:
                connection = self._take()
                reply = say(connection)
                self._give(connection)
                if not (isinstance(reply, Reply) and reply.code in ("LOADING", "BUSY", "MASTERDOWN")):
                    return reply
                error: errors.ServerUnreachable = unreachable(self.url, reply)
                if reply.code == "LOADING":
                    deadline = time.monotonic() + _PATIENCE
            except errors.ServerUnreachable as broken:
                error = broken
                self.close()  # what is left of them is broken too
                if self._restart is not None:
                    self.address = Address(self._restart())
            now = time.monotonic()
            deadline = min(deadline, now + _PATIENCE)
            if now > deadline:
                raise error
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _take(self) -> Connection:
        self._leave_to_parent()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self.open()

    def _leave_to_parent(self) -> None:
        """A fork shares the sockets: they stay the parent's, one of whose threads may have held the lock."""
        if self._pid != os.getpid():
            self._lock, self._idle, self._pid = threading.Lock(), [], os.getpid()

    def _give(self, connection: Connection) -> None:
        with self._lock:
            if not connection.closed and len(self._idle) < 16:
                self._idle.append(connection)
                return
        connection.close()


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


class Posted(Generic[T]):
    """A request whose answer was not read yet."""

    def __init__(self, store: Store, request: Request[T]) -> None:
        self._store, self._request = store, request
        commands = store.commands(request)
        self._count = len(commands)
        self._pid = os.getpid()
        self._connection: Connection | None = None
        try:
            connection = store._take()
            connection.post(commands)
            self._connection = connection
        except errors.ServerUnreachable:
            pass  # `result` sends it again

    def result(self) -> T:
        """What the server answers; where its answer was lost, or it could not act now, the request is sent again. So it
        is in a fork: the answer is the parent's.

        Raises
        ------
        ServerError
            As for `Store.call`.
        """
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            try:
                reply = answer(connection.collect(self._count))
            except errors.ServerUnreachable:
                return self._store.call(self._request)
            self._store._give(connection)
            if not isinstance(reply, Reply):
                return self._request.read(reply)
        return self._store.call(self._request)
