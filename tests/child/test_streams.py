"""`sys.stdout` and `sys.stderr` of jobs, as objects."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import pickle
import sys
import threading
from collections.abc import Iterator

import pytest

from nbqueue.child.streams import Printing
from nbqueue.protocol.descriptors import Descriptors
from nbqueue.protocol.page import Page
from nbqueue.protocol.ring import Reader, Writer


class Job:
    """A job that runs, and what it has printed."""

    def __init__(self, page: Page) -> None:
        self.descriptors, self.written = Descriptors.create()
        self.printing = Printing(Writer(page.ring), self.descriptors, page.alone)
        self.reader = Reader(page.ring)
        self.index: int | None = 0
        self.printing.begin(1, lambda: self.index)

    def printed(self) -> list[tuple[int, str, bytes]]:
        return [(piece.index, piece.stream, piece.text) for piece in self.reader.read()]


@pytest.fixture
def job() -> Iterator[Job]:
    page = Page.create()
    job = Job(page)
    yield job
    job.reader.close()
    job.descriptors.close()
    for fd in job.written:
        os.close(fd)
    del job.printing
    gc.collect()  # it and its streams know each other
    page.close()


def test_print_and_write_reach_the_tape_in_order(job):
    out, err = job.printing.stdout, job.printing.stderr
    print("a", 1, file=out)
    assert err.write("b\n") == 2
    out.writelines(["c", "d\n"])
    print("é€😀", file=out, flush=True)
    assert job.printed() == [
        (0, "stdout", b"a 1\n"),
        (0, "stderr", b"b\n"),
        (0, "stdout", "cd\né€😀\n".encode()),
    ]


def test_they_look_like_the_usual_ones(job):
    for stream, fd in ((job.printing.stdout, 1), (job.printing.stderr, 2)):
        assert isinstance(stream, io.TextIOBase)
        assert (stream.encoding, stream.errors, stream.mode, stream.newlines) == (
            "utf-8",
            "backslashreplace",
            "w",
            None,
        )
        assert (stream.isatty(), stream.readable(), stream.writable(), stream.seekable()) == (False, False, True, False)
        assert stream.fileno() == stream.buffer.fileno() == fd
        assert stream.name == f"<{['stdout', 'stderr'][fd - 1]}>"
        assert stream.write("") == stream.buffer.write(b"") == 0
        with pytest.raises(io.UnsupportedOperation):
            stream.read()
        with pytest.raises(TypeError, match="must be str, not bytes"):
            stream.write(b"bytes")
        with pytest.raises(TypeError, match="bytes-like"):
            stream.buffer.write("text")
        with pytest.raises(TypeError):
            stream.buffer.write(5)
    assert job.printed() == []


def test_bytes_are_taken_as_they_are_in_order_with_text(job):
    out = job.printing.stdout
    out.write("text ")
    assert out.buffer.write(memoryview(b"\xff\x00 bytes ")) == 9
    out.buffer.flush()
    out.write("text \ud800")
    assert job.printed() == [(0, "stdout", b"text \xff\x00 bytes text \\ud800")]


def test_to_close_or_reconfigure_one_leaves_it_usable(job):
    out = job.printing.stdout
    out.buffer.close()
    out.close()
    with out:
        out.write("a")
    out.reconfigure(line_buffering=True, encoding="latin-1")
    assert not out.closed
    print("é", file=out)
    assert job.printed() == [(0, "stdout", "aé\n".encode())]


def test_one_that_was_pickled_is_that_of_whoever_reads_it(job):
    assert pickle.loads(pickle.dumps(job.printing.stderr)) is sys.stderr


def test_what_is_printed_while_no_job_runs_goes_to_the_descriptor(job, capfd):
    job.index = None  # all jobs of the run have ended
    print("between", file=job.printing.stdout)
    job.printing.end()
    print("after", file=job.printing.stderr)
    assert capfd.readouterr() == ("between\n", "after\n")
    assert job.printed() == []


def test_text_belongs_to_the_job_that_runs_when_it_is_written_from_whichever_thread(job):
    def say(text):
        thread = threading.Thread(target=print, args=(text,), kwargs={"file": job.printing.stdout})
        thread.start()
        thread.join()

    say("a")
    job.index = 1
    say("b")
    assert job.printed() == [(0, "stdout", b"a\n"), (1, "stdout", b"b\n")]


def test_threads_that_print_at_the_same_time_lose_nothing(job):
    def say(name):
        for n in range(2000):
            job.printing.stdout.write(f"{name}{n:04}\n")

    found = b""
    threads = [threading.Thread(target=say, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found += b"".join(text for _, _, text in job.printed())
    found += b"".join(text for _, _, text in job.printed())
    assert sorted(found.decode().split()) == sorted(f"{name}{n:04}" for name in "abcd" for n in range(2000))


def test_a_finalizer_that_prints_within_a_print_does_not_hang(job, monkeypatch):
    out = job.printing.stdout
    put = job.printing._put

    def put_and_be_interrupted(stream, text):
        if text == b"outer\n":
            out.write("finalizer\n")
        put(stream, text)

    monkeypatch.setattr(job.printing, "_put", put_and_be_interrupted)
    out.write("outer\n")
    out.write("next\n")
    assert job.printed() == [(0, "stdout", b"outer\nfinalizer\nnext\n")]


def test_an_exception_within_a_print_leaves_the_streams_usable(job, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(job.printing, "_put", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            job.printing.stdout.write("lost")
    job.printing.stdout.write("there")
    assert job.printed() == [(0, "stdout", b"there")]


def test_a_fork_prints_to_the_descriptors_although_another_thread_had_the_lock(job, capfd):
    job.printing._lock.acquire()  # as if another thread were printing
    job.printing._forked()  # what a fork calls in the new process
    job.printing.stdout.write("of the fork\n")
    assert capfd.readouterr().out == "of the fork\n"
    assert job.printed() == []


def test_they_are_put_in_place_again_after_a_job_has_replaced_them(job):
    former = sys.stdout, sys.stderr
    try:
        job.printing.redirect()
        with contextlib.redirect_stdout(io.StringIO()) as taken:
            print("taken")
        print("printed")
        sys.stdout = sys.stderr = io.StringIO()
        print("lost")
        job.printing.redirect()
        print("printed again")
    finally:
        sys.stdout, sys.stderr = former
    assert taken.getvalue() == "taken\n"
    assert job.printed() == [(0, "stdout", b"printed\nprinted again\n")]


def test_descriptors_are_written_to_as_a_whole(job):
    """More than a pipe takes at once."""
    read, write = os.pipe()
    saved = os.dup(1)
    os.dup2(write, 1)
    os.close(write)
    found: list[bytes] = []

    def take():
        while data := os.read(read, 1 << 16):
            found.append(data)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        job.printing.end()
        job.printing.stdout.write("x" * 1_000_000)
    finally:
        os.dup2(saved, 1)
        os.close(saved)
        thread.join()
        os.close(read)
    assert len(b"".join(found)) == 1_000_000
