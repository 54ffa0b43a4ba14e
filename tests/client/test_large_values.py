"""Large values on the embedded server: in files that children and clients map."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import run_as_notebook, tell_on_own_mounts, wait_until

from nbqueue import Queue, errors
from nbqueue.payload.files import usage
from nbqueue.server import embedded
from nbqueue.worker import disk

MB = 1_000_000


@pytest.fixture
def q(namespace):
    """The modules of the tests do not travel: they would be large, too."""
    queue = Queue(namespace=namespace, progress=False, local_modules=False)
    yield queue
    queue.close()


def files_of(q):
    return usage(embedded.ensure().files / q.session.namespace)


def used_memory(q):
    return int(dict(line.split(b":", 1) for line in q.store.run("INFO", "memory").split(b"\r\n") if b":" in line)[
        b"used_memory"])  # fmt: skip


def swept(q):
    server = embedded.ensure()
    disk.sweep(server.files, server.url, grace=-1)
    return files_of(q).number


def test_arrays_go_and_come_without_passing_through_the_server(q, worker):
    arrays = [np.full(2**20, index, np.uint8) for index in range(20)]
    before = used_memory(q)
    batch = q.map(lambda array: array + 1, arrays)
    results = batch.results(timeout=60)
    assert used_memory(q) - before < 2 * MB
    assert files_of(q).bytes > 40 * MB
    for index, result in enumerate(results):
        assert (result == index + 1).all()
        assert result.flags.writeable
    assert [len(job.args[0]) for job in batch.jobs] == [2**20] * 20
    results[0][:] = 99
    assert batch[0].result()[0] == 1, "what is written to a result stays with whoever wrote it"
    assert (arrays[0] == 0).all()
    batch.delete()
    assert files_of(q).number == 0


def test_what_a_call_writes_into_an_array_the_next_does_not_see(q, workers):
    workers.start(children=1)
    table = np.zeros(200_000)

    def add(x):
        table[x] += 1
        return table.sum()

    assert set(q.map(add, range(30)).results(timeout=60)) == {1.0}

    def write(x, given):
        given[:] += 1
        return given.sum()

    assert set(q.map(write, range(30), [table] * 30).results(timeout=60)) == {200_000.0}
    assert not table.any()


@pytest.mark.filterwarnings("ignore::nbqueue.errors.LargeWarning")
@pytest.mark.parametrize("where", ["embedded", "remote"])
def test_a_large_closure_is_in_memory_once_for_all_children(q, workers, where, request):
    if where == "remote":
        q = request.getfixturevalue("remote")
        workers.start("--url", q.store.url, "--namespace", q.session.namespace, children=4, NBQUEUE_KEY="k")
    else:
        workers.start(children=4)
    table = np.ones(10 * MB)

    def look(_):
        import os
        import time

        total = table.sum()
        time.sleep(0.2)
        rollup = dict(line.split(":") for line in open("/proc/self/smaps_rollup").read().splitlines()[1:])  # noqa
        return os.getpid(), total, int(rollup["Pss"].split()[0]) * 1024

    found = q.map(look, range(16)).results(timeout=60)
    assert {total for _, total, _ in found} == {10.0 * MB}
    children = {pid: size for pid, _, size in found}
    assert len(children) == 4
    # The last look of each, when all have the table: a fifth of it each (with the client), and Python.
    assert sum(children.values()) < 80 * MB + 4 * 45 * MB
    workers.end()


def test_children_keep_no_closures_of_batches_that_are_over(q, workers):
    workers.start(children=1)

    def with_closure(number):
        table = np.full(1_250_000, number)

        def look(_):
            import gc

            gc.collect()
            fields = dict(line.split(":") for line in open("/proc/self/status").read().splitlines() if ":" in line)  # noqa
            return int(table[0]), int(fields["VmRSS"].split()[0]) * 1024

        return look

    sizes = []
    for number in range(40):
        ((value, size),) = q.map(with_closure(number), [0]).results(timeout=60)
        assert value == number
        sizes.append(size)
    assert sizes[-1] - sizes[5] < 50 * MB


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="what a process has had at most, /proc tells")
@pytest.mark.parametrize("where", ["embedded", "remote"])
def test_results_need_no_more_memory_than_they_are_large(q, workers, where, request):
    if where == "remote":
        q = request.getfixturevalue("remote")
        workers.start("--url", q.store.url, "--namespace", q.session.namespace, NBQUEUE_KEY="k")
        queue = f"Queue(connection={q.store.url!r}, key='k', namespace={q.session.namespace!r}, progress=False)"
    else:
        workers.start()
        queue = f"Queue(namespace={q.session.namespace!r}, progress=False)"
    batch = q.map(lambda x: np.full(250_000, x), range(100)).wait(60)
    found = run_as_notebook(
        f"""
        from pathlib import Path
        import numpy
        from nbqueue import Queue

        batch = {queue}.batch({batch.id!r})
        batch[0].result()
        Path("/proc/self/clear_refs").write_text("5")

        def memory(name):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) // 1024 for line in lines if line.startswith(name))

        before = memory("VmRSS:")
        results = batch.results()
        print([int(array.sum()) // 250_000 for array in results] == [*range(100)], memory("VmHWM:") - before)
        """
    )
    right, megabytes = found.stdout.split()
    assert right == "True", found.stderr
    assert int(megabytes) < 240, "they are 190"
    workers.end()


@pytest.mark.parametrize("where", ["embedded", "remote"])
def test_more_large_functions_than_a_child_keeps_each_in_its_place(q, workers, where, request):
    if where == "remote":
        q = request.getfixturevalue("remote")
        workers.start("--url", q.store.url, "--namespace", q.session.namespace, NBQUEUE_KEY="k")
    else:
        workers.start()

    def with_closure(number):
        table = np.full(300_000, number)
        return lambda x: (int(table[0]), int(table[-1]), x)

    batches = [q.map(with_closure(number), range(4)) for number in range(40)]
    for number, batch in enumerate(batches):
        assert batch.results(timeout=60) == [(number, number, x) for x in range(4)]
    again = [q.map(with_closure(number), range(2)) for number in (3, 39, 3)]
    assert [batch.results(timeout=60)[0][0] for batch in again] == [3, 39, 3]
    workers.end()


def test_files_live_as_long_as_what_names_them(q, worker):
    array = np.zeros(100_000)
    batch = q.map(lambda a: a + 1, [array, array + 1, array + 2])
    batch.wait(60)
    assert swept(q) == 6
    q.store.run("DEL", q.store.key(f"batch:{batch.id}:calls"))
    assert swept(q) == 3
    assert batch.results()[2][0] == 3
    q.store.run("DEL", q.store.key(f"batch:{batch.id}"))
    assert swept(q) == 0


def test_the_file_of_a_function_lives_as_long_as_a_batch_or_its_client_needs_it(q, worker):
    table = np.zeros(100_000)
    batch = q.map(lambda x: table[x], [1, 2])
    batch.wait(60)
    assert swept(q) == 1
    batch.delete()
    assert swept(q) == 1, "the client has it at hand for the next time"
    q.close()
    other = Queue(namespace=q.session.namespace, progress=False, local_modules=False)
    again = other.map(lambda x: table[x], [1, 2])
    assert again.results(timeout=60) == [0, 0]
    other.close()


def test_a_result_that_was_waited_for_outlives_its_batch(q, worker):
    batch = q.map(lambda x: np.full(100_000, x), [1, 2])
    jobs = batch.wait(timeout=30).jobs
    for job in jobs:
        job.wait()
    first = jobs[0].result()
    batch.delete()
    assert jobs[1].result().sum() == 200_000
    again = jobs[0].result()
    again[:] = 0
    assert (first.sum(), jobs[0].result().sum()) == (100_000, 100_000)


def test_a_deleted_job_takes_its_values_along(q, worker):
    jobs = [q.enqueue(np.full, 100_000, number) for number in range(3)]
    assert [job.result(timeout=60)[0] for job in jobs] == [0, 1, 2]
    assert files_of(q).number == 3
    jobs[1].delete()
    assert files_of(q).number == 2
    assert jobs[2].result()[0] == 2


def test_values_survive_the_death_of_the_server(fresh, monkeypatch):
    monkeypatch.setenv("NBQUEUE_AUTOSTART", "1")
    q = Queue(progress=False)
    batch = q.map(lambda n: np.full(100_000, n), range(4))
    batch.wait(60)
    os.kill(embedded.status().pid, 9)
    wait_until(lambda: not embedded.status().running)
    again = Queue(progress=False)
    assert [int(array[-1]) for array in again.batch(batch.id).results(timeout=60)] == [0, 1, 2, 3]
    for one in (q, again):
        one.close()


def test_a_value_that_was_removed_by_hand_is_the_error_of_its_job_alone(q, worker):
    batch = q.map(lambda n: np.full(100_000, n), range(3))
    batch.wait(60)
    (path,) = (embedded.ensure().files / q.session.namespace / batch.id).glob("outcomes-1-*")
    path.unlink()
    assert [int(a[0]) for a in batch.results(errors="skip")] == [0, 2]
    with pytest.raises(errors.CorruptPayload, match=f"outcomes of {batch.id}:1: the file that holds it"):
        batch[1].result()


def test_who_reaches_the_embedded_server_by_its_address_finds_its_files(q, worker):
    from nbqueue.server.key import signing_key

    batch = q.map(lambda n: np.full(100_000, n), [7])
    other = Queue(connection=embedded.ensure().url, namespace=q.session.namespace, key=signing_key(), progress=False)
    assert other.batch(batch.id).results(timeout=60)[0][0] == 7
    other.close()


def test_the_status_of_the_server_counts_them(q, worker):
    q.map(abs, [1]).wait(60)
    before = embedded.status().large_values
    q.map(lambda n: np.full(125_000, n), range(4)).wait(60)
    after = embedded.status().large_values
    assert after.number - before.number == 4
    assert after.bytes - before.bytes > 4 * MB
    said = subprocess.run(
        [sys.executable, "-m", "nbqueue", "server", "status"], capture_output=True, text=True, check=True
    ).stdout
    assert f"MB in {after.number} files" in said


STORY = """
import subprocess, sys
from pathlib import Path

home = Path(sys.argv[1])
if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", home], capture_output=True).returncode:
    sys.exit("cannot mount")

import numpy as np
from conftest import run_as_notebook, wait_until
from nbqueue import Queue, errors
from nbqueue.server import embedded

worker = subprocess.Popen([sys.executable, "-m", "nbqueue", "worker", "-n", "1"], stderr=subprocess.DEVNULL)
q = Queue(progress=False)
wait_until(lambda: len(q.workers()) == 1)
kept = q.map(lambda n: np.full(2_000_000, n, np.uint8), range(3))
assert [a[0] for a in kept.results(timeout=60)] == [0, 1, 2]
refused = None
for number in range(20):
    try:
        q.map(len, [np.zeros(8_000_000, np.uint8)])
    except errors.ServerFull as error:
        refused = error
        break
assert refused is not None and "8.0 MB cannot be stored: the disk of" in str(refused), refused
assert "is full. Make room there" in str(refused)
assert number > 2

def large(n):
    return np.zeros(20_000_000, np.uint8)

job = q.enqueue(large, 1)
try:
    job.result(timeout=60)
except errors.ServerFull as error:
    assert "20.0 MB cannot be stored" in str(error), error
else:
    raise AssertionError("a result that has no room")
assert q.enqueue(abs, -1).result(timeout=60) == 1
assert [a[-1] for a in kept.results()] == [0, 1, 2]
for batch in q.batches():
    if batch.id != kept.id: batch.delete()
assert len(q.enqueue(large, 1).result(timeout=60)) == 20_000_000
assert [a[-1] for a in kept.results()] == [0, 1, 2]
q.stop_workers()
assert worker.wait(30) == 0
embedded.stop()
"""


def test_a_full_disk_refuses_what_is_large_in_words_and_nothing_else(tmp_path):
    tell_on_own_mounts(STORY, tmp_path)


def test_one_table_for_many_calls_is_one_file_from_the_first_call_on(q, worker):
    table = np.arange(200_000.0)
    for expected in (1, 1):
        batch = q.map(lambda x, given: given[x], range(50), [table] * 50)
        assert files_of(q).number == expected
        assert batch.results(timeout=60) == [*range(50)]
    table[3] = 77
    batch = q.map(lambda x, given: given[x], range(5), [table] * 5)
    assert batch.results(timeout=60) == [0, 1, 2, 77, 4]
    assert files_of(q).number == 2


def test_different_values_are_not_taken_for_one_that_comes_again(q, worker):
    for values in ([bytes([x]) * 1_000_000 for x in range(8)], [np.full(1_000_000, x, np.uint8) for x in range(8)]):
        batch = q.map(lambda value: (len(value), value[0]), values)
        assert batch.results(timeout=60) == [(1_000_000, x) for x in range(8)]
        assert not [*(embedded.ensure().files / q.session.namespace).glob("code/*")]


def test_an_argument_that_a_generator_changes_between_two_calls_is_each_time_as_it_was(q, worker):
    table = np.zeros(100_000)

    def rows():
        for x in range(6):
            table[50_000] = x
            yield x, table

    assert q.starmap(lambda x, given: (x, given[50_000]), rows()).results(timeout=60) == [(x, x) for x in range(6)]
