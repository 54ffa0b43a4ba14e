"""Bad input and bad luck: each has a clear error, and nothing is lost, run twice or left hanging."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
import redis
from conftest import wait_until

from nbqueue import Queue, errors, machine
from nbqueue.server import embedded
from nbqueue.server.key import signing_key
from nbqueue.store.requests import running, submitting

# Input


def test_what_is_not_callable_is_refused(q):
    with pytest.raises(errors.UsageError, match="not callable"):
        q.enqueue(42)
    with pytest.raises(errors.UsageError, match="'score' names no function"):
        q.map("score", [1])
    with pytest.raises(errors.UsageError, match="is not a call"):
        q.enqueue_many([(1, 2)])
    with pytest.raises(errors.UsageError, match="not iterable"):
        q.map(abs, 5)


def test_a_function_that_cannot_be_pickled_names_the_variable(q):
    lock = threading.Lock()
    settings = {"deep": [lock]}

    def work(x):
        return settings

    with pytest.raises(errors.CannotPickle, match=r"work -> variable 'settings' -> item 'deep' -> item 0 -> _thr"):
        q.map(work, [1])


def test_an_open_file_is_refused_and_not_sent_as_a_copy_of_what_it_holds(q, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("1,2")
    with path.open() as rows:
        with pytest.raises(errors.CannotPickle, match=r"TextIOWrapper.*Pass the file's path"):
            q.map(len, [[rows]])
        with pytest.raises(errors.CannotPickle, match="variable 'rows'"):
            q.enqueue(lambda: rows.read())
    assert q.enqueue(lambda: print("to the log", file=sys.stdout)).id


def test_an_argument_that_cannot_be_pickled_is_named_and_nothing_is_left(q):
    with pytest.raises(errors.CannotPickle, match="call 2: .*generator"):
        q.map(str, [1, "a", (i for i in range(3))])
    with pytest.raises(errors.CannotPickle, match="argument 'key'"):
        q.enqueue(sorted, [1], key=threading.Lock())
    assert q.batches() == []


def test_what_was_submitted_before_a_bad_argument_is_canceled(q):
    def items():
        yield from range(5000)
        yield threading.Lock()

    with pytest.raises(errors.CannotPickle) as caught:
        q.map(str, items())
    assert "is canceled" in caught.value.__notes__[0]
    (batch,) = q.batches()
    assert batch.counts["canceled"] == len(batch) > 0
    assert batch.done


def test_an_exception_in_the_iterable_cancels_what_was_submitted(q):
    def items():
        yield from range(3000)
        raise KeyError("end")

    with pytest.raises(errors.SubmitError, match="iterable raised KeyError") as caught:
        q.map(abs, items())
    assert isinstance(caught.value.__cause__, KeyError)
    (batch,) = q.batches()
    assert batch.done
    with pytest.raises(errors.JobCanceled, match="submitter"):
        batch.results()


def test_unknown_ids_say_so(q):
    with pytest.raises(errors.NotFound, match="no batch abcdef"):
        q.batch("abcdef")
    with pytest.raises(errors.NotFound, match="not the id of a job"):
        q.fetch_job("abcdef")
    batch = q.map(abs, [1])
    with pytest.raises(errors.NotFound, match="has 1 jobs"):
        q.fetch_job(f"{batch.id}:7")
    with pytest.raises(IndexError):
        batch[7]
    batch.delete()
    with pytest.raises(errors.NotFound):
        batch.results()


def test_nonsense_options_are_refused(q):
    for options in ({"job_timeout": -3}, {"job_timeout": "soon"}, {"priority": 0}, {"result_ttl": "x"}, {"meta": {1j}}):
        with pytest.raises(errors.UsageError):
            q.map(abs, [1], **options)
    with pytest.raises(errors.UsageError, match="chunksize"):
        q.starmap(pow, [(1, 2)], chunksize=3)
    with pytest.raises(errors.UsageError, match="errors="):
        q.map(abs, []).results(errors="ignore")
    with pytest.raises(errors.UsageError):
        Queue("a b")


def test_a_result_that_cannot_be_pickled_fails_the_job(q, worker):
    batch = q.map(lambda x: threading.Lock() if x == 1 else x, range(3))
    assert batch.results(timeout=20, errors="skip") == [0, 2]
    with pytest.raises(errors.CannotPickle, match="result"):
        batch[1].result()


def test_an_exception_that_cannot_be_rebuilt_is_told_as_text(q, worker):
    class Needs(Exception):
        def __str__(self):
            return f"needs {self.file.name}"

    def fail():
        error = Needs()
        error.file = open("/dev/null")  # noqa: SIM115, PTH123 - it is the point
        raise error

    job = q.enqueue(fail)
    with pytest.raises(errors.JobFailed, match="Needs: needs /dev/null .*cannot be rebuilt"):
        job.result(timeout=20)
    assert "raise error" in job.exc_info


def test_the_arguments_of_a_large_finished_batch_are_gone_in_words(q, worker):
    batch = q.map(abs, range(1500)).wait(20)
    with pytest.raises(errors.ResultExpired, match="arguments of job"):
        batch[3].args  # noqa: B018
    small = q.map(abs, range(5)).wait(20)
    assert small[3].args == (3,)


def test_results_expire(q, worker):
    batch = q.map(abs, [1], result_ttl=1).wait(20)
    reader = Queue(namespace=q.namespace, progress=False)  # which has not heard of the outcome
    job = reader.fetch_job(q.enqueue(abs, 1, result_ttl=1).wait(20).id)
    wait_until(lambda: q.store.batch(batch.id) is None and q.store.batch(job.batch.id) is None)
    looks = [
        batch.results, lambda: list(batch), lambda: list(batch.as_completed()), batch.wait, batch.failures, batch.retry,
        batch.cancel, lambda: batch[0], job.result, job.wait, job.get_status, job.retry, lambda: job.args,
        lambda: job.func_name, lambda: job.meta,
    ]  # fmt: skip
    for look in looks:
        with pytest.raises(errors.NotFound, match="was deleted, or its results have expired"):
            look()
    reader.close()
    wait_until(lambda: functions_in_redis(q) == [])
    assert q.map(abs, [-1]).results(timeout=20) == [1], "the client does not count on the function being there"


def test_an_outcome_that_is_gone_raises_and_is_not_waited_for(q, worker):
    batch = q.map(str, range(300)).wait(20)
    job = q.enqueue(len, "abc").wait(20)
    for gone in (batch, job.batch):
        q.store.run("DEL", q.store.key(f"batch:{gone.id}:outcomes"))
    reader = Queue(namespace=q.namespace, progress=False)
    seen = reader.batch(batch.id)
    for look in (seen.results, seen[7].result, seen[7].return_value, seen[7].exception, seen[7].get_status,
                 reader.fetch_job(job.id).result):  # fmt: skip
        with pytest.raises(errors.ResultExpired, match="the outcome of job .* is not there any more"):
            look()
    reader.close()


def functions_in_redis(q):
    """Keys of functions; local modules and settings are none."""
    described = [batch.description for batch in q.store.batches(100)]
    others = {digest for one in described for digest in (one.modules, one.settings)}
    keys = q.store.run("KEYS", q.store.key("code:*"))
    found = [re.search(rb"code:([0-9a-f]+)$", key) for key in keys]
    return [key for key, match in zip(keys, found, strict=True) if match and match[1].decode() not in others]


def test_a_job_whose_function_is_gone_fails_in_words_until_it_is_submitted_again(q, workers):
    def invert(x):
        return 1 / x

    batch = q.map(invert, range(1, 300))
    job = q.enqueue(invert, 4)
    (key,) = functions_in_redis(q)
    q.store.run("DEL", key)
    with pytest.raises(errors.ResultExpired, match="the function of job"):
        job.func_name  # noqa: B018
    workers.start()
    for _ in range(2):
        assert batch.wait(20).counts["failed"] == 299
        (group,) = batch.failures()
        assert (group.type, group.count) == ("CorruptPayload", 299)
        assert "the function of this job is not in Redis any more" in group.message
        with pytest.raises(errors.CorruptPayload, match="Submit the call again"):
            job.result(timeout=20)
        assert (batch.retry(), job.retry()) == (299, True)
    batch.wait(20)
    job.wait(20)
    assert q.enqueue(invert, 2).result(timeout=20) == 0.5
    assert (batch.retry(), job.retry()) == (299, True)
    assert batch.results(timeout=20) == [1 / x for x in range(1, 300)]
    assert job.result(timeout=20) == 0.25
    assert job.func_name.endswith("invert")


def test_a_call_that_is_gone_fails_its_job_in_words(q, workers):
    batch = q.map(abs, range(300))
    q.store.run("HDEL", q.store.key(f"batch:{batch.id}:calls"), "b1")
    workers.start()
    assert batch.wait(20).counts == {
        "total": 300, "queued": 0, "started": 0, "finished": 256, "failed": 44, "canceled": 0,
    }  # fmt: skip
    with pytest.raises(errors.CorruptPayload, match=f"the call of job {batch.id}:299 is not there any more"):
        batch[299].result()


def test_a_deleted_job_says_so(q, worker):
    job = q.enqueue(abs, -1)
    job.wait(20)
    job.delete()
    with pytest.raises(errors.ResultExpired, match="deleted"):
        job.result()


# Signatures


def test_a_job_that_somebody_else_has_deleted_says_so_to_who_heard_of_its_outcome(q, worker, namespace):
    other = Queue(namespace=namespace, progress=False)
    jobs = [other.enqueue(pow, 2, 5)]
    with q.session.listener.watch(jobs[0].batch.id) as watch:
        jobs.append(other.enqueue(pow, 2, 6))
        mine = [q.fetch_job(job.id) for job in jobs]
        for job in jobs:
            job.wait(20)
        wait_until(lambda: watch.wait(watch.version, 0.1) or watch.outcome(jobs[1].index))
        jobs[0].delete()
        wait_until(lambda: watch.wait(watch.version, 0.1) or watch.outcome(jobs[1].index) is None)
        with pytest.raises(errors.ResultExpired):
            mine[0].result(timeout=20)
        assert mine[1].result(timeout=20) == 64
    other.close()


def test_a_worker_refuses_what_was_signed_with_another_key(q, worker, namespace):
    stranger = Queue(
        connection=embedded.ensure().url, namespace=namespace, key="other", environment=q.environment, progress=False
    )
    job = stranger.enqueue(abs, -1)
    wait_until(lambda: job.batch.counts["failed"] == 1)
    record = job._state().own
    with pytest.raises(errors.SignatureError):  # the outcome was signed by the worker, with its key
        stranger.seal.open(b"outcomes", job.batch.id, 0, record)
    ours = Queue(namespace=namespace, progress=False).fetch_job(job.id)
    with pytest.raises(errors.SignatureError, match="nothing was unpickled"):
        ours.result()
    assert q.enqueue(abs, -1).result(timeout=20) == 1
    stranger.close()


def test_a_block_that_was_swapped_into_another_place_is_refused(q, workers):
    batch = q.map(abs, range(512))
    key = q.store.key(f"batch:{batch.id}:calls")
    first, second = q.store.run("HMGET", key, "b0", "b1")
    q.store.run("HSET", key, "b0", second, "b1", first)
    workers.start()
    batch.wait(20)
    assert batch.counts["failed"] == 512
    assert {group.type for group in batch.failures()} == {"SignatureError"}
    assert q.map(abs, [-1]).results(timeout=20) == [1]


def test_a_corrupted_record_is_refused_and_the_worker_goes_on(q, workers):
    batch = q.map(abs, range(3))
    key = q.store.key(f"batch:{batch.id}:calls")
    q.store.run("HSET", key, "b0", b"\x01")
    workers.start()
    batch.wait(20)
    assert batch.counts["failed"] == 3
    with pytest.raises(errors.CorruptPayload):
        batch.results()
    good = q.map(abs, range(3)).wait(20)
    q.store.run("HSET", q.store.key(f"batch:{good.id}:outcomes"), "1", b"rubbish of some length, which is no record")
    with pytest.raises(errors.PayloadError):
        good[1].return_value()


# The server


def test_an_unreachable_redis_names_its_url_and_hides_the_password(monkeypatch):
    monkeypatch.setattr("nbqueue.store.link._PATIENCE", 0.2)
    queue = Queue(connection="redis://me:secret@127.0.0.1:1/0")
    with pytest.raises(errors.ServerUnreachable, match=r"redis://me:\*\*\*@127.0.0.1:1/0.*Is it running") as caught:
        queue.enqueue(abs, 1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("credentials", ["", "me:secret@"])
def test_what_is_not_a_redis_is_told(monkeypatch, credentials):
    monkeypatch.setattr("nbqueue.store.link._PATIENCE", 0.2)
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        queue = Queue(connection=f"redis://{credentials}127.0.0.1:{web.server_port}")
        try:
            with pytest.raises(errors.ServerUnreachable, match="does not speak Redis' protocol"):
                queue.enqueue(abs, 1)
        finally:
            web.shutdown()
            thread.join()


def test_a_redis_that_goes_away_during_a_wait_is_told_and_comes_back(private, monkeypatch):
    monkeypatch.setattr("nbqueue.store.link._PATIENCE", 0.3)
    own = private()
    queue = Queue(connection=own.url, key="k", progress=False)
    batch = queue.map(abs, [1])
    own.kill()
    with pytest.raises(errors.ServerUnreachable, match="does not answer"):
        batch.results(timeout=10)
    own.start()
    assert batch.counts["queued"] == 1
    queue.close()


def test_a_redis_that_was_away_between_two_waits_is_not_noticed(private, workers):
    own = private()
    workers.start("--url", own.url, "--namespace", "default", NBQUEUE_KEY="k")
    queue = Queue(connection=own.url, key="k", progress=False)
    assert queue.map(abs, [-1]).results(30) == [1]  # a connection listens from now on
    own.kill()
    own.start()
    assert queue.map(abs, [-2]).results(30) == [2]
    queue.close()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="what a process has had at most, /proc tells")
def test_while_redis_takes_nothing_a_worker_keeps_so_much_and_lets_its_children_wait(private, workers, tmp_path):
    own = private()
    began, go, told = tmp_path / "began", tmp_path / "go", tmp_path / "told"
    process = workers.start("--url", own.url, "--namespace", "default", children=1, NBQUEUE_KEY="k")
    queue = Queue(connection=own.url, key="k", progress=False)

    def tell(count):
        from nbqueue.cells.messages import Keeper
        from nbqueue.child.context import running

        keeper = Keeper()
        began.touch()
        while not go.exists():
            time.sleep(0.01)
        for number in range(count):
            content = {"data": {"text/plain": f"{number} " * 200_000}, "metadata": {}}
            running().show(keeper.add("display_data", content))
            told.write_text(str(number + 1))
        return "all told"

    job = queue.enqueue(tell, 400)
    wait_until(began.exists)
    own.process.send_signal(signal.SIGSTOP)
    go.touch()
    counts = []

    def stands_still():
        counts.append(told.read_text() if told.exists() else "0")
        return counts[-1] != "0" and len(counts) > 50 and len(set(counts[-50:])) == 1

    wait_until(stands_still)
    own.process.send_signal(signal.SIGCONT)
    assert job.result(timeout=60) == "all told"
    messages = queue.store.shown(job.batch.id, "", 1000)
    assert [message[2][:60].split(b'"')[5].split()[0] for message in messages] == [b"%d" % n for n in range(400)]
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert 64_000 < int(peak) < 180_000
    queue.close()


def test_a_worker_that_holds_much_lets_the_running_job_end_although_its_redis_is_gone(private, workers, tmp_path):
    own = private()
    began, speak, told, go = (tmp_path / name for name in ("began", "speak", "told", "go"))
    queue = Queue(connection=own.url, key="k", progress=False)

    def begin():
        with began.open("a") as file:
            file.write("x")

    def work():
        begin()
        while not go.exists():
            time.sleep(0.01)
        return "kept"

    def tell():
        from nbqueue.cells.messages import Keeper
        from nbqueue.child.context import running

        keeper = Keeper()
        begin()
        while not speak.exists():
            time.sleep(0.01)
        for number in range(20):
            running().show(keeper.add("display_data", {"data": {"text/plain": "x" * 500_000}, "metadata": {}}))
            told.write_text(str(number))

    jobs = queue.enqueue(work), queue.enqueue(tell)
    process = workers.start(
        "--url", own.url, "--namespace", "default", "--max-idle-time", "0.1", NBQUEUE_KEY="k",
        first="from nbqueue.worker import loop; loop._GONE, loop._MOST_HELD = 0.0, 1_000_000",
    )  # fmt: skip
    wait_until(lambda: began.exists() and began.read_text() == "xx")
    own.process.send_signal(signal.SIGSTOP)
    speak.touch()
    wait_until(lambda: told.exists() and int(told.read_text() or 0) > 0)
    own.kill()
    wait_until(lambda: b"lost the connection" in process.log.read_bytes())
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: b"finishes what runs" in process.log.read_bytes())
    own.start()
    wait_until(lambda: told.read_text() == "19")
    go.touch()
    assert [job.result(timeout=30) for job in jobs] == ["kept", None]
    assert process.wait(30) == 0
    assert began.read_text() == "xx"
    queue.close()


def test_a_worker_outlives_its_redis_and_settles_what_was_finished_meanwhile(private, workers, tmp_path):
    own = private()
    began, go = tmp_path / "began", tmp_path / "go"
    process = workers.start("--url", own.url, "--namespace", "default", NBQUEUE_KEY="k")
    queue = Queue(connection=own.url, key="k", progress=False)

    def work():
        print("before")
        with began.open("a") as file:
            file.write("x")
        while not go.exists():
            time.sleep(0.01)
        print("meanwhile")
        return "kept"

    job = queue.enqueue(work)
    wait_until(began.exists)
    own.kill()
    go.touch()
    wait_until(lambda: b"lost the connection" in process.log.read_bytes())
    own.start()
    assert job.result(timeout=30) == "kept"
    assert began.read_text() == "x"
    assert job.output == "before\nmeanwhile\n"
    queue.close()


def test_what_ended_meanwhile_is_not_lost_on_a_server_that_loads_its_data(private, workers, tmp_path):
    own = private()
    go = tmp_path / "go"
    process = workers.start("--url", own.url, "--namespace", "default", NBQUEUE_KEY="k")
    queue = Queue(connection=own.url, key="k", progress=False)
    queue.store.run("EVAL", "for i = 1, 4000 do redis.call('RPUSH', 'much', i) end", 0)

    def work():
        while not go.exists():
            time.sleep(0.01)
        return "kept"

    job = queue.enqueue(work)
    wait_until(lambda: job.is_started)
    own.kill()
    go.touch()
    wait_until(lambda: b"lost the connection" in process.log.read_bytes())
    own.options = ("--key-load-delay", "1000")  # microseconds a command
    own.start()
    assert b"errorstat_LOADING" in queue.store.run("INFO", "errorstats")
    assert job.result(timeout=30) == "kept"
    queue.close()


def test_an_outcome_is_not_lost_on_a_server_that_cannot_write_to_its_disk(private, workers, tmp_path):
    own = private("--save", "3600 1000000", "--dbfilename", "dump", "--stop-writes-on-bgsave-error", "yes")
    began, go = tmp_path / "began", tmp_path / "go"
    process = workers.start("--url", own.url, "--namespace", "default", NBQUEUE_KEY="k")
    queue = Queue(connection=own.url, key="k", progress=False)

    def work():
        with began.open("a") as file:
            file.write("x")
        while not go.exists():
            time.sleep(0.01)
        return "kept"

    job = queue.enqueue(work)
    wait_until(began.exists)
    (own.directory / "dump").mkdir()
    queue.store.run("BGSAVE")
    wait_until(lambda: b"rdb_last_bgsave_status:err" in queue.store.run("INFO", "persistence"))
    go.touch()
    wait_until(lambda: b"MISCONF" in process.log.read_bytes())
    with pytest.raises(errors.ServerError, match="refused 'submit': MISCONF"):
        queue.enqueue(abs, -1)
    (own.directory / "dump").rmdir()
    queue.store.run("BGSAVE")
    assert job.result(timeout=30) == "kept"
    assert queue.enqueue(abs, -1).result(timeout=30) == 1
    assert began.read_text() == "x"
    queue.close()


def test_a_server_that_runs_a_long_script_is_asked_again(private, workers):
    own = private("--busy-reply-threshold", "20")
    process = workers.start("--url", own.url, "--namespace", "default", NBQUEUE_KEY="k")
    queue = Queue(connection=own.url, key="k", progress=False)
    assert queue.enqueue(abs, -1).result(timeout=30) == 1
    stranger = redis.Redis.from_url(own.url, socket_timeout=None, retry=None)

    def hold_up():
        with pytest.raises(redis.ResponseError, match="killed"):
            stranger.eval("while true do end", 0)

    results = []
    threads = [threading.Thread(target=hold_up)]
    threads += [threading.Thread(target=lambda: results.append(queue.enqueue(abs, -2).result(timeout=30)))]
    for thread in threads:
        thread.start()
    wait_until(lambda: b"BUSY" in process.log.read_bytes())
    with redis.Redis.from_url(own.url) as other:
        other.script_kill()
    for thread in threads:
        thread.join()
    assert results == [2]
    assert b"errorstat_BUSY:" in queue.store.run("INFO", "errorstats")
    wait_until(lambda: b"again" in process.log.read_bytes())
    stranger.close()
    queue.close()


def test_a_redis_out_of_memory_refuses_submissions_in_words_and_lets_running_jobs_end(private, workers, tmp_path):
    own = private("--maxmemory", "20mb", "--maxmemory-policy", "noeviction")
    go = tmp_path / "go"
    process = workers.start("--url", own.url, "--namespace", "default", NBQUEUE_KEY="k")
    queue = Queue(connection=own.url, key="k", progress=False)

    def work(size):
        while not go.exists():
            time.sleep(0.01)
        print("not kept")
        return "done" * size

    jobs = [queue.enqueue(work, size) for size in (1, 100_000)]
    wait_until(lambda: all(job.is_started for job in jobs))
    with pytest.raises(errors.ServerFull, match="maxmemory"):
        for i in range(100):
            queue.enqueue(len, bytes([i]) * 1_000_000)
    queue.connection.config_set("maxmemory", "1mb")  # not even a line more
    go.touch()
    assert [job.result(timeout=20) for job in jobs] == ["done", "done" * 100_000]
    assert process.log.read_bytes().count(b"what jobs print is not kept: the server") == 1
    queue.close()


class LossyProxy:
    """Passes everything on to a server, but breaks the connection instead of passing on the answers to some scripts.

    It loses the answer to each `every`th script, and pauses (seconds) after each 64 KB. It can be told to forget the
    connections that it has, as a router does: what is sent over these is swallowed then, and nobody hears of it.
    """

    def __init__(self, behind: str, every: int, pause: float = 0.0) -> None:
        self._behind = behind
        self._every = every
        self._pause = pause
        self._count = 0
        self.lost = 0
        self.directory = tempfile.TemporaryDirectory(prefix="nbq-")
        self.path = f"{self.directory.name}/p"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(50)
        self._threads = [threading.Thread(target=self._accept)]
        self._open: list[socket.socket] = [self._listener]
        self._forgotten: list[socket.socket] = []
        self._threads[0].start()

    def forget(self) -> None:
        self._forgotten = list(self._open)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = socket.socket(socket.AF_UNIX)
                upstream.connect(self._behind)
                self._open += [client, upstream]
                thread = threading.Thread(target=self._pump, args=(client, upstream))
                self._threads.append(thread)
                thread.start()

    def _pump(self, client: socket.socket, upstream: socket.socket) -> None:
        import select

        asked = False
        with contextlib.suppress(OSError, ValueError):
            while True:
                for ready in select.select([client, upstream], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        raise OSError("closed")
                    if client in self._forgotten:
                        continue
                    if ready is client:
                        asked = b"EVAL" in data
                        upstream.sendall(data)
                    else:
                        if asked and not data.startswith(b"-NOSCRIPT"):
                            self._count += 1
                            if self._count % self._every == 0:
                                self.lost += 1
                                raise OSError("lost on the way")
                        client.sendall(data)
                    time.sleep(self._pause)
        for side in (client, upstream):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()

    def close(self) -> None:
        for side in self._open:
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            side.close()
        for thread in self._threads:
            thread.join(10)
        self.directory.cleanup()


def test_answers_that_are_lost_on_the_way_make_nothing_happen_twice(q, workers, namespace, tmp_path):
    """Of submit, claim, finish and all others, every fourth answer is lost."""
    proxy = LossyProxy(str(embedded.ensure().socket), 4)
    try:
        url = f"unix://{proxy.path}"
        queue = Queue(connection=url, namespace=namespace, key=signing_key(), environment=q.environment,
                      progress=False)  # fmt: skip
        workers.start("--url", url, "--environment", q.environment, NBQUEUE_KEY=f"hex:{signing_key().hex()}")
        seen = tmp_path / "seen"

        def work(x):
            with seen.open("a") as file:
                file.write(f"{x}\n")
            print("printed", x)
            return x

        jobs = [queue.enqueue(work, i) for i in range(20)]
        batch = queue.map(work, range(20, 60))
        assert [job.result(timeout=60) for job in jobs] == list(range(20))
        assert batch.results(timeout=60) == list(range(20, 60))
        assert sorted(map(int, seen.read_text().split())) == list(range(60))
        assert sum(len(b) for b in q.batches()) == 60
        assert [job.output for job in jobs + batch.jobs] == [f"printed {x}\n" for x in range(60)]
        assert len(batch.output(100)) == 40
        assert proxy.lost > 10
        queue.close()
    finally:
        workers.end()
        proxy.close()


def test_a_submission_of_many_parts_is_complete_although_answers_are_lost(remote, remote_worker):
    """Each part is sent while the answer to the one before is not read yet: every third answer is lost."""
    proxy = LossyProxy(remote.store.url.removeprefix("unix://"), 3)
    try:
        queue = Queue(connection=f"unix://{proxy.path}", namespace=remote.session.namespace, key="k",
                      progress=False)  # fmt: skip
        values = [bytes([x]) * 300_000 for x in range(40)]
        batch = queue.map(len, values)
        assert len(remote.batch(batch.id)) == 40
        assert remote.batch(batch.id).results(timeout=60) == [300_000] * 40
        batch = queue.map(bytearray, iter(values))
        assert remote.batch(batch.id).results(timeout=60) == values
        assert proxy.lost > 10
        queue.close()
    finally:
        proxy.close()


def test_a_large_value_on_a_slow_link_is_given_all_the_time_it_needs(remote, remote_worker, monkeypatch):
    monkeypatch.setattr("nbqueue.store.connection.SILENCE", 0.5)
    proxy = LossyProxy(remote.store.url.removeprefix("unix://"), sys.maxsize, pause=0.005)
    try:
        queue = Queue(connection=f"unix://{proxy.path}", namespace=remote.session.namespace, key="k",
                      progress=False)  # fmt: skip
        value = bytes(range(256)) * 65536
        began = time.monotonic()
        queue.store.run("PING")
        job = queue.enqueue(bytes, value)
        assert time.monotonic() - began > 0.5
        began = time.monotonic()
        assert job.result(timeout=60) == value
        assert time.monotonic() - began > 0.5
        queue.close()
    finally:
        proxy.close()


def test_connections_that_the_network_has_forgotten_are_made_again(q, workers, namespace, tmp_path, monkeypatch):
    """Of the worker, which goes on to send beats, of who waits and of who submits; the job stays where it is."""
    monkeypatch.setattr("nbqueue.store.connection.SILENCE", 2.0)
    began, go = tmp_path / "began", tmp_path / "go"

    def work():
        with began.open("a") as file:
            file.write("x")
        while not go.exists():
            time.sleep(0.01)
        return "kept"

    proxy = LossyProxy(str(embedded.ensure().socket), sys.maxsize)
    url, key = f"unix://{proxy.path}", signing_key()
    queues = [
        Queue(connection=url, namespace=namespace, key=key, environment=q.environment, progress=False) for _ in range(2)
    ]
    try:
        process = workers.start(
            "--url", url, "--environment", q.environment, NBQUEUE_KEY=f"hex:{key.hex()}",
            first="from nbqueue.store import connection; connection.SILENCE = 2.0",
        )  # fmt: skip
        job = queues[0].enqueue(work)
        queues[1].store.run("PING")
        results = []
        waiter = threading.Thread(target=lambda: results.append(job.result(timeout=60)))
        waiter.start()
        wait_until(began.exists)
        proxy.forget()
        second = queues[1].enqueue(abs, -1)
        wait_until(lambda: b"no answer within 2 seconds" in process.log.read_bytes())
        wait_until(lambda: b"again" in process.log.read_bytes())
        assert second.result(timeout=60) == 1
        go.touch()
        waiter.join()
        assert results == ["kept"]
        assert (began.read_text(), job.attempt) == ("x", 1)
    finally:
        go.touch()
        workers.end()
        for queue in queues:
            queue.close()
        proxy.close()


def test_a_worker_that_was_taken_for_dead_while_it_was_cut_off_ends_what_others_run(q, workers, namespace, tmp_path):
    """A router that has forgotten its connections; when it is back, its job is somebody else's."""
    pids, go = tmp_path / "pids", tmp_path / "go"

    def work():
        with pids.open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not go.exists():
            time.sleep(0.01)
        return os.getpid()

    proxy = LossyProxy(str(embedded.ensure().socket), sys.maxsize)
    url, key = f"unix://{proxy.path}", signing_key()
    try:
        process = workers.start(
            "--url", url, "--environment", q.environment, NBQUEUE_KEY=f"hex:{key.hex()}", children=1,
            first="from nbqueue.store import connection; connection.SILENCE = 1.0",
        )  # fmt: skip
        job = q.enqueue(work)
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 1)
        proxy.forget()
        (state,) = q.workers()
        assert q.store.call(running.reap(state.id, None, "it was silent")) == 1
        (first,) = map(int, pids.read_text().split())
        wait_until(lambda: not machine.is_alive(first, ""))
        wait_until(lambda: len(pids.read_text().split()) == 2)
        assert process.log.read_bytes().count(b"was taken for dead") == 1
        go.touch()
        assert job.result(timeout=20) == int(pids.read_text().split()[1])
        assert job.batch.counts["finished"] == 1
    finally:
        go.touch()
        workers.end()
        proxy.close()


