"""Errors among a server's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


TEMPORARY = {"LOADING", "BUSY", "MASTERDOWN", "MISCONF", "READONLY", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN"}


class Reply(Exception):
    """An error that the server answered with; its text begins with a code such as OOM or NOSCRIPT."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]

    @property
    def is_temporary(self) -> bool:
        """The server does not do it now (it loads its data, its disk is full, ...), and may do it later."""
        return self.code in TEMPORARY


class Foreign(ConnectionError):
    """What came is not an answer of a Redis."""

    def __str__(self) -> str:
        return f"what answers there does not speak Redis' protocol ({self.args[0]})"
