"""What a cell puts out, from any of its threads: kept in order, joined, bounded, and handed on as Jupyter messages.

Whoever prints only puts a tuple into a queue, which is one step that no signal can cut in two. One thread joins what
comes and hands it on; so an exception that is raised into the main thread never lands in the middle of handing on.
"""

from __future__ import annotations

import codecs
import io
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Literal

from nbqueue.cells.joiner import LIMIT, MESSAGE, Content, Joiner, message_size
from nbqueue.child.context import LastWords
from nbqueue.protocol.descriptors import Descriptors
from nbqueue.store.requests.running import STREAMS

_INTERVAL = 0.1
"""Seconds for which a burst is joined. What follows a silence of that length goes out at once."""

_MOMENT = 0.002
"""Seconds in which what a line is printed in comes together, which are several texts."""

_ROOM = 16 * 1024 * 1024
"""Characters that may wait to be handed on; who puts out more waits."""

Emit = Callable[[str, Content], None]
"""Takes the type and the content of a Jupyter message."""


class Outputs:
    """Collects what a process puts out while it is open, and hands it on in a thread of its own.

    While it is closed, text goes where it went before: to the process's own stdout and stderr.

    Parameters
    ----------
    emit : callable
        Called with each message, in one thread, in order. May block: then who puts out waits. What it raises is
        raised by `close`, and nothing more is handed on until then.
    limit : int
        See `Joiner`.
    descriptors : Descriptors, optional
        Where what is written to the process's own stdout and stderr can be read. It is put out in order: before what is
        put out next, or by a thread that waits for it.
    last_words : LastWords, optional
        Where what is printed is kept until it was handed on.
    """

    def __init__(
        self, emit: Emit, *, limit: int = LIMIT, descriptors: Descriptors | None = None,
        last_words: LastWords | None = None,
    ) -> None:  # fmt: skip
        self.stdout = Stream(self, "stdout", 1)
        self.stderr = Stream(self, "stderr", 2)
        self._emit = emit
        self._limit = limit
        self._pid = os.getpid()
        self._last_words = last_words
        self._kept = 0
        """Bytes of what has been joined, in all that the cell has printed."""
        self._queue: queue.SimpleQueue[tuple[str, Content, int, int] | _Mark] = queue.SimpleQueue()
        self._is_open = False
        self._failure: Exception | None = None
        self._emitted = 0.0
        self._given = self._taken = 0
        self._thread = threading.Thread(target=self._hand_on, name="nbqueue-outputs", daemon=True)
        self._thread.start()
        self._descriptors = descriptors
        self._reading = threading.Lock()
        self._decoders = [codecs.getincrementaldecoder("utf-8")("backslashreplace") for _ in STREAMS]
        if descriptors is not None:
            threading.Thread(target=self._follow, args=(descriptors,), name="nbqueue-written", daemon=True).start()

    def open(self) -> None:
        """Begin a cell."""
        self._failure = None
        self._given = self._taken = 0
        self._mark("open")
        self._is_open = True

    def close(self) -> None:
        """End the cell: return when all that was put out has been handed on. May be repeated if it is interrupted.

        Raises
        ------
        Exception
            What `emit` raised.
        """
        self._read_written()
        self._is_open = False
        self._mark("close")
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def stop(self) -> None:
        """End the thread."""
        self._mark("stop")
        self._thread.join()

    def put(self, kind: str, content: Content) -> None:
        """Put out a message: `stream`, `display_data`, `update_display_data`, `execute_result`, `error` or
        `clear_output`, with the content that Jupyter's protocol describes."""
        if not self._is_open or self._is_elsewhere():
            _to_process(kind, content)
            return
        self._read_written()
        self._put(kind, content)

    def _put(self, kind: str, content: Content) -> None:
        size = message_size(kind, content)
        while self._given - self._taken > _ROOM and self._failure is None:
            time.sleep(_INTERVAL / 10)
        self._given += size
        kept = 0
        if kind == "stream" and self._last_words is not None:
            text = content["text"].encode("utf-8", "backslashreplace")
            kept = self._last_words.keep(STREAMS.index(content["name"]), text)
        self._queue.put((kind, content, size, kept))

    def _read_written(self) -> None:
        """Put out what was written to the process's descriptors before."""
        if self._descriptors is None or not self._is_open or not self._descriptors.has_text:
            return
        with self._reading:
            for stream, written in self._descriptors.read():
                text = self._decoders[stream].decode(written)
                if text:
                    self._put("stream", {"name": STREAMS[stream], "text": text})

    def _follow(self, descriptors: Descriptors) -> None:
        """In a thread of its own: see to it that what is written is put out soon."""
        while True:
            if self._is_open and not self.is_fork and descriptors.wait(1.0):
                self._read_written()
            else:
                time.sleep(_INTERVAL / 2)

    def flush(self) -> None:
        """Wait until what was put out is handed on, unless something just was: then it follows in a moment."""
        if self._is_open and not self._is_elsewhere() and time.monotonic() - self._emitted >= _INTERVAL:
            self._mark("flush")

    @property
    def is_fork(self) -> bool:
        """Whether this is a fork of the process that it was made in."""
        return os.getpid() != self._pid

    def _is_elsewhere(self) -> bool:
        """Whether this is a fork, where the thread is not; or the thread itself, which must not wait for itself."""
        return self.is_fork or threading.current_thread() is self._thread

    def _mark(self, what: Literal["open", "flush", "close", "stop"]) -> None:
        mark = _Mark(what)
        self._queue.put(mark)
        mark.reached.acquire()

    # In the thread ----------------------------------------------------------------------------------------------------

    def _hand_on(self) -> None:
        joiner: Joiner | None = None
        due = 0.0
        while True:
            try:
                if joiner is not None and joiner.has_pending():
                    item = self._queue.get(timeout=max(0.0, due - time.monotonic()))
                else:
                    item = self._queue.get()
                    now = time.monotonic()
                    due = max(self._emitted + _INTERVAL, now + _MOMENT)
            except queue.Empty:
                self._send(joiner)
                continue
            if isinstance(item, _Mark):
                self._send(joiner)
                if item.what != "flush":
                    self._kept = 0
                    joiner = Joiner(self._limit) if item.what == "open" else None
                item.reached.release()
                if item.what == "stop":
                    return
                continue
            kind, content, size, kept = item
            self._kept = max(kept, self._kept)
            if joiner is None:  # a thread that went on a moment longer than its cell
                _to_process(kind, content)
            else:
                joiner.add(kind, content, size)
                if joiner.size >= MESSAGE or time.monotonic() > due + _INTERVAL:
                    self._send(joiner)
            self._taken += size

    def _send(self, joiner: Joiner | None) -> None:
        messages = [] if joiner is None else joiner.take()
        for kind, content in messages:
            if self._failure is None:
                try:
                    self._emit(kind, content)
                except Exception as error:  # noqa: BLE001 - raised again by close(), where somebody hears it
                    self._failure = error
        if messages:
            self._emitted = time.monotonic()
            if self._last_words is not None and self._failure is None:
                self._last_words.handed_on(self._kept)


