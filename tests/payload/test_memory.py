"""Memory that is used again."""

from __future__ import annotations

import doctest

from nbqueue.payload import memory
from nbqueue.payload.memory import Buffers


def test_its_example():
    assert doctest.testmod(memory).failed == 0


def test_nothing_is_handed_out_while_there_is_a_view_of_any_part_of_it():
    pool = Buffers()
    seen = set()
    parts = []
    for number in range(5):
        whole = pool.take(300_000)
        whole[:] = bytes([number]) * 300_000
        parts.append(whole[1000:1010])
        seen.add(id(whole.obj))
        del whole
    assert len(seen) == 5
    assert [bytes(part) for part in parts] == [bytes([number]) * 10 for number in range(5)]
    parts.clear()
    assert id(pool.take(290_000).obj) in seen


def test_only_so_much_is_kept_and_nothing_much_larger_than_what_is_asked_for(monkeypatch):
    monkeypatch.setattr(memory, "_MOST", 4_000_000)
    pool = Buffers()
    views = [pool.take(1_000_000) for _ in range(10)]
    wholes = [view.obj for view in views]
    del views
    again = [pool.take(1_000_000) for _ in range(10)]
    assert sum(any(view.obj is whole for whole in wholes) for view in again) == 3
    assert all(view.obj is not whole for view in [pool.take(1000)] for whole in wholes)
    assert len(pool.take(9_000_000)) == 9_000_000
    assert sum(map(len, pool._kept)) <= 4_000_000
