"""What a cell puts out, from any of its threads: kept in order, joined, bounded, and handed on as Jupyter messages.

Whoever prints only puts a tuple into a queue, which is one step that no signal can cut in two. One thread joins what
comes and hands it on; so an exception that is raised into the main thread never lands in the middle of handing on.
"""

from __future__ import annotations

import io
import json
import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Literal

LIMIT = 16 * 1024 * 1024
"""Characters of text, and as many of displays, that a cell may leave standing."""

_MESSAGE = 64 * 1024
"""Characters of a stream message at most."""

_INTERVAL = 0.1
"""Seconds for which a burst is joined. What follows a silence of that length goes out at once."""

_ROOM = 16 * 1024 * 1024
"""Characters that may wait to be handed on; who puts out more waits."""

_ENVELOPE = 1000
"""Characters that a display counts beside its data, so that many tiny ones are bounded, too."""

Content = dict[str, Any]

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
    """

    def __init__(self, emit: Emit, *, limit: int = LIMIT) -> None:
        self.stdout = Stream(self, "stdout", 1)
        self.stderr = Stream(self, "stderr", 2)
        self._emit = emit
        self._limit = limit
        self._pid = os.getpid()
        self._queue: queue.SimpleQueue[tuple[str, Content, int] | _Mark] = queue.SimpleQueue()
        self._is_open = False
        self._failure: Exception | None = None
        self._emitted = 0.0
        self._given = self._taken = 0
        self._thread = threading.Thread(target=self._hand_on, name="nbqueue-outputs", daemon=True)
        self._thread.start()

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
        size = _size(kind, content)
        while self._given - self._taken > _ROOM and self._failure is None:
            time.sleep(_INTERVAL / 10)
        self._given += size
        self._queue.put((kind, content, size))

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
                    due = max(self._emitted + _INTERVAL, time.monotonic())
            except queue.Empty:
                self._send(joiner)
                continue
            if isinstance(item, _Mark):
                self._send(joiner)
                if item.what != "flush":
                    joiner = Joiner(self._limit) if item.what == "open" else None
                item.reached.release()
                if item.what == "stop":
                    return
                continue
            kind, content, size = item
            if joiner is None:  # a thread that went on a moment longer than its cell
                _to_process(kind, content)
            else:
                joiner.add(kind, content, size)
                if joiner.size >= _MESSAGE or time.monotonic() > due + _INTERVAL:
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


class Joiner:
    """Makes few messages of many: decides from plain data, without threads or clocks.

    Neighbouring texts become one, of several updates of a display only the last is handed on, and what is cleared
    before it was handed on is not at all. A display without an id gets one, counted from the last
    `clear_output` on: the first display after it has the id of the first one before, so that a front end can update
    it instead of making the page jump.

    Parameters
    ----------
    limit : int
        Characters of text, and as many of displays, that may stand at once: what is overwritten after `\\r`, updated
        or cleared does not count. What goes beyond is cut, which one sentence says.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.size = 0
        """About how much waits to be taken."""
        self._limit = limit
        self._prefix = uuid.uuid4().hex[:12]
        self._pending: list[tuple[str, Content]] = []
        self._clear_at: int | None = None
        """Where a `clear_output(wait=True)` is pending that the next output completes; -1 if it was taken."""
        self._start()

    def _start(self) -> None:
        """The area is empty."""
        self._lines = self._line = self._displays = self._anonymous = 0
        self._sizes: dict[str, int] = {}
        self._was_cut: set[str] = set()

    def add(self, kind: str, content: Content, size: int) -> None:
        """Take a message in."""
        if kind not in ("clear_output", "update_display_data") and self._clear_at is not None:
            self._drop(max(0, self._clear_at))
        self.size += size
        if kind == "clear_output":
            self._clear(content)
        elif kind == "update_display_data":
            self._update(content, size)
        elif kind == "stream":
            self._text(content["name"], content["text"])
        elif kind == "error":
            self._pending.append((kind, content))
        elif self._displays + size > self._limit:
            self._cut("rich output")
        else:
            self._displays += size
            if kind == "display_data":
                display_id = content["transient"].get("display_id")
                if display_id is None:
                    display_id = f"{self._prefix}-{self._anonymous}"
                    self._anonymous += 1
                    content = {**content, "transient": {**content["transient"], "display_id": display_id}}
                self._sizes[display_id] = self._sizes.get(display_id, 0) + size
            self._pending.append((kind, content))

    def has_pending(self) -> bool:
        return bool(self._pending)

    def take(self) -> list[tuple[str, Content]]:
        """The messages that follow from what was added since the last time."""
        pending, self._pending, self.size = self._pending, [], 0
        if self._clear_at is not None:
            self._clear_at = -1
        taken: list[tuple[str, Content]] = []
        for kind, content in pending:
            if kind != "stream":
                taken.append((kind, content))
                continue
            text = collapse("".join(content["text"]))
            if not text.isascii():  # lone surrogates, which cannot be sent
                text = text.encode("utf-8", "backslashreplace").decode()
            step = _MESSAGE if text.isascii() else _MESSAGE // 4
            for start in range(0, len(text), step):
                taken.append(("stream", {"name": content["name"], "text": text[start : start + step]}))
        return taken

    def _clear(self, content: Content) -> None:
        if not content["wait"]:
            self._drop(len(self._pending))
            self._pending.append(("clear_output", content))
        elif self._clear_at is None:
            self._clear_at = len(self._pending)
            self._pending.append(("clear_output", content))

    def _drop(self, count: int) -> None:
        """The first so many messages are cleared; updates may be meant for other cells' displays."""
        updates = [message for message in self._pending[:count] if message[0] == "update_display_data"]
        self._pending[:count] = updates
        self.size = _ENVELOPE * len(self._pending)
        self._clear_at = None
        self._start()

    def _update(self, content: Content, size: int) -> None:
        display_id = content["transient"]["display_id"]
        before = self._sizes.get(display_id, 0)
        if self._displays - before + size > self._limit:
            self._cut("rich output")
            return
        self._displays += size - before
        self._sizes[display_id] = size
        # Not merged into the display itself: there may be earlier ones of that id, here or under other cells.
        for i, (kind, earlier) in enumerate(self._pending):
            if kind == "update_display_data" and earlier["transient"]["display_id"] == display_id:
                del self._pending[i]
                self.size -= _size(kind, earlier)
                if self._clear_at is not None and i < self._clear_at:
                    self._clear_at -= 1
                break
        self._pending.append(("update_display_data", content))

    def _text(self, name: str, text: str) -> None:
        if "text" in self._was_cut:
            return
        before = self._lines + self._line
        if self._advance(text) <= self._limit:
            self._append(name, text)
        else:
            self._append(name, text[: self._limit - before])
            self._cut("text")

    def _advance(self, text: str) -> int:
        """Count what will stand after a text; returns that."""
        if "\r" not in text:
            end = text.rfind("\n") + 1
            self._lines += self._line + end if end else 0
            self._line = len(text) - end if end else self._line + len(text)
        else:
            for number, part in enumerate(text.split("\n")):
                if number:
                    self._lines += self._line + 1
                    self._line = 0
                _, mark, rest = part.rstrip("\r").rpartition("\r")
                self._line = len(rest) if mark or part.startswith("\r") else self._line + len(rest)
        return self._lines + self._line

    def _append(self, name: str, text: str) -> None:
        if self._pending and self._pending[-1][0] == "stream" and self._pending[-1][1]["name"] == name:
            self._pending[-1][1]["text"].append(text)
        else:
            self._pending.append(("stream", {"name": name, "text": [text]}))

    def _cut(self, what: str) -> None:
        if what not in self._was_cut:
            self._was_cut.add(what)
            self._append("stderr", f"\n[nbqueue: the limit of {_mb(self._limit)} is reached; further {what} was cut]\n")


def collapse(text: str) -> str:
    """The same text without what `\\r` lets later text overwrite."""
    if "\r" not in text:
        return text
    return "\n".join(map(_collapse_line, text.split("\n")))


def _collapse_line(line: str) -> str:
    first, *rest = line.split("\r")
    if len(rest) < 2 or "\x1b" in line:  # escape sequences take no columns, or move the cursor
        return line
    under = ""
    for text in rest[:-1]:
        under = text + under[len(text) :]
    # What stands beyond the last text remains, and the cursor is at the end of that.
    return "\r".join([first, rest[-1]] if len(under) <= len(rest[-1]) else [first, under, rest[-1]])


def _size(kind: str, content: Content) -> int:
    if kind == "stream":
        return len(content["text"])
    data = content.get("data", {})
    return _ENVELOPE + sum(len(value if isinstance(value, str) else json.dumps(value)) for value in data.values())


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


def _mb(size: int) -> str:
    return f"{size / 2**20:.0f} MB" if size >= 2**20 else f"{size / 2**10:.0f} KB"
