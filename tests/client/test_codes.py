"""The functions of a client: packed anew where they have changed, and only there."""

from __future__ import annotations

import functools
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nbqueue.client import codes as module
from nbqueue.client.codes import Codes
from nbqueue.client.local_modules import LocalModules
from nbqueue.payload.functions import unpack_code


@pytest.fixture
def codes(q):
    return Codes(q.session.backend, LocalModules())


def defined(source, **scope):
    """The function `f` of a cell, and its globals."""
    scope = {"__name__": "__main__", **scope}
    exec(source, scope)
    return scope["f"], scope


def test_a_function_that_nothing_can_change_is_packed_once(codes, monkeypatch):
    function, scope = defined("def f(x):\n    return x * RATE", RATE=2)
    first = codes.pack(function)
    monkeypatch.setattr(module, "pack_code", None)
    assert codes.pack(function) is first
    monkeypatch.undo()
    scope["RATE"] = 3
    assert codes.pack(function).digest != first.digest


@pytest.mark.parametrize("make", [
    lambda table: (lambda: table), lambda table: functools.partial(len, table), lambda table: Model(table).rows,
])  # fmt: skip
def test_functions_that_are_made_anew_are_known_by_their_contents(codes, make):
    table = [np.zeros(1000)]
    first = codes.pack(make(table))
    assert codes.pack(make(table)) is first
    table[0][999] = 1
    changed = codes.pack(make(table))
    assert changed.digest != first.digest
    assert codes.pack(make(table)) is changed


class Model:
    def __init__(self, table):
        self.table = table

    def rows(self):
        return self.table


def test_a_change_is_seen_wherever_it_is(codes, q):
    """What stood there when the function was packed is what comes back."""
    text = {"a": ["b", {"c": 1}]}
    numbers = [np.zeros((100, 100)), bytearray(100), {1, 2}, Model([np.arange(5)])]
    function, scope = defined("def f():\n    return TEXT, NUMBERS", TEXT=text, NUMBERS=numbers)
    seen = [codes.pack(function)]
    for change in (
        lambda: text["a"][1].update(c=2),
        lambda: text["a"][1].update(c=2.0),
        lambda: text["a"].append("d"),
        lambda: text.update(e=text["a"]),
        lambda: text.update(e=[*text["a"]]),
        lambda: numbers[0].__setitem__((99, 99), 1),
        lambda: numbers[0].fill(3),
        lambda: numbers.__setitem__(0, numbers[0].astype(np.float32)),
        lambda: numbers.__setitem__(0, numbers[0].reshape(-1)),
        lambda: numbers[1].__setitem__(50, 7),
        lambda: numbers[2].add(3),
        lambda: numbers[3].table[0].__setitem__(4, -1),
        lambda: setattr(numbers[3], "more", 1),
        lambda: scope.update(TEXT=None),
    ):
        assert codes.pack(function) is seen[-1]
        change()
        seen.append(codes.pack(function))
        back = unpack_code(q.seal, seen[-1].digest, seen[-1].record)()
        assert repr((back[0], back[1][:3], vars(back[1][3]))) == repr((scope["TEXT"], numbers[:3], vars(numbers[3])))
    assert len({code.digest for code in seen}) == len(seen)


def test_no_reference_to_an_array_is_kept(codes):
    table = np.zeros(100_000)
    ends = weakref.ref(table)
    function, scope = defined("def f():\n    return TABLE", TABLE=table)
    for _ in range(3):
        codes.pack(function)
    scope.clear()
    del table
    gc.collect()
    assert ends() is None


def test_an_array_whose_function_was_packed_can_be_resized(codes):
    table = np.zeros(100_000)
    function, _ = defined("def f():\n    return TABLE", TABLE=table)
    first = codes.pack(function)
    codes.pack(function)
    table.resize(50_000, refcheck=False)
    assert codes.pack(function).digest != first.digest