class _Mark:
    """Stands in the queue: when it is reached, all before it has been handed on."""

    def __init__(self, what: Literal["open", "flush", "close", "stop"]) -> None:
        self.what = what
        # Not an Event: to wait for one takes several steps, and a signal in between breaks it.
        self.reached = threading.Lock()
        self.reached.acquire()


class Stream(io.TextIOBase):
    """What `sys.stdout` and `sys.stderr` are while a cell runs."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, outputs: Outputs, name: str, fd: int) -> None:
        super().__init__()
        self._outputs = outputs
        self._fd = fd
        self.name = name

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """Of the process's own stream: `subprocess` and `faulthandler` need one."""
        return self._fd

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes a str, not {type(text).__name__}")
        if text:
            self._outputs.put("stream", {"name": self.name, "text": text})
        return len(text)

    def flush(self) -> None:
        self._outputs.flush()

    def close(self) -> None:
        """Nothing: whoever prints next needs it."""


def _to_process(kind: str, content: Content) -> None:
    """Write to the process's own streams, where no cell is open to take it."""
    if kind == "stream":
        file, text = (sys.__stderr__ if content["name"] == "stderr" else sys.__stdout__), content["text"]
    elif kind == "error":
        file, text = sys.__stderr__, "\n".join(content["traceback"]) + "\n"
    else:
        file, text = sys.__stdout__, content.get("data", {}).get("text/plain", "") + "\n"
    if file is not None:
        file.write(text)
        file.flush()
