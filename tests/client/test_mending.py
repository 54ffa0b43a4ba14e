"""What failed runs again with a mended function, and that a function has changed is said."""

from __future__ import annotations

import functools
import random
import sys
import threading
import warnings

import pytest
from conftest import run_as_notebook, wait_until

import nbqueue
from nbqueue import errors
from nbqueue.payload.mended import Mended, pack_mended


def fails_on_odd(x):
    if x % 2:
        raise ValueError(f"{x} is odd")
    return x, "submitted"


def mended(x):
    return x, "mended"


def broken(x):
    raise KeyError(x)


def test_what_failed_runs_with_the_mended_function_and_what_finished_keeps_its_results(q, worker):
    batch = q.map(fails_on_odd, range(600)).wait(30)
    assert batch.counts["failed"] == 300
    assert batch.retry(func=mended) == 300
    assert batch.results(timeout=30) == [(x, "mended" if x % 2 else "submitted") for x in range(600)]
    assert (batch[3].args, batch[3].attempt, batch[4].attempt) == ((3,), 2, 1)
    assert batch[3].debug() == (3, "mended")
    assert batch[4].debug() == (4, "submitted")


def test_what_fails_with_it_runs_with_it_again_until_another_one_is_given(q, worker):
    batch = q.map(fails_on_odd, range(6)).wait(30)
    assert batch.retry(func=broken) == 3
    batch.wait(30)
    assert {group.type for group in batch.failures()} == {"KeyError"}
    assert batch.retry() == 3
    batch.wait(30)
    assert {group.type for group in batch.failures()} == {"KeyError"}
    assert batch[1].retry(func=mended)
    assert batch[1].result(timeout=30) == (1, "mended")
    assert batch.retry(func=lambda x: (x, "third")) == 2
    assert batch.results(timeout=30) == [(0, "submitted"), (1, "mended"), (2, "submitted"), (3, "third"),
                                         (4, "submitted"), (5, "third")]  # fmt: skip


def test_jobs_with_either_function_wait_side_by_side(q, workers):
    """Those that had not started run as they were submitted, though they are in the same block."""
    batch = q.map(mended, range(2000))
    for index in range(0, 2000, 3):
        assert batch[index].cancel()
    assert batch.retry(func=lambda x: (x, "another")) == 667
    workers.start()
    assert batch.results(timeout=60) == [(x, "mended" if x % 3 else "another") for x in range(2000)]


def test_single_calls_and_their_arguments(q, worker):
    jobs = [q.enqueue(broken, x) for x in range(3)] + [q.enqueue(sorted, [2, 1], foo=True)]
    for job in jobs:
        job.wait(30)
    assert jobs[1].requeue(func=mended)
    assert jobs[3].requeue(func=lambda items, foo: (items, foo))
    assert jobs[1].result(timeout=30) == (1, "mended")
    assert jobs[3].result(timeout=30) == ([2, 1], True)
    assert (jobs[1].func_name, jobs[0].func_name) == ("mended", "broken")
    with pytest.raises(errors.UsageError, match="several functions"):
        jobs[0].batch.retry(func=mended)
    assert jobs[0].is_failed


def test_calls_of_one_function_given_one_by_one(q, worker):
    batch = q.enqueue_many([(broken, (x,)) for x in range(3)]).wait(30)
    for function in (broken, mended):
        assert batch.retry(func=function) == 3
        batch.wait(30)
    assert batch.results() == [(x, "mended") for x in range(3)]
    with pytest.raises(errors.UsageError, match=r"batch\[17\].retry"):
        q.enqueue_many([(broken, (0,)), (fails_on_odd, (1,))]).wait(30).retry(func=mended)


def test_arguments_that_are_the_same_for_all_calls_stay(q, worker):
    def power(x, exp):
        raise NotImplementedError

    batch = q.map(power, [2, 3], kwargs={"exp": 3}).wait(30)
    assert batch.retry(func=pow) == 2
    assert batch.results(timeout=30) == [8, 27]
    batch = q.map(functools.partial(power, exp=3), [2, 3]).wait(30)
    assert batch.retry(func=functools.partial(pow, exp=2)) == 2
    assert batch.results(timeout=30) == [4, 9]


def test_a_batch_of_another_kernel(q, worker):
    told = run_as_notebook(
        """
        import sys
        from nbqueue import Queue
        def score(x):
            return x / 0
        q = Queue(namespace=sys.argv[1], progress=False)
        print(q.map(score, range(3)).wait(30).id)
        """,
        q.namespace,
    )
    assert told.returncode == 0, told.stderr
    batch = q.batch(told.stdout.strip())
    assert batch.retry(func=mended) == 3
    assert batch.results(timeout=30) == [(x, "mended") for x in range(3)]


