"""Calls that recur: when they run, what becomes of their runs, and how they are steered."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from conftest import run_as_notebook, wait_until

from nbqueue import Queue, Retry, errors
from nbqueue.store.schedule_state import MOST_BATCHES


def make_due(q, schedule, ago: float = 0.0) -> None:
    """Time passes."""
    store, state = q.store, schedule.refresh()
    due = f"{store.now() - ago:.3f}"
    store.run("HSET", store.key(f"schedules:{state.queue}:{state.name}"), "due", due)
    store.run("ZADD", store.key(f"queue:{state.queue}:{state.environment}:scheduled"), "XX", due, f"*{state.name}")


def seconds_until(moment: datetime.datetime) -> float:
    return (moment - datetime.datetime.now(datetime.UTC)).total_seconds()


def hold(path: str) -> str:
    """Runs until there is a file."""
    import pathlib

    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return path


def test_a_schedule_runs_again_and_again_and_its_runs_are_jobs_like_others(q, worker):
    def tick(word):
        print(word)
        return word

    schedule = q.every(0.2, tick, "tack", meta={"mine": 1})
    wait_until(lambda: schedule.count >= 3)
    schedule.pause()
    runs = schedule.count
    jobs = schedule.jobs()
    assert len(jobs) == runs
    assert [job.result(timeout=20) for job in jobs] == ["tack"] * runs
    assert jobs[0] == schedule.last_job
    assert {job.batch.id for job in jobs} == {q.batches()[0].id}
    assert len(q.finished_job_registry) == runs
    assert jobs[0].args == ("tack",)
    assert jobs[0].func_name.endswith("tick")
    assert jobs[0].meta == {"mine": 1}
    assert jobs[0].output == "tack\n"
    assert q.batches()[0].label == schedule.name
    assert schedule.jobs(limit=2) == jobs[:2]


def test_what_runs_is_what_was_submitted(q, worker):
    numbers = [1]

    def count(*args, **kwargs):
        numbers.append(0)
        return len(numbers), args, kwargs

    schedule = q.every("1h", count, [1], {"a": 2}, b=3)
    numbers.clear()
    jobs = [schedule.run_now() for _ in range(3) if wait_until(lambda: not schedule.refresh().is_busy)]
    assert [job.result(timeout=20) for job in jobs] == [(2, ([1], {"a": 2}), {"b": 3})] * 3
    assert schedule.count == 3


def test_the_notebook_may_be_gone(q, workers, namespace):
    done = run_as_notebook(
        f"""
        from nbqueue import Queue
        def tick(): return "still here"
        q = Queue(namespace={namespace!r})
        print(q.every("0.2s", tick, name="clock"))
        """
    )
    assert done.stdout == "<Schedule clock: every 0.2 seconds>\n", done.stderr
    workers.start()
    schedule = q.schedule("clock")
    wait_until(lambda: schedule.count >= 2)
    assert schedule.jobs()[-1].result(timeout=20) == "still here"


def test_a_server_that_is_started_again_still_has_it(private, workers, namespace):
    server = private()
    q = Queue(connection=server.url, key="k", namespace=namespace, progress=False)
    workers.start("--url", server.url, NBQUEUE_KEY="k")
    schedule = q.every(0.2, abs, -1)
    wait_until(lambda: schedule.count >= 1)
    server.kill()
    server.start()
    runs = schedule.count
    wait_until(lambda: schedule.count >= runs + 2)
    assert schedule.last_job.wait(20).return_value() == 1
    workers.end()
    q.close()


def test_a_worker_on_another_host_starts_it(remote, remote_worker):
    schedule = remote.every(0.2, sorted, "ba")
    wait_until(lambda: schedule.count >= 2)
    assert schedule.jobs()[-1].result(timeout=20) == ["a", "b"]


def test_many_workers_start_each_run_once(q, workers):
    for _ in range(3):
        workers.start(children=1)
    began = time.monotonic()
    schedule = q.every(0.1, time.time, overlap=True)
    wait_until(lambda: schedule.count >= 30)
    schedule.pause()
    runs, elapsed = schedule.count, time.monotonic() - began
    assert runs <= elapsed / 0.1 + 1
    jobs = schedule.jobs(1000)
    assert len(jobs) == runs
    started = sorted(job.result(timeout=20) for job in jobs)
    assert len(set(started)) == runs
    assert len({job.wait(20).worker_name for job in jobs}) > 1


def test_a_worker_that_is_killed_takes_no_run_with_it(q, workers):
    schedule = q.every(0.1, time.time, overlap=True)
    for _ in range(3):
        killed, runs = workers.start(children=1), schedule.count
        wait_until(lambda runs=runs: schedule.count >= runs + 3)
        killed.kill()
        killed.wait()
        q.workers()  # who looks takes back what it held
    workers.start()
    runs = schedule.count
    wait_until(lambda: schedule.count > runs + 3)
    schedule.pause()
    jobs = schedule.jobs(10_000)
    assert len(jobs) == schedule.count
    assert len({job.id for job in jobs}) == len(jobs)
    assert all(job.wait(30).is_finished for job in jobs)


def test_after_a_time_without_workers_it_runs_once(q, workers):
    schedule = q.every("1m", abs, -1)
    other = q.cron("* * * * *", abs, -2, name="other", timezone="UTC")
    for one in (schedule, other):
        make_due(q, one, ago=3 * 86400)
    due = schedule.refresh().due_at
    workers.start()
    for one in (schedule, other):
        wait_until(lambda one=one: one.count == 1)
        assert one.last_job.wait(20).return_value() in (1, 2)
        assert 0 < seconds_until(one.next_run) <= 60
        assert (one.count, one.skipped) == (1, 0)
    assert (schedule.refresh().due_at - due) % 60 == pytest.approx(0, abs=0.01)
    assert other.next_run.second == 0


def test_a_run_that_is_due_while_the_one_before_goes_on_is_passed_over_and_counted(q, worker, tmp_path):
    schedule = q.every("1h", hold, str(tmp_path / "go"))
    make_due(q, schedule)
    wait_until(lambda: schedule.last_job and schedule.last_job.is_started)
    make_due(q, schedule)
    wait_until(lambda: schedule.skipped == 1)
    assert schedule.count == 1
    assert 3000 < seconds_until(schedule.next_run) <= 3600
    with pytest.raises(errors.SubmitError, match=f"its last run, job {schedule.last_job.id}, has not ended"):
        schedule.run_now()
    (tmp_path / "go").touch()
    schedule.last_job.wait(20)
    make_due(q, schedule)
    wait_until(lambda: schedule.count == 2)
    assert schedule.skipped == 1


def test_with_one_child_that_is_busy_with_it_the_same_is_passed_over(q, workers, tmp_path):
    schedule = q.every("1h", hold, str(tmp_path / "go"))
    workers.start(children=1)
    make_due(q, schedule)
    wait_until(lambda: schedule.last_job and schedule.last_job.is_started)
    make_due(q, schedule)
    (tmp_path / "go").touch()
    wait_until(lambda: schedule.skipped == 1)
    assert schedule.count == 1


def test_runs_overlap_where_that_is_asked_for(q, worker, tmp_path):
    schedule = q.every("1h", hold, str(tmp_path / "go"), overlap=True)
    for n in (1, 2):
        make_due(q, schedule)
        wait_until(lambda n=n: schedule.count == n)
    wait_until(lambda: all(job.is_started for job in schedule.jobs()))
    assert schedule.run_now().get_status() == "queued"
    (tmp_path / "go").touch()
    assert [job.wait(20).is_finished for job in schedule.jobs()] == [True] * 3
    assert schedule.skipped == 0


def test_the_same_name_again_replaces_it(q, worker):
    def first():
        return "first"

    def second():
        return "second"

    schedule = q.every("1h", first, name="work")
    assert schedule.run_now().result(timeout=20) == "first"
    due = schedule.next_run
    again = q.every("1h", second, name="work")
    assert [one.name for one in q.schedules()] == ["work"]
    assert again.next_run == due, "the times are the same"
    assert again.run_now().result(timeout=20) == "second"
    assert (again.count, len(again.jobs())) == (2, 2), "its runs are those of the name"
    other = q.every("2h", first, name="work")
    assert 7100 < seconds_until(other.next_run) <= 7200
    assert schedule.run_now().result(timeout=20) == "first"
    assert len(q.store.run("ZRANGE", q.store.key(f"queue:default:{q.environment}:scheduled"), 0, -1)) == 1


def test_one_that_is_replaced_without_being_named_is_told(q):
    q.every("1h", abs, -1)
    q.every("1h", abs, -2)
    with pytest.warns(errors.OptionWarning, match="schedule 'abs', every hour, is replaced: it is every 2 hours now"):
        q.every("2h", abs, -1)
    q.every("3h", abs, -1, name="abs")
    assert len(q.schedules()) == 1


def test_what_replaces_it_waits_for_its_last_run(q, worker, tmp_path):
    schedule = q.every("1h", hold, str(tmp_path / "go"), name="work")
    job = schedule.run_now()
    wait_until(lambda: job.is_started)
    again = q.every("1h", abs, -1, name="work")
    with pytest.raises(errors.SubmitError, match="has not ended"):
        again.run_now()
    (tmp_path / "go").touch()
    job.wait(20)
    assert again.run_now().result(timeout=20) == 1


def test_a_schedule_is_paused_and_goes_on_at_its_next_time(q, worker):
    schedule = q.every(0.2, abs, -1)
    wait_until(lambda: schedule.count >= 1)
    schedule.pause()
    assert schedule.is_paused
    assert schedule.next_run is None
    assert "paused" in repr(schedule)
    runs = schedule.count
    assert q.enqueue(abs, -3).result(timeout=20) == 3
    assert q.store.run("EXISTS", q.store.key(f"queue:default:{q.environment}:scheduled")) == 0
    wait_until(lambda: not schedule.refresh().is_busy)
    assert schedule.run_now().result(timeout=20) == 1, "out of turn"
    assert schedule.count == runs + 1
    schedule.resume()
    wait_until(lambda: schedule.count >= runs + 3)
    schedule.pause()
    schedule.pause()
    schedule.resume()
    schedule.resume()
    assert not schedule.is_paused
    assert not q.every(0.2, abs, -1).is_paused


def test_submitting_a_paused_one_again_lets_it_run(q):
    schedule = q.every("1h", abs, -1)
    schedule.pause()
    make_due(q, schedule, ago=1000)
    again = q.every("1h", abs, -1)
    assert not again.is_paused
    assert 3500 < seconds_until(again.next_run) <= 3600, "what was missed meanwhile is not caught up with"


def test_a_schedule_that_is_removed_leaves_its_runs_and_nothing_else(q, worker):
    def one():
        return 1

    schedule = q.every("1h", one, result_ttl=100)
    job = schedule.run_now()
    assert job.result(timeout=20) == 1
    (code,) = [key for key in q.store.run("KEYS", q.store.key("code:*")) if q.store.run("TYPE", key) == b"string"
               and not key.endswith(b":ended")][:1]  # fmt: skip
    assert schedule.remove()
    assert not schedule.remove()
    assert q.schedules() == []
    assert job.result() == 1
    wait_until(lambda: 0 < q.store.run("TTL", code) <= 100)
    assert q.store.run("KEYS", q.store.key("schedules*")) == []
    for ask in (schedule.refresh, schedule.pause, schedule.resume, schedule.run_now, schedule.jobs):
        with pytest.raises(errors.NotFound, match=r"there is no schedule .* in queue default; it has none"):
            ask()


def test_its_function_stays_as_long_as_the_schedule(q, worker):
    def one():
        return 1

    schedule = q.every("1h", one, result_ttl=1)
    job = schedule.run_now()
    assert job.result(timeout=20) == 1
    batch = job.batch.id
    wait_until(lambda: q.store.batch(batch) is None)
    codes = [key for key in q.store.run("KEYS", q.store.key("code:*")) if not key.endswith(b":ended")]
    assert codes
    assert {q.store.run("TTL", key) for key in codes} == {-1}
    assert schedule.last_job is None
    assert schedule.run_now().result(timeout=20) == 1


def test_a_worker_does_not_leave_for_idleness_while_it_waits_for_its_time(q, workers):
    schedule = q.every(2.5, abs, -1)
    worker = workers.start("--max-idle-time", "0.5")
    wait_until(lambda: schedule.count >= 2)
    assert worker.poll() is None
    schedule.pause()
    wait_until(lambda: worker.poll() is not None)


def test_a_worker_in_a_burst_starts_what_is_due_and_leaves(q, workers):
    schedule = q.every("1h", abs, -1)
    make_due(q, schedule)
    worker = workers.start("--burst")
    assert worker.wait(30) == 0
    assert schedule.last_job.result(timeout=20) == 1


def test_nothing_starts_while_the_queue_is_paused_and_one_run_comes_after_it(q, worker):
    q.pause()
    schedule = q.every("1h", abs, -1)
    make_due(q, schedule, ago=10_000)
    other = Queue("other", namespace=q.namespace)
    assert "paused" in str(schedule.problem)
    assert schedule.count == 0
    q.resume()
    wait_until(lambda: schedule.count == 1)
    assert other.schedules() == []
    other.close()


def test_runs_that_fail_run_again_and_are_grouped(q, worker):
    def fail():
        raise ValueError("as always")

    schedule = q.every("1h", fail, retry=Retry(1), job_timeout="1m", label="the failing one")
    jobs = []
    for _ in range(2):
        jobs.append(schedule.run_now())
        jobs[-1].wait(20)
    (group,) = jobs[0].batch.failures()
    assert (group.count, group.message) == (2, "as always")
    assert [job.attempt for job in jobs] == [2, 2]
    assert len(q.failed_job_registry) == 2
    assert jobs[0].description == "the failing one"
    assert jobs[0].timeout == 60
    assert schedule.refresh().last_state == "failed"


def test_old_runs_do_not_pile_up(q, worker):
    def name(n):
        return n

    batches = []
    for n in range(MOST_BATCHES + 3):
        schedule = q.every("1h", name, n, name="work", result_ttl=-1)  # what replaces it has a batch of its own
        job = schedule.run_now()
        assert job.result(timeout=20) == n
        batches.append(job.batch.id)
    kept = [batch.id for batch in q.batches()]
    assert set(kept) == set(batches[-MOST_BATCHES:])
    assert [job.result() for job in schedule.jobs()] == [*range(MOST_BATCHES + 2, 2, -1)]


def test_runs_follow_in_another_batch_when_one_is_old_or_full_or_canceled_or_deleted(q, worker):
    schedule = q.every("1h", abs, -1, result_ttl="7d")
    state = schedule.refresh()
    assert state.place()[1] == 0

    def run() -> str:
        job = schedule.run_now()
        assert job.result(timeout=20) == 1
        return job.batch.id

    first = run()
    assert run() == first
    key = q.store.key(f"batch:{first}")
    submitted = float(q.store.run("HGET", key, "submitted_at"))
    q.store.run("HSET", key, "submitted_at", submitted - 86400.0 - 60)
    second = run()
    assert second != first
    assert run() == second
    q.batch(second).delete()
    third = run()
    assert run() == third != second
    q.store.run("HSET", q.store.key(f"batch:{third}"), "is_canceled", 1)  # as when it is canceled while one waits
    fourth = run()
    assert fourth != third
    assert {job.batch.id for job in schedule.jobs()} == {first, third, fourth}


def test_large_arguments_go_along_with_the_function(q, worker):
    schedule = q.every("1h", len, "x" * 3_000_000, name="long")
    assert schedule.run_now().result(timeout=20) == 3_000_000
    schedule.jobs()[0].batch.delete()
    assert schedule.run_now().result(timeout=20) == 3_000_000


def test_its_batches_are_not_the_last_one_that_was_submitted(q, worker):
    batch = q.map(abs, range(3))
    assert q.every("1h", abs, -1).run_now().result(timeout=20) == 1
    assert len(q.batches()) == 2
    assert q.last().id == batch.id


def test_a_worker_with_another_key_says_that_it_cannot_start_it(private, workers, namespace):
    server = private()
    q = Queue(connection=server.url, key="k", namespace=namespace, progress=False)
    workers.start("--url", server.url, NBQUEUE_KEY="another")
    schedule = q.every("1h", abs, -1)
    make_due(q, schedule)
    wait_until(lambda: "SignatureError" in schedule.refresh().problem)
    assert schedule.count == 0
    workers.end()
    workers.start("--url", server.url, NBQUEUE_KEY="k")
    assert schedule.run_now().result(timeout=20) == 1
    assert schedule.refresh().problem == ""
    workers.end()
    q.close()


def test_the_time_zone_is_that_of_the_client_or_as_given(q, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        here = q.cron("0 6 * * *", abs, -1, name="here")
        there = q.cron("0 6 * * *", abs, -1, name="there", timezone=ZoneInfo("America/New_York"))
        plain = q.cron("0 6 * * *", abs, -1, name="plain", timezone=datetime.UTC)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert [one.timezone for one in (here, there, plain)] == ["Asia/Tokyo", "America/New_York", "UTC"]
    for one in (here, there, plain):
        assert (one.next_run.hour, one.next_run.minute) == (6, 0)
        assert 0 < seconds_until(one.next_run) <= 86400
    assert here.next_run.utcoffset() == datetime.timedelta(hours=9)
    assert here.when == "0 6 * * * (Asia/Tokyo)"
    assert q.every("1h", abs, -1).timezone is None


def test_a_schedule_of_another_environment_is_not_taken(q, workers):
    elsewhere = Queue(namespace=q.namespace, environment="elsewhere", progress=False)
    schedule = elsewhere.every("1h", abs, -1)
    make_due(q, schedule)
    workers.start()
    assert q.enqueue(abs, -2).result(timeout=20) == 2
    assert schedule.count == 0
    again = q.every("1h", abs, -1)
    make_due(q, again)
    wait_until(lambda: again.count == 1)
    assert q.store.run("EXISTS", q.store.key("queue:default:elsewhere:scheduled")) == 0
    elsewhere.close()


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda q: q.cron("99 * * * *", abs), errors.UsageError, "bad minute: five fields are accepted"),
        (lambda q: q.cron(5, abs), errors.WrongType, "a text is accepted"),
        (lambda q: q.cron("* * * * *", abs, timezone="Europe/Berlni"), errors.UsageError, "Did you mean"),
        (lambda q: q.cron("* * * * *", abs, timezone=5), errors.WrongType, "a name such as"),
        (lambda q: q.cron("* * * * *", 5), errors.WrongType, "not callable"),
        (lambda q: q.every(0, abs), errors.UsageError, "seconds above 0"),
        (lambda q: q.every(0.01, abs), errors.UsageError, "0.1 seconds are the least"),
        (lambda q: q.every("soon", abs), errors.UsageError, "'5m'"),
        (lambda q: q.every(None, abs), errors.WrongType, "seconds above 0"),
        (lambda q: q.every(datetime.timedelta(hours=-1), abs), errors.UsageError, "seconds above 0"),
        (lambda q: q.every("1h", lambda: 1), errors.UsageError, "give the schedule one, as in name='report'"),
        (lambda q: q.every("1h", abs, name="a\nb"), errors.UsageError, "characters that can be printed"),
        (lambda q: q.every("1h", abs, name=""), errors.UsageError, "characters that can be printed"),
        (lambda q: q.every("1h", abs, name=5), errors.WrongType, "a text is accepted"),
        (lambda q: q.every("1h", abs, delay=5), errors.UsageError, "delay: not an option of a schedule"),
        (lambda q: q.every("1h", abs, repeat=5), errors.UsageError, "repeat: not an option of a schedule"),
        (lambda q: q.every("1h", abs, q.enqueue(abs, -1)), errors.UsageError, "take no results of other jobs"),
        (lambda q: q.every("1h", abs, -1, args=(1,)), errors.UsageError, "either directly or as args="),
        (lambda q: Queue(is_async=False).every("1h", abs, -1), errors.UsageError, "a schedule needs a server"),
        (lambda q: q.schedule("work"), errors.NotFound, "it has none"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_at_once(q, make, kind, words):
    with pytest.raises(kind, match=words):
        make(q)
    assert q.schedules() == []


def test_arguments_whose_names_are_those_of_options_are_given_apart(q, worker):
    def greet(name, timezone=None):
        return name, timezone

    schedule = q.every("1h", greet, kwargs={"name": "ann", "timezone": "x"})
    assert schedule.run_now().result(timeout=20) == ("ann", "x")
    with pytest.warns(errors.OptionWarning, match=r"and so has a schedule: .* kwargs=\{'name': ...\} passes"):
        q.every("1h", greet, "ann", name="bob")


def test_local_modules_go_along(q, worker, tmp_path, monkeypatch):
    (tmp_path / "mine_for_schedules.py").write_text("def word():\n    return 'mine'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine_for_schedules

    schedule = q.every("1h", mine_for_schedules.word)
    Path(tmp_path / "mine_for_schedules.py").unlink()
    assert schedule.run_now().result(timeout=20) == "mine"
