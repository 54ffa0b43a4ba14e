"""Where jobs run: in which directory, and with which modules to be found."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence


class Place:
    """The directory and the module path of the jobs of a batch, put back whenever a job may have left them."""

    def __init__(self) -> None:
        self._home = self._directory = _where()
        self._path: list[str] = []

    def use(self, directory: str, path: Sequence[str]) -> None:
        """Jobs run in this directory ('' for the one where this process began), and find modules in this path too."""
        self._directory = directory or self._home
        for entry in self._path:
            with contextlib.suppress(ValueError):  # a job has removed it
                sys.path.remove(entry)
        self._path = [entry for entry in path if entry not in sys.path and os.path.exists(entry)]  # noqa: PTH110 - for each run; `Path` takes ten times as long
        sys.path += self._path

    def enter(self) -> None:
        """Be where the batch was submitted from, wherever a job has gone; where that is not there, not elsewhere."""
        if self._directory == _where():
            return
        for directory in (self._directory, self._home):  # another host may not have the first
            try:
                os.chdir(directory)
            except OSError:
                continue
            return


def _where() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - after each job; `Path.cwd` takes ten times as long
    except OSError:  # it was deleted
        return ""
