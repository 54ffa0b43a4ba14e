"""How signed bytes are laid out."""

from __future__ import annotations

import numpy as np
import pytest

from nbqueue.payload import records
from nbqueue.payload.records import (
    HEADER,
    SEPARATE,
    Entries,
    Record,
    frame_sizes,
    functions_of,
    pack_header,
    pieces_of,
    size_of,
    split_frames,
    table_of,
    whole_of,
    with_sizes,
    wrong_version,
)


def test_frames_come_back_as_they_were_put_behind_the_table_of_their_sizes():
    for frames in ([], [b""], [b"pickle"], [b"pickle", memoryview(b"buffer"), b"", b"x" * 70_000]):
        pieces = with_sizes(frames)
        data = b"".join(pieces)
        assert len(data) == size_of(pieces)
        assert [bytes(frame) for frame in split_frames(memoryview(data))] == [bytes(frame) for frame in frames]


def test_frames_are_views_and_no_copies():
    data = b"".join(with_sizes([b"pickle", b"buffer"]))
    assert all(frame.obj is data for frame in split_frames(memoryview(data)))


def test_each_entry_of_a_table_is_found_by_its_number():
    packed = [[b"a", b"bc"], [], [b"d" * 1000], [memoryview(b"e")]]
    body = memoryview(b"before" + b"".join(table_of(packed)))
    entries = Entries(Record(SEPARATE, 4, [], b"", body), 6)
    assert [bytes(entries[index]) for index in range(4)] == [b"abc", b"", b"d" * 1000, b"e"]
    assert [entries.is_empty(index) for index in range(4)] == [False, True, False, False]
    assert not entries.is_own


def test_large_frames_begin_a_multiple_of_64_bytes_before_the_end():
    for sizes in ([70_001, 70_000], [10, 65_536, 3, 100_001, 7], [100_000]):
        frames = [bytes([number]) * size for number, size in enumerate(sizes)]
        pieces = with_sizes(frames)
        assert frame_sizes(pieces) == tuple(sizes)
        data = memoryview(b"".join(pieces))
        found = split_frames(data)
        assert [bytes(frame) for frame in found] == frames
        for frame in found:
            start = np.frombuffer(frame, np.uint8).ctypes.data - np.frombuffer(data, np.uint8).ctypes.data
            assert len(frame) < 65_536 or (len(data) - start) % 64 == 0


def test_the_functions_of_a_record_are_read_without_its_key():
    digests = [b"a" * 16, b"b" * 16]
    header = pack_header(SEPARATE, 3, digests)
    assert HEADER.unpack_from(header) == (records.VERSION, SEPARATE, 3, 2)
    assert functions_of(header + bytes(32)) == digests
    assert functions_of(pack_header(SEPARATE, 3, []) + bytes(32)) == []


@pytest.mark.parametrize("size", [0, 9, 10, 11, 19, 20, 21, 30])
def test_a_large_record_is_several_values_of_which_the_last_is_smaller(monkeypatch, size):
    monkeypatch.setattr(records, "PIECE", 10)
    record = bytes(range(size))
    pieces = pieces_of(record)
    assert len(pieces) == 1 + size // 10
    assert [len(piece) == 10 for piece in pieces] == [True] * (size // 10) + [False]
    assert bytes(whole_of(pieces)) == record
    assert whole_of([*pieces[:-1], None]) is None


def test_an_older_and_a_newer_version_are_told_apart():
    for older in range(1, records.VERSION):
        assert "calls of b:0: the batch was submitted by an older nbqueue, in format" in words_of(older)
    for other in (0, records.VERSION + 1, 255):
        assert f"calls of b:0: in format {other}, " in words_of(other)
        assert "If a newer one submitted the batch" in words_of(other)


def words_of(version):
    return str(wrong_version("calls of b:0", version))
