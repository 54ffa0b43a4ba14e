"""Functions as code that travels, and when one has to be pickled again."""

from __future__ import annotations

import functools
import importlib
import json
import linecache
import math
import sys

import cloudpickle
import pytest

from nbqueue import errors
from nbqueue.payload.functions import is_constant, is_self_contained, name_of, pack_code, parts_of, unpack_code
from nbqueue.payload.seal import Seal

SEAL = Seal(b"k" * 32, "space")
RATE = 2


def reads_a_global(x):
    return x * RATE


def rebuilt(function):
    code = pack_code(SEAL, function)
    return unpack_code(SEAL, code.digest, code.record)


def defined(source, **scope):
    """The function `f` of a cell, and its globals."""
    scope = {"__name__": "__main__", **scope}
    exec(compile(source, "<cell>", "exec", dont_inherit=True), scope)
    return scope["f"], scope


# Travelling


def test_a_function_comes_back_with_its_source_for_tracebacks():
    namespace = {"__name__": "__main__"}
    source = "def f(x):\n    return 1 / x\n"
    linecache.cache["<cell 3>"] = (len(source), None, source.splitlines(True), "<cell 3>")
    exec(compile(source, "<cell 3>", "exec"), namespace)
    code = pack_code(SEAL, namespace["f"])
    del linecache.cache["<cell 3>"]
    function = unpack_code(SEAL, code.digest, code.record)
    assert function.__code__.co_filename == "<cell 3>"
    assert linecache.getline("<cell 3>", 2) == "    return 1 / x\n"
    del linecache.cache["<cell 3>"]


def test_a_function_with_a_cache_comes_back_as_the_one_that_was_sent():
    @functools.lru_cache
    def double(x):
        return 2 * x

    assert rebuilt(double) is double


def test_a_recursive_cached_function_is_shipped_by_value(scope):
    @functools.lru_cache(maxsize=7)
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    function = rebuilt(fib)
    assert function is not fib
    assert function.__wrapped__.__closure__[0].cell_contents is function
    assert function(30) == 832040
    assert function.cache_parameters() == {"maxsize": 7, "typed": False}


def test_equal_functions_have_one_digest_and_it_differs_with_the_key_and_the_namespace():
    source = "def f(x):\n    return x * RATE\n"
    digests = {pack_code(SEAL, defined(source, RATE=rate)[0]).digest for rate in (1, 1, 2)}
    assert [len(digest) for digest in digests] == [16, 16]
    for seal in (Seal(b"other", "space"), Seal(b"k" * 32, "elsewhere")):
        assert pack_code(seal, defined(source, RATE=1)[0]).digest not in digests


def test_the_record_of_another_function_is_refused():
    one, other = (pack_code(SEAL, defined(f"def f(): return {n}")[0]) for n in (1, 2))
    with pytest.raises(errors.SignatureError, match="not the one that the call names"):
        unpack_code(SEAL, one.digest, other.record)
    changed = one.record[:-1] + bytes([one.record[-1] ^ 1])
    with pytest.raises(errors.SignatureError, match="the signature does not hold"):
        unpack_code(SEAL, one.digest, changed)


def test_what_cannot_be_sent_is_named_with_the_function():
    import threading

    function, _ = defined("def f(x):\n    return settings", settings={"lock": threading.Lock()})
    with pytest.raises(errors.CannotPickle, match=r"f\(\) cannot be.*: f -> global 'settings' -> item 'lock'"):
        pack_code(SEAL, function)


def test_a_function_is_called_as_people_read_it():
    assert name_of(reads_a_global) == "reads_a_global"
    assert name_of(functools.partial(functools.partial(math.sqrt))) == "sqrt"
    assert name_of(test_a_function_is_called_as_people_read_it) == "test_a_function_is_called_as_people_read_it"
    assert name_of(lambda: 1) == "test_a_function_is_called_as_people_read_it.<lambda>"
    assert name_of(functools.reduce) == "reduce"
    assert name_of(type("Scorer", (), {"__call__": len})()) == "Scorer"


# What is packed is given back if it is the same


def test_a_function_that_is_packed_again_is_known_as_long_as_it_is_the_same():
    import numpy as np

    tables = [1, {"deep": [np.zeros(100_000), b"x" * 100_000]}]
    function, _ = defined("def f(x):\n    return TABLES", TABLES=tables)
    first = pack_code(SEAL, function)
    assert pack_code(SEAL, function, first) is first
    for change, undo in (
        (lambda: tables.append(1), tables.pop),
        (lambda: tables[1].update(more=1), lambda: tables[1].pop("more")),
        (lambda: tables[1]["deep"][0].__setitem__(99_999, 1), lambda: tables[1]["deep"][0].__setitem__(99_999, 0)),
        (lambda: tables[1]["deep"].append(None), tables[1]["deep"].pop),
    ):
        change()
        changed = pack_code(SEAL, function, first)
        assert changed.digest != first.digest
        assert changed == pack_code(SEAL, function)
        assert pack_code(SEAL, function, changed) is changed
        undo()
        assert pack_code(SEAL, function, changed) == first
        assert pack_code(SEAL, function, first) is first
    assert unpack_code(SEAL, changed.digest, changed.record)(0)[1]["deep"][2] is None


def test_what_is_known_may_be_another_function():
    one, other = (defined(f"def f(x): return {body}")[0] for body in ("x", "[x, 'more']"))
    known = pack_code(SEAL, one)
    assert pack_code(SEAL, other, known) == pack_code(SEAL, other)


# What a function is made from


