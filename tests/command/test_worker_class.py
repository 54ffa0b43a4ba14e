"""`Worker(queues).work()`: what `nbqueue worker` does, for scripts, threads and notebooks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from conftest import run_as_notebook, wait_until

from nbqueue import Queue, Worker, errors

SCRIPT = """
import os, signal, sys, threading
from pathlib import Path
import nbqueue
from nbqueue import Queue, Worker
q = Queue(namespace=sys.argv[1], progress=False)
"""


@pytest.fixture
def scripts():
    """Starts scripts that go on, and ends them."""
    started = []

    def start(source, *arguments):
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT + textwrap.dedent(source), *arguments],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(source, *arguments, **environment):
    told = run_as_notebook(SCRIPT + textwrap.dedent(source), *arguments, **environment)
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_a_script_runs_its_own_jobs(namespace):
    said = run(
        """
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        def double(x): return 2 * x
        def where(): return os.getpid(), os.getppid()
        job, batch, place = q.enqueue(double, 4), q.map(double, range(100)), q.enqueue(where)
        worker = Worker([q], name="mine", children=2)
        print(worker.name, worker.queue_names(), worker)
        print(worker.work(burst=True), job.result(), sum(batch.results()), job.worker_name)
        print(worker.work(burst=True), q.workers(), nbqueue.Worker.count(q))
        assert place.result()[0] != place.result()[1] == os.getpid()
        after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
        print(before == after, "NBQUEUE_URL" in os.environ)
        """,
        namespace,
    )
    assert said.splitlines() == [
        "mine ['default'] <Worker mine: default>",
        "True 8 9900 mine",
        "False [] 0",
        "True False",
    ]


def test_it_serves_its_queues_in_their_order(namespace):
    said = run(
        """
        low, high = Queue("low", namespace=sys.argv[1]), Queue("high", namespace=sys.argv[1])
        path = Path(sys.argv[2])
        def note(word):
            with path.open("a") as file: file.write(word + " ")
        for n in range(3): low.enqueue(note, f"low{n}")
        for n in range(3): high.enqueue(note, f"high{n}")
        Worker(["high", low], children=1).work(burst=True)
        print(path.read_text())
        """,
        namespace,
        os.path.join(os.environ["NBQUEUE_HOME"], f"order-{namespace}"),  # noqa: PTH118
    )
    assert said == "high0 high1 high2 low0 low1 low2 \n"


def test_it_leaves_after_so_many_jobs_or_so_much_time_without_one(namespace):
    said = run(
        """
        import time
        def slow(x):
            time.sleep(0.1)
        batch = q.map(slow, range(20))
        print(Worker(q, children=1).work(max_jobs=2), 2 <= batch.counts["finished"] < 20)
        batch.cancel()
        print(Worker(q, children=1).work(max_idle_time="1s"))
        """,
        namespace,
    )
    assert said == "True True\nFalse\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_has_it_finish_what_runs_and_leave(namespace, q, scripts, number, tmp_path):
    script = scripts("print(Worker(q, children=1).work(), 'left')", namespace)
    wait_until(lambda: q.workers())

    def run(directory):
        (directory / "begun").touch()
        while not (directory / "go").exists():
            pass
        return "ended"

    job, waiting = q.enqueue(run, tmp_path), q.enqueue(abs, -1)
    wait_until((tmp_path / "begun").exists)
    script.send_signal(number)
    (tmp_path / "go").touch()
    assert script.wait(30) == 0
    assert job.return_value() == "ended"
    assert script.stdout.read() == "True left\n"
    assert waiting.is_queued
    assert q.workers() == []


def test_in_another_thread_it_is_a_process_of_its_own_that_ends_with_this_one(namespace, q, scripts):
    script = scripts(
        """
        def work():
            print(Worker(q, name="threaded", children=1).work(max_jobs=1), flush=True)
            Worker(q, name="endless", children=1).work()
        threading.Thread(target=work).start()
        """,
        namespace,
    )
    job = q.enqueue(pow, 2, 10)
    assert script.stdout.readline() == "True\n"
    assert job.return_value() == 1024
    worker = wait_until(lambda: [worker for worker in q.workers() if worker.name == "endless"])[0]
    assert int(worker.fields["pid"]) != script.pid
    script.kill()
    wait_until(lambda: not psutil.pid_exists(int(worker.fields["pid"])))
    assert q.workers() == []


def test_in_another_thread_orders_end_it(namespace, q, scripts):
    script = scripts(
        """
        thread = threading.Thread(target=lambda: print(Worker([q.name], connection=q, children=1).work()))
        thread.start()
        """,
        namespace,
    )
    wait_until(lambda: q.workers())
    q.stop_workers()
    assert script.wait(30) == 0
    assert script.stdout.read() == "False\n"


def test_a_server_by_its_url_or_client(private, namespace):
    server = private()
    said = run(
        """
        import redis
        url = sys.argv[2]
        def inner():
            from nbqueue import Queue
            return Queue(namespace=sys_argv).enqueue(abs, -7).id
        sys_argv = sys.argv[1]
        remote = Queue(connection=url, key="k", namespace=sys.argv[1], progress=False)
        job, nested = remote.enqueue(abs, -3), remote.enqueue(inner)
        print(Worker("default", connection=url, key="k", namespace=sys.argv[1], children=1).work(burst=True))
        print(job.result(), remote.fetch_job(nested.result()).result())
        client = redis.Redis.from_url(url)
        other = Queue("other", connection=client, key="k", namespace=sys.argv[1], progress=False)
        for connection in (None, client, other, other.connection):
            job = other.enqueue(abs, -4)
            print(Worker([other], connection=connection, children=1).work(burst=True), job.result())
        found = []
        def refused():
            try: Worker([other]).work()
            except nbqueue.errors.UsageError as error: found.append(str(error))
        thread = threading.Thread(target=refused); thread.start(); thread.join()
        print(found[0].partition(":")[0])
        """,
        namespace,
        server.url,
    )
    assert said.splitlines() == [
        "True",
        "3 7",
        *["True 4"] * 4,
        "here a worker is a process of its own, and a redis.Redis cannot be handed to that",
    ]


def test_the_connection_of_a_queue_on_the_embedded_server_is_that(namespace):
    said = run(
        """
        job = q.enqueue(lambda: "here")
        print(Worker([q], connection=q.connection, children=1).work(burst=True), job.result())
        """,
        namespace,
    )
    assert said == "True here\n"


def test_a_server_that_is_gone_is_said(private):
    server = private()
    server.kill()
    with pytest.raises(errors.ServerError, match="no server|does not|not answer|unreachable"):
        Worker(connection=server.url).work(burst=True)


def test_all_and_count_see_the_workers(q, workers):
    assert (Worker.all(q), Worker.count(q)) == ([], 0)
    workers.start("default", "other", "--name", "one")
    workers.start("third", "--name", "two")
    assert {worker.name for worker in Worker.all(connection=q)} == {"one", "two"}
    assert [worker.name for worker in Worker.all(queue=q)] == ["one"]
    assert [worker.name for worker in Worker.all(q, queue="third")] == ["two"]
    assert Worker.count(q, queue="other") == 1


def test_a_scheduler_is_not_needed_which_is_said(namespace):
    worker = Worker(namespace=namespace, children=1)
    with pytest.warns(errors.OptionWarning, match="with_scheduler=True is not needed"):
        assert worker.work(burst=True, with_scheduler=True) is False


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: Worker([]), errors.WrongType),
        (lambda: Worker(3), TypeError),
        (lambda: Worker([3]), errors.WrongType),
        (lambda: Worker(["a b"]), errors.UsageError),
        (lambda: Worker(name="a:b"), errors.UsageError),
        (lambda: Worker(children=0), errors.UsageError),
        (lambda: Worker().work(max_jobs=0), errors.UsageError),
        (lambda: Worker().work(max_idle_time=0), errors.UsageError),
        (lambda: Worker().work(max_idle_time="soon"), errors.UsageError),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(make, kind):
    with pytest.raises(kind):
        make()


def test_names_are_kept_and_made_up():
    assert Worker(name="mine").name == "mine"
    made = Worker(["a", Queue("b"), "a"])
    assert made.queue_names() == ["a", "b"]
    assert made.name.startswith("w-")
