"""Requests to Redis from an event loop: sent without waiting, answered by callbacks, sent again after a break.

What was sent and not answered is sent again on the next connection, in the same order: every transition may be sent
twice. A server that says that it cannot do something now is asked again in the same way: an outcome that was refused
while its disk was full must not be lost. Connecting takes time, so a thread does it.
"""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nbqueue import errors
from nbqueue.store.connection import CONNECTING, Command, Connection
from nbqueue.store.link import Link, answer
from nbqueue.store.reply import Reply
from nbqueue.store.requests.request import Request

log = logging.getLogger("nbqueue.worker")

Callback = Callable[[Any], None]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 2.0
"""Seconds before connecting again; twice as long each time, until the server does something."""


@dataclass
class _Sent:
    commands: list[Command]
    request: Request[Any] | None
    callback: Callback
    replies: list[Any] = field(default_factory=list)
    """Those that have come on this connection."""
    size: int = 0
    """Bytes of the commands."""


class Pipeline:
    """One connection of an event loop.

    All its fields are one state, that of the connection: cut, each part would have to ask the others what holds.

    Parameters
    ----------
    store : Link
        Where to connect to.
    selector : selectors.BaseSelector
        The event loop's; its keys carry a callable as data.
    greeting : callable
        Called after each connecting, to send what a new connection needs first.
    """

    def __init__(self, store: Link, selector: selectors.BaseSelector, greeting: Callable[[], None]) -> None:
        self._store = store
        self._selector = selector
        self._greeting = greeting
        self._connection: Connection | None = None
        self._away_since = time.monotonic()
        self._known: set[str] = set()
        """Scripts that were sent on this connection: the server has their texts."""
        self._sent: deque[_Sent] = deque()
        self.held = 0
        """Bytes that were sent, or wait to be, and are kept until they are answered."""
        self._waits_since = 0.0
        """Since when there are some: that more are sent, and a worker always sends more, breaks no silence."""
        self._pushed: Callback | None = None
        self._opened: list[Connection | errors.NbqueueError] = []
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)
        selector.register(self._wake, selectors.EVENT_READ, self._take_opened)
        self._thread: threading.Thread | None = None
        self._pause = 0.0
        self._closed = threading.Event()
        self._has_told: set[type[Exception]] = set()
        self._connect()

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    @property
    def away(self) -> float:
        """Seconds for which there has been no connection."""
        return 0.0 if self._connection is not None else time.monotonic() - self._away_since

    @property
    def unanswered(self) -> int:
        return len(self._sent)

    def send(self, request: Request[Any], callback: Callback) -> None:
        """Queue a request; the callback gets what it reads as, or the error that the server answered with."""
        self._append(_Sent(self._store.commands(request), request, callback))

    def run(self, *command: bytes | str | float, callback: Callback) -> None:
        """The same for a plain command."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
        self._append(_Sent([parts], None, callback))

    def subscribe(self, channel: bytes, callback: Callback) -> None:
        """Listen to a channel; the connection serves nothing else then."""
        self._pushed = callback
        if self._connection is not None:
            self._connection.send([b"SUBSCRIBE", channel])
            self._flush()

    def flush(self) -> None:
        """Send what was queued; give a connection up that has been silent for too long."""
        if self._connection is not None:
            self._flush()
        if self._connection is not None and self._sent:
            try:
                self._connection.check_silence(self._waits_since)
            except OSError as error:
                self._broken(error)

    def close(self) -> None:
        self._closed.set()
        self._selector.unregister(self._wake)
        if self._connection is not None:
            self._selector.unregister(self._connection)
            self._connection.close()
        if self._thread is not None:
            self._thread.join(1)  # it may take longer: then it closes by itself what it opens
        self._wake.close()
        self._waker.close()

    def _append(self, sent: _Sent) -> None:
        sent.replies.clear()
        if not self._sent:
            self._waits_since = time.monotonic()
        self._sent.append(sent)
        if self._connection is not None:
            if sent.request is not None and sent.request.script not in self._known:
                # Had the server to be told later, others would overtake it: a lease be finished before the output
                # of its jobs is kept, which only the lease allows.
                self._known.add(sent.request.script)
                sent.commands = self._store.commands(sent.request, whole=True)
            for command in sent.commands:
                self._connection.send(command)
        sent.size = sum(len(part) for command in sent.commands for part in command)
        self.held += sent.size

    def _flush(self) -> None:
        assert self._connection is not None
        try:
            done = self._connection.flush()
        except OSError as error:
            self._broken(error)
            return
        events = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.modify(self._connection, events, self._on_event)

    def _on_event(self) -> None:
        if self._connection is None:
            return
        try:
            for reply in self._connection.replies():
                self._answer(reply)
        except OSError as error:
            self._broken(error)
            return
        if self._connection is not None:
            self._flush()

    def _answer(self, reply: Any) -> None:
        if self._pushed is None:
            sent = self._sent[0]
            sent.replies.append(reply)
            if len(sent.replies) < len(sent.commands):
                return
            reply = answer(sent.replies)
        if isinstance(reply, Reply) and reply.is_temporary:
            raise ConnectionError(str(reply))
        self._is_well()
        if self._pushed is not None:
            self._pushed(reply)
            return
        self._sent.popleft()
        self.held -= sent.size
        if isinstance(reply, Reply):
            if reply.code == "NOSCRIPT" and sent.request is not None:
                sent.commands = self._store.commands(sent.request, whole=True)
                self._append(sent)
                return
            what = sent.request.name if sent.request else bytes(sent.commands[0][0]).decode()
            sent.callback(self._store.refused(reply, what))
            return
        sent.callback(sent.request.read(reply) if sent.request else reply)

    def _is_well(self) -> None:
        self._pause = 0.0
        if self._has_told:
            self._has_told.clear()
            log.warning("connected to %s again", self._store.url)

    def _broken(self, error: OSError) -> None:
        assert self._connection is not None
        self._tell(OSError, f"lost the connection to {self._store.url}: {error}")
        self._selector.unregister(self._connection)
        self._connection.close()
        self._connection = None
        self._away_since = time.monotonic()
        self._connect()

    def _tell(self, kind: type[Exception], words: str) -> None:
        """Once, until it is well again."""
        if kind not in self._has_told:
            self._has_told.add(kind)
            log.warning("%s", words)

    def _connect(self) -> None:
        pause = self._pause
        self._pause = min(max(2 * pause, _FIRST_PAUSE), _LONGEST_PAUSE)

        def open_() -> None:
            if self._closed.wait(pause):
                return
            try:
                opened = self._store.open()
                (reply,) = opened.call([[b"PING"]], CONNECTING)
                if isinstance(reply, Reply) and reply.is_temporary:
                    opened.close()
                    raise self._store.refused(reply, "PING")
                self._opened.append(opened)
            except errors.NbqueueError as error:
                self._opened.append(error)
            try:
                self._waker.send(b"x")
            except OSError:  # closed meanwhile
                for connection in self._opened:
                    if isinstance(connection, Connection):
                        connection.close()

        self._thread = threading.Thread(target=open_, name="nbqueue-connect", daemon=True)
        self._thread.start()

    def _take_opened(self) -> None:
        self._wake.recv(64)
        opened = self._opened.pop()
        if self._closed.is_set():
            return
        if not isinstance(opened, Connection):
            self._tell(errors.ServerError, str(opened))
            self._connect()
            return
        self._connection = opened
        self._known.clear()
        self._selector.register(opened, selectors.EVENT_READ, self._on_event)
        waiting, self._sent, self.held = list(self._sent), deque(), 0
        self._greeting()
        for sent in waiting:
            self._append(sent)
        self.flush()
