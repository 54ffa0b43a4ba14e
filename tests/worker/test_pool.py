"""What a worker asks of a child, and how long that holds. The children are real, and have nothing to do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import wait_until

from nbqueue.protocol.messages import Hello
from nbqueue.protocol.page import CANCEL, TIMEOUT, Page
from nbqueue.store.description import Description
from nbqueue.store.requests.running import Claimed
from nbqueue.worker.pool import OBEYS, ChildProcess, Guard, Run


@pytest.fixture
def child() -> Iterator[ChildProcess]:
    guard = Guard()
    made = ChildProcess(Hello("worker", "namespace", bytes(32)), guard, 1, [])
    yield made
    made.kill()
    made.leave()
    wait_until(made.has_left)
    guard.close()


def hand(child: ChildProcess, number: int, start: int = 0, stop: int = 10) -> Run:
    child.hand(Claimed(number, "batch", start, stop, "", 1, b"{}", False, {}, [], [], False), Description(), {})
    return child.runs[-1]


def test_what_lies_behind_a_job_is_taken_back_a_moment_after_it_was_told(child: ChildProcess) -> None:
    run = hand(child, 1)
    hand(child, 2)
    child.stop_soon(run, 3, now=5.0)
    assert child.take_back(run, 3, now=5.0) == []
    assert child.take_back(run, 3, now=5.0 + 2 * OBEYS) == [(2, 0, 10), (1, 4, 10)]
    assert ([run.number for run in child.runs], run.stop) == ([1], 4)
    assert child.take_back(run, 3, now=6.0) == []


def test_what_a_child_was_handed_after_it_was_told_to_stop_is_not_taken_back(child: ChildProcess) -> None:
    """It starts that; another one would do it once more."""
    run = hand(child, 1)
    child.stop_soon(run, 3, now=5.0)
    later = hand(child, 2)
    assert child.take_back(run, 3, now=6.0) == [(1, 4, 10)]
    assert list(child.runs) == [run, later]
    child.stop_soon(run, 3, now=7.0)
    assert child.take_back(run, 3, now=8.0) == [(2, 0, 10)]


def test_a_child_that_has_gone_on_meanwhile_keeps_what_it_has(child: ChildProcess) -> None:
    run = hand(child, 1)
    child.stop_soon(run, 3, now=5.0)
    assert child.take_back(run, 4, now=6.0) == []
    assert child.bound is None


def test_what_was_taken_back_stays_skipped(child: ChildProcess) -> None:
    run = hand(child, 1)
    hand(child, 7)
    child.stop_soon(run, 3, now=5.0)
    child.take_back(run, 3, now=6.0)
    child.stop_soon(run, 3, now=7.0)
    assert child.page.cells[Page.SKIP] == 7


@pytest.mark.parametrize("reason", [TIMEOUT, CANCEL])
def test_an_interruption_is_that_of_one_job(child: ChildProcess, reason: int) -> None:
    run, other = hand(child, 1), hand(child, 2)
    child.interrupt(run, 3, reason, now=5.0)
    found = child.interruption_of(run, 3)
    assert found is not None
    assert (found.reason, found.since) == (reason, 5.0)
    assert child.interruption_of(run, 4) is None
    assert child.interruption_of(other, 3) is None


@pytest.mark.parametrize(
    ("number", "stop", "is_all", "is_over"),
    [(1, 3, False, False), (1, 4, False, True), (1, 3, True, True), (2, 0, False, True)],
)
def test_an_interruption_is_over_with_its_job_and_not_with_those_before(
    child: ChildProcess, number: int, stop: int, is_all: bool, is_over: bool
) -> None:
    run = hand(child, 1)
    hand(child, 2)
    child.interrupt(run, 3, CANCEL, now=5.0)
    child.has_done(number, stop, is_all=is_all)
    assert (child.interruption is None) == is_over


def test_where_to_stop_is_over_with_its_run_and_not_with_one_before(child: ChildProcess) -> None:
    hand(child, 1)
    run = hand(child, 2)
    child.stop_soon(run, 3, now=5.0)
    child.has_done(1, 10, is_all=True)
    assert child.bound is not None
    child.has_done(2, 4, is_all=False)
    assert child.bound is not None
    child.has_done(2, 4, is_all=True)
    assert child.bound is None


def test_only_a_child_that_its_worker_has_killed_is_known_as_killed(child: ChildProcess) -> None:
    child.process.kill()
    child.process.wait()
    assert child.death() is not None
    assert not child.is_killed
    child.kill()
    assert child.is_killed
