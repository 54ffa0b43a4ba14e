"""Which part of an object cannot be pickled, in words that help."""

from __future__ import annotations

import functools
import queue
import threading

import pytest

from nbqueue import errors
from nbqueue.payload import explain
from nbqueue.payload.explain import cannot_pickle

LOCK = threading.Lock()


class Holder:
    shared = 1

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def method(self):
        return self


def stubborn(name, module):
    """An object that cannot be pickled, of such a type."""
    return type(name, (), {"__module__": module, "__getstate__": lambda self: 1 / 0})()


def words(obj):
    return str(cannot_pickle("the thing", obj, TypeError("cannot pickle it\nat all")))


def path_to(obj):
    """The steps between the object and the part that cannot be sent."""
    said = words(obj).removeprefix("the thing cannot be sent to a worker: ")
    if said.startswith("it holds a "):
        return ""
    first, *steps, last = said.partition(" (cannot pickle it")[0].split(" -> ")
    assert first == "the thing" and last
    return " -> ".join(steps)


def test_the_error_names_the_thing_the_type_the_reason_and_what_to_do():
    error = cannot_pickle("argument 1", LOCK, TypeError("cannot pickle '_thread.lock' object"))
    assert type(error) is errors.CannotPickle
    assert str(error) == (
        "argument 1 cannot be sent to a worker: it holds a _thread.lock (cannot pickle '_thread.lock' object). "
        "A lock has no meaning in another process: leave it out, or make it inside the function"
    )
    assert "(TypeError)" in str(cannot_pickle("it", LOCK, TypeError()))
    assert "(cannot pickle it)" in words(LOCK)


def closure():
    held = LOCK
    return lambda: held


def default(a, b=LOCK, *, c=1):
    return a, b, c


def keyword_default(a=1, *, c=LOCK):
    return a, c


def tagged():
    return None


tagged.lock = LOCK


def unfinished():
    def inner():
        return later, LOCK

    if LOCK is None:
        later = 1
    return inner


@pytest.mark.parametrize(
    ("obj", "path"),
    [
        (LOCK, ""),
        ([1, LOCK], "item 1"),
        ((1, [2, {"deep": LOCK}]), "item 1 -> item 1 -> item 'deep'"),
        ({"a": 1, "b": [LOCK]}, "item 'b' -> item 0"),
        ({LOCK}, "an item"),
        (functools.partial(print, 1, LOCK), "argument 1"),
        (functools.partial(print, end=[LOCK]), "argument 'end' -> item 0"),
        (functools.partial(closure()), "function -> variable 'held'"),
        (closure(), "variable 'held'"),
        (lambda: Holder(a=HELD), "global 'HELD' -> attribute 'lock'"),
        (Holder(a=1, b=[LOCK]), "attribute 'b' -> item 0"),
        (Holder(lock=LOCK).method, "its object -> attribute 'lock'"),
    ],
)
def test_the_path_leads_to_the_innermost_part(obj, path):
    assert path_to(obj) == path


HELD = Holder(lock=LOCK)


@pytest.mark.parametrize(
    ("function", "path"),
    [
        (default, "default of 'b'"),
        (keyword_default, "default of 'c'"),
        (tagged, "attribute 'lock'"),
        (unfinished(), "global 'LOCK'"),
    ],
)
def test_what_belongs_to_a_function_is_named(function, path):
    """Of one that lives in `__main__`, which is sent by value."""
    function.__module__ = "__main__"
    assert path_to(function) == path


def test_an_attribute_of_a_class_is_named():
    kind = type("Kind", (), {"__module__": "__main__", "lock": LOCK})
    assert path_to(kind) == "attribute 'lock'"


def test_what_contains_itself_is_searched_to_the_end():
    loop = [1]
    loop += [loop, LOCK]
    assert path_to(loop) == "item 2"
    other = {"loop": loop}
    loop[0] = other
    assert path_to(other) == "item 'loop' -> item 2"


def test_a_long_path_is_shortened_in_the_middle():
    deep = [LOCK]
    for number in range(20):
        deep = {number: deep}
    assert path_to(deep) == "item 19 -> item 18 -> item 17 -> item 16 -> ... -> item 2 -> item 1 -> item 0 -> item 0"


def test_the_search_is_bounded(monkeypatch):
    assert path_to([*range(1000, 1490), LOCK]) == "item 490"
    assert path_to([*range(1000, 1600), LOCK]) == ""
    looked = []
    monkeypatch.setattr(explain, "can_pickle", lambda part: looked.append(part) or False)
    deep = []
    for _ in range(2000):
        deep = [deep]
    path_to(deep)
    assert len(looked) == 500


def test_the_same_object_gives_the_same_words_in_each_process():
    """Whatever the order of a set is there."""
    first = {LOCK, (i for i in ()), threading.RLock(), "a", "b"}
    assert "lock" in words(first)
    assert "RLock" in words(first - {LOCK})


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ((i for i in range(3)), "Pass a list of its values"),
        (LOCK, "A lock has no meaning"),
        (threading.RLock(), "A lock has no meaning"),
        (stubborn("Queue", "nbqueue.client.queues"), "`from nbqueue import q` is the queue"),
        (queue.Queue(), "A lock has no meaning"),
        (queue.SimpleQueue(), "Make it inside the function, or pass what it is made from"),
    ],
)
def test_the_hint_is_that_of_the_type(value, hint):
    assert hint in words([value])


def test_a_queue_of_somebody_else_is_not_taken_for_ours():
    for module in ("elsewhere", "nbqueues.client"):
        assert "from nbqueue import q" not in words(stubborn("Queue", module))


def test_our_own_objects_are_not_looked_into():
    own = stubborn("Queue", "nbqueue.client.queues")
    own.lock = LOCK
    assert path_to([own]) == "item 0"
    assert "-> item 0 -> nbqueue.client.queues.Queue (" in words([own])