def is_same(function, before):
    after = parts_of(function)
    return after is not None and len(before) == len(after) and all(a is b for a, b in zip(before, after, strict=True))


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
    assert parts_of(len) == (len,)


def test_a_partial_is_what_it_is_made_of():
    f, _ = defined("def f(x, y=0, *, me=None):\n    return x")
    assert parts_of(functools.partial(f, 2, y=3)) == parts_of(functools.partial(f, 2, y=3)) is not None
    others = [functools.partial(f, 2, y=4), functools.partial(f, 3, y=3), functools.partial(f, y=3, x=2)]
    assert parts_of(functools.partial(f, 2, y=3)) not in [parts_of(other) for other in others]
    assert parts_of(functools.partial(f, [2])) is None
    assert parts_of(functools.partial(f, y=[2])) is None
    assert is_constant(functools.partial(f, y=3))
    assert is_self_contained(functools.partial(f, y=3))
    told = functools.partial(f)
    told.words = []
    assert parts_of(told) is None
    reached, scope = defined("def f(x):\n    p.keywords['y'] = x\n    return x")
    scope["p"] = functools.partial(reached)
    assert not is_constant(scope["p"])


@pytest.mark.parametrize(
    "value",
    [
        1, 2.5, "text", b"bytes", True, 1j, None, (), (1, ("a", None)), math, math.sqrt, len, dict, ValueError,
        type(None), int | None, list[int], json.dumps, reads_a_global,
    ],
)  # fmt: skip
def test_values_of_which_nothing_can_be_changed_in_place_are_parts(value):
    function, scope = defined("def f(x):\n    return VALUE", VALUE=value)
    before = parts_of(function)
    assert any(part is value for part in before)
    assert is_same(function, before)
    scope["VALUE"] = object() if value is None else None
    assert not is_same(function, before)


class Local:
    pass


@pytest.mark.parametrize(
    "value",
    [
        [], {}, set(), frozenset(), bytearray(), Local(), (1, [2]), functools.partial(len), type("Here", (), {}),
        [].append, type(math)("nowhere"), type("Text", (str,), {})("x"), Local().__init__, range(3),
    ],
)  # fmt: skip
def test_with_any_other_value_a_function_is_pickled_again(value):
    assert parts_of(defined("def f(x):\n    return VALUE", VALUE=value)[0]) is None
    assert parts_of(defined("def f(x):\n    return g(x)\ndef g(x):\n    return VALUE", VALUE=value)[0]) is None
    function, _ = defined("def f(x, more=None):\n    return x")
    function.__defaults__ = (value,)
    assert parts_of(function) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda f, scope: setattr(f, "__doc__", "other"),
        lambda f, scope: setattr(f, "__name__", "other"),
        lambda f, scope: setattr(f, "__qualname__", "other"),
        lambda f, scope: setattr(f, "__module__", "other"),
        lambda f, scope: setattr(f, "__defaults__", (2,)),
        lambda f, scope: setattr(f, "__defaults__", None),
        lambda f, scope: setattr(f, "__kwdefaults__", {"c": 4}),
        lambda f, scope: setattr(f, "__kwdefaults__", None),
        lambda f, scope: f.__kwdefaults__.update(c=4),
        lambda f, scope: f.__annotations__.update(a=str),
        lambda f, scope: f.__annotations__.clear(),
        lambda f, scope: setattr(f, "__code__", (lambda a, b=1, *, c=3: 0).__code__),
        lambda f, scope: scope.update(RATE=1.5),
        lambda f, scope: scope.pop("RATE"),
        lambda f, scope: scope.update(later=1),
        lambda f, scope: setattr(scope["g"], "__doc__", "other"),
        lambda f, scope: scope.update(g=len),
        lambda f, scope: setattr(scope["inner"], "__defaults__", (1,)),
        lambda f, scope: setattr(f, "attribute", 1),
    ],
)
def test_a_change_of_any_part_is_seen(change):
    source = """
def f(a: int, b=1, *, c=3) -> float | None:
    "words"
    try:
        return later
    except NameError:
        return RATE, g(a), [inner() for _ in ()]
def g(x):
    return f if x else None
def inner(more=0):
    return more
"""
    function, scope = defined(source, RATE=2.5)
    before = parts_of(function)
    assert is_same(function, before)
    change(function, scope)
    assert not is_same(function, before)


def test_what_a_closure_holds_is_a_part():
    def make(value):
        def inner():
            return value

        def set_to(other):
            nonlocal value
            value = other

        return inner, set_to

    inner, set_to = make(1)
    before = parts_of(inner)
    assert is_same(inner, before)
    set_to(1.0)
    assert not is_same(inner, before)
    set_to([1])
    assert parts_of(inner) is None

    def unfinished():
        return later

    assert parts_of(unfinished) is None
    later = 1
    assert parts_of(unfinished) is not None


def test_defaults_of_keywords_are_not_taken_for_annotations():
    function, _ = defined("def f(*, a=1): return a")
    before = parts_of(function)
    function.__annotations__, function.__kwdefaults__ = function.__kwdefaults__, None
    assert not is_same(function, before)


def test_annotations_and_functions_that_are_called_are_parts_of_a_function():
    source = """
import math

def root(x: "float", places: int = 3) -> float | None:
    return round(math.sqrt(x), places)

def fact(n: int) -> list[int]:
    return [1] if n < 2 else [root(n)] + fact(n - 1)
"""
    namespace = {"__name__": "__main__"}
    exec(compile(source, "<cell>", "exec", dont_inherit=True), namespace)
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


# What a job computes


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
