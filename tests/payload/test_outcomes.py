"""Records of outcomes."""

from __future__ import annotations

import threading

import pytest

from nbqueue import errors
from nbqueue.payload.memory import Buffers
from nbqueue.payload.outcomes import (
    Failure,
    Outcomes,
    PackedValue,
    pack_exception,
    pack_failure,
    pack_outcomes,
    pack_value,
)
from nbqueue.payload.seal import Seal

SEAL = Seal(b"k" * 32, "space")


def packed(values, **more):
    record = pack_outcomes(SEAL, "b", 0, values, [0.5] * len(values), started=1.0, worker="w", **more)
    return Outcomes(SEAL, "b", 0, record)


def test_outcomes_come_back_with_times_and_holes():
    record = pack_outcomes(
        SEAL, "b", 4, [[1], None, "x"], [0.5, 0.25, 1.0], started=100.0, worker="w-1", attempt=2, holes=[1]
    )
    outcomes = Outcomes(SEAL, "b", 4, record)
    assert [index in outcomes for index in (3, 4, 5, 6, 7)] == [False, True, False, True, False]
    assert (outcomes.value(4), outcomes.value(6)) == ([1], "x")
    assert (outcomes.worker, outcomes.attempt, outcomes.duration(5)) == ("w-1", 2, 0.25)
    assert outcomes.started_at(6) == 100.75
    assert outcomes.value(4) is not outcomes.value(4)
    assert not outcomes.is_failed


def test_values_that_nobody_can_change_are_given_at_once_unless_one_is_missing():
    assert packed([1, "a", None]).atoms() == [1, "a", None]
    assert packed([1, None, 3], holes=[1]).atoms() is None
    assert packed([1, [2]]).atoms() is None


def test_what_a_call_returned_is_what_it_was_then():
    value = [1]
    before = pack_value(value)
    value.append(2)
    outcomes = packed([before, pack_value(value), 3])
    assert [outcomes.value(index) for index in range(3)] == [[1], [1, 2], 3]
    assert type(before) is PackedValue


def test_a_large_result_is_put_into_memory_that_is_used_again():
    value = b"x" * 100_000
    record = pack_outcomes(SEAL, "b", 0, [value], [0.5], started=1.0, worker="w", buffers=Buffers())
    assert isinstance(record, memoryview)
    assert Outcomes(SEAL, "b", 0, record).value(0) == value


def test_a_failure_comes_back_with_its_exception():
    error = ValueError("no", 3)
    failure = Failure("ValueError", "no", "Traceback ...", pack_exception(error))
    record = pack_failure(SEAL, "b", 7, failure, started=5.0, duration=0.25, worker="w", attempt=300)
    outcomes = Outcomes(SEAL, "b", 7, record)
    assert outcomes.is_failed
    assert outcomes.atoms() is None
    assert outcomes.failure() == failure
    assert outcomes.failure().exception().args == ("no", 3)
    assert (outcomes.attempt, outcomes.started_at(7), outcomes.duration(7)) == (255, 5.0, 0.25)


def test_failures_of_the_same_type_and_message_are_one():
    same = Failure("ValueError", "no", "here"), Failure("ValueError", "no", "there", b"pickle")
    assert len({failure.digest for failure in (*same, Failure("ValueError", "yes", "here"))}) == 2


class Particular(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class Stubborn(Exception):
    def __str__(self):
        raise TypeError("no way")


def test_an_exception_that_cannot_be_rebuilt_is_told_when_it_is_packed_and_in_words_when_it_is_read():
    with pytest.raises(TypeError, match="no way"):
        pack_exception(Stubborn())
    assert Failure("E", "m", "t", None, "why").exception() == "why"
    assert "UnpicklingError" in Failure("E", "m", "t", b"no pickle").exception()
    assert "truncated" in Failure("E", "m", "t", pack_exception(Exception())[:-1]).exception()


def test_an_exception_is_rebuilt_without_its_constructor():
    error = Failure("E", "m", "t", pack_exception(Particular(1, 2))).exception()
    assert (type(error), str(error)) == (Particular, "1 and 2")


def test_a_result_that_cannot_be_pickled_is_told():
    for pack in (pack_value, lambda value: packed([value])):
        with pytest.raises(errors.CannotPickle, match="the result cannot be sent to a worker: it holds a .*lock"):
            pack(threading.Lock())


def test_plain_values_of_neighbours_are_given_at_once_and_new_each_time():
    row = {"a": [1, 2.5], "b": None}
    outcomes = packed([row, row, pack_value(row), 3])
    assert outcomes.values(0, 4) == [row, row, row, 3]
    assert outcomes.values(1, 3) == [row, row]
    first, second = outcomes.values(0, 2)
    assert first is not second
    assert first["a"] is not second["a"]
    assert outcomes.values(0, 1)[0] is not first
    assert packed([1, "a", None]).values(1, 3) == ["a", None]


def test_what_is_not_plain_or_not_there_is_not_given_at_once():
    assert packed([{"a": 1}, Failure("E", "", "")]).values(0, 2) is None
    assert packed([{"a": 1}, {"b": 2}], holes=[1]).values(0, 2) is None
    assert packed([{"a": 1}]).values(0, 2) is None