def test_a_child_that_is_killed_while_its_result_is_on_the_way_loses_nothing(q, worker):
    """Results so large that the pipe is full of them when it dies."""

    def work(x):
        import threading

        if x == 3:
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return bytes([x]) * 3_000_000

    batch = q.map(work, range(8))
    results = batch.results(timeout=60, errors="skip")
    expected = [bytes([x]) * 3_000_000 for x in range(8)]
    assert all(result in expected for result in results)
    assert len(results) == batch.counts["finished"] >= 6
    assert batch.done


def test_a_submitter_that_dies_half_way_has_its_batch_canceled(q, worker, namespace):
    script = """
import os, sys
from nbqueue import Queue

def items():
    yield from range(5000)
    print("half", flush=True)
    sys.stdin.read()

Queue(namespace=sys.argv[1]).map(abs, items())
"""
    submitter = subprocess.Popen(
        [sys.executable, "-c", script, namespace], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert submitter.stdout.readline() == b"half\n"
    (batch,) = wait_until(q.batches)
    wait_until(lambda: batch.counts["finished"] >= 4000)
    submitter.kill()
    submitter.communicate()
    assert batch.state.is_submitting
    touches = float(q.store.run("ZSCORE", q.store.key("submitting"), batch.id))
    sweeper_says = submitting.abandon(batch.id, touches, "its submitter died after %d jobs were submitted")
    assert q.store.call(sweeper_says) == len(batch)
    wait_until(lambda: batch.done)  # some may have been running
    assert "submitter died after" in batch.state.reason


def test_an_interrupt_of_a_wait_leaves_the_jobs_and_says_how_to_come_back(namespace, q):
    batch = q.map(abs, [1])
    script = """
import sys
from nbqueue import Queue
q = Queue(namespace=sys.argv[1])
batch = q.batch(sys.argv[2])
print("waits", flush=True)
try:
    batch.results()
except KeyboardInterrupt as error:
    print(error.__notes__[0], batch.counts["queued"], flush=True)
"""
    waiter = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, namespace, batch.id], stdout=subprocess.PIPE, text=True
    )
    assert waiter.stdout.readline() == "waits\n"
    channel = q.store.key(f"batch:{batch.id}")
    wait_until(lambda: q.store.run("PUBSUB", "NUMSUB", channel)[1] == 1)
    waiter.send_signal(signal.SIGINT)
    out, _ = waiter.communicate(timeout=20)
    assert f"q.batch('{batch.id}')" in out
    assert out.strip().endswith(" 1")