def kept_bytes(codes):
    gc.collect()
    found = {id(code): code.size for kept in (codes._fixed, codes._last) for _, code in kept._codes.values()}
    return sum(found.values())


@pytest.mark.filterwarnings("ignore::nbqueue.errors.LoadingWarning")
@pytest.mark.parametrize("is_fixed", [True, False])
def test_only_so_much_memory_is_kept(codes, is_fixed):
    for number in range(60):
        table = bytes([number]) * 2_000_000
        function, _ = defined("def f():\n    return TABLE", TABLE=table if is_fixed else [table])
        function.__qualname__ = f"f{number % 20}"
        codes.pack(function)
        assert kept_bytes(codes) <= 2 * 32 * 2**20
    assert kept_bytes(codes) > 20_000_000
    for number in range(2000):
        codes.pack(defined(f"def f{number}(): pass\nf = f{number}")[0])
    assert len(codes._fixed._codes) + len(codes._last._codes) <= 500


def test_a_table_above_all_bounds_is_known_again_all_the_same(codes):
    table = np.zeros(40_000_000, np.uint8)
    function, _ = defined("def f():\n    return TABLE", TABLE=table)
    first = codes.pack(function)
    assert codes.pack(function) is first


@pytest.mark.filterwarnings("ignore::nbqueue.errors.LoadingWarning")
def test_a_record_is_found_for_as_long_as_somebody_holds_the_code(codes):
    function, scope = defined("def f():\n    return TABLE", TABLE=[b"x" * 20_000_000])
    code = codes.pack(function)
    again = defined("def f():\n    return TABLE", TABLE=[b"x" * 20_000_000])[0]
    for number in range(5):
        scope["TABLE"] = [bytes([number]) * 20_000_000]
        codes.pack(function)
    assert codes.records([code.digest]) == {code.digest: code.record}
    assert codes.pack(again) is code
    assert codes.records([code.digest]) == {code.digest: code.record}


@pytest.mark.filterwarnings("ignore::nbqueue.errors.LoadingWarning")
def test_many_large_functions_are_submitted_together(q, worker):
    tables = [[bytes([number]) * 15_000_000] for number in range(6)]
    functions = [defined("def f(x):\n    return TABLE[0][x]", TABLE=table)[0] for table in tables]
    assert q.enqueue_many([(function, (5,)) for function in functions]).results(timeout=60) == [*range(6)]


def test_a_job_computes_with_what_stood_there_when_it_was_submitted(q, workers):
    """Also where the job runs later, and the table has changed since."""
    rows, nested, array = [1], {"deep": [{"x": 1}]}, np.zeros(300_000)
    function, _ = defined(
        "def f(x):\n    return list(ROWS), NESTED['deep'][0]['x'], float(ARRAY[-1]), x",
        ROWS=rows, NESTED=nested, ARRAY=array,
    )  # fmt: skip
    jobs, expected = [], []
    for number in range(4):
        for change in (
            lambda number=number: rows.append(number),
            lambda number=number: nested["deep"][0].update(x=number),
            lambda number=number: array.__setitem__(-1, number),
            lambda number=number: None,
        ):
            change()
            jobs.append(q.enqueue(function, number))
            expected.append(([*rows], nested["deep"][0]["x"], float(array[-1]), number))
    batch = q.map(function, [7])
    expected.append(([*rows], nested["deep"][0]["x"], float(array[-1]), 7))
    array[:] = -1
    rows.clear()
    workers.start()
    assert [*(job.result(timeout=60) for job in jobs), *batch.results(timeout=60)] == expected


def test_threads_that_pack_the_same_find_its_record(codes):
    source = "def f():\n    return TABLE"
    tables = [[bytes([number]) * 100_000] for number in range(5)]

    def pack(number):
        code = codes.pack(defined(source, TABLE=tables[number % 5])[0])
        return codes.records([code.digest]) == {code.digest: code.record}

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(pack, range(400)))
