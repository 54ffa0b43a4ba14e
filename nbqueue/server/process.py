"""The server's process: starting it, asking it, ending it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from nbqueue import machine
from nbqueue.errors import ServerError
from nbqueue.server.binary import Binary
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

LOG_LIMIT = 1 << 20

LOADING_LIMIT = 120.0  # seconds in which a server must have loaded its data

UNHEARD_LIMIT = 5.0  # seconds after which a server without a socket has lost it, and is not one that starts


def launch(place: Place, binary: Binary) -> int | None:
    """Start a server. Returns the size that its log had before, or None if somebody else has the lock."""
    private_directory(place.directory)
    lock = take_lock(place, exclusive=True)
    if lock is None:
        return None
    try:
        if orphans := processes_of(place):  # whose lock file was deleted: two would write the same data
            end_processes(place, orphans)
        for leftover in place.directory.glob("temp-rewriteaof-*.aof"):  # of a server that was killed meanwhile
            leftover.unlink()
        if place.log.exists() and place.log.stat().st_size > LOG_LIMIT:
            place.log.replace(place.log.with_name("server.log.1"))
        socket = choose_socket(place)
        draft = place.directory / "address.new"
        draft.write_bytes(os.fsencode(socket))
        draft.replace(place.directory / "address")
        place.configuration.write_bytes(_configuration(place, socket))
        return _run(place, binary, lock)
    except OSError as error:
        raise ServerError(f"{place.directory} cannot be used: {error_in_words(error, place.directory)}") from error
    finally:
        os.close(lock)


def _run(place: Place, binary: Binary, lock: int) -> int:
    """Run the server, which detaches itself at once and keeps the lock."""
    import subprocess

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


def _configuration(place: Place, socket: Path) -> bytes:
    options: dict[str, str | Path] = {
        "port": "0",
        "unixsocket": socket,
        "unixsocketperm": "700",
        "dir": place.directory,
        "logfile": place.log,
        "pidfile": place.directory / "server.pid",
        "daemonize": "yes",
        "supervised": "no",
        "set-proc-title": "no",
        "proc-title-template": "{title} {unixsocket}",  # of the child that rewrites: `_processes` looks for it
        "appendonly": "yes",
        "appendfsync": "no",  # written before it is answered; `everysec` puts that off while an fsync is slow
        "aof-use-rdb-preamble": "no",
        "aof-load-truncated": "yes",
        "auto-aof-rewrite-percentage": "100",
        "auto-aof-rewrite-min-size": "64mb",
        "save": "",
        "maxmemory": str(machine.memory() // 2),
        "maxmemory-policy": "noeviction",
        "hash-max-listpack-entries": "128",
        "lazyfree-lazy-expire": "yes",  # a batch of a million jobs that expires would stall everybody
        "lazyfree-lazy-server-del": "yes",
        "lazyfree-lazy-user-del": "yes",
    }
    lines = [name.encode() + b" " + _quoted(value) for name, value in options.items()]
    return b"\n".join([*lines, b"client-output-buffer-limit pubsub 64mb 16mb 120", b""])


def _quoted(value: str | Path) -> bytes:
    """As the servers' configuration files want it, whatever bytes a path has."""
    plain = frozenset(range(32, 127)) - frozenset(b'"\\')
    return b'"%b"' % b"".join(b"%c" % byte if byte in plain else b"\\x%02x" % byte for byte in os.fsencode(value))


def answer(place: Place) -> str | None:
    """What the server says to PING: '' if it is silent, None if nobody listens."""
    socket = recorded_socket(place)
    return ask(socket, "PING") if socket else None


def ask(path: Path, command: str, timeout: float = 1.0) -> str | None:
    """The reply to a command; '' if there is none in time, None if nobody listens there or it may be somebody else."""
    import socket

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
    """Wait until the server answers; False if it has gone, or was ended because its socket has."""
    began = heard = time.monotonic()
    seen: dict[int, bool] = {}
    while True:
        reply = answer(place)
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
        recorded = int((place.directory / "server.pid").read_text())
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
    """End those of the processes `seen` that are still there, and wait for that; False if none is."""
    import signal

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
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def why_it_ended(place: Place, binary: Binary, since: int) -> str:
    """Why the server is not there that was started when its log had `since` bytes."""
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
