"""Schedules, as people and programs see them."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime

import pytest
from states import schedule_state

from nbqueue.view.recurring import ScheduleSeen, day_and_time


def test_a_schedule_says_when_it_is_due_and_what_became_of_its_last_run():
    seen = ScheduleSeen(schedule_state())
    assert (seen.when, seen.state) == ("every 10 minutes", "waiting")
    assert seen.next_run == f"{datetime.fromtimestamp(400):%H:%M:%S}"
    assert (seen.last_state, seen.last_run) == ("finished", f"{datetime.fromtimestamp(90):%H:%M:%S}")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"is_paused": True}, ("paused", "paused")),
        ({"is_busy": True, "due": "99"}, ("running", "now")),
        ({"due": "99"}, ("waiting", "now")),
    ],
)
def test_a_schedule_that_does_not_wait_says_so(changes, expected):
    seen = ScheduleSeen(schedule_state(**changes))
    assert (seen.state, seen.next_run) == expected


def test_the_state_of_the_last_run_is_a_word_of_panels():
    words = {state: ScheduleSeen(schedule_state(last_state=state)).last_state for state in ("queued", "started", "")}
    assert words == {"queued": "waiting", "started": "running", "": ""}
    assert ScheduleSeen(schedule_state(last_at=None)).last_run == ""


def test_a_time_that_is_far_has_its_day():
    now = datetime(2026, 12, 6, 12).timestamp()
    assert day_and_time(now + 3600, now) == "13:00:00"
    assert day_and_time(datetime(2026, 12, 7, 12).timestamp(), now) == "Mon 7 Dec 12:00:00"
    assert re.fullmatch(r"Sat 2 Jan 2027 12:00:00", day_and_time(datetime(2027, 1, 2, 12).timestamp(), now))


def test_where_its_zone_has_another_time_the_one_of_this_host_is_named(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:

        def next_run(zone):
            return ScheduleSeen(schedule_state(times=f"cron {zone} 0 6 * * *")).next_run

        assert next_run("Asia/Seoul") == "09:06:40"
        assert next_run("Europe/Berlin") == next_run("UTC") == next_run("No/Where") == "09:06:40 JST"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_programs_get_all_of_it():
    told = json.loads(json.dumps(ScheduleSeen(schedule_state(times="cron UTC 0 6 * * *")).as_json()))
    assert told["cron"] == "0 6 * * *" and told["timezone"] == "UTC" and told["interval"] is None
    assert told["next_run"] == 400.0 and told["runs"] == 12
