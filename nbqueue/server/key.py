"""The key that payloads on the embedded server are signed with."""

from __future__ import annotations

import os
from pathlib import Path

from nbqueue.errors import ServerError
from nbqueue.server.place import error_in_words, open_home


def signing_key(home: Path | None = None) -> bytes:
    """The 32 bytes that payloads on the embedded server are signed with; made at the first call.

    Raises
    ------
    ServerError
        The key is not this user's alone, is damaged, or cannot be written.
    """
    path = open_home(home)[0] / "key"
    try:
        if not path.exists():
            _make_key(path)
        with path.open("rb") as file:
            found, key = os.fstat(file.fileno()), file.read()
    except OSError as error:
        raise ServerError(f"The key that jobs are signed with, {path}: {error_in_words(error, path.parent)}") from error
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
