"""RQ's tutorial with nbqueue: somebody who knows it finds its names, with functions that are defined right here.

One story, told in order, on pages that a local server serves.
"""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from conftest import wait_until

from nbqueue import Job, Queue, Retry, get_current_job, send_stop_job_command

PAGES = {"/one": "a few words on a page", "/two": "some more words, on another page", "/three": "three"}


class Pages(http.server.BaseHTTPRequestHandler):
    """Serves the pages; `/late` from its third request on."""

    asked: ClassVar[dict[str, int]] = {}

    def do_GET(self) -> None:
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        text = PAGES.get(self.path, "at last" if self.path == "/late" and self.asked[self.path] > 2 else None)
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    Pages.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def count_words_at_url(url: str) -> int:
    with urllib.request.urlopen(url, timeout=10) as page:
        return len(re.findall(r"\w+", page.read().decode()))


def test_count_words(q, worker, site):
    job = q.enqueue(count_words_at_url, f"{site}/one")
    while job.get_status() in ("queued", "started"):
        time.sleep(0.01)
    assert job.is_finished
    assert job.return_value() == 6
    result = job.latest_result()
    assert result.type == result.Type.SUCCESSFUL
    assert result.return_value == 6
    assert Job.fetch(job.id, connection=q).func_name == "count_words_at_url"
    assert job.created_at <= job.started_at <= job.ended_at
    jobs = [q.enqueue(count_words_at_url, site + path) for path in PAGES]
    assert [job.result(timeout=20) for job in jobs] == [6, 6, 1]
    many = q.enqueue_many([Queue.prepare_data(count_words_at_url, (site + path,)) for path in PAGES])
    assert many.results(timeout=20) == [6, 6, 1]
    assert len(q) == 0
    assert q.finished_job_registry.count == 7
    assert job.id in q.finished_job_registry


