"""Workers and children: limits, cancelling, deaths, stopping."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import wait_until

from nbqueue import errors, machine
from nbqueue.client import launch
from nbqueue.client.fleet import Fleet, Workers
from nbqueue.store.reaper import Reaper
from nbqueue.store.requests import running


def alive(pid: int) -> bool:
    return machine.is_alive(pid, "")


def pids_in(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def wait_for_beats(q, number=2):
    """Until the worker has looked around several times, and has heard of all orders."""
    (worker,) = q.workers()
    wait_until(lambda: q.workers()[0].beat >= worker.beat + number)


def test_a_time_limit_ends_python_code_and_runs_its_finally(q, worker, tmp_path):
    cleaned = tmp_path / "cleaned"

    def spin():
        try:
            while True:
                pass
        finally:
            cleaned.touch()

    started = time.monotonic()
    job = q.enqueue(spin, job_timeout=0.5)
    with pytest.raises(errors.JobTimeout, match=r"0\.5 seconds"):
        job.result(timeout=20)
    assert time.monotonic() - started < 10
    assert job.duration < 1.5
    assert cleaned.exists()
    (group,) = job.batch.failures()
    assert repr(group).startswith("<1x JobTimeout: it ran longer than its job_timeout of 0.5 seconds, first: job ")
    assert "in spin" in group.traceback and "main.py" not in group.traceback


@pytest.mark.parametrize("how", ["sleeps in C", "ignores exceptions", "holds the GIL"])
def test_a_time_limit_is_kept_against_code_that(q, worker, how):
    def sleeps():
        time.sleep(60)

    def ignores():
        while True:
            try:
                while True:
                    pass
            except BaseException:
                pass

    def holds():
        import ctypes

        ctypes.PyDLL(None).sleep(60)

    function = {"sleeps in C": sleeps, "ignores exceptions": ignores, "holds the GIL": holds}[how]
    before = q.enqueue(os.getpid).result(timeout=20)
    job = q.enqueue(function, job_timeout=0.3)
    after = q.enqueue(abs, -1)
    with pytest.raises(errors.JobTimeout):
        job.result(timeout=20)
    assert after.result(timeout=20) == 1
    assert job.duration < 1.3
    assert isinstance(before, int)


def test_what_a_coroutine_has_left_running_does_not_go_on_inside_the_next_job(q, workers, tmp_path):
    workers.start(children=1)
    ticks = tmp_path / "ticks"

    async def leave_something():
        import asyncio

        async def tick():
            while True:
                with ticks.open("a") as file:
                    file.write(f"{os.getpid()}\n")
                await asyncio.sleep(0.01)

        task = asyncio.create_task(tick())
        while not ticks.exists():
            await asyncio.sleep(0.01)
        return task.done()

    async def look():
        import asyncio

        before = len(pids_in(ticks))
        await asyncio.sleep(0.1)
        return before, len(pids_in(ticks))

    def pids_in(path):
        return path.read_text().split()

    assert q.enqueue(leave_something).result(timeout=20) is False
    before, after = q.enqueue(look).result(timeout=20)
    assert before == after


def test_a_coroutine_is_canceled_although_something_that_it_has_started_does_not_let_go(q, worker, tmp_path):
    running = tmp_path / "running"

    async def work():
        import asyncio

        async def hold_on():
            while True:
                try:
                    running.touch()
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass

        task = asyncio.create_task(hold_on())
        await asyncio.sleep(60)
        return task.done()

    job = q.enqueue(work)
    wait_until(running.exists)
    assert job.cancel()
    job.wait(20)
    assert job.is_canceled


def test_a_batch_under_the_id_of_a_deleted_one_has_its_own_time_limit(q, worker, tmp_path, monkeypatch):
    go = tmp_path / "go"

    def work():
        while not go.exists():
            time.sleep(0.01)
        return "done"

    monkeypatch.setattr("nbqueue.client.submission.new_id", lambda: "again")
    first = q.enqueue(work, job_timeout=0.2, label="first")
    with pytest.raises(errors.JobTimeout):
        first.result(timeout=20)
    first.batch.delete()
    second = q.enqueue(work, label="second")
    assert second.id == first.id
    wait_until(lambda: second.is_started)
    wait_for_beats(q)
    go.touch()
    assert second.result(timeout=20) == "done"


def test_a_running_job_is_canceled_within_a_second(q, worker, tmp_path):
    running = tmp_path / "running"

    def work():
        running.touch()
        time.sleep(60)

    job = q.enqueue(work, label="long")
    wait_until(running.exists)
    assert job.get_status() == "started"
    asked = time.monotonic()
    assert job.cancel()
    with pytest.raises(errors.JobCanceled):
        job.result(timeout=20)
    assert time.monotonic() - asked < 2
    assert job.is_canceled
    assert job.cancel() is False


def test_what_a_canceled_job_has_started_is_interrupted_with_it(q, workers, tmp_path):
    pids = tmp_path / "pids"

    def work():
        subprocess.run(f"echo $$ >> {pids}; sh -c 'echo $$ >> {pids}; exec sleep 60'; true", shell=True)

    workers.start(children=1)
    child = q.enqueue(os.getpid).result(timeout=20)
    job = q.enqueue(work)
    wait_until(lambda: len(pids_in(pids)) == 2)
    assert job.cancel()
    with pytest.raises(errors.JobCanceled):
        job.result(timeout=20)
    for pid in pids_in(pids):
        wait_until(lambda pid=pid: not alive(pid))
    assert q.enqueue(os.getpid).result(timeout=20) == child, "it was not interrupted itself"


def test_a_batch_is_canceled_what_runs_and_what_waits(q, worker, tmp_path):
    def work(x):
        (tmp_path / f"{x}").touch()
        time.sleep(60)

    batch = q.map(work, range(10))
    wait_until(lambda: len(list(tmp_path.iterdir())) >= 3)  # a log file, and two jobs
    assert batch.cancel() == 10
    batch.wait(20)
    assert batch.counts["canceled"] == 10
    assert batch.results(errors="skip") == []
    assert q.map(abs, [-1]).results(timeout=20) == [1]


@pytest.fixture
def half_busy(q, workers, tmp_path):
    """A worker with two children of which one has a long job of another batch: it is never without one."""
    began, over = tmp_path / "busy began", tmp_path / "busy over"

    def work():
        began.touch()
        while not over.exists():
            time.sleep(0.01)

    process = workers.start(children=2)
    job = q.enqueue(work, label="busy")
    wait_until(began.exists)
    yield process
    assert job.get_status() == "started"
    over.touch()
    assert job.result(timeout=20) is None


@pytest.fixture
def steps(tmp_path):
    """A function for jobs: it notes that it was started, and returns its argument when `go` is there."""
    started, go = tmp_path / "started", tmp_path / "go"

    def work(x):
        with started.open("a") as file:
            file.write(f"{x}\n")
        while not go.exists():
            time.sleep(0.01)
        return x

    return SimpleNamespace(work=work, go=go, started=lambda: pids_in(started))


def test_a_batch_that_was_canceled_and_is_retried_runs_just_once_more(q, half_busy, steps):
    batch = q.map(steps.work, range(3))
    wait_until(lambda: steps.started() == [0])
    assert batch.cancel() == 3
    batch.wait(20)
    assert batch.retry() == 3
    wait_until(lambda: len(steps.started()) > 1)
    wait_for_beats(q)
    steps.go.touch()
    assert batch.results(timeout=20) == [0, 1, 2]
    assert sorted(steps.started()) == [0, 0, 1, 2]


def test_a_batch_that_is_retried_before_its_running_job_was_canceled_runs_just_once_more(q, half_busy, steps):
    batch = q.map(steps.work, range(3))
    wait_until(lambda: steps.started() == [0])
    half_busy.send_signal(signal.SIGSTOP)
    assert batch.cancel() == 3
    assert batch.retry() == 2
    half_busy.send_signal(signal.SIGCONT)
    wait_until(lambda: len(steps.started()) > 1)
    wait_for_beats(q)
    steps.go.touch()
    assert batch.results(timeout=20) == [0, 1, 2]
    assert sorted(steps.started()) == [0, 0, 1, 2]


def test_a_running_job_that_is_canceled_and_retried_runs_just_once_more(q, half_busy, steps):
    job = q.enqueue(steps.work, 0)
    wait_until(lambda: steps.started() == [0])
    assert job.cancel()
    wait_until(lambda: job.is_canceled)
    assert job.retry()
    wait_until(lambda: len(steps.started()) > 1)
    wait_for_beats(q)
    steps.go.touch()
    assert job.result(timeout=20) == 0
    assert steps.started() == [0, 0]


def test_a_job_that_failed_before_it_could_be_canceled_is_not_canceled_after_its_retry(q, half_busy, steps, tmp_path):
    """The order comes to a worker that stood still while its child did the job."""
    pid, fails = tmp_path / "pid", tmp_path / "fails"
    fails.touch()

    def work(x, work=steps.work):
        pid.write_text(str(os.getpid()))
        work(x)
        if fails.exists():
            fails.unlink()
            raise ValueError("it fails")
        return x

    job = q.enqueue(work, 0)
    wait_until(lambda: steps.started() == [0])
    half_busy.send_signal(signal.SIGSTOP)
    steps.go.touch()
    wait_until(lambda: not fails.exists() and Path(f"/proc/{pid.read_text()}/stat").read_text().split()[2] == "S")
    steps.go.unlink()
    assert job.cancel(), "nobody knows yet that it has ended"
    half_busy.send_signal(signal.SIGCONT)
    wait_until(lambda: job.is_failed)
    assert job.retry()
    wait_until(lambda: len(steps.started()) > 1)
    wait_for_beats(q)
    steps.go.touch()
    assert job.result(timeout=20) == 0
    assert steps.started() == [0, 0]


def test_one_of_many_jobs_that_wait_is_canceled(q, workers):
    batch = q.map(abs, range(600))
    assert batch[300].cancel()
    workers.start()
    batch.wait(20)
    assert batch.counts["finished"] == 599
    assert batch[300].is_canceled
    assert batch.results(errors="skip") == [i for i in range(600) if i != 300]


def test_a_paused_batch_waits_and_goes_on(q, worker):
    q.pause()
    batch = q.map(abs, range(10))
    batch.pause()
    q.resume()
    other = q.map(abs, [-5])
    assert other.results(timeout=20) == [5]
    assert batch.counts["queued"] == 10
    batch.resume()
    assert batch.results(timeout=20) == list(range(10))


def test_what_waits_behind_a_long_job_goes_to_a_free_child(q, worker, tmp_path):
    """After many quick jobs a claim takes several; the one that hangs must not keep the others."""
    go = tmp_path / "go"

    def work(x):
        if x == 300:
            while not go.exists():
                time.sleep(0.01)
        return x

    batch = q.map(work, range(2000))
    wait_until(lambda: batch.counts["finished"] == 1999)
    go.touch()
    assert batch.results(timeout=20) == list(range(2000))


def test_what_was_taken_back_from_behind_a_long_job_is_not_started_when_that_is_canceled(q, worker, tmp_path):
    """It still lies in the child, but another one has done it."""
    started = tmp_path / "started"

    def work(x):
        with started.open("a") as file:
            file.write(f"{x}\n")
        if x == 300:
            time.sleep(60)
        return x

    def meet(x):
        (tmp_path / f"child {x}").touch()
        while len(list(tmp_path.glob("child *"))) < 2:
            time.sleep(0.01)

    batch = q.map(work, range(2000))
    wait_until(lambda: batch.counts["finished"] == 1999)
    assert batch[300].cancel()
    assert len(batch.results(errors="skip", timeout=20)) == 1999
    q.map(meet, range(2)).results(timeout=20)  # both have come to the end of what they had
    assert sorted(pids_in(started)) == [*range(2000)]


def test_a_time_limit_does_not_interrupt_a_finally_although_earlier_outcomes_are_reported_then(q, worker, tmp_path):
    """Quick jobs before it are reported at the moment at which it is stopped."""
    cleaned = tmp_path / "cleaned"

    def work(x):
        if x == 1500:
            try:
                time.sleep(60)
            finally:
                time.sleep(0.2)
                cleaned.touch()
        return x

    batch = q.map(work, range(2000), job_timeout=0.04)
    assert len(batch.results(errors="skip", timeout=20)) == 1999
    with pytest.raises(errors.JobTimeout):
        batch[1500].result()
    assert cleaned.exists()


@pytest.mark.parametrize(
    ("way", "words"),
    [("os._exit(3)", "exit code 3"), ("segmentation fault", "segmentation fault"), ("SIGKILL", "signal 9")],
)
def test_a_job_that_kills_its_process_fails_in_words_and_its_neighbours_do_not(q, worker, way, words):
    def die(x, way=way):
        if x == 5:
            if way == "os._exit(3)":
                os._exit(3)
            elif way == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            else:
                import ctypes

                ctypes.string_at(0)
        return x

    batch = q.map(die, range(20))
    batch.wait(40)
    assert batch.counts["failed"] == 1
    assert batch.results(errors="skip") == [x for x in range(20) if x != 5]
    with pytest.raises(errors.JobKilled, match=words):
        batch[5].result()
    (group,) = batch.failures()
    assert group.type == "JobKilled"


def test_a_worker_that_is_killed_leaves_no_children_and_its_jobs_run_elsewhere(q, workers, tmp_path):
    pids, go = tmp_path / "pids", tmp_path / "go"

    def work(x):
        import subprocess

        grandchild = subprocess.Popen(["sleep", "300"])
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n{grandchild.pid}\n")
        while not go.exists():
            time.sleep(0.01)
        grandchild.kill()
        grandchild.wait()
        return x

    first = workers.start()
    batch = q.map(work, range(2))
    wait_until(lambda: len(pids_in(pids)) == 4)
    before = pids_in(pids)
    first.kill()
    first.wait()
    wait_until(lambda: not any(alive(pid) for pid in before))
    workers.start()
    go.touch()
    assert batch.results(timeout=30) == [0, 1]


def test_a_job_that_kills_its_worker_again_and_again_fails_and_its_neighbours_do_not(q, workers):
    def kill_worker(x):
        if x == 3:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(30)
        return x

    batch = q.map(kill_worker, range(8))
    for _ in range(8):
        process = workers.start()
        wait_until(lambda process=process: process.poll() is not None or batch.done)
        if batch.done:
            break
    assert batch.counts["failed"] == 1
    assert batch.results(errors="skip") == [0, 1, 2, 4, 5, 6, 7]
    with pytest.raises(errors.JobKilled, match="worker"):
        batch[3].result()


def test_a_worker_that_lost_its_lease_cannot_write(q, workers, tmp_path, namespace):
    """Stopped, taken for dead, continued: what it did meanwhile counts for nothing."""
    from nbqueue.store.requests import running

    seen = tmp_path / "seen"

    def work():
        with seen.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(1)
        return os.getpid()

    first = workers.start(children=1)
    job = q.enqueue(work)
    wait_until(lambda: len(pids_in(seen)) == 1)
    first.send_signal(signal.SIGSTOP)
    (state,) = q.workers()
    assert q.store.call(running.reap(state.id, state.beat, "it was stopped")) == 1
    workers.start(children=1)
    result = job.result(timeout=20)
    first.send_signal(signal.SIGCONT)
    wait_until(lambda: len(q.workers()) == 2)  # it is back, under its old name
    assert len(pids_in(seen)) == 2
    assert result == pids_in(seen)[1] == job.result()
    assert job.batch.counts["finished"] == 1
    assert q.enqueue(abs, -1).result(timeout=20) == 1


def test_what_a_killed_worker_held_runs_again_although_another_starts_at_once_under_its_name(q, workers, tmp_path):
    seen, go = tmp_path / "seen", tmp_path / "go"

    def work():
        with seen.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not go.exists():
            time.sleep(0.01)

    first = workers.start("--name", "w1", children=1)
    for x in range(5):  # its claims have greater numbers than the first ones of its successor
        assert q.enqueue(abs, x).result(timeout=20) == x
    job = q.enqueue(work)
    wait_until(lambda: len(pids_in(seen)) == 1)
    assert job.worker_name == "w1"
    first.kill()
    first.wait()
    workers.start("--name", "w1", children=2)
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    wait_until(lambda: len(pids_in(seen)) == 2)
    assert [worker.name for worker in q.workers()] == ["w1"]
    assert job.worker_name == "w1"
    go.touch()
    assert job.result(timeout=20) is None
    assert job.worker_name == "w1"
    assert len(pids_in(seen)) == 2


def test_workers_of_one_name_are_told_and_take_nothing_from_each_other(q, workers, tmp_path):
    seen, go = tmp_path / "seen", tmp_path / "go"

    def work():
        with seen.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not go.exists():
            time.sleep(0.01)
        return os.getppid()

    first = workers.start("--name", "w1", children=1)
    for x in range(5):
        assert q.enqueue(abs, x).result(timeout=20) == x
    job = q.enqueue(work)
    wait_until(lambda: len(pids_in(seen)) == 1)
    second = workers.start("--name", "w1", children=1)
    for process, other in ((first, second), (second, first)):
        wait_until(lambda log=process.log: "another worker is called w1 too" in log.read_text())
        assert f"process {other.pid}" in process.log.read_text()
    assert q.enqueue(os.getppid).result(timeout=20) == second.pid
    assert {(worker.name, int(worker.fields["pid"])) for worker in q.workers()} == {
        ("w1", first.pid), ("w1", second.pid)
    }  # fmt: skip
    second.kill()
    second.wait()
    assert [worker.fields["pid"] for worker in q.workers()] == [str(first.pid)], "only the dead one is gone"
    assert job.get_status() == "started"
    go.touch()
    assert job.result(timeout=20) == first.pid
    assert len(pids_in(seen)) == 1
    assert q.stop_workers() == 1
    assert first.wait(20) == 0


def test_a_worker_of_a_name_waits_until_the_one_on_another_machine_is_known_to_be_dead(q, workers, tmp_path):
    """A container that is started again: whether the former one still lives tells only its beat."""
    seen, go = tmp_path / "seen", tmp_path / "go"

    def work():
        with seen.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not go.exists():
            time.sleep(0.01)

    first = workers.start("--name", "w1", children=1)
    job = q.enqueue(work)
    wait_until(lambda: len(pids_in(seen)) == 1)
    (former,) = q.workers()
    q.store.run("HSET", q.store.key(f"worker:{former.id}"), "machine", "another")
    first.kill()
    first.wait()
    second = workers.start("--name", "w1", children=1)
    wait_until(lambda: "another worker is called w1 too" in second.log.read_text())
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    (found,) = (worker for worker in q.workers() if worker.id == former.id)
    assert job.get_status() == "started", "it may live"
    reaper = Reaper()
    assert reaper.requests([found], {}, 0.0) == []
    requests = [request for now in (8.0, 16.0, 24.0) for request in reaper.requests([found], {}, now)]
    assert [q.store.call(request) for request in requests] == [1]
    wait_until(lambda: len(pids_in(seen)) == 2)
    go.touch()
    assert job.wait(20).get_status() == "finished"


def test_the_first_signal_lets_the_running_job_end_and_gives_the_rest_back(q, workers, tmp_path):
    go = tmp_path / "go"
    began = tmp_path / "began"

    def work(x):
        began.touch()
        while not go.exists():
            time.sleep(0.01)
        return x

    process = workers.start(children=1)
    batch = q.map(work, range(3))
    wait_until(began.exists)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: batch.counts == {**batch.counts, "started": 1, "queued": 2})
    go.touch()
    assert process.wait(20) == 0
    assert batch.counts["finished"] == 1
    workers.start()
    assert batch.results(timeout=20) == [0, 1, 2]


def test_the_second_signal_ends_it_at_once_and_gives_back_what_ran(q, workers, tmp_path):
    began = tmp_path / "began"

    def work():
        first = not began.exists()
        began.touch()
        if first:
            time.sleep(60)
        return "again"

    process = workers.start(children=1)
    job = q.enqueue(work)
    wait_until(began.exists)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: b"finishes what runs" in process.log.read_bytes())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert job.is_queued
    workers.start()
    assert job.result(timeout=20) == "again"


def test_a_child_that_a_job_has_moved_to_another_group_is_ended_all_the_same(q, workers, tmp_path):
    pids = tmp_path / "pids"

    def work():
        other = subprocess.Popen(["sleep", "60"], process_group=0)
        os.setpgid(0, other.pid)
        pids.write_text(f"{os.getpid()} {other.pid}")
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # which would interrupt the other as well
        time.sleep(60)

    process = workers.start(children=1)
    job = q.enqueue(work, job_timeout=0.5)
    with pytest.raises(errors.JobTimeout):
        job.result(timeout=20)
    assert job.duration < 1.5
    child, other = pids_in(pids)
    assert not alive(child)
    os.kill(other, signal.SIGKILL)
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    assert q.stop_workers() == 1
    assert process.wait(20) == 0


def test_a_child_that_does_not_even_die_of_a_kill_is_replaced_and_keeps_no_worker(q, workers, tmp_path):
    """It hangs in the kernel, such as in a file system that is gone."""
    began = tmp_path / "began"
    unkillable = """
