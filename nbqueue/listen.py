"""Hearing of what happens to batches: one thread per process and store, subscribed to what somebody waits for.

What it hears are hints. Who waits reads the state when it begins, after each hint, and every two seconds: a lost hint
delays and never hangs.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator

from nbqueue import errors
from nbqueue.store import Store
from nbqueue.wire import Wire

_LINGER = 30.0
"""Seconds for which a subscription stays after the last wait."""
_MOST_OUTCOMES = 2000


class Watch:
    """What was heard of one batch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.version = 0
        self.users = 0
        self.used_at = time.monotonic()
        self.subscribed = threading.Event()
        self.complete_since = float("inf")
        """By the monotonic clock: of what ended later, the outcome was heard unless it was too large for a hint."""
        self._outcomes: dict[int, bytes] = {}

    def wait(self, version: int, timeout: float) -> None:
        """Until something was heard after `version`, or the timeout (seconds) is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.version != version, timeout)

    def outcome(self, index: int) -> bytes | None:
        """The record of a job that has ended, if it came with the hint."""
        with self._changed:
            return self._outcomes.get(index)

    def hear(self, message: bytes) -> None:
        with self._changed:
            if message.startswith(b"outcome "):
                _, index, record = message.split(b" ", 2)
                if len(self._outcomes) >= _MOST_OUTCOMES:
                    self._outcomes.pop(next(iter(self._outcomes)))
                    self.complete_since = time.monotonic()
                self._outcomes[int(index)] = record
            elif message != b"ended":
                self._forget()  # a retry may have made them old
            self.version += 1
            self._changed.notify_all()

    def nudge(self) -> None:
        with self._changed:
            self.version += 1
            self._forget()
            self._changed.notify_all()

    def confirm(self) -> None:
        """The server has confirmed the subscription."""
        self.complete_since = time.monotonic()
        self.subscribed.set()

    def _forget(self) -> None:
        self._outcomes.clear()
        self.complete_since = time.monotonic()


class Listener:
    """Subscribes to batches; its thread starts with the first watch and ends when nothing is watched any more."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._watches: dict[str, Watch] = {}
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._news: tuple[int, int] | None = None

    @contextlib.contextmanager
    def watch(self, batch: str) -> Iterator[Watch]:
        """Hear of a batch while the block runs, from its beginning on."""
        with self._lock:
            if self._pid != os.getpid():
                self._watches, self._thread, self._pid = {}, None, os.getpid()
            watch = self._watches.get(batch)
            if watch is None:
                watch = self._watches[batch] = Watch()
                self._start_or_tell()
            watch.users += 1
        try:
            watch.subscribed.wait(2.0)
            yield watch
        finally:
            with self._lock:
                watch.users -= 1
                watch.used_at = time.monotonic()

    def forget(self, batch: str) -> None:
        """What was heard of a batch does not count any more: its jobs were deleted."""
        watch = self._watches.get(batch)
        if watch is not None:
            watch.nudge()

    def _start_or_tell(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._news = os.pipe()
            self._thread = threading.Thread(
                target=self._listen, args=(self._news[0],), name="nbqueue-listen", daemon=True
            )
            self._thread.start()
        elif self._news is not None:
            os.write(self._news[1], b"x")

    def _listen(self, news: int) -> None:
        wire: Wire | None = None
        subscribed: set[str] = set()
        pause = 0.05
        try:
            while True:
                if wire is None:
                    try:
                        wire, subscribed, pause = self._store.open(), set(), 0.05
                    except errors.ServerError:
                        time.sleep(pause)
                        pause = min(2 * pause, 2.0)
                        self._nudge_all()
                        if self._is_over():
                            return
                        continue
                try:
                    self._subscribe(wire, subscribed)
                    self._hear(wire, news)
                except OSError:
                    wire.close()
                    wire = None
                    self._nudge_all()
                if self._is_over():
                    return
        finally:
            if wire is not None:
                wire.close()
            os.close(news)

    def _subscribe(self, wire: Wire, subscribed: set[str]) -> None:
        with self._lock:
            wanted = set(self._watches)
        for batch in wanted - subscribed:
            wire.send([b"SUBSCRIBE", self._store.key(f"batch:{batch}")])
        for batch in subscribed - wanted:
            wire.send([b"UNSUBSCRIBE", self._store.key(f"batch:{batch}")])
        subscribed |= wanted
        subscribed &= wanted
        while not wire.flush():
            time.sleep(0.001)

    def _hear(self, wire: Wire, news: int) -> None:
        poll = select.poll()
        poll.register(wire.fileno(), select.POLLIN)
        poll.register(news, select.POLLIN)
        for fd, _ in poll.poll(2000):
            if fd == news:
                os.read(news, 4096)
                continue
            for reply in wire.replies():
                kind, channel, message = reply
                watch = self._watches.get(channel[len(self._store.prefix) + 6 :].decode())
                if watch is None:
                    continue
                if kind == b"subscribe":
                    watch.confirm()
                elif kind == b"message":
                    watch.hear(message)

    def _nudge_all(self) -> None:
        with self._lock:
            watches = list(self._watches.values())
        for watch in watches:
            watch.nudge()

    def _is_over(self) -> bool:
        """Forget what nobody waits for any more; without anything left, the thread ends."""
        now = time.monotonic()
        with self._lock:
            for batch, watch in list(self._watches.items()):
                if watch.users == 0 and now - watch.used_at > _LINGER:
                    del self._watches[batch]
            if self._watches:
                return False
            self._thread = None
            if self._news is not None:
                os.close(self._news[1])
                self._news = None
            return True
