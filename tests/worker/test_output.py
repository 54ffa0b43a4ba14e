"""What jobs print comes through: live, in order, bounded, and also from jobs that are killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
from conftest import wait_until

from nbqueue import errors
from nbqueue.store.requests import running


def lines(batch, last=20):
    return [(line.index, line.stream, line.text) for line in batch.output(last)]


def stream_length(q, batch):
    return q.store.run("XLEN", q.store.key(f"batch:{batch.id}:output"))


def test_a_job_has_what_it_printed_in_order_and_a_batch_the_newest_lines(q, workers):
    def work(x):
        print("out", x)
        print("err", x, file=sys.stderr)
        print("out again")
        return x

    workers.start(children=1)
    batch = q.map(work, range(5)).wait(20)
    assert [job.output for job in batch.jobs] == [f"out {x}\nerr {x}\nout again\n" for x in range(5)]
    assert lines(batch, 4) == [
        (3, "stdout", "out again"),
        (4, "stdout", "out 4"),
        (4, "stderr", "err 4"),
        (4, "stdout", "out again"),
    ]
    assert len(lines(batch, 1000)) == 15


def test_nothing_printed_is_no_output_and_makes_no_key(q, worker):
    batch = q.map(abs, range(5)).wait(20)
    assert batch[0].output == ""
    assert batch.output() == []
    assert not q.store.run("EXISTS", q.store.key(f"batch:{batch.id}:output"))


def test_what_is_not_there_says_so(q, worker):
    batch = q.map(print, ["x"]).wait(20)
    with pytest.raises(errors.UsageError, match="at least 1"):
        batch.output(0)
    batch.delete()
    with pytest.raises(errors.NotFound):
        batch.output()
    with pytest.raises(errors.NotFound):
        _ = batch[0].output


def test_text_is_there_while_the_job_runs_and_unchanged_output_is_told_from_new(q, worker, tmp_path):
    go = tmp_path / "go"

    def work():
        print("begins", end="")  # not even a whole line
        while not go.exists():
            time.sleep(0.01)
        print(" and ends")

    job = q.enqueue(work, label="live")
    (line,) = wait_until(job.batch.output)
    assert (line.index, line.stream, line.text) == (0, "stdout", "begins")
    assert job.output == "begins"
    assert job.is_started
    assert job.batch.output(after=line.id) == []
    go.touch()
    job.wait(20)
    (now,) = job.batch.output(after=line.id)
    assert now.text == "begins and ends"
    assert job.output == "begins and ends\n"


def test_text_appears_within_half_a_second_also_of_a_job_that_holds_the_gil(q, worker):
    def work():
        import ctypes

        print(time.time())
        ctypes.PyDLL(None).sleep(3)

    job = q.enqueue(work, label="gil")
    printed_at = float(wait_until(lambda: job.output))
    assert time.time() - printed_at < 1.5  # 0.25 as a rule; the job takes 3
    assert job.is_started
    job.wait(20)


def test_a_failing_job_has_what_it_printed_and_a_retry_its_own(q, worker, tmp_path):
    good = tmp_path / "good"

    def work(x):
        if good.exists():
            print("good" if x else "", end="")
        else:
            print("about to fail", x)
            raise ValueError(x)

    batch = q.map(work, range(2)).wait(20)
    assert [job.output for job in batch.jobs] == ["about to fail 0\n", "about to fail 1\n"]
    q.pause()
    good.touch()
    batch.retry()
    assert batch[1].output == "about to fail 1\n"  # it has not started again
    q.resume()
    batch.wait(20)
    assert [job.output for job in batch.jobs] == ["", "good"]
    assert {line.text for line in batch.output()} == {"about to fail 0", "about to fail 1", "good"}


@pytest.mark.parametrize("how", ["SIGKILL", "os._exit", "segmentation fault"])
def test_the_last_words_of_a_job_that_dies_are_there(q, worker, how):
    def die(how):
        print("last")
        print("words", end="", file=sys.stderr)
        if how == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        elif how == "os._exit":
            os._exit(3)
        else:
            import ctypes

            ctypes.string_at(0)

    job = q.enqueue(die, how).wait(30)
    assert job.is_failed
    assert job.output == "last\nwords"
    assert len(lines(job.batch)) == 6, "those of its three attempts"


@pytest.mark.parametrize("how", ["in python", "holds the GIL"])
def test_a_job_whose_time_is_up_has_what_it_printed_before(q, worker, how):
    def work(how):
        print("before")
        if how == "in python":
            while True:
                time.sleep(0.01)
        import ctypes

        ctypes.PyDLL(None).sleep(60)

    job = q.enqueue(work, how, job_timeout=0.2).wait(20)
    assert isinstance(job.exception(), errors.JobTimeout)
    assert job.output == "before\n"


def test_a_job_that_is_stopped_while_it_prints_leaves_its_child_usable(q, workers):
    """The exception comes between any two steps of a print."""

    def chatter():
        try:
            while True:
                print("chatter " * 10)
        finally:
            print("stopped")

    workers.start(children=1)
    for _ in range(5):
        job = q.enqueue(chatter, job_timeout=0.1).wait(20)
        assert isinstance(job.exception(), errors.JobTimeout)
        assert job.output.startswith("chatter ")
        assert job.output.endswith("stopped\n")
        assert q.enqueue(print, "next").wait(20).output == "next\n"
    assert b"Traceback" not in workers._processes[0].log.read_bytes()


def test_ten_megabytes_of_one_job_are_bounded_and_neither_slow_nor_large(q, worker):
    def flood():
        import resource

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for n in range(100_000):
            print(f"{n:07}", "x" * 92)
        sys.stdout.write("y" * 10_000_000 + "\n")
        print("done")
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    batch = q.map(lambda x: print("hello", x), range(100)).wait(20)
    job = q.enqueue(flood, label="flood")
    assert job.result(timeout=60) < 40_000  # KB; the text itself is there twice for a moment
    assert job.duration < 20
    text = job.output
    assert len(text) < 110_000  # and what was not answered yet when it ended
    assert text.startswith("0000000 xxx")
    assert text.endswith("yyy\ndone\n")
    cut = sum(int(line.split()[1].replace(",", "")) for line in text.splitlines() if line.startswith("[nbqueue: "))
    kept = sum(len(line) for line in text.splitlines(keepends=True) if not line.startswith("[nbqueue: "))
    assert 0 <= kept + cut - (100_000 * 101 + 10_000_001 + 5) <= 5, "it is said how much is missing"
    assert q.store.run("MEMORY", "USAGE", q.store.key(f"batch:{job.batch.id}:output")) < 400_000
    assert [job.output for job in batch.jobs] == [f"hello {x}\n" for x in range(100)]


def test_the_output_of_a_batch_is_bounded_and_the_newest_is_kept(q, workers):
    workers.start(children=1)  # of several, one may be held up after it has printed: what is newest is what came last
    batch = q.map(lambda x: print("z" * 900, x), range(3000)).wait(60)
    assert stream_length(q, batch) == running.MOST_ENTRIES
    assert q.store.run("MEMORY", "USAGE", q.store.key(f"batch:{batch.id}:output"), "SAMPLES", 0) < 1_300_000
    newest = lines(batch, 2000)
    broken = [(index, text) for index, _, text in newest if text != "z" * 900 + f" {index}"]
    assert len(newest) > running.MOST_ENTRIES - 20
    assert len(broken) < 20, "of some the beginning was overwritten, or dropped"
    assert all(f"{'z' * 900} {index}".endswith(text) for index, text in broken)
    assert batch[newest[-1][0]].output.endswith(f" {newest[-1][0]}\n")
    assert batch[0].output == ""


def test_each_of_many_quick_jobs_has_its_own_output(q, worker):
    batch = q.map(lambda x: print("number", x), range(900)).wait(20)
    assert [job.output for job in batch[::90]] == [f"number {x}\n" for x in range(0, 900, 90)]
    assert 900 <= stream_length(q, batch) < 950, "some were looked at while they printed"


def test_bytes_and_what_is_no_text(q, worker):
    def work():
        sys.stdout.buffer.write(b"bytes \xff\n")
        print("lone surrogate \ud800, null \0")
        sys.stderr.buffer.write("é".encode()[:1])
        sys.stderr.buffer.write("é".encode()[1:])

    assert q.enqueue(work).wait(20).output == "bytes \ufffd\nlone surrogate \\ud800, null \0\né"


def test_coroutines_print(q, worker):
    async def work(x):
        import asyncio

        print("before", x)
        await asyncio.sleep(0.01)
        print("after", x)

    batch = q.map(work, range(3)).wait(20)
    assert [job.output for job in batch.jobs] == [f"before {x}\nafter {x}\n" for x in range(3)]


def test_threads_of_a_job_print_for_it(q, worker):
    def work(x):
        # `print` writes the line and its end apart, between which another thread may come.
        threads = [threading.Thread(target=sys.stdout.write, args=(f"{x} from {n}\n",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    batch = q.map(work, range(3)).wait(20)
    for x, job in enumerate(batch.jobs):
        assert sorted(job.output.splitlines()) == [f"{x} from {n}" for n in range(4)]


def test_what_is_printed_when_no_job_runs_is_in_the_log(q, worker, tmp_path):
    go, done = tmp_path / "go", tmp_path / "done"

    def work():
        def later():
            while not go.exists():
                time.sleep(0.01)
            print("between jobs")
            done.touch()

        threading.Thread(target=later).start()
        print("in the job")

    job = q.enqueue(work).wait(20)
    go.touch()
    wait_until(done.exists)
    assert job.output == "in the job\n"
    wait_until(lambda: b"between jobs" in worker.log.read_bytes())
    assert b"in the job" not in worker.log.read_bytes()


def test_redirected_output_is_not_taken_and_what_a_job_replaced_is_put_back(q, workers):
    def work():
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()) as taken:
            print("redirected")
        print("printed")
        sys.stdout = sys.stderr = io.StringIO()
        print("gone")
        return taken.getvalue()

    workers.start(children=1)
    job = q.enqueue(work)
    assert job.result(timeout=20) == "redirected\n"
    assert job.output == "printed\n"
    assert q.enqueue(print, "of the next").wait(20).output == "of the next\n"


def test_logging_warnings_and_tracebacks_of_threads_are_taken(q, worker):
    def work():
        import logging
        import warnings

        logging.getLogger("of.a.library").warning("logged")
        with warnings.catch_warnings():  # the filters of the tests go along
            warnings.simplefilter("default")
            warnings.warn("warned", stacklevel=1)
        thread = threading.Thread(target=lambda: 1 / 0)
        thread.start()
        thread.join()

    text = q.enqueue(work).wait(20).output
    assert text.startswith("logged\n")
    assert "UserWarning: warned" in text
    assert "ZeroDivisionError: division by zero" in text


def test_a_stream_that_a_job_returns_is_that_of_whoever_reads_it(q, worker):
    assert q.enqueue(lambda: sys.stdout).result(timeout=20) is sys.stdout


def test_bars_of_tqdm_show_their_last_state(q, worker):
    def work():
        from tqdm import tqdm

        for _ in tqdm(range(5), desc="fitting"):
            pass

    job = q.enqueue(work, label="bar").wait(20)
    (line,) = job.batch.output()
    assert line.stream == "stderr"
    assert line.text.startswith("fitting: 100%")
    assert "fitting:   0%" in job.output


def test_subprocesses_forks_and_faulthandler_write_where_the_job_prints(q, worker):
    def work():
        import faulthandler
        import multiprocessing
        import subprocess

        print("before")
        subprocess.run(["echo", "from a program"], stdout=sys.stdout, check=True)
        process = multiprocessing.get_context("fork").Process(target=print, args=("from a fork",))
        process.start()
        process.join()
        faulthandler.dump_traceback()
        print("after", process.exitcode)

    job = q.enqueue(work).wait(20)
    assert job.stdout == "before\nfrom a program\nfrom a fork\nafter 0\n"
    assert "most recent call first" in job.stderr
    assert b"from a" not in worker.log.read_bytes()


def test_what_is_printed_while_a_function_is_loaded_is_that_of_the_job_which_needs_it(q, worker, tmp_path, monkeypatch):
    (tmp_path / "talks.py").write_text("print('imported')\ndef work(x):\n    print('ran', x)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import talks

    monkeypatch.chdir(tmp_path)
    batch = q.map(talks.work, [0]).wait(20)
    assert batch[0].output == "imported\nran 0\n"


def test_the_first_words_are_kept_although_the_server_does_not_know_the_script(q, workers):
    """Otherwise the end of a quick job would overtake them, and with it the lease that lets them be written."""
    q.store.run("SCRIPT", "FLUSH")
    workers.start(children=1)
    assert q.map(abs, range(100)).wait(20).done
    assert q.enqueue(print, "first").wait(20).output == "first\n"


def test_a_worker_that_lost_its_lease_cannot_add_output(q, workers, tmp_path):
    going, go = tmp_path / "going", tmp_path / "go"

    def work():
        print("started by", os.getppid())
        going.touch()
        while not go.exists():
            time.sleep(0.01)
        print("ended")

    first = workers.start(children=1)
    job = q.enqueue(work)
    wait_until(lambda: job.output)
    first.send_signal(signal.SIGSTOP)
    (state,) = q.workers()
    assert q.store.call(running.reap(state.id, state.beat, "it was stopped")) == 1
    second = workers.start(children=1)
    wait_until(lambda: str(second.pid) in job.output)
    go.touch()
    job.wait(20)
    first.send_signal(signal.SIGCONT)
    wait_until(lambda: len(q.workers()) == 2)
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    assert job.output == f"started by {second.pid}\nended\n"
    assert [text for _, _, text in lines(job.batch)].count("ended") == 1


def test_output_goes_with_its_batch(q, worker):
    batch = q.map(print, range(3), result_ttl=100).wait(20)
    key = q.store.key(f"batch:{batch.id}:output")
    assert 0 < q.store.run("TTL", key) <= 100
    batch[1].delete()
    assert [job.output for job in (batch[0], batch[1], batch[2])] == ["0\n", "", "2\n"]
    batch.delete()
    assert not q.store.run("EXISTS", key)