import os, subprocess, nbqueue.worker.process
nbqueue.worker.process.ENDING = 0.3
os.killpg = lambda *_: None
subprocess.Popen.kill = lambda self: None
"""

    def hang():
        with began.open("a") as file:
            file.write(f"{os.getpid()}\n")
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        while True:
            time.sleep(60)

    process = workers.start(children=1, first=unkillable)
    job = q.enqueue(hang, job_timeout=0.2)
    with pytest.raises(errors.JobTimeout):
        job.result(timeout=20)
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    job = q.enqueue(hang)
    wait_until(lambda: len(pids_in(began)) == 2)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: b"finishes what runs" in process.log.read_bytes())
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert job.is_queued
    for pid in pids_in(began):
        assert f"process {pid} hangs in the kernel" in process.log.read_text()
        wait_until(lambda pid=pid: not alive(pid))  # the guard has ended it


def test_a_child_that_is_in_no_job_and_does_not_go_on_does_not_keep_the_worker(q, workers, tmp_path, monkeypatch):
    loading = tmp_path / "loading"
    (tmp_path / "hanging.py").write_text(
        f"import os, pathlib, time\nif os.environ.get('HANGS'):\n"
        f"    pathlib.Path({str(loading)!r}).touch()\n    time.sleep(60)\ndef work(x): return x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import hanging

    process = workers.start(first="from nbqueue.worker import stopping; stopping._STUCK = 0.3", HANGS="1")
    job = q.enqueue(hanging.work, 1)
    wait_until(loading.exists)
    assert q.stop_workers() == 1
    assert process.wait(20) == 0
    assert "has not gone on with its run" in process.log.read_text()
    assert job.is_queued
    workers.start()
    assert job.result(timeout=20) == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="whose process the guard is, /proc tells")
def test_a_worker_leaves_although_its_guard_is_stopped_and_its_redis_does_not_answer(private, workers):
    own = private()
    process = workers.start(
        "--url", own.url, "--namespace", "default", NBQUEUE_KEY="k",
        first="from nbqueue.worker import loop, process; loop._GONE = process.ENDING = 0.3",
    )  # fmt: skip
    (guard,) = (pid for pid, command in machine.commands() if "guard.py" in command and parent(pid) == process.pid)
    os.kill(guard, signal.SIGSTOP)
    own.process.send_signal(signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: b"finishes what runs" in process.log.read_bytes())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert not alive(guard)
    finally:
        own.process.send_signal(signal.SIGCONT)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_what_user_code_prints_or_writes_to_descriptors_breaks_nothing(q, worker):
    def noisy(x):
        print("printed" * 1000)
        os.write(1, b"\x00\xff" * 10000)
        os.write(2, b"{}\n")
        os.system("echo from a shell")
        return x

    assert q.map(noisy, range(20)).results(timeout=20) == list(range(20))


def test_a_burst_worker_leaves_when_there_is_nothing_to_do(q, workers):
    batch = q.map(abs, range(100))
    process = workers.start("--burst")
    assert process.wait(20) == 0
    assert batch.counts["finished"] == 100


def test_a_burst_worker_runs_what_has_waited_for_what_it_ran(q, workers):
    job = q.enqueue(abs, -1)
    for _ in range(4):
        job = q.enqueue(lambda before: before + 1, job)
    batch = q.map(abs, range(20)).then(str).then(len)
    assert workers.start("--burst").wait(30) == 0
    assert (job.result(timeout=1), batch.counts["finished"]) == (5, 20)


def test_a_worker_leaves_after_its_idle_time_or_its_jobs(q, workers):
    assert workers.start("--max-idle-time", "0.2").wait(20) == 0
    process = workers.start("--max-jobs", "3")
    batch = q.map(abs, range(3))
    assert process.wait(20) == 0
    assert batch.done


def test_jobs_run_in_the_directory_that_they_were_submitted_from(q, worker, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("VALUE = 42\n")
    monkeypatch.chdir(tmp_path)

    def look():
        import beside

        return os.getcwd(), beside.VALUE

    assert q.enqueue(look).result(timeout=20) == (str(tmp_path), 42)


def test_a_job_whose_directory_is_not_there_does_not_run_in_that_of_another(q, workers, tmp_path, monkeypatch):
    jobs = {}
    for name in ("one", "gone", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        jobs[name] = q.enqueue(os.getcwd, label=name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").rmdir()
    workers.start(children=1)
    directories = {name: job.result(timeout=20) for name, job in jobs.items()}
    assert directories == {"one": str(tmp_path / "one"), "gone": str(tmp_path), "other": str(tmp_path / "other")}


def test_a_call_runs_where_it_was_submitted_from_also_right_after_another_one(q, worker, tmp_path, monkeypatch):
    """Single calls share a batch, and a batch has one directory, and one path to modules."""
    for name in ("data", "modules"):
        (tmp_path / name).mkdir()
    (tmp_path / "modules" / "beside_data.py").write_text("VALUE = 42\n")
    monkeypatch.chdir(tmp_path)
    before = [q.enqueue(os.getcwd) for _ in range(2)]
    monkeypatch.chdir(tmp_path / "data")
    after = [q.enqueue(os.getcwd) for _ in range(2)]
    monkeypatch.syspath_prepend(tmp_path / "modules")

    def look():
        import beside_data

        return beside_data.VALUE

    assert q.enqueue(look).result(timeout=20) == 42
    assert [job.result(timeout=20) for job in before + after] == [str(tmp_path)] * 2 + [str(tmp_path / "data")] * 2
    assert before[0].batch.id == before[1].batch.id
    assert after[0].batch.id == after[1].batch.id


def test_children_have_an_empty_main_and_share_the_threads(q, worker):
    def look():
        import __main__

        return [name for name in vars(__main__) if not name.startswith("__")], os.environ["OMP_NUM_THREADS"]

    names, threads = q.enqueue(look).result(timeout=20)
    assert names == []
    assert int(threads) == max(1, machine.cpus() // 2)


def test_a_worker_of_another_environment_never_touches_a_batch(q, workers):
    workers.start("--environment", "other")
    batch = q.map(abs, range(3))
    with (
        pytest.warns(errors.NoWorkerWarning, match=r"no worker .*Python 3.*there is 1 for environment other"),
        pytest.raises(errors.WaitTimeout),
    ):
        batch.results(timeout=0.5)
    workers.start()
    assert batch.results(timeout=20) == [0, 1, 2]


def test_workers_are_started_once_from_a_queue_and_stopped(q):
    try:
        assert sum(worker.children for worker in q.start_workers(2)) == 2
        ids = {worker.name for worker in q.workers()}
        q.start_workers(2)
        assert {worker.name for worker in q.workers()} == ids
        assert q.map(abs, [-1]).results(timeout=20) == [1]
    finally:
        assert q.stop_workers() == 1
    assert q.workers() == []


def test_the_first_job_on_the_embedded_server_starts_a_worker(q, monkeypatch):
    monkeypatch.setenv("NBQUEUE_AUTOSTART", "1")
    try:
        assert q.map(abs, [-1, -2]).results(timeout=30) == [1, 2]
        assert len(q.workers()) == 1
        assert q.connection.keys(q.store.key("queue:*:starting")) == [], "nobody waits for it any more"
        q.stop_workers()
        assert q.map(abs, [-1, -2]).results(timeout=9) == [1, 2], "the next first job does at once, too"
    finally:
        q.stop_workers()


def test_who_looked_before_a_worker_was_there_starts_no_second_one(q, worker, monkeypatch):
    monkeypatch.setenv("NBQUEUE_AUTOSTART", "1")
    monkeypatch.setattr(launch, "start_worker", lambda *args, **options: pytest.fail("a second worker"))
    fleet, environment = q.session.fleet, q.session.environment
    monkeypatch.setattr(Fleet, "workers", lambda self: Workers())  # what it saw, a moment ago
    assert fleet.attend("default", environment) is None
    assert fleet.launched_at is None
    assert q.connection.keys(q.store.key("queue:*:starting")) == []


def test_one_of_many_starts_the_first_worker_of_a_queue_that_nobody_serves(q, workers):
    workers.start("here", "there", "--environment", "one")

    def is_first(queue, environment, token):
        return q.store.call(running.start_first(queue, environment, token, 10))

    assert not is_first("here", "one", "a")
    assert not is_first("there", "one", "a")
    assert is_first("her", "one", "a"), "another name"
    assert is_first("here", "two", "a"), "another environment"
    assert is_first("here", "two", "a"), "its answer was lost"
    assert not is_first("here", "two", "b")


def test_priority_at_front_and_labels(q, workers):
    order = []
    q.pause()
    slow = q.map(abs, range(3), label="slow", meta={"who": "me"})
    first = q.map(str, range(3), at_front=True)
    workers.start(children=1)
    q.resume()
    for batch in (first, slow):
        batch.wait(20)
    order = sorted([slow, first], key=lambda batch: batch[0].started_at)
    assert order == [first, slow]
    assert (slow.label, slow.meta, first.label) == ("slow", {"who": "me"}, "str")


def test_an_idle_worker_uses_next_to_no_cpu(q, worker):
    """Counted, not timed: it wakes a few times in two seconds."""
    assert q.enqueue(abs, -1).result(timeout=20) == 1

    def switches() -> int:
        lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    before, since = switches(), time.monotonic()
    wait_until(lambda: time.monotonic() - since > 2)
    assert switches() - before < 100
