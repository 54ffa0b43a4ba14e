"""What jobs that are no cells display: its text is printed, its rich output is kept with the job."""

from __future__ import annotations

import base64
import os
import signal

import pytest
from conftest import wait_until
from IPython.display import display

from nbqueue import errors
from nbqueue.store.requests import running
from nbqueue.store.requests.running import MOST_RICH


def show_builtin(rows):
    import builtins

    import pandas as pd

    builtins.display(pd.DataFrame({"a": range(rows)}))


def show_imported_here(rows):
    import pandas as pd
    from IPython.display import display

    display(pd.DataFrame({"a": range(rows)}))


def show_by_a_global(rows):
    import pandas as pd

    display(pd.DataFrame({"a": range(rows)}))


@pytest.mark.parametrize("show", [show_builtin, show_imported_here, show_by_a_global])
def test_a_table_is_kept_as_html_and_its_text_printed(q, worker, show):
    batch = q.map(show, [1, 2])
    batch.results(timeout=60)
    first, second = batch.rich_output()
    assert (first.index, second.index) == (0, 1)
    assert first.data["text/html"].count("<tr>") == 1
    assert second.data["text/html"].count("<tr>") == 2
    assert batch[1].output == second.data["text/plain"] + "\n" == repr(second) + "\n" == "   a\n0  0\n1  1\n"
    assert second._repr_mimebundle_() == (second.data, second.metadata)
    assert [shown.index for shown in batch[1].rich_output] == [1]


def test_figures_that_a_job_shows_are_pictures(q, worker):
    def draw(value):
        import matplotlib.pyplot as plt

        plt.plot([0, value])
        plt.show()
        figure, _ = plt.subplots()
        display(figure)

    job = q.enqueue(draw, 1)
    job.result(timeout=60)
    assert len(job.rich_output) == 2
    for shown in job.rich_output:
        assert base64.b64decode(shown.data["image/png"]).startswith(b"\x89PNG")
    assert "<Figure size 640x480" in job.output
    assert job.stderr == ""


def test_updates_and_what_is_cleared(q, worker):
    def update(times):
        from IPython.display import HTML, clear_output

        display(HTML("gone"))
        display(HTML("gone, too"))
        clear_output()
        handle = display(HTML("begun"), display_id=True)
        display(HTML("stays"))
        for i in range(times):
            handle.update(HTML(f"step {i}"))

    def replace(times):
        from IPython.display import HTML, clear_output

        for i in range(times):
            clear_output(wait=True)
            display(HTML(f"step {i}"))
        clear_output(wait=True)

    def htmls(job):
        job.result(timeout=60)
        return [shown.data["text/html"] for shown in job.rich_output]

    assert htmls(q.enqueue(update, 1000)) == ["step 999", "stays"]
    assert htmls(q.enqueue(replace, 30)) == ["step 29"]


def test_what_is_displayed_can_be_seen_while_the_job_runs_and_after_it_was_killed(q, worker, tmp_path):
    go = tmp_path / "go"

    def show():
        from IPython.display import HTML

        display(HTML("before"))
        while not go.exists():
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    job = q.enqueue(show)
    assert wait_until(lambda: job.rich_output)[0].data["text/html"] == "before"
    go.touch()
    with pytest.raises(errors.JobKilled):
        job.result(timeout=60)
    assert [shown.data["text/html"] for shown in job.rich_output] == ["before"]


def test_only_the_last_attempt_counts(q, worker, tmp_path):
    marker = tmp_path / "marker"

    def fail_at_first():
        from IPython.display import HTML

        if marker.exists():
            display(HTML("second"))
            return
        marker.touch()
        display(HTML("first"))
        display(HTML("first"))
        raise ValueError("at first")

    job = q.enqueue(fail_at_first)
    with pytest.raises(ValueError, match="at first"):
        job.result(timeout=60)
    assert len(job.rich_output) == 2
    assert job.retry()
    job.result(timeout=60)
    assert [shown.data["text/html"] for shown in job.rich_output] == ["second"]


def test_threads_and_forks_display_too(q, worker):
    def show():
        import threading

        from IPython.display import HTML

        threads = [threading.Thread(target=display, args=(HTML(f"thread {i}"),)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if os.fork() == 0:
            display(HTML("fork"))
            os._exit(0)
        os.wait()

    job = q.enqueue(show)
    job.result(timeout=60)
    assert sorted(shown.data["text/html"] for shown in job.rich_output) == [f"thread {i}" for i in range(4)]


def test_a_time_limit_while_a_job_displays(q, worker):
    def show():
        from IPython.display import HTML

        while True:
            handle = display(HTML("x" * 100_000), display_id=True)
            handle.update(HTML("y" * 100_000))

    job = q.enqueue(show, job_timeout=1)
    with pytest.raises(errors.JobTimeout):
        job.result(timeout=60)
    assert q.enqueue(abs, -1).result(timeout=60) == 1
    assert len(job.rich_output) == MOST_RICH


def test_more_than_is_kept_is_said(q, worker):
    def show(count, size):
        from IPython.display import HTML

        for _ in range(count):
            display(HTML("x" * size))

    job = q.enqueue(show, MOST_RICH + 20, 10)
    job.result(timeout=60)
    assert len(job.rich_output) == MOST_RICH
    assert job.stderr.count("text is kept only: the job had 100 before") == 1
    large = q.enqueue(show, 1, 9_000_000)
    large.result(timeout=60)
    assert large.rich_output == []
    assert "it has 9.0 MB, and at most 8 are kept of one" in large.stderr
    batch = q.map(lambda _: show(3, 8_000_000), range(4))
    batch.results(timeout=60)
    with pytest.warns(errors.LargeWarning, match="displayed more than is kept of a batch"):
        assert len(batch.rich_output()) == 8


def test_no_shell_is_found_by_libraries_before_one_displays(q, worker):
    def look():
        from IPython import get_ipython
        from IPython.display import HTML

        before = get_ipython()
        display(HTML("now"))
        return before is None, __name__, get_ipython().user_ns is globals()

    assert q.enqueue(look).result(timeout=60)[0]


def test_it_goes_with_the_job_and_the_batch(q, worker):
    batch = q.map(show_by_a_global, [1, 2])
    batch.results(timeout=60)
    batch[0].delete()
    assert [shown.index for shown in batch.rich_output()] == [1]
    batch.delete()
    with pytest.raises(errors.NotFound):
        batch.rich_output()


def test_who_has_lost_the_lease_cannot_write(q):
    batch = q.map(abs, [1], progress=False)
    store = batch.session.store
    assert store.call(running.display("nobody", 1, batch.id, 0, 1, 0, b"{}")) == "lost"
    assert batch.rich_output() == []
    batch.cancel()


def test_without_anything_displayed_there_is_nothing(q, worker):
    batch = q.map(abs, [1])
    batch.results(timeout=60)
    assert batch.rich_output() == batch[0].rich_output == []
    with pytest.raises(errors.NotFound):
        q.fetch_job(f"{batch.id}:7").rich_output  # noqa: B018 - reading it raises
