"""The files of the server, and the lock on them.

`<home>` is `settings.home()`, or a directory below /tmp where that cannot be written:

    <home>/key                       32 random bytes, 0600: what payloads are signed with
    <home>/<family>/                 0700; `valkey` or `redis`, whose files differ (on a network disk: and the host)
        lock                         held by the server as long as it lives
        address                      the path of its socket
        server.conf, server.pid      written at each start
        server.log, server.log.1     the log, and the older part of it
        appendonlydir/               the data
    $XDG_RUNTIME_DIR/nbqueue/<hash>.sock or /tmp/nbqueue-<uid>/<hash>.sock: the socket; there is no port
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nbqueue import machine, settings
from nbqueue.errors import ServerError
from nbqueue.server.binary import OLDEST, Binary

_SOCKET_PATH_LIMIT = 103
"""Bytes; of macOS. Linux has four more."""

_NETWORK_DISKS = {
    "afs", "beegfs", "ceph", "cifs", "fuse.ceph", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs",
    "lustre", "nfs", "nfs4", "panfs", "smb3", "smbfs", "wekafs",
}  # fmt: skip
"""Types of file systems that several hosts see."""


@dataclass(frozen=True)
class Place:
    """The directory of a server, and what is in it."""

    directory: Path
    family: str
    note: str | None
    """That it is a temporary one, and why."""

    @property
    def lock(self) -> Path:
        """Held by the server as long as it lives."""
        return self.directory / "lock"

    @property
    def address(self) -> Path:
        """Says where its socket is."""
        return self.directory / "address"

    @property
    def configuration(self) -> Path:
        """Its options, written at each start. Its command line names this file, by which its process is known."""
        return self.directory / "server.conf"

    @property
    def pid_file(self) -> Path:
        """The id of its process, or of one that has gone."""
        return self.directory / "server.pid"

    @property
    def log(self) -> Path:
        """Its log, whether or not there is one yet."""
        return self.directory / "server.log"


def open_home(home: Path | None) -> tuple[Path, str | None]:
    """The home, made if need be, or a temporary one and a note that says so.

    Raises
    ------
    ServerError
        There is no room for it, or no directory that is this user's alone.
    """
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
            raise ServerError(f"{home} cannot be made: {error_in_words(error, home.parent)}") from error
        reason = str(error.strerror)
    temporary = private_directory(_temporary() / f"home-{_short_hash(home)}")
    return temporary, (
        f"{home} cannot be written ({reason}), so jobs are kept in {temporary} and do not survive a reboot. "
        f"Set NBQUEUE_HOME to a directory of yours."
    )


def find_place(home: Path | None, binary: Binary | None) -> Place:
    """The place of the server of this binary, or of one of the other family if that is what runs."""
    base, note = open_home(home)
    families = [binary.family] if binary else []
    if settings.server_binary() is None:
        families += [family for family in OLDEST if family not in families]
    host = f"-{os.uname().nodename}" if machine.file_system(base) in _NETWORK_DISKS else ""
    places = [Place(base / f"{family}{host}", family, note) for family in families]
    return next((place for place in places if is_held(place)), places[0])


def _temporary() -> Path:
    """This user's directory below /tmp; always the same, whatever TMPDIR says today."""
    root = Path("/tmp")
    if not os.access(root, os.W_OK | os.X_OK):
        root = Path(tempfile.gettempdir())
    return private_directory(root / f"nbqueue-{os.getuid()}")


def private_directory(directory: Path) -> Path:
    """The directory, made if need be, and nobody else's: somebody could have been waiting for us in /tmp."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            if found.st_mode & 0o077:
                directory.chmod(0o700)
            return directory
    except OSError as error:
        raise ServerError(f"{directory} cannot be used: {error_in_words(error, directory.parent)}") from error
    raise ServerError(
        f"{directory} is a symbolic link or belongs to another user, and is not safe to use. "
        f"Remove it, or set NBQUEUE_HOME and XDG_RUNTIME_DIR to directories of yours."
    )


def is_private(directory: Path) -> bool:
    """Whether a directory is there, and is this user's alone."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def recorded_socket(place: Place) -> Path | None:
    """The socket of the last server: whoever started it may have another XDG_RUNTIME_DIR than this process."""
    try:
        socket = Path(os.fsdecode(place.address.read_bytes()))
    except OSError:
        return None
    return socket if socket.name == _socket_name(place) else None  # not that of a home of which this is a copy


def choose_socket(place: Place) -> Path:
    """The path of the socket of a server that is about to start; its directory is made.

    Raises
    ------
    ServerError
        No directory is safe, or has a name that is short enough.
    """
    name = _socket_name(place)
    recorded = recorded_socket(place)
    if recorded and is_private(recorded.parent) and os.access(recorded.parent, os.W_OK):
        return recorded  # clients that have lost their server look for it there
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    fits = len(os.fsencode(runtime / "nbqueue" / name)) <= _SOCKET_PATH_LIMIT
    if fits and runtime.is_absolute() and os.access(runtime, os.W_OK | os.X_OK):
        found = runtime.stat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return private_directory(runtime / "nbqueue") / name
    socket = _temporary() / name
    if len(os.fsencode(socket)) > _SOCKET_PATH_LIMIT:
        raise ServerError(f"{socket} is too long for a socket. Set XDG_RUNTIME_DIR to a short directory of yours.")
    return socket


def _socket_name(place: Place) -> str:
    return f"{_short_hash(place.directory)}.sock"


def _short_hash(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def is_held(place: Place) -> bool:
    """Whether a server lives or is being started. A shared lock: two that look at once do not see each other."""
    if not os.path.lexists(place.lock):
        return False
    lock = take_lock(place, exclusive=False)
    if lock is not None:
        os.close(lock)
    return lock is None


def take_lock(place: Place, *, exclusive: bool) -> int | None:
    """A descriptor that holds the lock, or None if somebody else does."""
    import fcntl  # not on Windows, where clients import this module, too

    descriptor = None
    try:
        descriptor = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise ServerError(f"{place.directory} cannot be locked: {error_in_words(error, place.directory)}") from error
    return descriptor


def error_in_words(error: OSError, directory: Path) -> str:
    """The reason why a directory cannot be used, and what helps."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {directory} is full. Make room, or set NBQUEUE_HOME to a directory on another disk."
    if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
        return f"its disk does not know locks or links ({error}). Set NBQUEUE_HOME to a directory on a local disk."
    return f"{error}. Give it back to yourself, or set NBQUEUE_HOME to a directory that you can write."
