"""Which leases an order to cancel means, and for how long it is remembered."""

from __future__ import annotations

import pytest

from nbqueue.store.requests.running import CancelBatch, CancelJob
from nbqueue.worker.stopping import Cancels


def cancels(*orders: CancelBatch | CancelJob) -> Cancels:
    made = Cancels()
    for order in orders:
        made.add(order)
    return made


def test_an_order_means_the_leases_that_were_claimed_before_it_and_no_later_ones() -> None:
    found = cancels(CancelBatch("b", 7))
    assert [number for number in range(10) if found.apply_to("b", number, 0, 1)] == [*range(8)]
    assert not found.apply_to("other", 1, 0, 1)


def test_an_order_for_one_job_means_runs_that_hold_it() -> None:
    found = cancels(CancelJob("b", 5, 7))
    assert [start for start in range(10) if found.apply_to("b", 7, start, start + 3)] == [3, 4, 5]
    assert not found.apply_to("b", 8, 5, 6)
    assert not found.apply_to("other", 7, 5, 6)


def test_the_later_of_two_orders_means_what_both_do_in_whichever_order_they_come() -> None:
    for numbers in ((3, 7), (7, 3)):
        whole = cancels(*(CancelBatch("b", number) for number in numbers))
        one = cancels(*(CancelJob("b", 0, number) for number in numbers))
        for found in (whole, one):
            assert found.apply_to("b", 7, 0, 1)
            assert not found.apply_to("b", 8, 0, 1)


def test_orders_for_jobs_of_a_batch_and_for_all_of_it_stand_beside_each_other() -> None:
    found = cancels(CancelBatch("b", 3), CancelJob("b", 5, 6), CancelJob("b", 9, 6))
    assert found.apply_to("b", 3, 0, 1)
    assert not found.apply_to("b", 6, 0, 5)
    assert found.apply_to("b", 6, 0, 6)
    assert found.apply_to("b", 6, 6, 10)


@pytest.mark.parametrize("order", [CancelBatch("b", 7), CancelJob("b", 0, 7)])
def test_an_order_is_remembered_as_long_as_something_that_it_means_is_held(order: CancelBatch | CancelJob) -> None:
    found = cancels(order)
    found.forget([("other", 1), ("b", 9), ("b", 6)])
    assert found.apply_to("b", 6, 0, 1)
    found.forget([("other", 1), ("b", 9)])
    assert not found.apply_to("b", 6, 0, 1)
    assert not found


@pytest.mark.parametrize("order", [CancelBatch("b", 7), CancelJob("b", 0, 7)])
def test_an_order_is_remembered_while_a_lease_is_awaited_that_may_have_been_given_before_it(
    order: CancelBatch | CancelJob,
) -> None:
    found = cancels(order)
    found.forget([], awaited=7)
    assert found.apply_to("b", 7, 0, 1), "its answer comes after the order, where answers were lost"
    found.forget([], awaited=8)
    assert not found


def test_orders_for_single_jobs_are_forgotten_one_by_one() -> None:
    found = cancels(CancelJob("b", 0, 3), CancelJob("b", 1, 6))
    found.forget([("b", 5)])
    assert not found.apply_to("b", 3, 0, 1)
    assert found.apply_to("b", 5, 1, 2)
    assert found


def test_nothing_is_remembered_of_a_former_life() -> None:
    found = cancels(CancelBatch("b", 7), CancelJob("c", 0, 7))
    found.clear()
    assert not found
