"""Hearing of what happens to batches: one subscribed connection per store, read by whoever waits.

Of the threads that wait, one reads and tells the others; when it leaves, another takes its place. A thread of its own
would be woken first, for each hint, and then wake the one that waits.

What is heard are hints. Who waits reads the state when it begins, after each hint, and every two seconds: a lost hint
delays and never hangs.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

from nbqueue import errors
from nbqueue.store import keys
from nbqueue.store.connection import Connection
from nbqueue.store.link import Link
from nbqueue.store.reply import Reply

_LINGER = 30.0
"""Seconds for which a subscription stays after the last wait."""

_CONFIRM = 2.0
"""Seconds that the server's answer to a subscription is waited for."""

_MOST_OUTCOMES = 2000


class Watch:
    """What was heard of one batch."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.version = 0
        self.users = 0
        self.used_at = time.monotonic()
        self.complete_since = float("inf")
        """By the monotonic clock: of what ended later, the outcome was heard unless it was too large for a hint."""
        self._outcomes: dict[int, bytes] = {}

    def wait(self, version: int, timeout: float) -> None:
        """Until something was heard after `version`, or the timeout (seconds) is over."""
        self._listener.listen(lambda: self.version != version, timeout)

    def outcome(self, index: int) -> bytes | None:
        """The record of a job that has ended, if it came with the hint."""
        return self._outcomes.get(index)

    def hear(self, message: bytes) -> None:
        if message.startswith(b"outcome "):
            _, index, record = message.split(b" ", 2)
            if len(self._outcomes) >= _MOST_OUTCOMES:
                self._outcomes.pop(next(iter(self._outcomes)))
                self.complete_since = time.monotonic()
            self._outcomes[int(index)] = record
            self.version += 1
        elif message == b"ended":
            self.version += 1
        else:
            self.forget()  # a retry may have made them old

    def forget(self, since: float | None = None) -> None:
        """What was heard before does not count any more."""
        self._outcomes.clear()
        self.complete_since = time.monotonic() if since is None else since
        self.version += 1


class Listener:
    """Subscribes to batches. Threads may share it."""

    def __init__(self, store: Link) -> None:
        self._store = store
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._changed = threading.Condition()
        """Held while a watch changes or is added; told after each reading."""
        self._is_read = False
        self._sending = threading.Lock()
        self._connection: Connection | None = None
        self._watches: dict[str, Watch] = {}
        self._retiring: threading.Timer | None = None

    def _leave_to_parent(self) -> None:
        """A fork shares the connection: it stays the parent's, one of whose threads may have held a lock."""
        if self._pid != os.getpid():
            self._reset()

    @contextlib.contextmanager
    def watch(self, batch: str) -> Iterator[Watch]:
        """Hear of a batch while the block runs, from its beginning on."""
        self._leave_to_parent()
        with self._changed:
            watch = self._watches.get(batch)
            is_new = watch is None
            if watch is None:
                watch = self._watches[batch] = Watch(self)
            watch.users += 1
        try:
            connection = self._connection
            if is_new and connection is not None:
                try:
                    self._subscribe(connection, [batch])
                except errors.ServerError:  # it broke while nobody read: whoever waits connects again
                    self._lose(connection)
            if watch.complete_since == float("inf"):
                self.listen(lambda: watch.complete_since < float("inf"), _CONFIRM)
            yield watch
        finally:
            self._leave_to_parent()
            with self._changed:
                watch.users -= 1
                watch.used_at = time.monotonic()
                if self._retiring is None:
                    self._retire_later()

    def listen(self, is_over: Callable[[], bool], timeout: float) -> None:
        """Read, or have another thread read, until something is true or the timeout (seconds) is over."""
        self._leave_to_parent()
        deadline = time.monotonic() + timeout
        while True:
            with self._changed:
                while not is_over():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return
                    if not self._is_read:
                        self._is_read = True
                        break
                    self._changed.wait(left)
                else:
                    return
            try:
                self._read(left)
            finally:
                with self._changed:
                    self._is_read = False
                    self._changed.notify_all()

    def forget(self, batch: str) -> None:
        """What was heard of a batch does not count any more: its jobs were deleted."""
        watch = self._watches.get(batch)
        if watch is not None:
            watch.forget()

    def close(self) -> None:
        """Hear of nothing any more; the next watch subscribes anew."""
        self._leave_to_parent()
        with self._changed:
            connection, self._connection = self._connection, None
            self._watches = {}
        if self._retiring is not None:
            self._retiring.cancel()
        if connection is not None:
            connection.close()

    def _read(self, timeout: float) -> None:
        """What comes within a time, and what has come with it. Only one thread is here."""
        connection = self._connection
        try:
            if connection is None:
                connection = self._store.open()
                with self._changed:
                    self._connection, batches = connection, list(self._watches)
                self._subscribe(connection, batches)
            for message in connection.pushed(timeout):
                if isinstance(message, Reply):
                    self._refused(connection, message)
                else:
                    self._tell(message)
        except errors.ServerError:
            self._lose(connection)
            time.sleep(min(0.05, timeout))

    def _lose(self, connection: Connection | None) -> None:
        """A connection broke: nothing is heard until the next one is subscribed."""
        with self._changed:
            if self._connection is connection:
                self._connection = None
                for watch in self._watches.values():
                    watch.forget(float("inf"))

    def _subscribe(self, connection: Connection, batches: list[str]) -> None:
        if batches:
            with self._sending:
                connection.tell([b"SUBSCRIBE", *(self._store.key(keys.batch(batch)) for batch in batches)])

    def _refused(self, connection: Connection, reply: Reply) -> None:
        """A subscription was refused. For now: try again. For good: the state is read now and then without it."""
        if reply.is_temporary:
            connection.close()
            raise self._store.refused(reply, "SUBSCRIBE")

    def _tell(self, message: list[bytes]) -> None:
        kind, channel, text = message
        watch = self._watches.get(keys.batch_of(channel.removeprefix(self._store.prefix).decode()))
        if watch is None:
            return
        if kind == b"subscribe":
            watch.complete_since = time.monotonic()
        elif kind == b"message":
            watch.hear(text)

    def _retire_later(self) -> None:
        self._retiring = threading.Timer(_LINGER, self._retire)
        self._retiring.daemon = True
        self._retiring.start()

    def _retire(self) -> None:
        """Forget what nobody waits for any more, and close the connection if that was all."""
        self._retiring = None
        now = time.monotonic()
        with self._changed:
            unused = [batch for batch, watch in self._watches.items() if not watch.users and now - watch.used_at > 1.0]
            for batch in unused:
                del self._watches[batch]
            is_empty = not self._watches
            connection = self._connection
            if is_empty:
                self._connection = None
        if connection is not None and is_empty:
            connection.close()
        elif connection is not None and unused:
            with contextlib.suppress(errors.ServerError), self._sending:
                connection.tell([b"UNSUBSCRIBE", *(self._store.key(keys.batch(batch)) for batch in unused)])
        if not is_empty:
            self._retire_later()
