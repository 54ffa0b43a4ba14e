"""Pickles, signatures, and what may be kept of them."""

from __future__ import annotations

import functools
import importlib
import math
import pickle
import sys

import cloudpickle
import pytest

from nbqueue import errors
from nbqueue.payload.calls import Calls, of_function, pack_arguments, pack_entries, pack_items
from nbqueue.payload.functions import pack_code, parts_of, unpack_code
from nbqueue.payload.outcomes import Outcomes, pack_outcomes
from nbqueue.payload.pickling import dumps, loads
from nbqueue.payload.records import functions_of
from nbqueue.payload.seal import Seal

SEAL = Seal(b"k" * 32, "space")
RATE = 2


def reads_a_global(x):
    return x * RATE


def rebuilt(function):
    code = pack_code(SEAL, function)
    return unpack_code(SEAL, code.digest, code.sealed(SEAL))


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


@pytest.mark.parametrize("place", [("other", 8), ("batch", 0)])
def test_a_record_in_another_place_is_refused(place):
    record = pack_items(SEAL, "batch", 8, b"d" * 16, [1])
    with pytest.raises(errors.SignatureError):
        Calls(SEAL, *place, record)


def test_a_changed_record_another_key_or_namespace_is_refused():
    record = pack_items(SEAL, "batch", 8, b"d" * 16, [1])
    for position in range(1, len(record)):
        changed = record[:position] + bytes([record[position] ^ 1]) + record[position + 1 :]
        with pytest.raises((errors.SignatureError, errors.CorruptPayload)):
            Calls(SEAL, "batch", 8, changed)
    for seal in (Seal(b"other", "space"), Seal(b"k" * 32, "elsewhere")):
        with pytest.raises(errors.SignatureError):
            Calls(seal, "batch", 8, record)
    with pytest.raises(errors.CorruptPayload):
        Calls(SEAL, "batch", 8, b"\x01")


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


def test_a_function_comes_back_with_its_source_for_tracebacks():
    namespace = {"__name__": "__main__"}
    source = "def f(x):\n    return 1 / x\n"
    import linecache

    linecache.cache["<cell 3>"] = (len(source), None, source.splitlines(True), "<cell 3>")
    exec(compile(source, "<cell 3>", "exec"), namespace)
    code = pack_code(SEAL, namespace["f"])
    del linecache.cache["<cell 3>"]
    function = unpack_code(SEAL, code.digest, code.sealed(SEAL))
    assert function.__code__.co_filename == "<cell 3>"
    assert linecache.getline("<cell 3>", 2) == "    return 1 / x\n"
    del linecache.cache["<cell 3>"]


def test_a_recursive_cached_function_is_shipped_by_value():
    @functools.lru_cache(maxsize=7)
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    function = rebuilt(fib)
    assert function is not fib
    assert function(30) == 832040
    assert function.cache_parameters() == {"maxsize": 7, "typed": False}


def test_what_may_be_kept_of_a_function_and_what_must_be_pickled_again(monkeypatch):
    items = [1]
    y = 3

    def reads_a_list(x):
        return items

    def reads_a_number(x):
        return y

    assert parts_of(reads_a_list) is None
    before = parts_of(reads_a_number)
    assert before is not None
    y = 4
    assert [a is b for a, b in zip(before, parts_of(reads_a_number), strict=True)].count(False) == 1
    assert parts_of(functools.partial(pow, 2)) is None
    assert parts_of(len) == (len,)


def test_a_change_of_anything_that_travels_with_a_function_is_seen(q, worker, tmp_path, monkeypatch):
    source = """
def prompt(x): "translate"
def ask(x): return prompt.__doc__, prompt.__qualname__
def pick(x):
    try: return "old", setting_old
    except NameError: return "new", setting_new
def use(x): return carried.helper(x)
"""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "nbq_carried.py").write_text("def helper(x): return 'first'\n")
    carried = importlib.import_module("nbq_carried")
    namespace = {"__name__": "__main__", "setting_old": 1, "carried": carried}
    exec(source, namespace)
    call = lambda name: q.enqueue(namespace[name], 0).result(timeout=20)  # noqa: E731

    assert call("ask") == ("translate", "prompt")
    namespace["prompt"].__doc__ = "summarize"
    assert call("ask") == ("summarize", "prompt")
    namespace["prompt"].__qualname__ = "other"
    assert call("ask") == ("summarize", "other")

    assert call("pick") == ("old", 1)
    namespace["setting_new"] = namespace.pop("setting_old")
    assert call("pick") == ("new", 1)

    cloudpickle.register_pickle_by_value(carried)
    try:
        assert call("use") == "first"
        carried.helper = eval("lambda x: 'second'", vars(carried))
        assert call("use") == "second"
    finally:
        cloudpickle.unregister_pickle_by_value(carried)
        del sys.modules["nbq_carried"]
    assert parts_of(namespace["use"]) is None  # nobody finds it by its name any more


@pytest.mark.parametrize(
    "value",
    [
        {"id": 1, "name": "x", "deep": [{"a": (1, [2.5, None])}, ()]}, [[[[[[1]]]]]], [], {}, {(1, 2): 3}, {1: {2, 3}},
        list(range(1000)), [Seal], [b"x" * 100_000, "y" * 100_000], float("nan"), [True, 2**100, 1j],
    ],
)  # fmt: skip
def test_plain_values_are_pickled_as_cloudpickle_would(value):
    data = b"".join(dumps(value))
    assert repr(loads(memoryview(data))) == repr(value)
    assert repr(pickle.loads(data[10:])) == repr(value)


def test_what_contains_itself_or_one_object_twice_comes_back_so():
    value = [1]
    value.append(value)
    again = loads(memoryview(b"".join(dumps(value))))
    assert again[1] is again
    shared = ["x"]
    first, second = loads(memoryview(b"".join(dumps((shared, shared)))))
    assert first is second


def test_annotations_and_functions_that_are_called_are_parts_of_a_function():
    source = """
import math

def root(x: "float", places: int = 3) -> float | None:
    return round(math.sqrt(x), places)

def fact(n: int) -> list[int]:
    return [1] if n < 2 else [root(n)] + fact(n - 1)
"""
    namespace = {"__name__": "__main__"}
    exec(source, namespace)
    function = namespace["fact"]

    def is_same(before):
        after = parts_of(function)
        return len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))

    before = parts_of(function)
    assert before is not None
    assert is_same(before)
    namespace["root"].__defaults__ = (4,)
    assert not is_same(before)
    before = parts_of(function)
    namespace["root"].__annotations__["x"] = "complex"
    assert not is_same(before)
    before = parts_of(function)
    namespace["root"] = math.sqrt
    assert not is_same(before)
    namespace["root"] = lambda x, *, into=[]: into
    assert parts_of(function) is None

    class Mine:
        pass

    function.__annotations__["n"] = Mine
    namespace["root"] = math.sqrt
    assert parts_of(function) is None
    function.__annotations__["n"] = list[Mine]
    assert parts_of(function) is None


def test_a_global_that_changed_is_seen_by_the_next_submission(q, worker):
    namespace = {"__name__": "__main__", "rate": 2}
    exec("def scale(x):\n    return x * rate", namespace)
    assert q.enqueue(namespace["scale"], 5).result(timeout=20) == 10
    namespace["rate"] = 3
    assert q.enqueue(namespace["scale"], 5).result(timeout=20) == 15
    namespace["rate"] = [1]
    assert q.enqueue(namespace["scale"], 2).result(timeout=20) == [1, 1]
    namespace["rate"].append(7)
    assert q.enqueue(namespace["scale"], 1).result(timeout=20) == [1, 7]
