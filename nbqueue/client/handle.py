"""A batch by its id: what its jobs and what shows it need to know of it."""

from __future__ import annotations

from typing import Literal

from nbqueue.client.session import Session
from nbqueue.store.description import Description
from nbqueue.store.requests.looking import BatchState

Progress = Literal["auto", "bar", False]
"""How waits show progress: in a panel or as a bar on a terminal, always as a bar, never."""


class Handle:
    """A batch by its id. `Batch` is one that can be waited for, read and steered.

    Parameters
    ----------
    session : Session
    id : str
        Its six characters.
    progress : {"auto", "bar", False}
        How waits for it show progress.
    """

    def __init__(self, session: Session, id: str, *, progress: Progress = "auto") -> None:
        self._session = session
        self._id = id
        self._progress = progress
        self._is_cell: bool | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

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
        """How its progress is shown."""
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
        """What never changes of it.

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
        """What it is called where people read it."""
        return self.description.label
