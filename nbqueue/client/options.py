"""What a user may ask for when something is submitted."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbqueue import errors, machine, settings


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What is the same for all jobs of a batch."""

    label: str | None = None
    timeout: float | None = None
    result_ttl: int = 7 * 86400
    weight: float = 1.0
    at_front: bool = False
    meta: dict[str, Any] | None = None
    cell: dict[str, Any] | None = None
    """Of a cell that runs in the background: which one it is, and what comes back."""

    def about(self, name: str, **more: Any) -> str:
        """The description that workers and those who look read."""
        try:
            directory = str(Path.cwd())
        except OSError:  # it was deleted
            directory = ""
        about: dict[str, Any] = {"label": self.label or name, "function": name, "directory": directory,
                                 "host": machine.name(), "pid": os.getpid(), **more}  # fmt: skip
        if self.timeout is not None:
            about["timeout"] = self.timeout
        if self.meta is not None:
            about["meta"] = self.meta
        if self.cell is not None:
            about["cell"] = self.cell
        path = machine.added_path()
        if path:
            about["path"] = path
        notebook = settings.notebook()
        if notebook:
            about["notebook"] = notebook
        try:
            return json.dumps(about)
        except TypeError as error:
            raise errors.UsageError(f"meta: only what JSON can hold is accepted ({error})") from None
