"""The outcomes of other jobs that a run is called with: read from Redis, and handed on unseen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from nbqueue import errors
from nbqueue.payload.records import FOLLOWS, Blob, inputs_of
from nbqueue.payload.values import ResultOf
from nbqueue.store import keys
from nbqueue.store.keys import POINTER
from nbqueue.store.pipeline import Pipeline
from nbqueue.store.requests import looking
from nbqueue.store.requests.looking import OutcomeRecords
from nbqueue.store.requests.request import Run
from nbqueue.store.requests.running import Claimed, Input

log = logging.getLogger("nbqueue.worker")

_ALL = 2**53
"""An index behind that of any job."""

AskWhole = Callable[[str, list[str], Callable[[list[Blob | None]], None]], None]
"""Asks for fields of a hash, and for the further pieces of those that have some."""


def needed(claimed: Claimed) -> list[tuple[str, Run]]:
    """The jobs whose outcomes a run needs: batches, and runs of them."""
    found: dict[tuple[str, Run], None] = {}
    for _, record in claimed.calls:
        if len(record) <= 4:
            continue
        for reference in inputs_of(record):
            result = ResultOf.referred(reference)
            if record[1] == FOLLOWS:
                run = claimed.start, claimed.stop
            elif result.index is None:
                run = 0, _ALL
            else:
                run = result.index, result.index + 1
            found[result.batch, run] = None
    return list(found)


@dataclass(slots=True)
class _Found:
    """What was read of one batch."""

    per_block: int
    total: int
    records: dict[str, Blob] = field(default_factory=dict)


class Inputs:
    """Reads, one request after the other, what runs need of other batches.

    Parameters
    ----------
    requests : Pipeline
    ask_whole : callable
        Of `Supplies`.
    """

    def __init__(self, requests: Pipeline, ask_whole: AskWhole) -> None:
        self._requests = requests
        self._ask_whole = ask_whole

    def fetch(self, wanted: list[tuple[str, Run]], then: Callable[[tuple[Input, ...]], None]) -> None:
        """Call `then` with what is there of these jobs; what is not there is missing."""
        found: dict[str, _Found] = {}

        def ask(position: int) -> None:
            if position == len(wanted):
                inputs = (Input(batch, one.per_block, one.total, list(one.records.items()))
                          for batch, one in found.items())  # fmt: skip
                then(tuple(inputs))
                return
            batch, run = wanted[position]
            self._ask_run(batch, run, found, lambda: ask(position + 1))

        ask(0)

    def _ask_run(self, batch: str, run: Run, found: dict[str, _Found], then: Callable[[], None]) -> None:
        def on_outcomes(answer: OutcomeRecords | errors.NbqueueError | None) -> None:
            if not isinstance(answer, OutcomeRecords):
                if answer is not None:
                    log.error("%s", answer)
                then()
                return
            kept = found.setdefault(batch, _Found(answer.per_block, answer.total))
            pointers = {name: record for name, record in answer.records.items() if record[:1] == POINTER}
            kept.records.update((name, record) for name, record in answer.records.items() if name not in pointers)

            def go_on() -> None:
                if run[0] < answer.stop < min(run[1], answer.total):
                    self._ask_run(batch, (answer.stop, run[1]), found, then)
                else:
                    then()

            if not pointers:
                go_on()
                return

            def on_records(records: list[Blob | None]) -> None:
                kept.records.update(
                    (name, record) for name, record in zip(pointers, records, strict=True) if record is not None
                )
                go_on()

            fields = [bytes(record[len(POINTER) :]).decode() for record in pointers.values()]
            self._ask_whole(keys.outcomes_bulk(batch), fields, on_records)

        self._requests.send(looking.outcomes(batch, *run), on_outcomes)
