"""What is written to the descriptors 1 and 2 belongs to the job that has written it, in order, also when it crashes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from conftest import wait_until

from nbqueue import errors


def by_system():
    print("one")
    os.system("echo two")
    print("three")
    subprocess.run(["sh", "-c", "echo four; echo five >&2"], check=True)
    os.write(1, b"six\n")
    print("seven", file=sys.stderr)


def by_c():
    import ctypes

    libc = ctypes.CDLL(None)
    print("one")
    libc.puts(b"two")
    libc.fflush(None)
    print("three")


def by_logging():
    import logging
    import warnings

    logging.warning("careful")
    with warnings.catch_warnings():  # the filters of the tests go along
        warnings.simplefilter("default")
        warnings.warn("very careful", stacklevel=1)
    logging.getLogger("x").error("wrong")


def by_forks():
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(1) as pool:
        pool.map(print, ["from a fork"])
    print("here")


@pytest.mark.parametrize(
    ("work", "lines"),
    [
        (by_system, ["one", "two", "three", "four", "six", "five", "seven"]),
        (by_c, ["one", "two", "three"]),
        (by_forks, ["from a fork", "here"]),
    ],
)
def test_what_goes_past_python_is_kept_in_order(q, worker, work, lines):
    jobs = [q.enqueue(work) for _ in range(5)]
    for job in jobs:
        job.result(timeout=20)
        assert sorted(job.output.split()) == sorted(" ".join(lines).split())
        of_stdout = [line for line in lines if line not in ("five", "seven")]
        assert job.stdout.splitlines() == of_stdout
        assert job.stderr.splitlines() == [line for line in lines if line in ("five", "seven")]


def test_what_is_logged_and_warned_is_kept(q, worker):
    job = q.enqueue(by_logging)
    job.result(timeout=20)
    assert "WARNING:root:careful" in job.stderr
    assert "very careful" in job.stderr
    assert "ERROR:x:wrong" in job.stderr


def test_each_job_of_a_batch_has_its_own(q, worker):
    batch = q.map(lambda x: os.system(f"echo {x}"), range(40))
    batch.wait(timeout=30)
    assert [job.output for job in batch.jobs] == [f"{x}\n" for x in range(40)]
    quick = q.map(lambda x: os.write(1, b"%d\n" % x), range(200))
    quick.wait(timeout=30)
    assert [job.stdout for job in quick.jobs] == [f"{x}\n" for x in range(200)]


def test_it_is_there_while_the_job_runs(q, worker, tmp_path):
    program = f"echo begun; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"
    job = q.enqueue(lambda: subprocess.run(["sh", "-c", program]))
    wait_until(lambda: job.output == "begun\n")
    assert job.get_status() == "started"
    (tmp_path / "go").touch()
    assert job.result(timeout=20).returncode == 0


def test_the_last_words_before_a_crash_are_kept(q, worker):
    def crash():
        print("printed")
        os.system("echo written")
        os.write(2, b"last words\n")
        os.kill(os.getpid(), 9)

    job = q.enqueue(crash)
    with pytest.raises(errors.JobKilled):
        job.result(timeout=60)
    assert job.output.splitlines() == ["printed", "written", "last words"]


def test_a_program_that_writes_very_much_is_not_held_up_and_its_ends_are_kept(q, worker):
    def much():
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "for i in range(1_000_000): print(f'line {i:07}')"], check=True)
        return time.monotonic() - began

    job = q.enqueue(much)
    job.result(timeout=60)
    assert job.output.startswith("line 0000000\nline 0000001\n")
    assert job.output.endswith("line 0999999\n")
    assert "bytes of output are not kept" in job.output
    assert len(job.output) < 500_000  # 64 KB, and what was on its way to Redis at the end


def test_a_job_that_holds_the_interpreter_and_writes_more_than_a_pipe_takes_goes_on(q, worker):
    def write():
        import ctypes

        libc = ctypes.PyDLL(None)  # holds the GIL
        text = b"x" * 99 + b"\n"
        for _ in range(30_000):
            libc.write(1, text, len(text))

    job = q.enqueue(write)
    job.result(timeout=60)
    assert job.output.startswith("x" * 99)
    assert job.output.endswith("x" * 99 + "\n")


def test_descriptors_that_a_job_has_closed_or_redirected_are_those_of_the_next_again(q, workers):
    workers.start(children=1)

    def spoil(x):
        if x == 0:
            os.close(1)
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    q.map(lambda x: spoil(x), [0, 1]).wait(timeout=20)
    job = q.enqueue(os.system, "echo fine")
    job.result(timeout=20)
    assert job.output == "fine\n"
