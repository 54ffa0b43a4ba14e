"""The server's process: starting it, asking it, ending it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from nbqueue import machine
from nbqueue.errors import ServerError
from nbqueue.server.binary import Binary
from nbqueue.server.configuration import configuration
from nbqueue.server.place import (
    Place,
    choose_socket,
    error_in_words,
    is_held,
    is_private,
    private_directory,
    recorded_socket,
    take_lock,
)

_LOG_LIMIT = 1 << 20
"""Bytes after which a log is put aside at the next start."""

LOADING_LIMIT = 120.0
"""Seconds in which a server must have loaded its data."""

UNHEARD_LIMIT = 5.0
"""Seconds after which a server without a socket has lost it, and is not one that starts."""


def launch(place: Place, binary: Binary) -> int | None:
    """Start a server. Returns the size that its log had before, or None if somebody else has the lock.

    Raises
    ------
    ServerError
        Its directory cannot be used, or the program does not get started.
    """
    private_directory(place.directory)
    lock = take_lock(place, exclusive=True)
    if lock is None:
        return None
    try:
        if orphans := processes_of(place):  # whose lock file was deleted: two would write the same data
            end_processes(place, orphans)
        for leftover in place.directory.glob("temp-rewriteaof-*.aof"):  # of a server that was killed meanwhile
            leftover.unlink()
        if place.log.exists() and place.log.stat().st_size > _LOG_LIMIT:
            place.log.replace(place.log.with_name("server.log.1"))
        path = choose_socket(place)
        draft = place.address.with_name("address.new")
        draft.write_bytes(os.fsencode(path))
        draft.replace(place.address)
        place.configuration.write_bytes(configuration(place, path))
        return _run(place, binary, lock)
    except OSError as error:
        raise ServerError(f"{place.directory} cannot be used: {error_in_words(error, place.directory)}") from error
    finally:
        os.close(lock)


def _run(place: Place, binary: Binary, lock: int) -> int:
    """Run the server, which detaches itself at once and keeps the lock."""
    with place.log.open("ab") as log:
        size = log.tell()
        try:
            subprocess.run(
                [binary.path, place.configuration],
                cwd=place.directory,
                env={**os.environ, "LC_ALL": "C"},  # Redis 7.2 refuses to start in a locale that is not installed
                stdin=subprocess.DEVNULL,
                stdout=log,  # what it says before it opens its log
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
                umask=0o077,
                timeout=60,
            )
        except subprocess.TimeoutExpired as error:
            raise ServerError(f"{binary.path} did not start within a minute. Its log is {place.log}.") from error
    return size


def ping(place: Place) -> str | None:
    """The reply to PING: '' if the server is silent, None if nobody listens."""
    path = recorded_socket(place)
    return ask(path, "PING") if path else None


def ask(path: Path, command: str, timeout: float = 1.0) -> str | None:
    """The reply to a command; '' if there is none in time, None if nobody listens there or it may be somebody else."""
    if not is_private(path.parent):
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(os.fsencode(path))
            connection.sendall(command.encode() + b"\r\n")
            with connection.makefile("rb") as replies:
                reply = replies.readline()
                if reply.startswith(b"$"):
                    reply = replies.read(int(reply[1:]))
    except TimeoutError:
        return ""
    except OSError:
        return None
    return reply.decode(errors="replace").strip()


def await_answer(place: Place) -> bool:
    """Wait until the server answers; False if it has gone, or was ended because its socket has.

    Raises
    ------
    ServerError
        It does not answer in time, or nobody is found that could.
    """
    began = heard = time.monotonic()
    seen: dict[int, bool] = {}
    while True:
        reply = ping(place)
        if reply and not reply.startswith("-LOADING"):
            return True
        if not is_held(place):
            return False
        now = time.monotonic()
        if reply is not None:
            heard, seen = now, {}
        elif not seen and now - heard > UNHEARD_LIMIT:
            raise ServerError(
                f"{place.directory} is in use (its lock is held), but no server of yours can be found that answers for "
                f"it. It may run in another container: stop it there, or set NBQUEUE_HOME to another directory."
            )
        elif now - heard > UNHEARD_LIMIT or (seen and all(seen.values())):
            if end_processes(place, seen):
                return False
            heard, seen = now, {}  # somebody else has ended them, and starts another server
        elif not seen and now - heard > UNHEARD_LIMIT / 10:
            seen = processes_of(place)
        if now - began > LOADING_LIMIT:
            what = "is still loading its data" if reply else "does not answer"
            raise ServerError(
                f"The {place.family} server in {place.directory} {what} after {LOADING_LIMIT:g} seconds. Try again "
                f"later, look at its log ({place.log}), or stop it with `nbqueue server stop`."
            )
        time.sleep(0.01)


def processes_of(place: Place) -> dict[int, bool]:
    """The processes that have these files open as a server: pid, and whether it is a child that only rewrites them."""
    try:
        recorded = int(place.pid_file.read_text())
    except (OSError, ValueError):
        recorded = None
    rewrites = f"-aof-rewrite {recorded_socket(place)}"
    found = {}
    for pid, command in machine.commands():
        program = command.removesuffix(f" {place.configuration}")
        if program != command and ("server" in Path(program).name or pid == recorded):
            found[pid] = False
        elif rewrites in command and " " not in command.partition(rewrites)[0]:
            found[pid] = True
    return found


def end_processes(place: Place, seen: dict[int, bool]) -> bool:
    """End those of the processes `seen` that are still there, and wait for that; False if none is.

    Raises
    ------
    ServerError
        One of them has not gone.
    """
    present = processes_of(place)
    victims = present.keys() & seen.keys()
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):  # neither loses what was answered
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL if present[pid] else number)  # a child that rewrites ignores SIGTERM
            except ProcessLookupError:
                continue
        if wait_for(lambda: not victims & processes_of(place).keys(), patience):
            return bool(victims)
    raise ServerError(f"The server in {place.directory} (pid {', '.join(map(str, victims))}) cannot be ended.")


def wait_for(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def why_it_ended(place: Place, binary: Binary, since: int) -> str:
    """The reason, in words, why the server is not there that was started when its log had `since` bytes."""
    with place.log.open("rb") as log:
        log.seek(since)
        lines = log.read().decode(errors="replace").splitlines()[-8:]
    said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
    words = f"The {place.family} server in {place.directory} ended while it was starting."
    if "reading the append only file" in said:
        data = place.directory / "appendonlydir"
        path = next((path for path in sorted(data.glob("*.aof")) if path.name in said), data)
        words += (
            f" Its append-only file is damaged: {path}. Nothing was deleted. To cut it off at the damage, make a copy "
            f"and run: bash -c \"exec -a {place.family}-check-aof '{binary.path}' --fix '{path}'\"\n"
            f"To begin anew, move {data} to another place."
        )
    elif os.statvfs(place.directory).f_bavail == 0 or "No space left" in said:
        words += " The disk is full: make room and try again. Nothing was deleted."
    return f"{words}\nThe end of its log, {place.log}:\n{said}"
