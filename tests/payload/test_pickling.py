"""Objects to bytes and back."""

from __future__ import annotations

import pickle
import sys
import threading
import types

import pytest

from nbqueue.payload.pickling import (
    SERIALIZER,
    Seen,
    can_pickle,
    pickle_again,
    pickle_frames,
    pickle_whole,
    unpickle_frames,
)
from nbqueue.payload.seal import Seal


def back(value):
    return SERIALIZER.loads(memoryview(b"".join(SERIALIZER.dumps(value))))


@pytest.mark.parametrize(
    "value",
    [
        {"id": 1, "name": "x", "deep": [{"a": (1, [2.5, None])}, ()]}, [[[[[[1]]]]]], [], {}, {(1, 2): 3}, {1: {2, 3}},
        list(range(1000)), [Seal], [b"x" * 100_000, "y" * 100_000], float("nan"), [True, 2**100, 1j],
    ],
)  # fmt: skip
def test_plain_values_are_pickled_as_cloudpickle_would(value):
    data = b"".join(SERIALIZER.dumps(value))
    assert repr(SERIALIZER.loads(memoryview(data))) == repr(value)
    assert repr(pickle.loads(data[10:])) == repr(value)


def test_what_contains_itself_or_one_object_twice_comes_back_so():
    value = [1]
    value.append(value)
    again = back(value)
    assert again[1] is again
    shared = ["x"]
    first, second = back((shared, shared))
    assert first is second


def test_arrays_stay_outside_of_the_pickle_and_come_back_as_they_were():
    import numpy as np

    value = {"a": np.arange(1000), "b": [np.ones((3, 4), order="F"), np.frombuffer(b"12345678", np.int32)]}
    frames = pickle_frames(value)
    assert [len(frame) for frame in frames[1:]] == [8000, 96, 8]
    assert np.shares_memory(np.frombuffer(frames[1], np.uint8), value["a"])
    again = back(value)
    assert (again["a"] == value["a"]).all() and (again["b"][0] == value["b"][0]).all()
    assert again["b"][0].flags.f_contiguous
    arrays = again["a"], *again["b"]
    assert all(array.flags.aligned for array in arrays)
    assert [array.flags.writeable for array in arrays] == [True, True, False]
    assert (pickle.loads(pickle_whole(value))["a"] == value["a"]).all()


def test_more_arrays_than_a_table_of_frames_has_room_for():
    import numpy as np

    arrays = [np.array([number]) for number in range(70_000)]
    assert len(pickle_frames(arrays)) < 2**16 - 1
    assert [int(array[0]) for array in back(arrays)] == list(range(70_000))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: [x], lambda x: [1, {"a": [x]}], lambda x: [b"b" * 200_000, x], lambda x: [x, b"b" * 200_000],
        lambda x: "s" * 100_000 + str(x), lambda x: {n: n + x for n in range(50_000)}, lambda x: bytearray(90_000 + x),
    ],
)  # fmt: skip
def test_what_is_pickled_again_is_compared_with_what_is_known(make):
    known = [memoryview(frame) for frame in pickle_frames(make(1))]
    assert pickle_again(make(1), known, seen=Seen()) is None
    assert pickle_again(make(2), known, seen=Seen()) == pickle_frames(make(2))
    longer = [make(1), make(1)]
    assert pickle_again(longer, known, seen=Seen()) == pickle_frames(longer)
    assert pickle_again(None, known, seen=Seen()) == pickle_frames(None)


def test_each_byte_of_each_buffer_is_compared():
    import numpy as np

    arrays = [np.zeros(300_000, np.uint8), np.zeros(0), np.zeros(500)]
    known = [memoryview(bytes(frame)) for frame in pickle_frames(arrays)]

    def changed():
        again = pickle_again(arrays, known, seen=Seen())
        return again is not None and b"".join(again) == b"".join(pickle_frames(arrays))

    assert not changed()
    for array, place in ((arrays[0], 0), (arrays[0], 299_999), (arrays[2], 0), (arrays[2], 499)):
        array[place] = 1
        assert changed()
        array[place] = 0
        assert not changed()
    arrays[0] = np.zeros(299_999, np.uint8)
    assert changed()
    arrays[0] = np.zeros(300_000, np.int8)
    assert changed()
    del arrays[0]
    assert changed()


def test_what_is_known_may_have_buffers_where_there_are_none_now():
    import numpy as np

    known = [memoryview(frame) for frame in pickle_frames(np.arange(100))]
    again = pickle_again([1], known, seen=Seen())
    assert unpickle_frames([memoryview(frame) for frame in again]) == [1]


def test_files_of_code_and_what_it_imports_are_collected():
    scope = {}
    exec(compile("def f(): return g()\ndef g():\n import os, one.two\n from three import x", "<cell 9>", "exec"), scope)
    seen = Seen()
    pickle_frames([scope["f"]], seen=seen)
    assert seen.files == {"<cell 9>"}
    assert seen.imports == {"one", "three"}


def test_whether_an_object_can_be_pickled(tmp_path):
    with (tmp_path / "f").open("w") as file:
        assert not can_pickle(file)
        assert not can_pickle({"a": [file]})
    assert can_pickle(lambda: tmp_path)
    assert can_pickle({"a": [tmp_path]})


def test_a_module_of_a_type_of_its_own_is_sent_by_its_name(monkeypatch):
    class Late(types.ModuleType):
        lock = threading.Lock()

    module = Late("json")
    monkeypatch.setitem(sys.modules, "json", module)
    assert back([module])[0] is module
    monkeypatch.undo()
    with pytest.raises(TypeError):
        pickle_frames([Late("not imported")])
