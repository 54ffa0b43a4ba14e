"""A notebook's cell as a job: how it is submitted, what it puts out, the variables that it brings."""

from __future__ import annotations

from typing import Any

from nbqueue import errors
from nbqueue.cells.messages import MOST_READ, Area, Native, area_of, decode_message, text_shown
from nbqueue.cells.value import CellValue
from nbqueue.client.handle import Handle
from nbqueue.client.job import Job
from nbqueue.client.outcome import Outcome
from nbqueue.client.rich import RichOutput, rich_output_in


class CellJob(Job):
    """A cell of a notebook that runs in the background."""

    @property
    def output(self) -> str:
        """The outputs of its cell, where only text can be shown.

        Raises
        ------
        NotFound
            There is no such job (any more).
        """
        return text_shown(self.area().outputs)

    @property
    def rich_output(self) -> list[RichOutput]:
        """What its cell displayed, and the value of its last expression."""
        return rich_output_in(self.area().outputs)

    def area(self) -> Area:
        """The outputs of its cell, as a front end shows them."""
        messages: list[Native] = []
        after = ""
        while found := self._session.store.shown(self._batch.id, after, MOST_READ):
            after = found[-1][0]
            messages += (decode_message(kind, content) for _, kind, content in found)
        return area_of(messages)

    @property
    def variables(self) -> dict[str, Any]:
        """The variables that `%%enqueue -o` brings back, by name.

        Raises
        ------
        NotFinished
            It has not ended.
        CannotPickle
            One of them could not be sent back.
        Exception
            As `result`.
        """
        value = self._cell_value()
        if problems := [text for name, text in value.problems.items() if name]:
            raise errors.CannotPickle(f"job {self.id}: " + "; ".join(problems))
        return value.variables()

    def brought(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The variables that its cell brings back, and what is wrong with others; nothing if it did not finish.

        Raises
        ------
        NotFinished
        """
        ended = self._ended()
        if ended in ("scheduled", "queued", "started"):
            raise errors.NotFinished(f"job {self.id} has not ended")
        if not isinstance(ended, Outcome) or ended.is_failed:
            return {}, {}
        value = self._cell_value()
        try:
            return value.variables(), {name: text for name, text in value.problems.items() if name}
        except Exception as error:  # noqa: BLE001 - whatever unpickling raises belongs to these variables
            reason = f"cannot be read here: {type(error).__name__}: {error}"
            cell = self._batch.description.cell
            return {}, {name: f"{name!r} {reason}" for name in (cell.returns if cell else ())}

    def _cell_value(self) -> CellValue:
        ended = self._ended()
        if not isinstance(ended, Outcome) or ended.is_failed:
            self.return_value()  # raises
            raise errors.NotFinished(f"job {self.id} has not ended")
        assert ended.outcomes is not None
        value = ended.outcomes.value(self.index)
        assert isinstance(value, CellValue)
        return value


def job_of(batch: Handle, index: int) -> Job:
    """The job of a batch and an index, of the kind that it is."""
    return CellJob(batch, index) if batch.is_cell else Job(batch, index)
