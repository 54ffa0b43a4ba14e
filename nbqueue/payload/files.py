"""Large bodies of records, in files beside the embedded server instead of in it: written once, and mapped by whoever
reads them.

    <directory>/<batch>/calls-<first>-<count>-<token>       of calls, until they cannot run again
    <directory>/<batch>/outcomes-<first>-<count>-<token>    of outcomes, as long as the batch is there
    <directory>/code/<digest>                               of functions and what else is stored by its digest
    <directory>/.../*.part                                  is being written

A record that is signed names its file and says how large it is. That nobody else can write there stands for a signature
of what the file holds. What Redis knows nothing of is removed by `sweep`, which workers run now and then.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from nbqueue import errors
from nbqueue.payload.memory import ALIGNED, MappedFile, are_equal
from nbqueue.payload.records import Blob, Pieces, size_of

CODE = "code"
"""The directory of what is stored by its digest; no batch is called so."""

_PART = ".part"

_MOST_PIECES, _ALONE = 512, 2**20
"""Pieces that are written by one call, and bytes of one that is written by itself."""

_RESERVED, _RESERVED_PART = 256 * 2**20, 0.05
"""Bytes of the disk, and the part of it, that are left to the server, which is worth more: the smaller of them."""

_TRIES = 5

GRACE = 600.0
"""Seconds in which a file that Redis does not know may still be named there."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What files there are."""

    number: int = 0
    bytes: int = 0


class Files:
    """The files of one namespace.

    Parameters
    ----------
    directory : Path
        Made when it is first needed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     files = Files(Path(home), "default")
    ...     files.write("abcdef/calls-0-1-00", [b"large", b" body"])
    ...     bytes(files.open("abcdef/calls-0-1-00", 10).view())
    b'large body'
    """

    def __init__(self, directory: Path, namespace: str) -> None:
        self._directory = directory / quote(namespace, safe="").replace(".", "%2E")  # `..` is a namespace, too

    def write(self, name: str, body: Pieces) -> None:
        """Write a file of this name.

        Raises
        ------
        ServerFull
            The disk is full; nothing is left of the file.
        ServerError
            It cannot be written for another reason.
        """
        path, size = f"{self._directory}/{name}", size_of(body)
        part = f"{path}-{os.getpid()}-{threading.get_ident()}{_PART}"
        try:
            descriptor = _created(part)
            try:
                self._check_room(descriptor, size)
                _write(descriptor, [bytes(-size % ALIGNED), *body])
                os.rename(part, path)  # noqa: PTH104 - this and others here are called for each large value
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part)  # noqa: PTH108
                raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._refused(size, error) from error

    def _check_room(self, descriptor: int, size: int) -> None:
        disk = os.fstatvfs(descriptor)
        reserved = min(_RESERVED, int(_RESERVED_PART * disk.f_blocks * disk.f_frsize))
        if disk.f_bavail * disk.f_frsize - size < reserved:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _refused(self, size: int, error: OSError) -> errors.ServerError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return errors.ServerFull(
                f"{size / 1e6:,.1f} MB cannot be stored: the disk of {self._directory} is full. Make room there "
                "(q.batches() lists what can be deleted), or set NBQUEUE_HOME to a directory on another disk"
            )
        return errors.ServerError(f"{size / 1e6:,.1f} MB cannot be stored in {self._directory}: {error}")

    def open(self, name: str, size: int) -> MappedFile:
        """A body of so many bytes.

        Raises
        ------
        CorruptPayload
            It is not there any more, or not what was written.
        """
        file = MappedFile(f"{self._directory}/{name}", -size % ALIGNED, size)
        file.check()
        return file

    def keep(self, name: str, body: Pieces) -> Held | None:
        """Write a file, unless it is there. It is not removed while it is held.

        Returns
        -------
        Held or None
            None if something else is there of this name.

        Raises
        ------
        ServerFull, ServerError
            See `write`.
        """
        path, size = f"{self._directory}/{name}", size_of(body)
        file = MappedFile(path, -size % ALIGNED, size)
        for _ in range(_TRIES):
            if not file.is_there():
                self.write(name, body)
            elif not _is_what_stands_in(file, body):
                return None
            held = Held.of(file, path)
            if held is not None:
                return held
        raise errors.ServerError(f"{path} is removed as soon as it is written")

    def remove(self, batch: str, index: int | None = None) -> None:
        """Remove the files of a batch that was deleted, or of one of its jobs."""
        directory = self._directory / batch
        if index is None:
            shutil.rmtree(directory, ignore_errors=True)
            return
        for path in directory.glob(f"*-{index}-1-*"):
            path.unlink(missing_ok=True)


def _is_what_stands_in(file: MappedFile, body: Pieces) -> bool:
    there, position = file.view(), 0
    for piece in body:
        if not are_equal(memoryview(piece), there[position : position + len(piece)]):
            return False
        position += len(piece)
    return True


