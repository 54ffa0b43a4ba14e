"""The memory through which a worker sees what jobs print."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbqueue.protocol import ring
from nbqueue.protocol.messages import Printed
from nbqueue.protocol.page import Page
from nbqueue.protocol.ring import Reader, Writer

STDOUT, STDERR = 0, 1


@pytest.fixture(params=["memory", "a file"])
def page(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    if request.param == "a file":

        def refuse(name: str) -> int:
            raise OSError("not here")

        monkeypatch.setattr(os, "memfd_create", refuse)
    page = Page.create()
    yield page
    page.close()


def text_of(printed: list[Printed], index: int = 0) -> bytes:
    """What a job has printed, with a mark where something is missing."""
    text, end = b"", 0
    for piece in printed:
        if piece.index == index:
            assert piece.at >= end, "nothing comes twice"
            text += (b"..." if piece.at > end else b"") + piece.text
            end = piece.at + len(piece.text)
    return text


def test_what_was_written_is_read_once_and_in_order(page):
    writer, reader = Writer(page.ring), Reader(page.ring)
    assert not reader.has_news
    assert reader.read() == []
    writer.write(1, 0, STDOUT, b"one ")
    assert reader.has_news
    assert reader.read() == [Printed(1, 0, "stdout", 0, b"one ")]
    assert reader.read() == []
    writer.write(1, 0, STDOUT, b"two ")  # the former piece grows
    writer.write(1, 0, STDERR, b"three ")
    writer.write(1, 7, STDERR, b"four ")
    assert reader.read() == [
        Printed(1, 0, "stdout", 4, b"two "),
        Printed(1, 0, "stderr", 8, b"three "),
        Printed(1, 7, "stderr", 0, b"four "),
    ]
    assert not reader.has_news
    reader.close()


def test_what_a_thread_prints_late_is_that_of_the_job_that_runs(page):
    writer, reader = Writer(page.ring), Reader(page.ring)
    writer.write(2, 5, STDOUT, b"of 5 ")
    writer.write(2, 4, STDOUT, b"late ")
    writer.write(1, 9, STDERR, b"later ")
    writer.write(2, 5, STDOUT, b"of 5 again")
    printed = reader.read()
    assert {(piece.number, piece.index) for piece in printed} == {(2, 5)}
    assert text_of(printed, 5) == b"of 5 late later of 5 again"
    reader.close()


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_nothing_comes_twice_or_changed_and_the_newest_is_always_there(data):
    page = Page.create()
    writer, reader = Writer(page.ring), Reader(page.ring)
    written: dict[tuple[int, int], bytes] = {}
    read: dict[tuple[int, int], list[Printed]] = {}
    number = index = 0
    for _ in range(data.draw(st.integers(1, 12))):
        unread = 0
        for _ in range(data.draw(st.integers(1, 40))):
            if data.draw(st.integers(0, 5)) == 0:
                index += 1
            if data.draw(st.integers(0, 15)) == 0:
                number, index = number + 1, 0
            size = data.draw(st.sampled_from([1, 10, 1000, 8192, 8193, 50_000, 700_000]))
            text = os.urandom(16) * (size // 16) + b"x" * (size % 16)
            writer.write(number, index, size % 2, text)
            written[number, index] = written.get((number, index), b"") + text
            unread += size
        printed = reader.read()
        for piece in printed:
            read.setdefault((piece.number, piece.index), []).append(piece)
        if unread < 24 * 1024:
            assert sum(len(piece.text) for piece in printed) == unread, "a little is never lost"
        last = printed[-1]
        assert (last.number, last.index) == (number, index)
        assert last.at + len(last.text) == len(written[number, index])
    for job, pieces in read.items():
        end = 0
        for piece in pieces:
            assert piece.at >= end
            end = piece.at + len(piece.text)
            assert written[job][piece.at : end] == piece.text
    reader.close()
    del writer
    page.close()


def test_a_job_that_prints_very_much_overwrites_its_own_text_only(page):
    writer, reader = Writer(page.ring), Reader(page.ring)
    for index in range(100):
        writer.write(1, index, STDOUT, b"hello\n")
    line = b"%09d " + b"x" * 90 + b"\n"
    for n in range(100_000):
        writer.write(1, 100, STDOUT, line % n)
    writer.write(1, 101, STDOUT, b"bye\n")
    printed = reader.read()
    assert all(text_of(printed, index) == b"hello\n" for index in range(100))
    assert text_of(printed, 101) == b"bye\n"
    first, last = text_of(printed, 100).split(b"...")
    assert first.startswith(b"000000000 ")
    assert last.endswith(line % 99_999)
    assert len(first) > 64 * 1024
    assert len(last) > 24 * 1024
    reader.close()


def test_what_is_half_written_is_read_when_it_is_whole(page):
    writer, reader = Writer(page.ring), Reader(page.ring)
    writer.write(1, 0, STDOUT, b"whole")
    writer.write(1, 1, STDOUT, b"half")
    place = bytes(page.ring).index(b"half")
    page.ring[place] = ord("H")  # as if the other processor's store had not arrived
    assert reader.read() == [Printed(1, 0, "stdout", 0, b"whole")]
    assert reader.has_news
    assert reader.read() == []
    page.ring[place] = ord("h")
    assert reader.read() == [Printed(1, 1, "stdout", 0, b"half")]
    assert not reader.has_news
    reader.close()


def test_after_an_exception_within_a_write_the_next_one_is_read_and_what_is_missing_shows(page, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    writer, reader = Writer(page.ring), Reader(page.ring)
    for step in ("crc32", "_HEAD"):
        for text in (b"new", b"grows"):
            index = {"crc32": 0, "_HEAD": 1}[step]
            writer.write(1, index, STDOUT, text)
            with monkeypatch.context() as patch:
                if step == "crc32":
                    patch.setattr(ring, step, interrupt)
                else:
                    patch.setattr(ring, step, type("", (), {"pack": interrupt, "size": ring._HEAD.size}))
                with pytest.raises(KeyboardInterrupt):
                    writer.write(1, index, STDOUT, b"lost")
            writer.write(1, index, STDOUT, b"there")
    printed = reader.read()
    assert text_of(printed, 0).replace(b"...", b"") == b"newtheregrowsthere"
    assert text_of(printed, 1) == b"new...theregrows...there"
    reader.close()


class Recorded:
    """Memory of which a copy is kept after each step: what is left when the process is killed there."""

    def __init__(self, memory: memoryview, page: Page, copies: list[bytes]) -> None:
        self._memory, self._page, self._copies = memory, page, copies

    def __getitem__(self, place):
        return self._memory[place]

    def __setitem__(self, place, value):
        self._memory[place] = value
        self._copies.append(bytes(self._page.ring))


def test_a_kill_between_any_two_steps_leaves_what_was_written_before(page):
    copies: list[bytes] = []
    writer = Writer(page.ring)
    writer._segments = Recorded(writer._segments, page, copies)
    writer._cells = Recorded(writer._cells, page, copies)
    texts = [(STDOUT, b"one "), (STDOUT, b"two "), (STDERR, b"three "), (STDOUT, b"x" * 8000), (STDOUT, b"y" * 30_000)]
    written = b""
    for stream, text in texts:
        copies.clear()
        writer.write(1, 0, stream, text)
        for copy in copies:
            reader = Reader(memoryview(bytearray(copy)))
            left = text_of(reader.read())
            assert left.startswith(written)
            assert (written + text).startswith(left)
        written += text
        assert left == written
    assert len(copies) > 4


def test_a_reader_in_another_process_sees_no_text_that_was_not_written(page):
    """One writes as fast as it can while the other reads."""
    source = """
