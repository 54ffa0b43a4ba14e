"""What a job does to its process is not found by the next one, whatever batch that belongs to."""

from __future__ import annotations

import os

import numpy as np
import pytest

from nbqueue import errors


@pytest.fixture
def one(q, workers):
    """A queue whose jobs all run in the same process."""
    workers.start(children=1)
    return q


def of_environment():
    os.environ["NBQUEUE_TEST_LEFT"] = "x"
    os.environ.pop("HOME")


def see_environment():
    return os.environ.get("NBQUEUE_TEST_LEFT"), "HOME" in os.environ


def of_time_zone():
    import time

    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()


def see_time_zone():
    import time

    return time.tzname


def of_mask():
    os.umask(0o777)


def see_mask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def of_warnings():
    import warnings

    warnings.simplefilter("error")
    warnings.showwarning = print


def see_warnings():
    import warnings

    return list(map(str, warnings.filters)), warnings.showwarning is print


def of_logging():
    import logging

    logging.basicConfig(level="DEBUG", force=True)
    logging.getLogger("nbqueue_test_left").addHandler(logging.StreamHandler())
    logging.getLogger("asyncio").setLevel("CRITICAL")
    logging.disable(logging.ERROR)


def see_logging():
    import logging

    names = ("", "nbqueue_test_left", "asyncio")
    return [(logging.getLogger(name).level, logging.getLogger(name).handlers) for name in names], logging.root.disabled


def of_locale():
    import locale

    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")


def see_locale():
    import locale

    return locale.setlocale(locale.LC_ALL)


def of_decimal():
    import decimal

    decimal.getcontext().prec = 3
    decimal.getcontext().traps[decimal.Inexact] = True


def see_decimal():
    import decimal

    return decimal.getcontext().prec, str(decimal.Decimal(1) / 3)


async def of_decimal_in_a_coroutine():
    import decimal

    decimal.getcontext().prec = 3


async def see_decimal_in_a_coroutine():
    import decimal

    return decimal.getcontext().prec


def of_numpy_errors():
    np.seterr(all="raise")


def see_numpy_errors():
    return np.geterr()


def of_recursion():
    import sys

    sys.setrecursionlimit(5000)


def see_recursion():
    import sys

    return sys.getrecursionlimit()


def of_limits():
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def see_limits():
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)


def of_signals():
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, print)


def see_signals():
    import signal

    return [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGALRM)]


def of_interpreter():
    import gc
    import sys

    sys.argv[:] = ["x", "y"]
    sys.excepthook = print
    sys.stdout = None
    gc.disable()


def see_interpreter():
    import gc
    import sys

    return sys.argv, sys.excepthook is print, sys.stdout is None, gc.isenabled()


def of_directory():
    os.chdir("/")


see_directory = os.getcwd


def of_sockets():
    import socket

    socket.setdefaulttimeout(0.001)


def see_sockets():
    import socket

    return socket.getdefaulttimeout()


def of_figures():
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    pyplot.plot([1, 2])


def see_figures():
    from matplotlib import pyplot

    return pyplot.get_fignums(), len(pyplot.gca().lines)


def of_main():
    import sys

    sys.modules["__main__"].left = 1


def see_main():
    import sys

    return hasattr(sys.modules["__main__"], "left")


LEFT = [name[3:] for name in list(globals()) if name.startswith("of_")]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("what", LEFT)
def test_what_a_job_leaves_in_its_process_is_not_found_by_the_next(one, what, fails):
    leave, see = globals()["of_" + what], globals()["see_" + what]

    async def leaves_later(x):
        await leave()
        if fails:
            raise ValueError("left")

    def leaves(x):
        leave()
        if fails:
            raise ValueError("left")

    before = one.enqueue(see).result(timeout=20)
    left = one.map(leaves_later if "coroutine" in what else leaves, range(3))
    left.wait(timeout=20)
    assert left.counts["failed"] == (3 if fails else 0)
    assert one.enqueue(see).result(timeout=20) == before
    mixed = one.enqueue_many([(see, ()), (leave, ()), (see, ())])
    assert mixed.results(timeout=20)[2] == before


def test_an_alarm_that_a_job_has_set_ends_no_other(one):
    def sets_an_alarm(x):
        import signal

        signal.setitimer(signal.ITIMER_REAL, 0.1)
        return os.getpid()

    def takes_longer():
        import time

        time.sleep(0.3)
        return os.getpid()

    first = one.map(sets_an_alarm, range(3)).results(timeout=20)
    assert one.enqueue(takes_longer).result(timeout=20) == first[0]


def draw_random(x):
    import random

    return random.random()


def draw_numpy(x):
    return np.random.rand()


def seed_random(x):
    import random

    random.seed(0)
    return random.random()


def seed_numpy(x):
    np.random.seed(0)
    return np.random.rand()


