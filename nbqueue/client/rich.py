"""What jobs displayed beside text: figures, tables, anything that draws itself in a notebook."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from nbqueue import errors
from nbqueue.client.session import Session


@dataclass(frozen=True, slots=True)
class RichOutput:
    """What a job displayed. As the last expression of a cell, or by `display()`, it draws itself again."""

    index: int
    """The job's."""
    data: dict[str, Any]
    """By MIME type: a picture in base64, text as it is."""
    metadata: dict[str, Any]

    def __repr__(self) -> str:
        return str(self.data.get("text/plain", f"<RichOutput: {', '.join(self.data)}>"))

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.data, self.metadata


def read_rich_output(session: Session, batch: str, index: int | None = None) -> list[RichOutput]:
    """What jobs of a batch, or one of them, displayed when they were last started.

    Raises
    ------
    NotFound
        There is no such batch (any more).
    """
    found = session.store.rich_output(batch, index)
    if not found:
        session.state(batch)  # raises
    if session.store.has_dropped_rich_output(batch):
        warnings.warn(
            f"jobs of batch {batch} displayed more than is kept of a batch: of the rest there is the text, in its "
            "output. What returns figures, or saves them to files, loses none",
            errors.LargeWarning,
            stacklevel=3,
        )
    attempts: dict[int, int] = {}
    for (job, _), (attempt, _) in found.items():
        attempts[job] = max(attempt, attempts.get(job, 0))
    return [
        RichOutput(job, **json.loads(content))
        for (job, _), (attempt, content) in found.items()
        if attempt == attempts[job]
    ]


def rich_output_in(outputs: Sequence[tuple[str, dict[str, Any]]]) -> list[RichOutput]:
    """That of a cell, from its messages."""
    return [
        RichOutput(0, content["data"], content["metadata"])
        for kind, content in outputs
        if kind in ("display_data", "execute_result")
    ]