def test_local_modules_go_along_as_they_are_now(q, worker, tmp_path, monkeypatch):
    module = tmp_path / "scoring_rules.py"
    module.write_text("def rule(x):\n    raise ValueError('not yet')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import scoring_rules

    def score(x):
        return scoring_rules.rule(x)

    batch = q.map(score, range(4)).wait(30)
    assert batch.counts["failed"] == 4
    module.write_text("def rule(x):\n    return 10 * x\n\nVERSION = 2\n")
    other = q.map(fails_on_odd, [1])
    assert batch[1].retry()
    with pytest.raises(ValueError, match="not yet"):
        batch[1].result(timeout=30)
    assert batch.retry(func=score) == 4
    assert batch.results(timeout=30) == [0, 10, 20, 30]
    other.wait(30)
    del sys.modules["scoring_rules"]


def test_random_streams_do_not_depend_on_the_function(q, worker):
    generator = random.Random(7)

    def draw(x):
        return generator.random()

    def draw_once(x):
        if nbqueue.get_current_job().attempt == 1:
            raise ValueError
        return generator.random()

    batch = q.map(draw_once, range(3)).wait(30)
    assert batch.retry(func=draw) == 3
    assert batch.results(timeout=30) == q.map(draw, range(3)).results(timeout=30)


def test_many_canceled_jobs_take_several_calls(q):
    batch = q.map(mended, range(2500))
    batch.cancel()
    assert batch.retry(func=fails_on_odd) == 2500
    assert batch.counts["queued"] == 2500
    assert q.store.run("HLEN", q.store.key(f"batch:{batch.id}:mended")) == 2501


def test_a_function_that_nobody_has_signed_for_the_batch_does_not_run(q, worker):
    batch = q.map(broken, range(2)).wait(30)
    batch.retry(func=mended)
    batch.wait(30)
    other = q.map(broken, range(2)).wait(30)
    other.retry(func=broken)
    other.wait(30)
    digest = q.session.codes.pack(mended).digest
    record = pack_mended(q.seal, batch.id, Mended(digest))
    q.store.run("HSET", q.store.key(f"batch:{other.id}:mended"), "f1", record)
    other.retry()
    with pytest.raises(errors.SignatureError):
        other[0].result(timeout=30)


def test_the_function_lives_as_long_as_the_batch(q, worker):
    batch = q.map(broken, range(2)).wait(30)
    digest = q.session.codes.pack(mended).digest
    assert batch.retry(func=mended) == 2
    batch.wait(30)
    key = q.store.key(f"code:{digest.hex()}")
    assert q.store.run("TTL", key) >= q.store.run("TTL", q.store.key(f"batch:{batch.id}")) > 1000
    batch.delete()
    wait_until(lambda: not q.store.run("EXISTS", q.store.key(f"batch:{batch.id}:mended")))


@pytest.mark.parametrize("server", ["embedded", "remote"])
def test_a_large_function_goes_along(server, request):
    q = request.getfixturevalue("q" if server == "embedded" else "remote")
    request.getfixturevalue("worker" if server == "embedded" else "remote_worker")
    table = bytes(range(256)) * 2000

    def look_up(x):
        return table[x]

    for _ in range(2):  # the second time the server has it
        batch = q.map(broken, [3, 300]).wait(30)
        assert batch.retry(func=look_up) == 2
        assert batch.results(timeout=30) == [3, 44]


def test_what_cannot_be_mended_is_said(q, worker):
    batch = q.map(broken, [1]).wait(30)
    with pytest.raises(TypeError, match="not callable"):
        batch.retry(func=3)
    with pytest.raises(errors.CannotPickle, match="lock"):
        batch.retry(func=functools.partial(mended, threading.Lock()))
    assert batch.counts["failed"] == 1
    batch.delete()
    with pytest.raises(errors.NotFound):
        batch.retry(func=mended)


def test_calls_that_are_made_here_are_made_again_with_it():
    job = nbqueue.Queue(is_async=False).enqueue(broken, 1)
    assert job.requeue(func=mended)
    assert job.result() == (1, "mended")


SAID = """
    import sys, warnings
    from nbqueue import Queue, errors
    limit = 1
    def helper(x):
        return x
    def score(x):
        return helper(x) / (limit - 1)
    q = Queue(namespace=sys.argv[1], progress=False)
    warnings.simplefilter("error")
    batch, job = q.map(score, range(3)).wait(30), q.enqueue(score, 1).wait(30)
    def tell(what, again):
        try:
            again()
        except errors.ChangedWarning as said:
            print(what, said)
        else:
            print(what, "the same")
        batch.wait(30), job.wait(30)
    tell("as it was:", batch.retry)
    tell("as it was:", job.retry)
    def score(x):

        # a comment changes nothing
        return helper(x) / (limit - 1)
    tell("moved:", batch.retry)
    limit = 2
    tell("limit:", batch.retry)
    limit = 1
    def helper(x):
        return x + 1
    tell("helper:", batch.retry)
    tell("single:", job.requeue)
    def helper(x):
        return x
    def score(x):
        return x
    tell("changed:", batch.retry)
    batch.retry(func=score)
    print(batch.results(timeout=30))
    del score
    tell("gone:", job.retry)
"""


def test_that_the_function_has_changed_is_said(q, worker):
    told = run_as_notebook(SAID, q.namespace)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    found = [line.partition(":")[::2] for line in lines]
    assert [what for what, said in found if said.strip() == "the same"] == ["as it was", "as it was", "moved", "gone"]
    said = dict(found)
    assert "score(), or what it refers to, has changed here since batch" in said["changed"]
    assert "batch.retry(func=score) runs it with what stands here now" in said["limit"]
    assert "changed here since the job was submitted" in said["single"]
    assert "job.retry(func=score)" in said["single"]
    assert "has changed" in said["helper"]
    assert lines[-2] == "[0, 1, 2]"


def test_nothing_is_said_where_no_notebook_has_the_function(q, worker):
    batch = q.map(broken, [1]).wait(30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert batch.retry() == 1
