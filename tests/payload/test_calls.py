"""Records of calls."""

from __future__ import annotations

import collections
import datetime
import re
import threading

import pytest

from nbqueue import errors
from nbqueue.payload.calls import Calls, of_function, pack_arguments, pack_entries, pack_items, pack_plain, pack_tuples
from nbqueue.payload.memory import Buffers
from nbqueue.payload.records import functions_of
from nbqueue.payload.seal import Seal

SEAL = Seal(b"k" * 32, "space")
DIGEST = b"d" * 16


def test_calls_come_back_as_they_were_packed():
    digest = b"d" * 16
    record = pack_items(SEAL, "batch", 8, digest, [1, "a", None])
    calls = Calls(SEAL, "batch", 8, record)
    assert [calls[i] for i in (8, 9, 10)] == [(digest, (1,), {}), (digest, ("a",), {}), (digest, (None,), {})]
    entries = [pack_arguments(0, (1, [2]), {}), pack_arguments(1, (), {"k": {3}}), []]
    record = pack_entries(SEAL, "batch", 0, [digest, b"e" * 16], entries)
    calls = Calls(SEAL, "batch", 0, record)
    assert calls[0] == (digest, (1, [2]), {})
    assert calls[1] == (b"e" * 16, (), {"k": {3}})
    assert calls.is_elsewhere(2)
    assert not calls.is_elsewhere(1)
    assert functions_of(record) == [digest, b"e" * 16]


def test_a_pair_of_a_tuple_and_a_dict_is_not_taken_for_arguments_and_keywords():
    entry = pack_arguments(0, ((1,), {"a": 2}), {})
    calls = Calls(SEAL, "b", 0, pack_entries(SEAL, "b", 0, [b"d" * 16], [entry]))
    assert calls[0][1:] == (((1,), {"a": 2}), {})


def test_a_large_call_with_keyword_arguments_can_stand_alone():
    entry = of_function(pack_arguments(1, (2,), {"k": 3}), 0)
    calls = Calls(SEAL, "b", 5, pack_entries(SEAL, "b", 5, [b"e" * 16], [entry]))
    assert calls[5] == (b"e" * 16, (2,), {"k": 3})


def test_values_that_nobody_can_change_share_one_pickle_and_all_others_do_not():
    assert pack_items(SEAL, "b", 0, DIGEST, [1, [2]]) is None
    assert pack_items(SEAL, "b", 0, DIGEST, [1, (2,)]) is None
    assert pack_items(SEAL, "b", 0, DIGEST, [1, type("Int", (int,), {})(2)]) is None
    assert pack_tuples(SEAL, "b", 0, DIGEST, [(1, 2), (3, [4])]) is None


def test_only_single_arguments_are_given_at_once():
    items = [1, "a", b"b", None, 2.5, True, 1j]
    calls = Calls(SEAL, "b", 0, pack_items(SEAL, "b", 0, DIGEST, items))
    assert calls.atoms(range(7)) == items
    assert (calls.digest(), calls.count) == (DIGEST, 7)
    assert not calls.is_elsewhere(6)
    calls = Calls(SEAL, "b", 4, pack_tuples(SEAL, "b", 4, DIGEST, [(1, "a"), ()]))
    assert calls.atoms(range(4, 6)) is None
    assert [calls[4], calls[5]] == [(DIGEST, (1, "a"), {}), (DIGEST, (), {})]
    for args, kwargs in (((1, 2), {}), ((), {}), ((1,), {"a": 2}), ((threading.Event,), {})):
        entry = pack_arguments(0, args, kwargs)
        assert Calls(SEAL, "b", 0, pack_entries(SEAL, "b", 0, [DIGEST], [entry])).atoms(range(1)) is None


def test_small_plain_values_are_pickled_each_for_itself_and_given_at_once():
    shared = [1]
    now = datetime.datetime(2030, 1, 2, tzinfo=datetime.UTC)
    items = [{"a": shared, "b": shared}, shared, ({"x"}, now, 2j), "text", [], {1: (None, b"", 2.5)}]
    record = pack_plain(SEAL, "b", 8, DIGEST, [(item,) for item in items])
    calls = Calls(SEAL, "b", 8, record)
    given = calls.atoms(range(9, 14))
    assert given == [None, *items[1:]]
    assert [calls[index] for index in range(8, 14)] == [(DIGEST, (item,), {}) for item in items]
    first, second = (calls[index][1][0] for index in (8, 9))
    assert first["a"] is first["b"]
    assert first["a"] is not second
    assert calls.atoms(range(9, 10))[1] is not given[1]
    assert calls.is_plain


@pytest.mark.parametrize(
    "item",
    [collections.OrderedDict(a=1), [type("Int", (int,), {})(2)], {"a": [threading.Event]}, [re.compile("a")],
     "x" * 20_000, {"a": ["b" * 20_000]}],
)  # fmt: skip
def test_what_is_not_plain_or_not_small_is_not_packed_so(item):
    assert pack_plain(SEAL, "b", 0, DIGEST, [(1,), (item,)]) is None


def test_a_value_that_holds_itself_is_plain():
    item = []
    item.append(item)
    (found,) = Calls(SEAL, "b", 0, pack_plain(SEAL, "b", 0, DIGEST, [(item,)])).atoms(range(1))
    assert found[0] is found


def test_a_call_that_is_read_twice_gives_objects_of_its_own_each_time():
    calls = Calls(SEAL, "b", 0, pack_entries(SEAL, "b", 0, [DIGEST], [pack_arguments(0, ([1],), {})]))
    first, again = calls[0][1][0], calls[0][1][0]
    assert first == again == [1]
    assert first is not again


def test_a_large_array_of_a_record_that_is_read_once_stays_where_it_is_if_its_address_suits_it():
    import numpy as np

    entry = pack_arguments(0, (np.arange(100_000),), {})
    record = pack_entries(SEAL, "b", 0, [DIGEST], [entry], Buffers())
    shared = 0
    for shift in range(16):
        memory = bytearray(shift) + record
        for once in (True, False):
            (array,) = Calls(SEAL, "b", 0, memoryview(memory)[shift:], once=once)[0][1]
            assert (array == np.arange(100_000)).all()
            assert array.flags.aligned and array.flags.writeable
            is_shared = np.shares_memory(array, np.frombuffer(memory, np.uint8))
            assert once or not is_shared
            shared += is_shared
    assert shared == 1


def test_arguments_that_cannot_be_pickled_are_named():
    for args, kwargs, name in (((1, threading.Lock()), {}, "argument 1"), ((), {"key": threading.Lock()}, "'key'")):
        with pytest.raises(errors.CannotPickle, match=f"{name} cannot be sent to a worker: it holds a .*lock"):
            pack_arguments(0, args, kwargs)


def test_arguments_that_no_code_of_the_users_has_made_are_told():
    class Made:
        def __reduce__(self):
            return int, ("7",)

    for args, is_plain in (
        (({"a": [1, "x"]},), True),
        ((1, (2.5, None)), True),
        ((Made(),), False),
        (([{1, 2}],), True),
        (([collections.OrderedDict()],), False),
    ):
        calls = Calls(SEAL, "b", 0, pack_entries(SEAL, "b", 0, [DIGEST], [pack_arguments(0, args, {})]))
        assert len(calls[0][1]) == len(args)
        assert calls.is_plain == is_plain