class Held:
    """A file that is not removed as long as there is such an object of it, in any process."""

    def __init__(self, file: MappedFile, descriptor: int) -> None:
        self._file, self._descriptor = file, descriptor

    @classmethod
    def of(cls, file: MappedFile, path: str) -> Held | None:
        """Hold a file; None if it was removed just now."""
        import fcntl  # not on Windows, where there is no embedded server

        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.ServerError(f"{path} cannot be opened: {error}") from error
        held = cls(file, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.fstat(descriptor).st_nlink:
            return None
        os.utime(descriptor)  # who sweeps just now sees that somebody needs it
        return held

    def is_there(self) -> bool:
        """Whether it can be mapped: it may have been removed by hand."""
        return self._file.is_there()

    def view(self) -> memoryview:
        """What is in it; see `MappedFile.view`."""
        return self._file.view()

    def __del__(self) -> None:
        os.close(self._descriptor)


def _created(path: str) -> int:
    """A new file, and its directory if that is not there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_TRIES):
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:  # or it was removed, as it was empty
            Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, flags, 0o600)


def _write(descriptor: int, pieces: Sequence[Blob]) -> None:
    rest = [memoryview(piece) for piece in pieces if len(piece)]
    first = 0
    while first < len(rest):
        if len(rest[first]) >= _ALONE:
            written = os.write(descriptor, rest[first])
        else:
            following = itertools.takewhile(lambda piece: len(piece) < _ALONE, rest[first : first + _MOST_PIECES])
            written = os.writev(descriptor, [*following])
        while first < len(rest) and written >= len(rest[first]):
            written -= len(rest[first])
            first += 1
        if written:
            rest[first] = rest[first][written:]


# What workers do with all files of a server


def usage(directory: Path) -> Usage:
    """The files of all namespaces below a directory."""
    sizes = [found.st_size for path in directory.rglob("*") if stat.S_ISREG((found := _looked_at(path)).st_mode)]
    return Usage(len(sizes), sum(sizes))


def _looked_at(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except FileNotFoundError:  # it was removed just now
        return os.stat_result((0,) * 10)


Known = Callable[[str, list[str]], list[bool]]
"""Whether Redis still has those that names stand for: of a namespace, batches ('abcdef'), their calls
('abcdef/calls'), and what is stored by its digest ('code/0123...')."""


def sweep(directory: Path, known: Known, grace: float = GRACE) -> Usage:
    """Remove what Redis knows nothing of; returns what that was.

    Parameters
    ----------
    directory : Path
        Of all namespaces.
    known : callable
    grace : float
        Seconds for which a file is left alone in any case, as what names it may be on its way.
    """
    removed = [
        size
        for namespace in _entries(directory)
        for owner in _entries(namespace)
        for size in _sweep_owner(owner, unquote(namespace.name), known, grace)
    ]
    return Usage(len(removed), sum(removed))


def _sweep_owner(owner: Path, namespace: str, known: Known, grace: float) -> Iterator[int]:
    before = time.time() - grace
    old = [path for path in _entries(owner) if _looked_at(path).st_mtime < before]
    parts = [path for path in old if path.suffix == _PART]
    whole = [path for path in old if path.suffix != _PART]
    if owner.name == CODE:
        is_known = known(namespace, [f"{CODE}/{path.name}" for path in whole]) if whole else []
        superfluous = [path for path, is_needed in zip(whole, is_known, strict=True) if not is_needed]
    else:
        has_batch, has_calls = known(namespace, [owner.name, f"{owner.name}/calls"]) if whole else (True, True)
        superfluous = [p for p in whole if not (has_calls if p.name.startswith("calls-") else has_batch)]
    for path in parts + superfluous:
        size = _looked_at(path).st_size
        if _is_removed(path, before):
            yield size
    with contextlib.suppress(OSError):  # it is not empty, as a rule
        if _looked_at(owner).st_mtime < before:
            owner.rmdir()


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_removed(path: Path, before: float) -> bool:
    """Remove a file, unless somebody holds it, or has just held it."""
    import fcntl  # not on Windows, where there is no embedded server

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_mtime >= before:
            return False
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def sync(directory: Path, since: float, upto: float) -> None:
    """Bring files to the disk that were written between two times, seconds since the epoch, and are there still.

    Raises
    ------
    OSError
        The disk could not write them.
    """
    for namespace in _entries(directory):
        for owner in _entries(namespace):
            if _looked_at(owner).st_mtime < since:
                continue
            for path in _entries(owner):
                if path.suffix != _PART and since <= _looked_at(path).st_mtime < upto:
                    _sync_file(path)


def _sync_file(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        getattr(os, "fdatasync", os.fsync)(descriptor)
    finally:
        os.close(descriptor)