def info(q) -> dict[str, int]:
    """What `nbqueue info` tells of the queue."""
    told = subprocess.run(
        [sys.executable, "-m", "nbqueue", "info", "--json", "--namespace", q.namespace],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    (queue,) = [queue for queue in json.loads(told.stdout)["queues"] if queue["name"] == q.name]
    return {name: queue[name] for name in ("waiting", "finished", "failed", "workers")}


def test_ten_jobs_and_info_before_and_after(q, workers, site):
    jobs = [q.enqueue(count_words_at_url, f"{site}/one") for _ in range(10)]
    assert info(q) == {"waiting": 10, "finished": 0, "failed": 0, "workers": 0}
    many = q.enqueue_many([Queue.prepare_data(count_words_at_url, (f"{site}/two",)) for _ in range(10)])
    assert info(q)["waiting"] == q.count == 20
    workers.start()
    assert [job.result(timeout=20) for job in jobs] == [6] * 10
    assert many.results(timeout=20) == [6] * 10
    assert info(q) == {"waiting": 0, "finished": 20, "failed": 0, "workers": 1}


def test_what_fails_is_found_mended_and_queued_again(q, worker, site, tmp_path):
    report = tmp_path / "report.txt"

    def total(path: Path) -> int:
        return sum(map(int, path.read_text().split()))

    job = q.enqueue(total, report)
    job.wait(20)
    assert job.is_failed
    assert "FileNotFoundError" in job.exc_info
    assert f"No such file or directory: '{report}'" in job.latest_result().exc_string
    registry = q.failed_job_registry
    assert (len(registry), registry.get_job_ids()) == (1, [job.id])
    report.write_text("20 22")
    registry.requeue(job)
    assert job.result(timeout=20) == 42
    assert len(registry) == 0
    missing = q.enqueue(count_words_at_url, f"{site}/none").wait(20)
    assert isinstance(missing.exception(), urllib.error.HTTPError)
    registry.remove(missing, delete_job=True)
    assert missing.id not in registry


def test_one_depends_on_another_and_takes_its_result(q, worker, site, tmp_path):
    words = tmp_path / "words.txt"

    def count(path: Path) -> int:
        return len(path.read_text().split())

    def tell(counted: int, of: str) -> str:
        return f"{counted} words in {of}"

    counted = q.enqueue(count, words)
    told = q.enqueue(tell, counted, "a file", depends_on=q.enqueue(count_words_at_url, f"{site}/one"))
    after = q.enqueue(str.upper, told)
    after.wait(20)
    assert {job.id for job in (counted, told, after)} == set(q.failed_job_registry.get_job_ids())
    assert f"because job {counted.id} failed (FileNotFoundError" in told.exc_info
    assert f"because job {told.id} did not run" in str(after.exception())
    words.write_text("now there are words")
    q.failed_job_registry.requeue(counted.id)
    assert after.result(timeout=20) == "4 WORDS IN A FILE"
    assert q.failed_job_registry.count == 0
    pages = q.map(count_words_at_url, [site + path for path in PAGES])
    total = q.enqueue(sum, pages)
    assert total.result(timeout=20) == 13
    assert pages.then(lambda n: n * 10).results(timeout=20) == [60, 60, 10]


def test_later_again_and_once_more(q, worker, site):
    late = q.enqueue_in("0.1", count_words_at_url, f"{site}/one")
    assert late.id in q.scheduled_job_registry
    patient = q.enqueue(count_words_at_url, f"{site}/late", retry=Retry(max=3, interval=[0, 0.01]))
    assert (late.result(timeout=20), patient.result(timeout=20)) == (6, 2)
    assert [type(attempt.exception()) for attempt in patient.attempts] == [urllib.error.HTTPError] * 2 + [type(None)]


def test_two_queues_of_which_the_first_goes_first(q, workers, tmp_path):
    def note(word: str) -> None:
        with (tmp_path / "order").open("a") as file:
            file.write(f"{word}\n")

    low, high = q, Queue("high", namespace=q.namespace, progress=False)
    for i in range(5):
        low.enqueue(note, f"low {i}")
    for i in range(5):
        high.enqueue(note, f"high {i}")
    workers.start("high", "default", "-n", "1", "--burst").wait(60)
    lines = (tmp_path / "order").read_text().splitlines()
    assert lines == [*(f"high {i}" for i in range(5)), *(f"low {i}" for i in range(5))]
    for job_queue in (low, high):
        job_queue.delete()
    high.close()


def test_inside_a_job(q, worker):
    def work() -> tuple[str, str]:
        job = get_current_job()
        job.meta["handled_by"] = "me"
        job.save_meta()
        return job.id, job.origin

    job = q.enqueue(work, meta={"of": "somebody"})
    assert job.result(timeout=20) == (job.id, "default")
    wait_until(lambda: job.meta == {"of": "somebody", "handled_by": "me"})
    gone = Job.fetch_many([job.id, "zzzzzz:0"], connection=q)
    assert [found and found.id for found in gone] == [job.id, None]


def test_a_serializer_of_ones_own(q, worker, site):
    class Compressed:
        """JSON with sets, compressed."""

        @staticmethod
        def dumps(value: object) -> bytes:
            return zlib.compress(json.dumps(value, default=lambda found: {"a set": sorted(found)}).encode())

        @staticmethod
        def loads(data: bytes) -> object:
            return json.loads(
                zlib.decompress(data), object_hook=lambda found: set(found["a set"]) if "a set" in found else found
            )

    def words_at_url(url: str, without: set[str]) -> set[str]:
        with urllib.request.urlopen(url, timeout=10) as page:
            return {*re.findall(r"\w+", page.read().decode())} - without

    compressed = Queue(namespace=q.namespace, serializer=Compressed, progress=False)
    job = compressed.enqueue(words_at_url, f"{site}/one", without={"a", "on"})
    assert job.result(timeout=20) == {"few", "words", "page"}
    found = Job.fetch(job.id, connection=q)  # which need not be told
    assert (found.kwargs, found.return_value()) == ({"without": {"a", "on"}}, {"few", "words", "page"})
    compressed.close()


def test_names_for_jobs_and_a_job_that_is_stopped(q, worker, tmp_path):
    def watch(directory: Path) -> None:
        (directory / "begun").touch()
        while True:
            time.sleep(0.01)

    q.enqueue(watch, tmp_path, job_id="watching")
    wait_until((tmp_path / "begun").exists)
    assert q.fetch_job("watching").get_status() == "started"
    send_stop_job_command(q, "watching")
    assert Job.fetch("watching", connection=q).wait(20).is_canceled


def test_without_workers_for_tests(site):
    here = Queue(is_async=False)
    assert here.enqueue(count_words_at_url, f"{site}/one").return_value() == 6
    patient = here.enqueue(count_words_at_url, f"{site}/late", retry=Retry(max=3, interval=[10, 60]))
    assert (patient.return_value(), len(patient.attempts)) == (2, 3)
    for attempt in patient.attempts[:2]:
        attempt.exception().close()  # the answer of the server, which nobody has read
    assert [job.result() for job in here.map(count_words_at_url, [f"{site}/two", f"{site}/three"]).jobs] == [6, 1]
