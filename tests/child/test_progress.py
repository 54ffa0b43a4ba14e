"""How far a job is: said by itself, or seen from its bars."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import wait_until

import nbqueue
from nbqueue import errors
from nbqueue.protocol.page import Page
from nbqueue.store.requests import looking
from nbqueue.store.requests.running import Progress


def with_tqdm(go):
    from tqdm import tqdm

    for i in tqdm(range(5), desc="epochs"):
        wait(go, i)


def with_trange(go):
    from tqdm import trange

    bar = trange(5)
    bar.set_description("epochs")
    for i in bar:
        wait(go, i)


def with_tqdm_auto(go):
    from tqdm.auto import tqdm

    for i in tqdm(range(5), desc="epochs"):
        wait(go, i)


def with_tqdm_notebook(go):
    from tqdm.notebook import tqdm

    for i in tqdm(range(5), desc="epochs"):
        wait(go, i)


def with_manual_bar(go):
    from tqdm import tqdm

    with tqdm(total=5, desc="epochs", mininterval=0) as bar:
        for i in range(5):
            wait(go, i)
            bar.update(1)


def with_bars_in_a_bar(go):
    from tqdm import tqdm

    for i in tqdm(range(5), desc="epochs", mininterval=0):
        for _ in tqdm(range(100), desc="batches", leave=False, mininterval=0):
            pass
        wait(go, i)


def with_track(go):
    for i in nbqueue.track(range(5), text="epochs"):
        time_passes()
        wait(go, i)


def with_track_of_a_generator(go):
    for i in nbqueue.track((i for i in range(5)), total=5, text="epochs"):
        time_passes()
        wait(go, i)


def with_set_progress(go):
    nbqueue.set_progress(0, 5, "epochs")
    for i in range(5):
        nbqueue.set_progress(i)
        wait(go, i)


def with_set_progress_and_a_bar(go):
    from tqdm import tqdm

    for i in range(5):
        nbqueue.set_progress(i, 5, "epochs")
        for _ in tqdm(range(7), mininterval=0):
            pass
        wait(go, i)


def time_passes():
    import time

    time.sleep(0.06)


def wait(go, i):
    import time

    if i == 3:
        while not go.exists():
            time.sleep(0.01)


WAYS = [
    with_tqdm, with_trange, with_tqdm_auto, with_tqdm_notebook, with_manual_bar, with_bars_in_a_bar, with_track,
    with_track_of_a_generator, with_set_progress, with_set_progress_and_a_bar,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_job_tells_how_far_it_is(q, worker, tmp_path, way):
    if way is with_tqdm_notebook:
        pytest.importorskip("ipywidgets")
    go = tmp_path / "go"
    job = q.enqueue(way, go)
    is_exact = "progress" in way.__name__ or "track" in way.__name__
    found = wait_until(lambda: (p := job.progress) and p.done >= (3 if is_exact else 0) and p)
    assert found.total == 5
    assert found.text == "epochs"
    assert 0 <= found.share <= 0.6
    go.touch()
    job.result(timeout=30)
    assert job.progress is None


def test_who_says_nothing_has_no_progress_and_no_job_has_that_of_another(q, worker, tmp_path):
    go = tmp_path / "go"

    def say(x):
        if x == 0:
            nbqueue.set_progress(7, 9, "first")
        else:
            wait(go, 3)

    batch = q.map(say, [0, 1, 2])
    wait_until(lambda: batch[1].is_started and batch[0].is_finished)
    assert [batch[i].progress for i in range(3)] == [None] * 3
    go.touch()
    batch.results(timeout=30)


@pytest.mark.parametrize("said", [(3, None), (3, 0), (3, -1), (3, float("nan")), (3, float("inf"))])
def test_what_there_is_to_do_may_not_be_known(q, worker, tmp_path, said):
    go = tmp_path / "go"

    def say():
        nbqueue.set_progress(float("nan"), 8)
        nbqueue.set_progress(*said, "x" * 10_000 + "é")
        wait(go, 3)

    job = q.enqueue(say)
    found = wait_until(lambda: job.progress)
    assert (found.done, found.total, found.share) == (3.0, None, None)
    assert found.text == "x" * 400
    go.touch()
    job.result(timeout=30)


def test_what_is_no_number_is_the_jobs_error(q, worker):
    with pytest.raises(ValueError, match="could not convert"):
        q.enqueue(nbqueue.set_progress, "half").result(timeout=30)


def work_in_pool(x):
    nbqueue.set_progress(x, 4)
    return sum(nbqueue.track(range(x)))


def test_processes_that_a_job_starts_say_nothing_and_are_not_disturbed(q, worker):
    def pool():
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(2) as processes:
            return processes.map(work_in_pool, range(4))

    assert q.enqueue(pool).result(timeout=30) == [0, 0, 1, 3]


def test_it_is_told_a_few_times_a_second_whatever_the_loop_does(q, worker):
    def loop():
        import time

        from tqdm import tqdm

        until = time.monotonic() + 2
        bar = tqdm(total=10**9, mininterval=0.01)
        while time.monotonic() < until:
            nbqueue.set_progress(bar.n, 10**9)
            bar.update()
        bar.close()
        return bar.n

    def beats():
        (found,) = q.store.call(looking.workers())
        return found.beat

    job = q.enqueue(loop)
    wait_until(lambda: job.progress)
    before = beats()
    assert job.result(timeout=30) > 10_000
    assert beats() - before < 12


def test_outside_of_jobs_it_does_nothing_but_draw(capsys):
    nbqueue.set_progress(1, 2, "x")
    assert list(nbqueue.track("abc", text="letters")) == ["a", "b", "c"]
    assert "letters: 100%" in capsys.readouterr().err


def test_the_overview_tells_it(q, worker, tmp_path):
    go = tmp_path / "go"

    def say():
        nbqueue.set_progress(1204, 5000, "rows read")
        wait(go, 3)

    job = q.enqueue(say)
    wait_until(lambda: job.progress)
    ask = [sys.executable, "-m", "nbqueue", "info", "--namespace", q.session.namespace]
    said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert f"{job.id}" in said
    assert "24 %  1,204 of 5,000 · rows read" in said
    said = subprocess.run([*ask, "--json"], capture_output=True, text=True, check=True).stdout
    assert '"text": "rows read"' in said
    go.touch()
    job.result(timeout=30)


def test_a_module_of_ones_own_that_is_called_tqdm_is_left_alone(q, worker, tmp_path, monkeypatch):
    (tmp_path / "tqdm.py").write_text("def tqdm(items):\n    return [2 * item for item in items]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def work():
        from tqdm import tqdm

        return tqdm([1, 2])

    assert q.enqueue(work).result(timeout=30) == [2, 4]


def test_what_was_said_last_is_read():
    page = Page.create()
    assert page.said(0, 0) is None
    page.say(3, 7, Progress(1.0, 2.0, "näh"))
    assert page.said(3, 7) == Progress(1.0, 2.0, "näh")
    assert page.said(3, 8) is None
    for done in range(100):
        page.say(3, 7, Progress(float(done), None, "x" * done))
        assert page.said(3, 7) == Progress(float(done), None, "x" * done)
    page.close()


def test_what_is_read_is_whole_while_it_is_written_as_fast_as_can_be():
    page = Page.create()
    page.say(0, 0, Progress(0.0, 1.0, "0"))
    program = (
        "import sys\n"
        "from nbqueue.protocol.page import Page\n"
        "from nbqueue.store.requests.running import Progress\n"
        "page = Page(int(sys.argv[1]))\n"
        "for n in range(200_000): page.say(0, 0, Progress(float(n), n + 1.0, str(n)))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(page.fd)], pass_fds=[page.fd])
    seen = set()
    while writer.poll() is None:
        found = page.said(0, 0)
        if found is not None:
            assert found == Progress(found.done, found.done + 1, str(int(found.done)))
            seen.add(found.done)
    assert writer.returncode == 0
    assert len(seen) > 100
    page.close()


def test_the_text_may_be_long_and_ends_within_no_character():
    page = Page.create()
    page.say(1, 1, Progress(1.0, None, "a" + "é" * 300))
    assert page.said(1, 1).text == "a" + "é" * 199
    page.close()


def test_a_job_that_ended_in_an_error_was_told_of_too(q, worker, tmp_path):
    go = Path(tmp_path) / "go"

    def fail():
        for i in nbqueue.track(range(4)):
            time_passes()
            if i == 2:
                wait(go, 3)
                raise KeyError(i)

    job = q.enqueue(fail)
    assert wait_until(lambda: (p := job.progress) and p.done == 2 and p).share == 0.5
    go.touch()
    with pytest.raises(KeyError):
        job.result(timeout=30)
    assert job.progress is None
    assert not isinstance(job.exception(), errors.NbqueueError)


def test_what_a_second_loop_does_not_know_is_not_taken_from_the_first(q, worker, tmp_path):
    go = tmp_path / "go"

    def loops():
        for _ in nbqueue.track(range(10), text="rows"):
            pass
        for i in nbqueue.track(i for i in range(5)):
            time_passes()
            wait(go, i)

    job = q.enqueue(loops)
    found = wait_until(lambda: (p := job.progress) and p.done == 3 and p)
    assert (found.total, found.text) == (None, "")
    go.touch()
    job.result(timeout=30)


def test_a_loop_that_goes_on_in_a_fork_says_nothing_and_goes_on(q, worker):
    def work():
        import os

        for i in nbqueue.track(range(30)):
            time_passes()
            if i == 1 and os.fork() == 0:
                time_passes()
                continue
            if i == 3:
                break
        return os.getpid()

    pid = q.enqueue(work).result(timeout=30)
    assert q.enqueue(abs, -1).result(timeout=30) == 1
    assert pid


def test_no_bar_breaks_the_loop_that_it_watches(q, worker):
    def odd():
        from tqdm import tqdm

        class Silent(tqdm):
            def display(self, *args, **kwargs):
                return True

        bar = Silent(total=3, mininterval=0)
        for total in ("?", 1e308, 10**400, float("nan"), None, [1]):
            bar.total = total
            bar.refresh()
        bar.n = 1j
        bar.refresh()
        bar.total, bar.n = 3, 3
        bar.close()
        return sum(nbqueue.track(range(4), text="x"))

    assert q.enqueue(odd).result(timeout=30) == 6


def test_a_bar_that_is_collected_while_something_is_told_holds_nothing_up(q, worker):
    def collects():
        from tqdm import tqdm

        class Told:
            def __str__(self):
                bar = tqdm(total=3, mininterval=0)
                bar.update()
                del bar
                nbqueue.set_progress(2, 3)
                return "told"

        for i in range(100):
            nbqueue.set_progress(i, 100, Told())
        return "done"

    assert q.enqueue(collects).result(timeout=30) == "done"
