"""Numbers, sizes and times as people read them."""

from __future__ import annotations

from datetime import datetime

from nbqueue.store.requests.running import Progress
from nbqueue.view.words import (
    clock,
    duration,
    listed,
    many,
    number,
    progress_in_words,
    rate,
    short,
    size,
    time_of_day,
    took,
)


def test_numbers_are_short():
    assert [short(n) for n in (0, 99_999, 123_456, 4_560_000)] == ["0", "99,999", "123k", "4.56M"]
    assert [duration(s) for s in (3.14, 45, 720, 18000, 700_000)] == ["3.1 s", "45 s", "12 min", "5 h", "8 d"]
    assert [size(n) for n in (5 * 2**20, 3 * 2**29)] == ["5 MB", "1.5 GB"]


def test_no_number_takes_more_than_six_characters():
    assert max(len(short(n)) for power in range(9) for n in (10**power - 1, 10**power, 10**power * 5 + 1)) <= 6


def test_numbers_and_what_they_count():
    assert number(1234567) == "1,234,567"
    assert [many(n, "job") for n in (0, 1, 1000)] == ["0 jobs", "1 job", "1,000 jobs"]
    assert [many(n, "child", "children") for n in (1, 2)] == ["1 child", "2 children"]
    assert [rate(n) for n in (1200, 100, 4.1, 1, 0.1)] == ["1,200/s", "100/s", "4.1/s", "1.0/s", "6.0/min"]


def test_seconds_that_go_on_are_a_clock_and_those_that_have_ended_are_as_exact_as_they_are_short():
    assert [clock(s) for s in (-1, 7.9, 723, 3600)] == ["0:00", "0:07", "12:03", "1:00:00"]
    assert [took(s) for s in (0, 0.038, 0.456, 6.1, 723)] == ["under 1 ms", "38 ms", "0.46 s", "6.1 s", "12:03"]
    assert duration(-3) == "0.0 s", "clocks differ"


def test_a_time_of_day_is_that_of_this_host():
    assert time_of_day(datetime(2024, 5, 1, 9, 41).timestamp()) == "09:41:00"


def test_names_are_listed_as_a_sentence_has_them():
    assert [listed(names) for names in ([], ["a"], ("a", "b"), ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_progress_is_told_whatever_a_job_says():
    assert progress_in_words(Progress(1, 1e308), 10.0) == "1 of 1e+308"
    assert progress_in_words(Progress(1e200), 10.0) == "1e+200 done"
    assert progress_in_words(Progress(0.5, 2.0, "rows"), 9.0) == "0.5 of 2 · rows · 0:27 left"
    assert progress_in_words(Progress(5, 4), 9.0) == "5 of 4"
