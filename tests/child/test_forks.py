"""Jobs that fork, and leave the fork by whatever way: it ends there, and the worker goes on with the child."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from conftest import wait_until

from nbqueue import errors, machine


def code_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def leave(way):
    """How a fork leaves the function of its job."""
    print("of the fork", way, flush=True)
    if way == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if way == "raises":
        raise ValueError("raised in the fork")
    if way != "returns":
        sys.exit(way)
    return "of the fork"


WAYS = {
    "returns": 0, None: 0, 0: 0, 3: 3, -1: 255, "words": 1, "raises": 1, "KeyboardInterrupt": 1,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["a function", "a coroutine"])
def test_a_fork_ends_where_it_leaves_the_job_by(q, workers, kind):
    worker = workers.start(children=1)

    def work(way):
        print("of the job")
        if (pid := os.fork()) == 0:
            return leave(way)
        return code_of(pid)

    async def work_async(way):
        import asyncio

        print("of the job")
        await asyncio.sleep(0)
        if (pid := os.fork()) == 0:
            return leave(way)
        return await asyncio.to_thread(code_of, pid)

    batch = q.map(work if kind == "a function" else work_async, WAYS)
    assert batch.results(timeout=30) == list(WAYS.values())
    assert [batch[index].stdout for index in range(len(WAYS))] == [f"of the job\nof the fork {way}\n" for way in WAYS]
    assert batch.counts["finished"] == len(WAYS)
    told = dict(zip(WAYS, [job.stderr for job in batch.jobs], strict=True))
    assert told.pop("words") == "words\n"
    assert told.pop("raises").endswith("\nValueError: raised in the fork\n")
    assert told.pop("KeyboardInterrupt").endswith("\nKeyboardInterrupt\n")
    assert set(told.values()) == {""}
    assert not any("main.py" in job.output for job in batch.jobs)
    assert "fork" not in worker.log.read_text()


def test_after_forks_that_outlive_their_jobs_limits_are_kept_and_the_worker_leaves(q, workers, tmp_path):
    go, began = tmp_path / "go", tmp_path / "began"

    def work(x):
        if os.fork() == 0:
            while not go.exists():
                time.sleep(0.01)
            return leave("returns" if x % 2 else 3)
        return x

    def die():
        os._exit(9)

    def hang():
        began.touch()
        time.sleep(60)

    process = workers.start(children=1)
    batch = q.map(work, range(20))
    assert batch.results(timeout=20) == list(range(20))
    go.touch()
    wait_until(lambda: process.log.read_text().count("of the fork") == 20)
    assert batch.counts["finished"] == 20
    assert [q.enqueue(abs, -x).result(timeout=20) for x in range(100)] == list(range(100))

    with pytest.raises(errors.JobKilled, match="exit code 9"):
        q.enqueue(die).result(timeout=20)
    limited = q.enqueue(hang, job_timeout=0.3)
    with pytest.raises(errors.JobTimeout):
        limited.result(timeout=20)
    assert limited.duration < 1.3
    began.unlink()
    canceled = q.enqueue(hang)
    wait_until(began.exists)
    asked = time.monotonic()
    assert canceled.cancel()
    with pytest.raises(errors.JobCanceled):
        canceled.result(timeout=20)
    assert time.monotonic() - asked < 2
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    assert q.stop_workers() == 1
    assert process.wait(20) == 0


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="what a process has open, /proc tells")
def test_what_a_job_leaves_behind_keeps_nothing_of_its_child_open(q, workers, tmp_path):
    pids = tmp_path / "pids"

    def work():
        if os.fork() == 0:
            os.setsid()
            pids.open("a").write(f"{os.getpid()}\n")
            time.sleep(60)
            sys.exit()
        os.system(f"setsid sh -c 'echo $$ >> {pids}; exec sleep 60' &")
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        return os.getpid(), shared(os.getpid())

    def shared(pid):
        files = []
        for path in list(Path(f"/proc/{pid}/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):  # that of the listing itself
                files.append(str(path.readlink()))
        maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        return [name for name in files + maps if "socket:" in name or "nbqueue-page" in name]

    process = workers.start(children=1)
    child, of_child = q.enqueue(work).result(timeout=20)
    left = [int(pid) for pid in pids.read_text().split()]
    try:
        assert len(of_child) > 1
        assert [shared(pid) for pid in left] == [[], []]
        os.kill(child, signal.SIGKILL)
        other = q.enqueue(os.getpid).result(timeout=20)
        assert other != child
        assert q.stop_workers() == 1
        assert process.wait(20) == 0
        assert all(machine.is_alive(pid, "") for pid in left)
    finally:
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def test_the_workers_signal_does_nothing_in_a_fork(q, workers):
    """It asks for a report of what has ended before, and stops the job that is meant."""

    def work(x):
        if x != 2:
            return x
        if (pid := os.fork()) == 0:
            for _ in range(10):
                os.kill(os.getpid(), signal.SIGUSR1)
            return leave(5)
        return code_of(pid)

    workers.start(children=1)
    batch = q.map(work, range(4))
    assert batch.results(timeout=20) == [0, 1, 5, 3]
    assert batch.counts["finished"] == 4

    def wait():
        if (pid := os.fork()) == 0:
            time.sleep(60)
        return code_of(pid)

    with pytest.raises(errors.JobTimeout):
        q.enqueue(wait, job_timeout=0.3).result(timeout=20)
    assert q.enqueue(abs, -1).result(timeout=20) == 1


def test_a_fork_waits_for_its_threads_and_its_files_are_complete(q, worker, tmp_path):
    def work():
        from concurrent.futures import ThreadPoolExecutor
        from threading import Thread

        if (pid := os.fork()) == 0:
            rows = (tmp_path / "rows").open("w")
            rows.write("all of them")
            Thread(target=lambda: (time.sleep(0.1), (tmp_path / "thread").touch())).start()
            ThreadPoolExecutor().submit((tmp_path / "executor").touch)
            sys.exit(4)
        return code_of(pid), (tmp_path / "rows").read_text(), sorted(path.name for path in tmp_path.iterdir())

    code, rows, names = q.enqueue(work).result(timeout=20)
    assert (code, rows) == (4, "all of them")
    assert {"rows", "thread", "executor"} <= set(names)


def test_what_the_child_shall_do_at_its_end_a_fork_does_not_do(q, workers, tmp_path):
    ended = tmp_path / "ended"

    def work():
        import atexit

        atexit.register(lambda: ended.open("a").write(f"{os.getpid()}\n"))
        if (pid := os.fork()) == 0:
            sys.exit()
        return code_of(pid), os.getpid()

    process = workers.start(children=1)
    code, child = q.enqueue(work).result(timeout=20)
    assert (code, ended.exists()) == (0, False)
    assert q.stop_workers() == 1
    assert process.wait(20) == 0
    assert ended.read_text() == f"{child}\n"


def test_a_fork_of_a_thread_ends_with_it(q, worker):
    def work():
        from threading import Thread

        codes = []

        def fork():
            if (pid := os.fork()) != 0:
                codes.append(code_of(pid))

        thread = Thread(target=fork)
        thread.start()
        thread.join()
        return codes

    assert q.enqueue(work).result(timeout=20) == [0]
    assert q.map(abs, range(-300, 0)).results(timeout=20) == list(range(300, 0, -1))


@pytest.mark.parametrize("way", ["leaves", "returns"])
def test_a_fork_that_an_import_or_an_argument_makes_ends_too(q, workers, tmp_path, monkeypatch, way):
    (tmp_path / f"forking_{way}.py").write_text(
        "import os, sys\n"
        "class Argument:\n"
        "    def __reduce__(self):\n        return fork, ()\n"
        "def fork():\n"
        "    if (pid := os.fork()) == 0:\n"
        f"        print('forked', flush=True); {'sys.exit(3)' if way == 'leaves' else 'return 0'}\n"
        "    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    workers.start(children=1)
    argument = importlib.import_module(f"forking_{way}").Argument()
    batch = q.map(lambda code: code, [argument] * 3)
    assert batch.results(timeout=20) == [3 if way == "leaves" else 1] * 3
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    assert [job.stdout for job in batch.jobs] == ["forked\n"] * 3
    assert q.stop_workers() == 1
    del sys.modules[f"forking_{way}"]
