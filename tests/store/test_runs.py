"""Runs of jobs as plain data."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbqueue.store.runs import cut, size_of, united, without

RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)).map(lambda run: (run[0], run[0] + run[1])), max_size=8)


def jobs(runs):
    return [index for start, stop in runs for index in range(start, stop)]


@given(RUNS)
def test_united_runs_are_the_same_jobs_once_by_index_in_as_few_runs_as_can_be(runs):
    found = united(runs)
    assert jobs(found) == sorted(set(jobs(runs)))
    assert all(before[1] < after[0] for before, after in zip(found, found[1:], strict=False))
    assert size_of(found) == len(set(jobs(runs)))


@given(RUNS, RUNS)
def test_what_is_taken_away_is_gone_and_the_rest_keeps_its_order(runs, others):
    found = list(without(runs, others))
    assert jobs(found) == [index for index in jobs(runs) if index not in set(jobs(others))]
    assert all(start < stop for start, stop in found)


@given(RUNS, st.integers(0, 50), st.integers(0, 50))
def test_a_part_is_a_slice(runs, first, most):
    assert jobs(cut(runs, first, most)) == jobs(runs)[first : first + most]
