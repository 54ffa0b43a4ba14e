"""The Redis that is used, with its key and environment: from arguments, `NBQUEUE_*`, or the embedded server."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from pathlib import Path

from nbqueue import settings
from nbqueue.payload.files import Files
from nbqueue.payload.seal import Seal
from nbqueue.server import embedded
from nbqueue.server.key import signing_key
from nbqueue.store.connection import Address, Source
from nbqueue.store.store import Store

NO_KEY = b"nbqueue: no key was given"
"""The key of payloads where nobody gave one: it finds errors, and keeps nobody out."""


_embedded = weakref.WeakSet[Address]()
"""Addresses of the embedded server: who is given a client that one of them has given out means that server."""


@dataclass(frozen=True)
class Backend:
    """A namespace on a server, and what is needed to work with it."""

    store: Store
    seal: Seal
    key: bytes
    environment: str
    embedded: embedded.RunningServer | None
    """The embedded server, where it is that."""
    files: Path | None = None
    """The directory of the files of all namespaces, which are beside the embedded server."""

    @property
    def has_key(self) -> bool:
        """Whether somebody gave a key."""
        return self.key != NO_KEY


def connect(
    connection: Source | None = None,
    *,
    namespace: str = "default",
    key: bytes | str | None = None,
    environment: str | None = None,
) -> Backend:
    """Find the server: the argument, `NBQUEUE_URL`, else the embedded server, which is started if need be.

    Raises
    ------
    ServerError
        The embedded server cannot be started.
    ServerUnreachable
        A server of this host that was given by its address does not answer.
    UsageError
        The connection is neither a URL nor a `redis.Redis`.
    """
    key = key.encode() if isinstance(key, str) else key
    where = connection if connection is not None else settings.url()
    if not isinstance(where, str | None) and any(address.is_client(where) for address in _embedded):
        where = None
    chosen = environment or settings.environment()
    if where is None:
        running = embedded.ensure()
        key = key or signing_key()
        store = Store(running.url, namespace, restart=lambda: embedded.ensure().url)
        _embedded.add(store.address)
        seal = Seal(key, namespace, Files(running.files, namespace))
        return Backend(store, seal, key, chosen or settings.local_environment(), running, running.files)
    key = key or settings.key() or NO_KEY
    store = Store(where, namespace)
    directory = _files_beside(store)
    files = None if directory is None else Files(directory, namespace)
    return Backend(store, Seal(key, namespace, files), key, chosen or settings.python_environment(), None, directory)


def _files_beside(store: Store) -> Path | None:
    """The files of large values beside a server of this host that is reached by its address, if it is an embedded
    one."""
    directory = store.data_directory() if store.url.startswith("unix://") else None
    return None if directory is None else embedded.files_of(Path(directory))
