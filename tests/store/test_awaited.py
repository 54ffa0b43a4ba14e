"""What jobs of a worker wait for is claimed first, and those that wait stand in nobody's way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from nbqueue.server import embedded
from nbqueue.store.keys import new_token
from nbqueue.store.requests import running, steering, submitting
from nbqueue.store.requests.running import Claimed
from nbqueue.store.requests.submitting import Opening
from nbqueue.store.store import Store


@pytest.fixture
def store(namespace: str) -> Iterator[Store]:
    store = Store(embedded.ensure().url, namespace)
    store.call(running.register("ann", {}))
    yield store
    store.close()


def submit(store: Store, batch: str, count: int = 3, queue: str = "default", environment: str = "here") -> None:
    opening = Opening(batch, new_token(), queue, environment, 1, "{}")
    assert store.call(submitting.submit(opening, 0, count, {}, [], is_last=True)).answer == "ok"


def claim(store: Store, number: int, *, waiting: Sequence[int] = (), awaited: Sequence[str] = ()) -> Claimed | None:
    request = running.claim(
        "ann", number, "here", ["default", "other"], children=1, target=1.0, waiting=waiting, awaited=awaited
    )
    claimed = store.call(request)
    assert claimed is None or isinstance(claimed, Claimed)
    return claimed


def batch_of(claimed: Claimed | None) -> str:
    return "" if claimed is None else claimed.batch


def make_suspect(store: Store, batch: str, first: int = 1) -> None:
    """Its only job has taken its process down twice."""
    for number in (first, first + 1):
        claimed = claim(store, number)
        assert claimed is not None
        assert claimed.batch == batch
        store.call(running.release("ann", number, (0, 1), "it died"))


def test_what_is_awaited_is_taken_before_all_others_in_the_order_given(store: Store) -> None:
    submit(store, "parents")
    submit(store, "older", 1)
    submit(store, "newer", 1, "other")
    awaited = ["newer", "older"]
    assert [batch_of(claim(store, n, awaited=awaited)) for n in (1, 2, 3)] == ["newer", "older", "parents"]


def test_what_cannot_be_taken_does_not_hold_up_others(store: Store) -> None:
    submit(store, "parents", 6)
    submit(store, "away", queue="elsewhere")
    submit(store, "foreign", environment="there")
    submit(store, "paused")
    store.call(steering.pause("paused"))
    awaited = ["unknown", "away", "foreign", "paused"]
    assert batch_of(claim(store, 1, awaited=awaited)) == "parents"
    submit(store, "held", queue="other")
    store.call(steering.pause_queue("other"))
    assert batch_of(claim(store, 2, awaited=["held"])) == "parents"
    store.call(steering.resume_queue("other", ["here"]))


def test_a_claim_of_what_is_awaited_is_sent_twice_and_acts_once(store: Store) -> None:
    submit(store, "parents")
    submit(store, "awaited")
    first, again = (claim(store, 1, awaited=["awaited"]) for _ in range(2))
    assert first == again
    assert batch_of(first) == "awaited"


def test_what_is_awaited_does_not_move_the_time_of_the_queue_forward(store: Store) -> None:
    submit(store, "parents", 1000)
    submit(store, "awaited", 1000)
    for number in range(1, 50):
        claim(store, number, awaited=["awaited"])
    submit(store, "new")
    taken = {batch_of(claim(store, number)) for number in (50, 51)}
    assert taken == {"parents", "new"}


def test_jobs_that_wait_do_not_keep_a_suspect_from_being_alone(store: Store) -> None:
    submit(store, "parent", 1)
    assert batch_of(claim(store, 1)) == "parent"
    submit(store, "suspect", 1)
    make_suspect(store, "suspect", 2)
    assert claim(store, 4) is None, "the parent runs"
    taken = claim(store, 5, waiting=[1])
    assert taken is not None
    assert (taken.batch, taken.kind) == ("suspect", "x")
    submit(store, "other", 1)
    assert claim(store, 6, waiting=[1]) is None, "it is not alone"


def test_a_suspect_that_waits_itself_lets_others_run(store: Store) -> None:
    submit(store, "suspect", 1)
    make_suspect(store, "suspect")
    assert batch_of(claim(store, 3)) == "suspect"
    submit(store, "awaited", 1)
    assert claim(store, 4) is None, "it is not alone"
    assert batch_of(claim(store, 5, waiting=[3], awaited=["awaited"])) == "awaited"
