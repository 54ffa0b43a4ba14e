"""Results of other jobs with which calls are made: from signed records to values, each when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from nbqueue import errors
from nbqueue.payload.outcomes import Failure, Outcomes
from nbqueue.payload.records import Blob
from nbqueue.payload.seal import Seal
from nbqueue.payload.serializers import Find
from nbqueue.payload.values import ResultOf, StandsFor
from nbqueue.store.keys import IN_WORDS
from nbqueue.store.requests.running import Input

_stands_around_user_code = True
"""See `child.tracebacks.AROUND`."""


class Inputs:
    """The outcomes that a run was handed.

    Parameters
    ----------
    seal : Seal
    find : callable
        The serializer of this name that travels with the run; see `payload.serializers`.
    """

    def __init__(self, seal: Seal, find: Find) -> None:
        self._seal = seal
        self._find = find
        self._inputs: dict[str, Input] = {}
        self._records: dict[str, dict[str, Blob]] = {}
        self._opened: dict[tuple[str, str], Outcomes] = {}

    def use(self, inputs: Iterable[Input]) -> None:
        """Those of a run that begins."""
        self._inputs = {one.batch: one for one in inputs}
        self._records = {batch: dict(one.records) for batch, one in self._inputs.items()}
        self._opened.clear()

    def result(self, wanted: ResultOf) -> Any:
        """What stands in the place of a result, unpickled anew each time.

        Raises
        ------
        DependencyFailed
            It is not there.
        SignatureError, CorruptPayload
        """
        if wanted.index is not None:
            return self._value(wanted.batch, wanted.index, may_fail=wanted.may_fail)
        known = self._inputs.get(wanted.batch)
        if known is None:
            raise errors.DependencyFailed(
                f"it takes the results of batch {wanted.batch}, which was deleted, or has expired"
            )
        return [self._value(wanted.batch, index, may_fail=wanted.may_fail) for index in range(known.total)]

    def atoms(self, batch: str, first: int, part: range) -> list[Any] | None:
        """The results of neighbouring jobs by their places behind the first one, if nobody can change any of them."""
        values: list[Any] = [None] * (part.stop - first)
        for index in part:
            outcomes = self._outcomes(batch, index)
            if not isinstance(outcomes, Outcomes) or outcomes.is_failed or (atoms := outcomes.atoms()) is None:
                return None
            values[index - first] = atoms[index - outcomes.first]
        return values

    def _outcomes(self, batch: str, index: int) -> Outcomes | Failure | None:
        records = self._records.get(batch)
        if records is None:
            return None
        name, first = str(index), index
        if name not in records:
            per_block = self._inputs[batch].per_block
            name, first = f"b{index // per_block}", index // per_block * per_block
            if name not in records:
                return None
        outcomes = self._opened.get((batch, name))
        if outcomes is None:
            record = records[name]
            if record[:1] == IN_WORDS:
                words = json.loads(bytes(record[len(IN_WORDS) :]))
                return Failure(str(words.get("type")), str(words.get("message")), "")
            outcomes = self._opened[batch, name] = Outcomes(self._seal, batch, first, record, find=self._find)
        return outcomes if index in outcomes or outcomes.is_failed else None

    def _value(self, batch: str, index: int, *, may_fail: bool) -> Any:
        outcomes = self._outcomes(batch, index)
        job = f"job {batch}:{index}"
        if outcomes is None:
            error = errors.DependencyFailed(f"it takes the result of {job}, which was canceled, or has expired")
            return _given(error, may_fail=may_fail)
        failure = outcomes if isinstance(outcomes, Failure) else outcomes.failure() if outcomes.is_failed else None
        if failure is not None or isinstance(outcomes, Failure):
            assert failure is not None
            rebuilt = failure.exception() if may_fail else ""
            if isinstance(rebuilt, BaseException):
                return rebuilt
            error = errors.DependencyFailed(f"it takes the result of {job}, which failed ({_words(failure)})")
            return _given(error, may_fail=may_fail)
        try:
            value = outcomes.value(index)
            return value.value() if isinstance(value, StandsFor) else value
        except Exception as error:
            error.add_note(f"while the result of {job} was read, which this one takes")
            raise


def _words(failure: Failure) -> str:
    return f"{failure.type}: {failure.message}"[:500]


def _given(error: errors.DependencyFailed, *, may_fail: bool) -> errors.DependencyFailed:
    if may_fail:
        return error
    raise error
