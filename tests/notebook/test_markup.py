"""What panels and tables look like, from plain data: what is said, that it is escaped, that it survives being saved."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from dataclasses import replace

import pytest
from states import batch_state, schedule_state, worker_state

from nbqueue.client.problem import paused, unserved
from nbqueue.notebook.markup import batch, job, parts, tables
from nbqueue.store.requests.running import Progress
from nbqueue.view.recurring import ScheduleSeen
from nbqueue.view.seen import BatchSeen, see_worker
from nbqueue.view.shown import ORDER, BatchShown, FailureShown, JobShown, RunningShown

RUDE = "<script>alert('&')</script>"
FAILURE = FailureShown("d", "ValueError", f"no price in {RUDE}", 1234, 5, f"score({RUDE!r})", f"Traceback\n  {RUDE}")
ENDED = {"total": 43, "started": 0, "ended_at": 1005.0}


def shown(state=None, **changes):
    return BatchShown(BatchSeen(batch_state(**(state or {})), 1010.0), **changes)


def words(html):
    """What is read, tags removed."""
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_a_live_batch_says_its_state_its_counts_and_its_pace():
    one = shown(workers=2, children=8, now=(RunningShown(7, 3.0), RunningShown(9, 65.0)), did="Queued 1 job again.")
    assert words(batch.title(one)) == "▸ score · running"
    assert words(batch.numbers(one)) == (
        "40 of 100 finished · ✕ 1 failed · ⊘ 2 canceled · ▸ 2 running 4.1/s · 0:10 elapsed · 0:13 left"
    )
    assert words(batch.now_line(one)) == "Queued 1 job again. · 2 workers, 8 children · now 7 (0:03), 9 (1:05)"
    assert batch.now_line(shown()) == "", "nobody is there"
    behind = shown({"started": 50}, workers=1, children=1, behind="sleep (abcdef)", now=(RunningShown(0, 1.0),) * 5)
    assert words(batch.now_line(behind)) == (
        "1 worker, 1 child, all busy with sleep (abcdef) · now 0 (0:01), 0 (0:01), 0 (0:01) and 47 more"
    )


def test_jobs_that_say_how_far_they_are_have_a_bar_each():
    half = RunningShown(7, 42.0, Progress(2100, 5000, "epoch <7>"))
    one = shown(workers=1, children=4, now=(half, RunningShown(8, 3.0), RunningShown(9, 5.0, Progress(1234))))
    assert words(batch.now_line(one)).endswith("now 7 (0:42, 42 %), 8 (0:03), 9 (0:05)")
    html = batch.job_bars(one)
    assert words(html) == "7 2,100 of 5,000 · epoch &lt;7&gt; · 0:58 left 9 1,234 done"
    assert html.count('role="progressbar"') == 1, "of what there is to do, nothing is known"
    assert "width:42.0%" in html
    assert batch.job_bars(shown(now=(RunningShown(8, 3.0),))) == ""
    assert batch.job_bars(shown(now=(half,) * 9)).count("progressbar") == 3


def test_a_job_that_says_how_far_it_is_has_a_bar_while_it_runs():
    running = RunningShown(0, 42.0, Progress(7, 20, "loss 0.412"))
    live = JobShown("abcdef:0", "train", "started", running=running)
    assert words(job.progress(live)) == "7 of 20 · loss 0.412 · 1:18 left"
    assert job.progress(replace(live, status="finished")) == ""
    assert job.progress(replace(live, running=None)) == ""


def test_packages_of_other_versions_are_in_a_table():
    html = batch.notices(shown(versions=(("numpy", "2.1", "1.26"), ("polars", "1.9", ""))))
    assert words(html) == (
        "Workers have other versions of packages. package here workers numpy 2.1 1.26 polars 1.9 none"
    )
    assert batch.versions(shown()) == ""


def test_a_bar_has_a_segment_for_each_state_however_few_its_jobs():
    html = batch.progress(shown({"total": 1_000_000, "finished": 900_000}), live=True)
    assert re.findall(r'title="([\d,]+ \w+)" style="width:([\d.]+)%;min-width:3px', html) == [
        ("900,000 finished", "90.00"), ("1 failed", "0.00"), ("2 canceled", "0.00"), ("2 running", "0.00"),
    ]  # fmt: skip
    assert 'role="progressbar"' in html and 'aria-valuenow="900003"' in html
    assert "role" not in batch.progress(shown(), live=False)


def test_a_strip_is_a_picture_with_a_pixel_for_each_column():
    row = bytes([0, 1, 2, 3, 4])
    data = base64.b64decode(re.search(r"base64,([^\"]*)", batch.strip(shown(strip=row)))[1])
    assert struct.unpack(">II", data[16:24]) == (5, 1)
    assert zlib.decompress(data[data.index(b"IDAT") + 4 : -16]) == b"\0" + row
    palette = data[data.index(b"PLTE") + 4 :][: 3 * len(ORDER)]
    assert palette[3 * ORDER.index("failed") :][:3] == bytes.fromhex(parts.COLORS["failed"][1:])
    assert batch.strip(shown()) == ""


def test_who_serves_nobody_is_told_with_the_command_that_helps():
    html = batch.notices(shown(problem=unserved("<a>", "gpu", [])))
    assert words(html) == (
        "No worker for queue &lt;a&gt; and environment gpu. Run nbqueue worker &lt;a&gt; where the jobs shall run."
    )
    assert parts.code("nbqueue worker <a>") in html
    assert words(parts.problem(paused("a"))) == "Queue a is paused: Queue(&#x27;a&#x27;).resume() lets its jobs start"


def test_what_is_to_be_known_about_a_live_batch_is_told_once():
    assert batch.notices(shown()) == ""
    assert words(batch.notices(shown(launched=0))) == "Starting a worker on this machine."
    assert "Started a worker with 4 children on this machine. It leaves" in words(batch.notices(shown(launched=4)))
    assert "Start" not in batch.notices(shown(launched=4, problem=unserved("a", "gpu", [])))
    away = words(batch.notices(shown(unreachable="the server <x> is away", launched=4)))
    assert away == "The server &lt;x&gt; is away"
    assert "The page was loaded anew" in batch.notices(shown(is_reloaded=True))


def test_the_panel_of_a_batch_that_has_ended_has_all_of_it():
    said = words(batch.ended(shown(ENDED, failures=(FAILURE,), output=("7: <b>",)), "batch"))
    assert said.startswith(
        "⊘ score · canceled, 1 failed 40 of 43 finished · ✕ 1 failed · ⊘ 2 canceled 8.2/s · took 5 s"
    )
    assert "✕ 1,234 &times; ValueError: no price in &lt;script&gt;" in said and "first: job 5, score(" in said
    assert "7: &lt;b&gt;" in said
    assert re.search(
        r"batch.retry\(\) runs 3 again · batch.results\(errors=.*\) batch k3f9x2 · [\d:]+ to [\d:]+$", said
    )
    assert "batch.results()" in batch.ended(shown({**ENDED, "finished": 43, "failed": 0, "canceled": 0}), "batch")
    rest = {**ENDED, "failed": 0, "finished": 41, "is_canceled": True, "reason": f"because {RUDE}"}
    assert "batch.retry() runs the rest" in words(batch.ended(shown(rest), "batch"))
    assert "because &lt;script&gt;" in batch.ended(shown(rest), "batch")


def test_a_batch_that_goes_on_while_nobody_draws_it_says_how_to_come_back():
    said = words(batch.interrupted(shown(), "q.batch('k3f9x2')", "the kernel was shut down"))
    assert "q.batch(&#x27;k3f9x2&#x27;).show() comes back to it" in said and "the kernel was shut down" in said
    assert batch.plain(shown()) == "score: running, 40 of 100 finished, 1 failed, 2 canceled, 2 running (batch k3f9x2)"


def test_an_opened_traceback_does_not_change_with_the_count_beside_it():
    more = FailureShown("d", "ValueError", FAILURE.message, 9999, 5, FAILURE.call, FAILURE.traceback)
    assert batch.failure_details(FAILURE) == batch.failure_details(more)
    assert batch.failure_count(FAILURE) != batch.failure_count(more)
    long = FailureShown("d", "ValueError", "x" * 1000, 1, 5, "", "")
    assert "x" * 299 + "…" in batch.failure_details(long) and "x" * 300 not in batch.failure_details(long)


JOBS = [
    (JobShown("b:0", "score", "queued"), "○ score · waiting job b:0"),
    (JobShown("b:0", "score", "started", does="running for 0:07"), "▸ score · running for 0:07 job b:0"),
    (JobShown("b:0", "score", "finished", duration=0.5), "✓ score · finished in 0.5 s job b:0"),
    (JobShown("b:0", "score", "failed", duration=2, traceback="Trace"), "✕ score · failed after 2 s job b:0 Trace"),
    (JobShown("b:0", "score", "canceled", problems=("no df",)), "⊘ score · canceled job b:0 no df"),
    (JobShown("b:0", "score", "gone"), "score: job b:0 is not there any more"),
]


@pytest.mark.parametrize(("one", "said"), JOBS)
def test_a_job_is_a_line_with_what_came_of_it(one, said):
    assert words(job.line(one)) == words(job.framed(one)) == said
    assert job.plain(one) == f"score: {one.words} (job b:0)"


def test_a_job_that_has_ended_says_when():
    assert re.search(
        r"job b:0 · \d\d:\d\d:\d\d$", words(job.line(JobShown("b:0", "score", "finished", ended_at=1000.5)))
    )


def saved():
    """All that may stay in a notebook, with rude words wherever users have theirs."""
    rude = {"label": RUDE, "reason": RUDE}
    failure = FailureShown("d", RUDE, RUDE, 1, 5, RUDE, RUDE)
    one = shown({**ENDED, **rude}, failures=(failure,), output=(RUDE,), strip=bytes(5))
    yield batch.ended(one, "batch")
    yield batch.interrupted(shown(rude, failures=(failure,)), "batch", RUDE)
    yield batch.caption(RUDE, "id", "3 jobs · ")
    yield job.framed(JobShown("b:0", RUDE, "failed", outcome=RUDE, traceback=RUDE, problems=(RUDE,)))
    yield job.framed(JobShown("b:0", RUDE, "gone"))
    yield job.caption(RUDE, "q.fetch_job('b:0').show()")
    yield tables.batches_table([BatchSeen(batch_state(**rude), 1010.0)], "caption")
    worker = worker_state(name=RUDE, host=RUDE, queues=RUDE.replace(" ", ""), environment=RUDE)
    yield tables.workers_table([see_worker(worker)], "caption")
    yield tables.schedules_table([ScheduleSeen(schedule_state(RUDE, times=f"cron UTC {RUDE}"))], "caption")


@pytest.mark.parametrize("number", range(9))
def test_what_is_saved_is_escaped_and_has_nothing_that_an_untrusted_notebook_drops(number):
    html = list(saved())[number]
    assert "<script" not in html and "alert" in html
    for dropped in ("<style", "<svg", "var(", "role=", "aria-", " id=", " class=", "light-dark("):
        assert dropped not in html, dropped
    colors = re.findall(r"(?<!-)color:([^;\"]*)", re.sub(r"background-color:[^;\"]*", "", html))
    assert set(colors) <= {*parts.COLORS.values(), "inherit"}, "text has the colour of the page"
    assert len(re.findall(r"<div", html)) == len(re.findall(r"</div>", html))


def test_batches_and_workers_are_tables():
    seen = [BatchSeen(batch_state(), 1010.0), BatchSeen(batch_state(**ENDED), 1010.0)]
    said = words(tables.batches_table(seen, "<b>default</b>"))
    assert re.fullmatch(
        r"default batch label state done failed took when k3f9x2 score ▸ running 41 of 100 1 0:10 [\d:]+ "
        r"k3f9x2 score ⊘ canceled 41 of 43 1 5 s [\d:]+", said
    )  # fmt: skip
    workers = [see_worker(worker_state()), see_worker(worker_state("w2", host="there", queues="a b"))]
    said = words(tables.workers_table(workers, "2 workers", "here"))
    assert re.search(r"worker-w1 this machine default environment python-3.11 1 of 2 345 5 MB [\d:]+ worker-w2", said)
    assert "there a, b" in said
    waiting = worker_state()
    waiting.fields.update(waiting="2", crowded="1")
    said = words(tables.workers_table([see_worker(waiting)], "1 worker"))
    assert "1 of 2; 2 wait for other jobs, 1 in place, as no more can step aside" in said
    assert "<thead>" not in tables.batches_table([], "none")


def test_schedules_are_a_table():
    seen = [
        ScheduleSeen(schedule_state()),
        ScheduleSeen(schedule_state("nightly", times="cron Europe/Berlin 0 3 * * *", is_paused=True, runs=0,
                                    skipped=1200, last="", last_at=None, last_state="")),
        ScheduleSeen(schedule_state("slow", last_state="started", is_busy=True)),
    ]  # fmt: skip
    said = words(tables.schedules_table(seen, "<b>schedules</b>"))
    assert re.fullmatch(
        r"schedules schedule when next run last run runs skipped "
        r"report every 10 minutes [\d:]+ ✓ finished [\d:]+ 12 0 "
        r"nightly 0 3 \* \* \* \(Europe/Berlin\) ‖ paused 0 1,200 "
        r"slow every 10 minutes [\d:]+ ▸ running [\d:]+ 12 0", said
    )  # fmt: skip
    assert "skipped" not in tables.schedules_table(seen[:1], "")