import sys
from nbqueue.protocol.page import Page
from nbqueue.protocol.ring import Writer
writer = Writer(Page(int(sys.argv[1])).ring)
for n in range(60_000):
    writer.write(1, n // 10_000, n % 2, b"%09d " % n * (1 + n % 50))
"""
    process = subprocess.Popen([sys.executable, "-c", source, str(page.fd)], pass_fds=[page.fd])
    reader = Reader(page.ring)
    ends: dict[int, int] = {}
    texts: dict[int, dict[int, bytes]] = {}
    while process.poll() is None or reader.has_news:
        for piece in reader.read():
            assert piece.at >= ends.get(piece.index, 0)
            ends[piece.index] = piece.at + len(piece.text)
            texts.setdefault(piece.index, {})[piece.at] = piece.text
    assert process.returncode == 0
    for index, pieces in texts.items():
        expected = b"".join(b"%09d " % n * (1 + n % 50) for n in range(10_000 * index, 10_000 * (index + 1)))
        # Of the others, a reader that was kept waiting may have lost the end: the ring keeps the newest.
        assert ends[index] == len(expected) if index == 5 else ends[index] <= len(expected), "its last words were read"
        assert all(expected[at : at + len(text)] == text for at, text in pieces.items())
    assert 5 in texts and len(texts) > 1
    reader.close()
