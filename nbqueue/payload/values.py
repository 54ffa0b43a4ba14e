"""Large arguments that are given again and again: stored once, and named where they are needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbqueue.payload.scope import entered


@dataclass(frozen=True, slots=True)
class SharedValue:
    """Stands for an argument in a pickled call."""

    digest: bytes
    """Of its record, which is one like that of a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _value, (self.digest,)


def _value(digest: bytes) -> Any:
    scope = entered()
    return SharedValue(digest) if scope is None or scope.values is None else scope.values(digest)
