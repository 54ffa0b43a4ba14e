"""Connections to Redis: the one user of the `redis` package.

A `redis.Redis` client is not used for nbqueue's own commands, because it sends a command again when its answer was
lost, mixes answers up when a KeyboardInterrupt lands inside a reply, and is slow for large values. `redis.connection`
makes and authenticates the connection (TCP, TLS, passwords); to a Unix socket that asks for nothing, as the embedded
server's, this module connects itself, as `redis` takes a tenth of a second to import. It sends and reads by itself:

- bytes in, bytes out; RESP2, read by hiredis;
- a KeyboardInterrupt is held back until the answer is there; if that takes too long, the connection is closed before it
  is raised: no answer is ever read by the wrong call;
- `Connection.call` blocks; `Connection.send`, `fileno`, `flush` and `replies` serve an event loop.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

from nbqueue import errors

if TYPE_CHECKING:
    import redis
from nbqueue.store.bulk import Values
from nbqueue.store.interrupts import held_interrupt
from nbqueue.store.reply import Foreign, Reply

Client: TypeAlias = "redis.Redis"
Source: TypeAlias = "str | redis.Redis"
"""Where a Redis is: a URL, or a client whose settings are used."""
Part = bytes | bytearray | memoryview

Command = Sequence[Part]

SILENCE = 30.0
"""Seconds without a byte in either direction after which an answer that is due does not come any more."""

CONNECTING = 5.0
"""Seconds that connecting may take."""

_KEEPALIVE = {
    "TCP_KEEPIDLE": 15, "TCP_KEEPALIVE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": int(SILENCE * 1000),
}  # fmt: skip
"""What TCP is told, so that a connection also breaks after half a minute where nobody waits for an answer: one that
only listens sends nothing (the first two are names of the same on Linux and macOS), or was not acknowledged (Linux)."""

_CHUNK = 256 * 1024

_SPIN = 0.0001

_SLICE = 0.25
"""Seconds after which a blocking read looks whether it was interrupted."""


class Address:
    """Where a Redis is and how to connect to it: from a URL, or with the settings of a `redis.Redis`."""

    def __init__(self, source: str | redis.Redis) -> None:
        self._source = source
        self._client: redis.Redis | None = None
        self._socket = _socket_of(source) if isinstance(source, str) else None
        """A Unix socket that asks for nothing."""
        if self._socket is None:
            self._prepare()
        self.url = _without_password(source) if isinstance(source, str) else self._describe()

    @property
    def client(self) -> redis.Redis:
        """A client of the same server."""
        if self._client is None:
            self._prepare()
        assert self._client is not None
        return self._client

    def is_client(self, other: object) -> bool:
        """Whether something is the client that was given out."""
        return other is not None and other is self._client

    def _prepare(self) -> None:
        import redis

        source = self._source
        if isinstance(source, str):
            if not source.startswith(("redis://", "rediss://", "unix://")):
                raise errors.UsageError(
                    f"connection {_without_password(source)!r}: a URL begins with redis://, rediss:// or unix://"
                )
            try:
                self._client = redis.Redis.from_url(source)
            except ValueError as error:
                raise errors.UsageError(f"connection {_without_password(source)!r}: {error}") from error
        elif isinstance(source, redis.Redis):
            self._client = source
        else:
            raise errors.WrongType(f"connection: a URL or a redis.Redis is needed, not a {type(source).__name__}")
        pool = self._client.connection_pool
        settings = dict(pool.connection_kwargs)
        for name in (
            "retry", "retry_on_error", "event_dispatcher", "maint_notifications_config", "cache",
            "lib_name", "lib_version",
        ):  # fmt: skip
            settings.pop(name, None)
        settings.update(
            protocol=2,
            decode_responses=False,
            health_check_interval=0,
            socket_timeout=CONNECTING,
            socket_connect_timeout=CONNECTING,
            **_anonymous(redis),
        )
        if "path" not in settings:
            numbers = {getattr(socket, name): value for name, value in _KEEPALIVE.items() if hasattr(socket, name)}
            given = settings.get("socket_keepalive_options")
            numbers.update(given if isinstance(given, dict) else {})
            settings.update(socket_keepalive=True, socket_keepalive_options=numbers)
        self._make = pool.connection_class
        self._settings = settings

    def _describe(self) -> str:
        settings = self._settings
        if "path" in settings:
            return f"unix://{settings['path']}"
        return f"redis://{settings.get('host', 'localhost')}:{settings.get('port', 6379)}/{settings.get('db') or 0}"

    def open(self) -> Connection:
        """A new connection.

        Raises
        ------
        ServerUnreachable
            The server does not accept it, or not these credentials.
        """
        if self._socket is not None:
            return _connected(self.url, self._socket)
        import redis

        try:
            connection = self._make(**self._settings)
        except TypeError as error:
            raise errors.UsageError(f"connection {self.url}: {error}") from error
        try:
            connection.connect()
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            reason = Foreign(error) if isinstance(error, redis.InvalidResponse) else error
            raise unreachable(self.url, reason) from error
        return Connection(self.url, connection._sock, connection.disconnect)


def _socket_of(url: str) -> str | None:
    """The path of a Unix socket that a URL names with nothing else."""
    path = url.removeprefix("unix://")
    return unquote(path) if path != url and path.startswith("/") and not set(path) & set("?#@") else None


def _connected(url: str, path: str) -> Connection:
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(CONNECTING)
        made.connect(path)
    except OSError as error:
        made.close()
        raise unreachable(url, error) from error
    return Connection(url, made, functools.partial(_disconnect, made, os.getpid()))


def _disconnect(connected: socket.socket, pid: int) -> None:
    if os.getpid() == pid:  # a fork closes its descriptor only
        with contextlib.suppress(OSError):
            connected.shutdown(socket.SHUT_RDWR)
    connected.close()


def _anonymous(package: ModuleType) -> dict[str, None]:
    """Settings that keep redis-py, if any can, from telling the server its name and version: two round trips."""
    if hasattr(package, "DriverInfo"):  # since 7.2; they warn of the others
        return {"driver_info": None}
    return {"lib_name": None, "lib_version": None}


def unreachable(url: str, error: object) -> errors.ServerUnreachable:
    hint = "Is it running, and may this machine reach it?"
    if "WRONGPASS" in str(error) or "NOAUTH" in str(error) or "uthentication" in str(error):
        hint = "Does the URL (NBQUEUE_URL) hold the right user and password?"
    return errors.ServerUnreachable(f"the server at {url} does not answer: {str(error).rstrip('.')}. {hint}")


def _without_password(url: str) -> str:
    head, _, tail = url.partition("://")
    credentials, at, rest = tail.rpartition("@")
    if not at:
        return url
    return f"{head}://{credentials.split(':')[0]}:***@{rest}"


class Connection:
    """One connection: commands out, replies in."""

    def __init__(self, url: str, connected: socket.socket, disconnect: Callable[[], None]) -> None:
        import hiredis

        self.url = url
        self._socket = connected
        self._disconnect = weakref.finalize(self, disconnect)
        """Also when it is forgotten: before what it holds would find that out for itself."""
        self._reader = hiredis.Reader(protocolError=Foreign, replyError=Reply)
        self._out: list[memoryview] = []
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._tls = hasattr(self._socket, "pending")
        self._is_full = False
        self._moved_at = time.monotonic()
        """When something was last known to have arrived, here or there."""
        self.closed = False

    def close(self) -> None:
        """Close the connection; answers that were not read are lost."""
        self.closed = True
        self._disconnect()

    # For callers that block

    def call(self, commands: Sequence[Command], silence: float | None = None) -> list[Any]:
        """Send commands and read their answers; errors are among these as `Reply` objects.

        However long a large value is on its way, time is up only when nothing moves.

        Parameters
        ----------
        commands : sequence of sequences of bytes
        silence : float, optional
            Seconds in which nothing may move; by default `SILENCE`.

        Raises
        ------
        ServerUnreachable
            The connection broke or the answer did not come. The connection is closed; the commands may have acted.
        """
        silence = SILENCE if silence is None else silence
        with self._talking(silence) as interrupted:
            for chunk in _packed(commands):
                self._send(chunk, interrupted)
            return [self._read(silence, interrupted) for _ in commands]

    def post(self, commands: Sequence[Command]) -> None:
        """Send commands; `collect` reads their answers.

        Raises
        ------
        ServerUnreachable
            As for `call`.
        """
        with self._talking(SILENCE) as interrupted:
            for chunk in _packed(commands):
                self._send(chunk, interrupted)

    def collect(self, count: int) -> list[Any]:
        """The answers to `count` commands that were posted.

        Raises
        ------
        ServerUnreachable
            As for `call`.
        """
        with self._talking(SILENCE) as interrupted:
            return [self._read(SILENCE, interrupted) for _ in range(count)]

    def values(self, command: Command) -> list[memoryview | None] | Reply:
        """Send a command that is answered with a list of values (HMGET), each read into memory of its own.

        For large ones: the general way copies each three times. The memory can be written to, and each value ends where
        an address is a multiple of 16: what makes up its end, as an array does, is aligned.

        Raises
        ------
        ServerUnreachable
            As for `call`.
        """
        values = Values()
        with self._talking(SILENCE) as interrupted:
            for chunk in _packed([command]):
                self._send(chunk, interrupted)
            while not values.is_complete:
                self._await(SILENCE, interrupted)
                values.receive(self._socket)
        return values.found if values.error is None else values.error

    @contextlib.contextmanager
    def _talking(self, silence: float) -> Iterator[Callable[[], bool]]:
        """Whatever interrupts it, no answer is left behind for the next caller; tells whether an interrupt waits."""
        with held_interrupt() as interrupted:
            try:
                self._socket.settimeout(silence)
                yield interrupted
            except OSError as error:
                self.close()
                raise unreachable(self.url, error) from error
            except BaseException:
                self.close()
                raise

    def _send(self, chunk: Part, interrupted: Callable[[], bool]) -> None:
        if len(chunk) <= _CHUNK:
            self._socket.sendall(chunk)
            return
        view = memoryview(chunk)  # the socket's time limit is one for each call of `sendall`
        for start in range(0, len(view), _CHUNK):
            if interrupted():
                raise KeyboardInterrupt
            self._socket.sendall(view[start : start + _CHUNK])

    def _read(self, silence: float, interrupted: Callable[[], bool]) -> Any:
        while True:
            reply = self._reader.gets()
            if reply is not False:
                return reply
            self._await(silence, interrupted)
            self._receive()

    def _await(self, silence: float, interrupted: Callable[[], bool]) -> None:
        """Until there is something to read."""
        self._spin()
        deadline = time.monotonic() + silence
        while not self._ready(_SLICE):
            if interrupted():
                raise KeyboardInterrupt
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {silence:g} seconds")

    # For subscriptions

    def tell(self, command: Command) -> None:
        """Send a command whose answers are read by `pushed`, perhaps in another thread.

        Raises
        ------
        ServerUnreachable
        """
        with held_interrupt():
            try:
                self._socket.sendall(b"".join(_packed([command])))
            except OSError as error:
                self.close()
                raise unreachable(self.url, error) from error

    def pushed(self, timeout: float) -> list[Any]:
        """The messages of a subscription: waits for one, `timeout` seconds at most, and takes all that are there.

        Raises
        ------
        ServerUnreachable
            The connection broke.
        """
        messages: list[Any] = []
        try:
            self._spin()
            while self._ready(timeout) and len(messages) < 10_000:
                with held_interrupt():
                    self._receive()
                    while (reply := self._reader.gets()) is not False:
                        messages.append(reply)
                timeout = 0.0
        except OSError as error:
            self.close()
            raise unreachable(self.url, error) from error
        return messages

    def _ready(self, timeout: float) -> bool:
        if self._tls and self._socket.pending() > 0:  # type: ignore[attr-defined]
            return True
        return bool(self._poll.poll(timeout * 1000))

    def _spin(self) -> None:
        """Look for the answer without going to sleep: on an idle machine, waking up takes longer than most answers."""
        until = time.monotonic() + _SPIN
        while not self._poll.poll(0) and time.monotonic() < until:
            os.sched_yield()

    def _receive(self) -> None:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise ConnectionResetError("the server closed the connection")
        self._reader.feed(data)

    # For event loops

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, command: Command) -> None:
        """Queue a command; `flush` sends it."""
        self._out.extend(memoryview(chunk) for chunk in _packed([command]))

    def flush(self) -> bool:
        """Send what the socket takes without blocking. True if all is sent, False to call again when it is writable.

        Raises
        ------
        OSError
            The connection broke.
        """
        if not self._out:
            return True
        self._socket.setblocking(False)
        while self._out:
            try:
                sent = self._socket.send(self._out[0])
            except (BlockingIOError, InterruptedError):
                self._is_full = True
                return False
            except OSError as error:
                if _wants_more(error):
                    self._is_full = True
                    return False
                raise
            if self._is_full:  # otherwise the kernel took it, which says nothing about the network
                self._is_full = False
                self._moved_at = time.monotonic()
            if sent == len(self._out[0]):
                self._out.pop(0)
            else:
                self._out[0] = self._out[0][sent:]
        return True

    def check_silence(self, since: float) -> None:
        """For who waits for an answer, now and then: a network that swallows everything says nothing by itself.

        Parameters
        ----------
        since : float
            When the wait began, by the monotonic clock.

        Raises
        ------
        OSError
            Nothing has moved for so long that no answer comes any more.
        """
        if time.monotonic() - max(since, self._moved_at) > SILENCE:
            raise TimeoutError(f"no answer within {SILENCE:g} seconds")

    def replies(self) -> Iterator[Any]:
        """The answers that are there, without blocking.

        Raises
        ------
        OSError
            The connection broke.
        """
        self._socket.setblocking(False)
        while True:
            try:
                data = self._socket.recv(_CHUNK)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if _wants_more(error):
                    return
                raise
            if not data:
                raise ConnectionResetError("the server closed the connection")
            self._moved_at = time.monotonic()
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                yield reply
            if len(data) < _CHUNK and not self._tls:
                return


def _wants_more(error: OSError) -> bool:
    import ssl

    return isinstance(error, ssl.SSLWantReadError | ssl.SSLWantWriteError)


def _packed(commands: Sequence[Command]) -> list[Part]:
    """The bytes of commands: small parts joined, large ones as they are."""
    chunks: list[Part] = []
    small: list[Part] = []
    for command in commands:
        small.append(b"*%d\r\n" % len(command))
        for part in command:
            if len(part) < 65536:
                small += (b"$%d\r\n" % len(part), part, b"\r\n")
            else:
                small.append(b"$%d\r\n" % len(part))
                chunks += (b"".join(small), part)
                small = [b"\r\n"]
    chunks.append(b"".join(small))
    return chunks
