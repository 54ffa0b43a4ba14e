"""What comes back of a cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nbqueue import errors
from nbqueue.payload.values import StandsFor
from nbqueue.payload.variables import unpack_variables


@dataclass(frozen=True, slots=True)
class CellValue(StandsFor):
    """What came back of a cell; pickled once more, so that each is read only where it is asked for."""

    packed_value: bytes
    packed_variables: bytes
    problems: dict[str, str] = field(default_factory=dict)
    """Why a variable did not come back, by its name; that of '' is the value of the last expression."""

    def value(self) -> Any:
        """Of the last expression.

        Raises
        ------
        CannotPickle
        """
        if "" in self.problems:
            raise errors.CannotPickle(self.problems[""])
        return unpack_variables(self.packed_value)[0]["value"]

    def variables(self) -> dict[str, Any]:
        """Those that came back."""
        return unpack_variables(self.packed_variables)[0]