@pytest.mark.parametrize("what", ["random", "numpy"])
def test_random_numbers_do_not_repeat_after_a_job_has_seeded(q, worker, what):
    draw, seed = globals()[f"draw_{what}"], globals()[f"seed_{what}"]
    draws = []
    for _ in range(3):
        assert len(set(q.map(lambda x: seed(x), range(8)).results(timeout=20))) == 1
        draws += q.map(lambda x: draw(x), range(20)).results(timeout=20)
    assert len(set(draws)) == 60


@pytest.mark.parametrize("kind", ["Generator", "RandomState", "Random"])
def test_a_generator_that_a_function_refers_to_gives_each_job_a_stream_of_its_own(q, workers, kind):
    import random

    workers.start(children=3)
    made = {
        "Generator": lambda: np.random.default_rng(5),
        "RandomState": lambda: np.random.RandomState(5),
        "Random": lambda: random.Random(5),
    }[kind]
    rng = made()
    runs = [q.map(lambda x: (rng.random(), rng.random()), range(40)).results(timeout=20) for _ in range(2)]
    assert len({number for pair in runs[0] for number in pair}) == 80
    assert runs[0] == runs[1], "the same state gives the same numbers"
    if kind != "Random":
        assert len(set(q.map(rng.uniform, [0.0] * 40).results(timeout=20))) == 40
    rng.random()
    again = q.map(lambda x: (rng.random(), rng.random()), range(40)).results(timeout=20)
    assert not {pair[0] for pair in again} & {pair[0] for pair in runs[0]}
    singles = [q.enqueue(lambda: rng.random()) for _ in range(10)]
    assert len({job.result(timeout=20) for job in singles}) == 10


def test_a_generator_that_is_an_argument_is_what_was_given(q, worker):
    given = np.random.default_rng(3)
    expected = np.random.default_rng(3).random()
    assert q.enqueue(lambda rng: rng.random(), given).result(timeout=20) == expected
    spawned = np.random.default_rng(3).spawn(4)
    expected_each = [rng.random() for rng in np.random.default_rng(3).spawn(4)]
    assert q.map(lambda rng: rng.random(), spawned).results(timeout=20) == expected_each


def test_a_seed_gives_each_job_the_same_stream_wherever_and_whenever_it_runs(q, workers, tmp_path):
    def draws(x, fail=False):
        import random

        if fail and x == 2 and not (tmp_path / "failed").exists():
            (tmp_path / "failed").touch()
            raise ValueError("once")
        return random.random(), np.random.rand()

    workers.start(children=1)
    alone = q.map(draws, range(12), seed=7).results(timeout=20)
    workers.start(children=3)
    together = q.map(draws, range(12), seed=7).results(timeout=20)
    assert alone == together
    assert len(set(alone)) == 12
    words = np.random.SeedSequence(7).spawn(12)[5].generate_state(8)
    assert alone[5][1] == np.random.RandomState(words).rand()
    failing = q.starmap(draws, [(x, True) for x in range(12)], seed=7)
    failing.wait(timeout=20)
    assert failing.counts["failed"] == 1
    failing.retry()
    assert failing.results(timeout=20) == alone
    assert q.map(draws, range(12), seed=8).results(timeout=20) != alone
    assert q.enqueue(draws, 1, seed=7).result(timeout=20) == alone[0]


@pytest.mark.parametrize("seed", [-1, 1.5, "x", True])
def test_a_seed_that_makes_no_sense_is_refused(q, seed):
    with pytest.raises(errors.UsageError, match="seed="):
        q.map(abs, [1], seed=seed)


def test_what_only_computes_with_plain_containers_is_seen_and_all_else_is_put_back(q, workers):
    workers.start(children=1)

    def only_computes(row):
        print(row["id"])
        return {"id": row["id"] + 1, "values": [2 * value for value in row["values"]]}

    rows = [{"id": i, "values": [i, i / 2]} for i in range(300)]
    batch = q.map(only_computes, rows)
    assert batch.results(timeout=30) == [{"id": i + 1, "values": [2 * i, float(i)]} for i in range(300)]
    assert batch[299].output == "299\n"

    def sets(row):
        import os

        os.environ["LEFT"] = "x"
        return row

    def sees(row):
        import os

        return os.environ.get("LEFT")

    for _ in range(3):
        q.map(sets, rows).results(timeout=30)
        assert set(q.map(sees, rows).results(timeout=30)) == {None}


def test_the_seed_of_a_batch_holds_for_jobs_that_only_compute_too(q, workers):
    workers.start(children=1)
    first, again = (q.map(lambda row: sorted(row["a"]), [{"a": [2, 1]}] * 20, seed=3) for _ in range(2))
    assert first.results(timeout=30) == again.results(timeout=30) == [[1, 2]] * 20
