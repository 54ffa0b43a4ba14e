"""The ground of everything of one client: the server, found when it is first needed. Knows no batch and no job."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nbqueue import backend, errors
from nbqueue.backend import Backend
from nbqueue.client.codes import Codes
from nbqueue.client.fleet import Fleet
from nbqueue.client.local_modules import Choice, LocalModules
from nbqueue.client.open_batch import OpenBatches
from nbqueue.client.problem import Problem
from nbqueue.payload.functions import unpack_code
from nbqueue.payload.pickling import StaysHere
from nbqueue.payload.seal import Seal
from nbqueue.payload.serializers import STORED
from nbqueue.store.connection import Source
from nbqueue.store.keys import new_token
from nbqueue.store.requests import steering
from nbqueue.store.requests.looking import BatchState
from nbqueue.store.requests.steering import Retried
from nbqueue.store.store import Store
from nbqueue.store.subscription import Listener

_MOST_BEHIND = 1000
"""Times that a retry is sent before which others have to be told something: each tells a thousand."""


@dataclass(frozen=True, slots=True)
class _Connected:
    """The connection and its caches: made when the server is first needed, and once more in a fork."""

    backend: Backend
    codes: Codes
    listener: Listener
    open_batches: OpenBatches
    pid: int


class Session(StaysHere):
    """One client of a server and namespace. Threads may share it.

    Parameters
    ----------
    source : str or redis.Redis, optional
        See `Queue`, as for all others.
    namespace : str
    key : bytes or str, optional
    environment : str, optional
    local_modules : bool or sequence of str
    """

    def __init__(
        self,
        source: Source | None = None,
        *,
        namespace: str = "default",
        key: bytes | str | None = None,
        environment: str | None = None,
        local_modules: Choice = True,
    ) -> None:
        self._local = LocalModules(local_modules)
        self.source = source
        self.namespace = namespace
        self.key = key
        """The secret that it was given, if it was given one."""
        self.chosen_environment = environment
        self._lock = threading.Lock()
        """Held while it is connected, never while a request is under way."""
        self._locked_by = os.getpid()
        self._connected: _Connected | None = None
        self._per_block: dict[str, int] = {}
        self._serializers: dict[str, Any] = {}
        self._clock: tuple[float, float] | None = None
        self.fleet = Fleet(lambda: self.backend, source, namespace)

    def __copy__(self) -> Session:
        return self

    def __deepcopy__(self, memo: object) -> Session:
        return self

    def __reduce__(self) -> tuple[Callable[..., Session], tuple[str | None, str, str | None]]:
        """Pickled as the way to its server. The key does not go along: `NBQUEUE_KEY` has it where this is read."""
        if not isinstance(self.source, str | None):
            raise errors.CannotPickle(
                "what was made with a redis.Redis cannot be pickled: only that client has its settings. Make the queue "
                "with the URL of its server, as in Queue(connection='redis://...')"
            )
        return _restored, (self.source, self.namespace, self.chosen_environment)

    def _connection(self) -> _Connected:
        connected, pid = self._connected, os.getpid()
        if connected is not None and connected.pid == pid:
            return connected
        if self._locked_by != pid:  # another thread of the parent may have held it when this process was forked
            self._lock, self._locked_by = threading.Lock(), pid
        with self._lock:
            if self._connected is None or self._connected.pid != pid:
                found = backend.connect(
                    self.source, namespace=self.namespace, key=self.key, environment=self.chosen_environment
                )
                self._clock = None
                codes = Codes(found, self._local)
                self._connected = _Connected(found, codes, Listener(found.store), OpenBatches(found, codes), pid)
            return self._connected

    @property
    def backend(self) -> Backend:
        """The server, with its key and environment."""
        return self._connection().backend

    @property
    def store(self) -> Store:
        """The state of its namespace."""
        return self._connection().backend.store

    @property
    def seal(self) -> Seal:
        """The seal of its payloads."""
        return self._connection().backend.seal

    @property
    def codes(self) -> Codes:
        """The functions that it has pickled."""
        return self._connection().codes

    @property
    def listener(self) -> Listener:
        """The subscription to what is waited for."""
        return self._connection().listener

    @property
    def open_batches(self) -> OpenBatches:
        """The batches that single calls are appended to."""
        return self._connection().open_batches

    @property
    def environment(self) -> str:
        """The environment that jobs which are submitted here need where they run."""
        return self._connection().backend.environment

    @property
    def is_embedded(self) -> bool:
        """Whether its server is the embedded one."""
        return self.backend.embedded is not None

    @property
    def is_default(self) -> bool:
        """Whether `from nbqueue import q` reaches the same batches."""
        return self.source is None and self.namespace == "default"

    def now(self) -> float:
        """The server's time, seconds since the epoch: that of the first time asked, and this host's clock since."""
        store, clock = self.store, self._clock
        if clock is None:
            clock = self._clock = (store.now(), time.monotonic())
        return clock[0] + time.monotonic() - clock[1]

    def state(self, id: str) -> BatchState:
        """All that is counted of a batch, read in one go.

        Raises
        ------
        NotFound
            There is no such batch (any more).
        """
        state = self.store.batch(id)
        if state is None:
            raise errors.NotFound(
                f"there is no batch {id} on {self.store.url}: it was deleted, or its results have "
                "expired. q.batches() lists those that are there"
            )
        return state

    def retry(self, id: str, index: int | None = None, mended: int | None = None) -> Retried:
        """Queue some failed or canceled jobs of a batch again, or one; who waits for it hears first how it ended."""
        for _ in range(_MOST_BEHIND):
            retried = self.store.call(steering.retry(id, new_token(), index, mended))
            if retried.count or not retried.has_more:
                break
        return retried

    def per_block(self, id: str) -> int:
        """Calls per block of a batch, which never changes."""
        if id not in self._per_block:
            self._per_block[id] = self.state(id).per_block
        return self._per_block[id]

    def knows_per_block(self, id: str, per_block: int) -> None:
        """Keep what need not be asked for: this client has made the batch."""
        self._per_block[id] = per_block

    def serializer(self, name: str) -> Any:
        """A serializer of the user's that is stored on the server, by the name that batches call it; see
        `payload.serializers`.

        Raises
        ------
        ResultExpired
            It is not there any more.
        """
        if name not in self._serializers:
            digest = bytes.fromhex(name.removeprefix(STORED))
            record = self.store.function(digest)
            if record is None:
                raise errors.ResultExpired(f"the serializer of the job is not on {self.store.url} any more")
            self._serializers[name] = unpack_code(self.seal, digest, record)
        return self._serializers[name]

    def attend(self, state: BatchState) -> Problem | None:
        """See to it that somebody serves a batch; returns what is wrong if nobody does."""
        return self.fleet.attend(state.queue, state.environment)

    def close(self) -> None:
        """Close what is open; it opens again when it is used."""
        connected = self._connected
        if connected is not None:
            connected.listener.close()
            connected.backend.store.close()


_read: weakref.WeakValueDictionary[tuple[str | None, str, str | None], Session] = weakref.WeakValueDictionary()
"""Sessions that were unpickled and are in use: what is read together shares its connections."""


def _restored(source: str | None, namespace: str, environment: str | None) -> Session:
    session = _read.get((source, namespace, environment))
    if session is None:
        session = _read[source, namespace, environment] = Session(source, namespace=namespace, environment=environment)
    return session
