"""Requests to Redis and their answers: one namespace on one server, for callers that wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from nbqueue import errors
from nbqueue.payload.records import PIECE, Blob, whole_of
from nbqueue.store import keys
from nbqueue.store.connection import Address, Command, Connection, Source, unreachable
from nbqueue.store.reply import Reply
from nbqueue.store.requests.request import Request
from nbqueue.store.script import Script

T = TypeVar("T")

_MUCH = 64 * 1024 * 1024
"""Bytes that are written by one command; a server refuses one of a gigabyte."""

_PATIENCE = 10.0
"""Seconds during which a call tries to reach the server again, after it first failed to, before it gives up."""


def answer(replies: Sequence[Any]) -> Any:
    """What a request's script answered, from the replies to all its commands."""
    last = replies[-1]
    if len(replies) == 1:
        return last
    if isinstance(last, Reply):  # the transaction was refused, because of one of its commands
        return next(reply for reply in replies if isinstance(reply, Reply))
    return last[-1]


class Link:
    """One namespace on one Redis.

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
        self.prefix = keys.prefix(namespace)
        self._restart = restart
        self._idle: list[Connection] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()

    @property
    def url(self) -> str:
        """Where the server is, without its password."""
        return self.address.url

    def key(self, name: str) -> bytes:
        """A key of this namespace, by its name in `keys.py`."""
        return self.prefix + name.encode()

    def commands(self, request: Request[Any], *, whole: bool = False) -> list[Command]:
        """The commands that send a request; `whole` sends the text of its script with it."""
        script = Script.named(request.script)
        head = [b"EVAL", script.text] if whole else [b"EVALSHA", script.sha]
        command = [*head, b"1", self.prefix, *request.arguments]
        if request.bulk is None:
            return [command]
        key, fields = self.key(request.bulk.key), request.bulk.fields
        if len(fields) > 1 and sum(len(record) for _, record in fields) >= _MUCH:
            writes: list[Command] = [[b"HSET", key, name.encode(), record] for name, record in fields]
        else:
            writes = [[b"HSET", key, *(part for name, record in fields for part in (name.encode(), record))]]
        return [[b"MULTI"], *writes, command, [b"EXEC"]]

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
        names = [field if isinstance(field, str) else field.decode() for field in fields]
        return [
            found if found is None or len(found) < PIECE else self._with_further_pieces(key, name, found)
            for name, found in zip(names, self._values(key, names), strict=True)
        ]

    def _with_further_pieces(self, key: str, name: str, first: memoryview) -> memoryview | None:
        pieces: list[Blob | None] = [first]
        while (last := pieces[-1]) is not None and len(last) == PIECE:
            pieces += self._values(key, [keys.piece(name, len(pieces))])
        whole = whole_of(pieces)
        return None if whole is None else memoryview(whole)

    def _values(self, key: str, names: Sequence[str]) -> list[memoryview | None]:
        command = [b"HMGET", self.key(key), *(name.encode() for name in names)]
        reply = self._talk(lambda connection: connection.values(command))
        if isinstance(reply, Reply):
            raise self.refused(reply, "HMGET")
        found: list[memoryview | None] = reply
        return found

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
                if self._restart is not None and (url := self._restart()) != self.address.url:
                    self.address = Address(url)
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


class Posted(Generic[T]):
    """A request whose answer was not read yet."""

    def __init__(self, link: Link, request: Request[T]) -> None:
        self._link, self._request = link, request
        commands = link.commands(request)
        self._count = len(commands)
        self._pid = os.getpid()
        self._connection: Connection | None = None
        try:
            connection = link._take()
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
            As for `Link.call`.
        """
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            try:
                reply = answer(connection.collect(self._count))
            except errors.ServerUnreachable:
                return self._link.call(self._request)
            self._link._give(connection)
            if not isinstance(reply, Reply):
                return self._request.read(reply)
        return self._link.call(self._request)
