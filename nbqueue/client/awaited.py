"""What others can wait for: jobs and batches."""

from __future__ import annotations

from typing import Any

from nbqueue.store.requests.submitting import DependsOn


class Awaited:
    """A job or a batch, which `depends_on=` takes, and which stands for its results where it is an argument."""

    def as_dependency(self, *, may_fail: bool = False) -> list[DependsOn]:
        """What others wait for that depend on it; nothing where it is known to have ended."""
        raise NotImplementedError

    def result_here(self) -> Any:
        """What stands in its place where there is nothing to wait for."""
        raise NotImplementedError
