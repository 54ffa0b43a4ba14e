"""Variables of a notebook."""

from __future__ import annotations

import json
import linecache
import threading

import pytest

from nbqueue import errors
from nbqueue.payload.variables import pack_variables, size_of_variable, unpack_variables


def test_variables_come_back_by_their_names_and_what_they_share_stays_shared():
    import numpy as np

    rows = [1, 2]
    array = np.arange(10)
    variables, _ = unpack_variables(pack_variables({"rows": rows, "again": {"rows": rows}, "array": array}))
    assert list(variables) == ["rows", "again", "array"]
    assert variables["again"]["rows"] is variables["rows"]
    variables["array"][0] = 5
    assert array[0] == 0


def test_functions_find_their_globals_in_the_namespace_that_comes_back():
    scope = {"__name__": "__main__", "rate": 2}
    exec("def scale(x):\n    return x * rate\n", scope)
    variables, namespace = unpack_variables(pack_variables({"scale": scope["scale"]}, scope))
    assert variables["scale"].__globals__ is namespace
    namespace["rate"] = 3
    assert variables["scale"](5) == 15


def test_the_sources_of_functions_come_along():
    source = "def f(x):\n    return 1 / x\n"
    linecache.cache["<cell 7>"] = (len(source), None, source.splitlines(True), "<cell 7>")
    scope = {"__name__": "__main__"}
    exec(compile(source, "<cell 7>", "exec"), scope)
    packed = pack_variables({"f": scope["f"]}, scope)
    del linecache.cache["<cell 7>"]
    unpack_variables(packed)
    assert linecache.getline("<cell 7>", 2) == "    return 1 / x\n"
    del linecache.cache["<cell 7>"]


def test_modules_that_shall_be_there_are_imported():
    assert unpack_variables(pack_variables({}, None, [json]))[0] == {}
    assert b"json" in pack_variables({}, None, [json])


def test_the_variable_that_cannot_be_pickled_is_named():
    with pytest.raises(errors.CannotPickle, match=r"'b' cannot be sent to a worker: variable 'b' -> item 'x' -> "):
        pack_variables({"a": 1, "b": {"x": threading.Lock()}})


def test_the_size_of_a_variable_is_that_of_its_pickle_and_its_buffers():
    import numpy as np

    assert 1_000_000 < size_of_variable(np.zeros(125_000)) < 1_001_000
    assert 0 < size_of_variable(1) < 20
