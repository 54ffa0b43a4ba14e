"""When something recurs: times are given, nothing waits for them."""

from __future__ import annotations

import itertools
import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from nbqueue import errors
from nbqueue.store.timetable import Timetable, Turn, decide, zone_of


def moment(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def following(expression: str, after: str, most: int = 3, zone: str = "Europe/Berlin", fold: int = 0) -> list[str]:
    timetable = Timetable.of_cron(expression, zone)
    time = datetime.fromisoformat(after).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()
    found = []
    for _ in range(most):
        time = timetable.next_after(time)
        found.append(datetime.fromtimestamp(time, ZoneInfo(zone)).isoformat(" ")[2:-3].replace(":00+", "+"))
    return found


def test_a_time_that_the_clocks_leave_out_comes_right_after_the_gap() -> None:
    assert following("30 2 * * *", "2026-03-27 12:00") == [
        "26-03-28 02:30+01", "26-03-29 03:00+02", "26-03-30 02:30+02"
    ]  # fmt: skip


def test_a_time_that_comes_twice_is_meant_once() -> None:
    assert following("30 2 * * *", "2026-10-24 12:00") == [
        "26-10-25 02:30+02", "26-10-26 02:30+01", "26-10-27 02:30+01"
    ]  # fmt: skip
    assert following("30 2 * * *", "2026-10-25 02:10", 1, fold=1) == ["26-10-26 02:30+01"], "seen in the second hour"
    assert following("30 2 * * *", "2026-10-25 02:40", 1, fold=1) == ["26-10-26 02:30+01"]


def test_with_a_star_it_goes_by_the_time_that_passes() -> None:
    assert following("*/30 * * * *", "2026-10-25 01:45", 5) == [
        "26-10-25 02:00+02", "26-10-25 02:30+02", "26-10-25 02:00+01", "26-10-25 02:30+01", "26-10-25 03:00+01"
    ]  # fmt: skip
    assert following("*/30 * * * *", "2026-03-29 01:15") == [
        "26-03-29 01:30+01", "26-03-29 03:00+02", "26-03-29 03:30+02"
    ]  # fmt: skip


def test_each_time_is_after_the_one_before_in_all_hours_around_both_changes() -> None:
    for expression in ("30 2 * * *", "0 3 * * *", "*/20 * * * *", "15 */2 * * *", "0,30 1-3 * * *"):
        timetable = Timetable.of_cron(expression, "Europe/Berlin")
        for day in ("2026-03-28 22:00", "2026-10-24 22:00"):
            for minutes in range(0, 600, 10):
                after = moment(day) + 60 * minutes
                found = timetable.next_after(after)
                assert found > after
                assert timetable.next_after(found - 0.5) == found, "it does not depend on when one asks"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"])
def test_a_time_of_day_is_that_of_its_zone(zone: str) -> None:
    for month in (1, 7):
        after = datetime(2026, month, 10, 12, tzinfo=zone_of(zone)).timestamp()
        found = Timetable.of_cron("15 6 * * *", zone).next_after(after)
        assert datetime.fromtimestamp(found, zone_of(zone)).isoformat()[:16] == f"2026-0{month}-11T06:15"


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/5 * * * *", "26-01-01 00:05+01"), ("0 9 * * mon-fri", "26-01-01 09:00+01"),
        ("@daily", "26-01-02 00:00+01"), ("@HOURLY", "26-01-01 01:00+01"), ("@weekly", "26-01-04 00:00+01"),
        ("@monthly", "26-02-01 00:00+01"), ("@yearly", "27-01-01 00:00+01"), (" 0  0 29 2 * ", "28-02-29 00:00+01"),
        ("0 12 L * *", "26-01-31 12:00+01"), ("30 0 0 * * *", "26-01-01 00:00:30+01"),
    ],
)  # fmt: skip
def test_expressions_as_people_write_them(expression: str, expected: str) -> None:
    assert following(expression, "2026-01-01 00:00", 1) == [expected]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("99 * * * *", "bad minute: five fields"), ("* * * *", "wrong number of fields: five fields"),
        ("0 25 * * *", "bad hour"), ("0 0 31 2 *", "bad day-of-month"), ("soon", "wrong number of fields"),
        ("", "wrong number"), ("0 0 * * fry", "bad day-of-week"), ("*/0 * * * *", "bad minute"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(expression: str, words: str) -> None:
    with pytest.raises(errors.UsageError, match=words):
        Timetable.of_cron(expression, "UTC")


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(errors.WrongType, match="a text is accepted"):
        Timetable.of_cron(5, "UTC")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("zone", "words"),
    [("Europe/Berlni", "Did you mean 'Europe/Berlin'"), ("/etc/passwd", "is accepted"), ("Europe", "is accepted")],
)
def test_zones_that_there_are_not_are_refused(zone: str, words: str) -> None:
    with pytest.raises(errors.UsageError, match=words):
        zone_of(zone)


