"""A batch by its id, for its jobs and for whatever shows it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import decode_source
from typing import Literal, Self

from nbqueue import errors
from nbqueue.client.awaited import Awaited
from nbqueue.client.session import Session
from nbqueue.payload.modules import unpack_modules
from nbqueue.store.description import Description
from nbqueue.store.requests.looking import BatchState
from nbqueue.store.requests.submitting import DependsOn

Progress = Literal["auto", "bar", False]
"""The progress that waits show: in a panel or as a bar on a terminal, always as a bar, none."""


class Handle(Awaited):
    """A batch by its id. `Batch` is one that can be waited for, read and steered.

    Parameters
    ----------
    session : Session
    id : str
        Its six characters.
    progress : {"auto", "bar", False}
        The progress that waits for it show.
    """

    def __init__(self, session: Session, id: str, *, progress: Progress = "auto") -> None:
        self._session = session
        self._id = id
        self._progress = progress
        self._is_cell: bool | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Session, str]]:
        return partial(type(self), progress=self._progress), (self._session, self._id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    def as_dependency(self, *, may_fail: bool = False) -> list[DependsOn]:
        """What others wait for that depend on it."""
        return [DependsOn(self._id, None, may_fail)]

    @property
    def id(self) -> str:
        """Its six characters."""
        return self._id

    @property
    def session(self) -> Session:
        """The client that it belongs to."""
        return self._session

    @property
    def shows(self) -> Progress:
        """The progress that waits for it show."""
        return self._progress

    @property
    def state(self) -> BatchState:
        """All that is counted, read in one go.

        Raises
        ------
        NotFound
            There is no such batch (any more).
        """
        return self._session.state(self._id)

    @property
    def description(self) -> Description:
        """The part of its record that never changes.

        Raises
        ------
        NotFound
        """
        return self.state.description

    @property
    def is_cell(self) -> bool:
        """Whether it is a cell of a notebook, asked once.

        Raises
        ------
        NotFound
        """
        if self._is_cell is None:
            self._is_cell = self.state.description.cell is not None
        return self._is_cell

    @property
    def origin(self) -> str:
        """The name of its queue."""
        return self.state.queue

    @property
    def label(self) -> str:
        """Its name where people read it."""
        return self.description.label

    @property
    def local_modules(self) -> dict[str, str]:
        """The local modules that its jobs run with: their names, and their sources as they were submitted."""
        digest = self.description.modules
        if not digest:
            return {}
        record = self._session.store.function(bytes.fromhex(digest))
        if record is None:
            raise errors.ResultExpired(f"the local modules of batch {self._id} are not in Redis any more")
        sources = unpack_modules(self._session.seal, bytes.fromhex(digest), record)
        return {name: decode_source(source.text) for name, source in sources.items()}
