"""Processes that end with their worker: whoever starts one, ends it, with all that it has started.

Nothing here knows what the processes are for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from nbqueue import machine
from nbqueue.worker import guard as guards

ENDING = 5.0
"""Seconds in which a process ends by itself; so long it is waited for once more after it was killed."""


class Guard:
    """The small process that kills the children's process groups when this process is gone."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", guards.__file__],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True, text=True, bufsize=1,
        )  # fmt: skip
        for group in self._groups:
            self._tell(f"+{group}")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
        except BrokenPipeError:
            self._end(0.0)
            self._start()

    def watch(self, group: int) -> None:
        self._groups.add(group)
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        self._groups.discard(group)
        self._tell(f"-{group}")

    def check(self) -> None:
        """Start another guard if this one was killed."""
        if self._process.poll() is not None:
            self._start()

    def close(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._end(ENDING)

    def _end(self, timeout: float) -> None:
        """Wait until it has ended; it is killed if it takes longer than so many seconds."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING)


_POLL = 0.5
"""Seconds between two times that the system is asked whether a process lives that has a descriptor for that."""


class Process:
    """A process in a group of its own, which its guard ends when this process is gone.

    Parameters
    ----------
    command : sequence of str
    guard : Guard
    keep : sequence of int
        File descriptors that it inherits.
    environment : mapping
        Variables that it has in addition.
    output : tuple of int
        Its descriptors 1 and 2.
    """

    def __init__(
        self, command: Sequence[str], guard: Guard, *, keep: Sequence[int], environment: Mapping[str, str],
        output: tuple[int, int],
    ) -> None:  # fmt: skip
        self._guard = guard
        self._memory_kills = machine.memory_kills()
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output[0], stderr=output[1], pass_fds=keep, process_group=0,
            env={**os.environ, **environment},
        )  # fmt: skip
        self.pid = self._process.pid
        guard.watch(self.pid)
        self.end_fd = machine.end_of(self.pid)
        """A descriptor that can be read when it has ended, where the system has such."""
        self._may_have_ended = self.end_fd is None
        self._poll_at = 0.0
        """When it is asked for in any case, by the monotonic clock."""
        self._killed_at: float | None = None
        self._leaves_until: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether it was seen to have ended."""
        return self._process.returncode is not None

    @property
    def is_killed(self) -> bool:
        """Whether it did not end by itself."""
        return self._killed_at is not None

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, with all processes of its group."""
        if self._killed_at is None:
            self._killed_at = time.monotonic()
        self._kill_group()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(PermissionError):
            self._process.kill()  # a job may have moved it to another group

    def death(self) -> str | None:
        """How it died, in words; None while it lives. What it started is killed with it.

        One that does not die counts as dead: it hangs in the kernel, such as in a file system that is gone.
        """
        if not (self._may_have_ended or self._killed_at is not None or time.monotonic() > self._poll_at):
            return None
        self._poll_at = time.monotonic() + _POLL
        returncode = self._process.poll()
        if returncode is None:
            if self._killed_at is not None and time.monotonic() - self._killed_at > ENDING:
                return "its process hangs in the kernel, and does not even die of SIGKILL"
            return None
        self._kill_group()
        return machine.death_in_words(returncode, machine.memory_kills() - self._memory_kills)

    def on_end(self) -> None:
        """`end_fd` can be read."""
        self._may_have_ended = True

    def leave(self) -> None:
        """It has been told to end."""
        if self.end_fd is not None:
            os.close(self.end_fd)
            self.end_fd, self._may_have_ended = None, True
        self._leaves_until = time.monotonic() + ENDING

    def has_left(self) -> bool:
        """Whether it has ended after `leave`, and nothing of it is left; it is killed if it takes too long."""
        assert self._leaves_until is not None
        has_ended = self._process.poll() is not None
        if has_ended or time.monotonic() >= self._leaves_until:
            self.kill()
        if has_ended:
            self._guard.forget(self.pid)
        return has_ended

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