def test_a_host_without_a_database_of_zones_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(errors.UsageError, match="pip install tzdata"):
        zone_of("Nowhere/Here")
    assert zone_of("UTC").utcoffset(None) is not None


def test_intervals_keep_their_step() -> None:
    timetable = Timetable(interval=10.0)
    assert timetable.next_after(100.0) == 110.0
    assert timetable.next_after(100.0, since=93.0) == 103.0
    assert timetable.next_after(103.0, since=93.0) == 113.0
    assert timetable.next_after(1e6 + 1, since=3.0) == 1e6 + 3
    assert timetable.next_after(80.0, since=93.0) == 83.0
    for step in (0.1, 0.3, 7.7, 86400.0):
        time = now = 1_790_000_000.123
        for _ in range(100):
            time = Timetable(interval=step).next_after(now, since=time)
            assert now < time <= now + step * 1.001
            now = time


def test_a_timetable_is_plain_text() -> None:
    for timetable in (Timetable(interval=0.2), Timetable.of_cron("0 9 * * mon-fri", "America/New_York")):
        assert Timetable.read(timetable.to_text()) == timetable


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(600, "every 10 minutes"), (60, "every minute"), (90, "every 90 seconds"), (7200, "every 2 hours"),
     (86400, "every day"), (0.5, "every 0.5 seconds"), (1, "every second")],
)  # fmt: skip
def test_a_timetable_is_told_in_words(seconds: float, words: str) -> None:
    assert str(Timetable(interval=float(seconds))) == words
    assert str(Timetable(cron="0 6 * * *", zone="Europe/Berlin")) == "0 6 * * * (Europe/Berlin)"


# What is done at a time

MINUTELY = Timetable(cron="* * * * *", zone="UTC")
TEN = Timetable(interval=10.0)


def test_what_is_due_runs_once_however_many_times_were_missed() -> None:
    assert decide(TEN, 100, 100.2, is_busy=False, busy_until=None) == Turn(True, 0, 110)
    assert decide(TEN, 100, 1_000_005, is_busy=False, busy_until=None) == Turn(True, 0, 1_000_010)
    assert decide(MINUTELY, 60, 86_399, is_busy=False, busy_until=30) == Turn(True, 0, 86_400)


def test_what_is_due_while_the_run_before_goes_on_is_passed_over_and_counted() -> None:
    assert decide(TEN, 100, 100.2, is_busy=True, busy_until=None) == Turn(False, 1, 110)
    assert decide(MINUTELY, 60, 200, is_busy=True, busy_until=None) == Turn(False, 3, 240)


def test_what_was_due_while_the_run_before_went_on_is_passed_over_also_if_nobody_saw_it_then() -> None:
    assert decide(TEN, 100, 105, is_busy=False, busy_until=104) == Turn(False, 1, 110)
    assert decide(TEN, 100, 131, is_busy=False, busy_until=125) == Turn(True, 3, 140), "that of 130 is caught up with"
    assert decide(MINUTELY, 60, 170, is_busy=False, busy_until=150) == Turn(False, 2, 180)
    assert decide(MINUTELY, 60, 190, is_busy=False, busy_until=150) == Turn(True, 2, 240)
    assert decide(TEN, 100, 105, is_busy=False, busy_until=99.9) == Turn(True, 0, 110)


def test_counting_ends_somewhere() -> None:
    year = 365 * 86400
    assert decide(MINUTELY, 60, year, is_busy=True, busy_until=None).skipped == 1000
    assert decide(TEN, 100, year, is_busy=True, busy_until=None).skipped == 1000
    assert math.isfinite(decide(MINUTELY, 60, year, is_busy=True, busy_until=None).next_due)


def test_however_late_workers_look_they_pass_over_the_same() -> None:
    for now, until in itertools.product((100.1, 104, 111, 133), (99, 103, 110, 128)):
        if until > now:
            continue
        turn = decide(TEN, 100, now, is_busy=False, busy_until=until)
        missed = [time for time in (100, 110, 120, 130) if time <= now]
        assert turn.skipped == sum(time <= until for time in missed)
        assert turn.runs == any(time > until for time in missed)