def test_interrupts_at_any_moment_leave_everything_usable(namespace, q, worker):
    """Hundreds of interrupts land in calls to Redis; no answer is read by the wrong call, no connection leaks."""
    script = """
import os, signal, sys, threading, time
from nbqueue import Queue
q = Queue(namespace=sys.argv[1], progress=False)
main = threading.main_thread().ident
over, ready = threading.Event(), threading.Event()

def hammer():
    import random
    ready.wait()
    for _ in range(400):
        if over.wait(random.random() * 0.004):
            return
        signal.pthread_kill(main, signal.SIGINT)

q.enqueue(abs, 0).result()
thread = threading.Thread(target=hammer)
thread.start()
interrupts = right = 0
n = 0
while thread.is_alive():
    try:
        ready.set()
        n += 1
        assert q.store.run("ECHO", f"{n}") == str(n).encode()
        assert q.enqueue(abs, -n).result() == n
        right += 1
    except KeyboardInterrupt:
        interrupts += 1
while True:
    try:
        over.set(); thread.join(); break
    except KeyboardInterrupt:
        interrupts += 1
assert q.map(abs, range(-3, 0)).results() == [3, 2, 1]
open_ = len(q.store._idle)
assert open_ < 10, open_
print("interrupts", interrupts, "right", right)
"""
    done = subprocess.run([sys.executable, "-c", script, namespace], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    words = done.stdout.split()
    assert int(words[1]) > 100, done.stdout


def test_two_threads_may_use_one_queue(q, worker):
    results: dict[int, list[int]] = {}

    def use(number: int) -> None:
        results[number] = q.map(abs, range(number, number + 50)).results(timeout=30)
        results[number] += [q.enqueue(abs, -i).result(timeout=30) for i in range(20)]

    threads = [threading.Thread(target=use, args=(i * 1000,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {i * 1000: [*range(i * 1000, i * 1000 + 50), *range(20)] for i in range(4)}


def test_a_fork_of_the_client_does_not_share_its_connections(q, worker):
    q.enqueue(abs, -1).result(timeout=20)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if q.enqueue(abs, -7).result(timeout=20) == 7 else 1
        finally:
            os._exit(status)
    assert [q.enqueue(abs, -i).result(timeout=20) for i in range(10)] == list(range(10))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_fork_in_an_iterable_leaves_the_submission_to_its_parent(namespace, q, worker):
    script = """
import os, sys
from nbqueue import Queue

def items():
    yield from range(3000)
    if (pid := os.fork()) == 0:
        if sys.argv[2] == "leaves":
            sys.exit(3)
        yield from range(9000)
        return
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    yield from range(3000, 5000)

batch = Queue(namespace=sys.argv[1], progress=False).map(abs, items())
print(batch.results(timeout=30) == list(range(5000)))
"""
    for way, code in (("leaves", 3), ("goes on", 1)):
        done = subprocess.run(
            [sys.executable, "-c", script, namespace, way], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == f"{code}\nTrue\n", done.stderr
        assert ("is a fork of" in done.stderr) == (way == "goes on")
    assert [batch.counts["finished"] for batch in q.batches()] == [5000, 5000]


def test_a_fork_of_a_job_does_not_share_the_connections_of_its_client(q, worker, namespace):
    def work(namespace):
        own = Queue(namespace=namespace, progress=False)
        batch = own.map(abs, range(-300, 0))
        seen = batch.as_completed(timeout=20)
        assert next(seen).is_finished
        pids = []
        for _ in range(3):
            if (pid := os.fork()) == 0:
                assert [own.enqueue(abs, -i).result(timeout=20) for i in range(10)] == list(range(10))
                assert batch.results(timeout=20) == list(range(300, 0, -1))
                sys.exit(7)
            pids.append(pid)
        mine = [own.enqueue(abs, -i).result(timeout=20) for i in range(100, 120)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        rest = sum(job.is_finished for job in seen)
        own.close()
        return codes, mine, rest

    assert q.enqueue(work, namespace).result(timeout=60) == ([7, 7, 7], list(range(100, 120)), 299)
