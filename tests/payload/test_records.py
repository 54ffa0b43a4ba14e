"""How signed bytes are laid out."""

from __future__ import annotations

import pytest

from nbqueue import errors
from nbqueue.payload import records
from nbqueue.payload.records import (
    HEADER,
    SEPARATE,
    check_size,
    entry_at,
    functions_of,
    pack_header,
    size_of,
    split_frames,
    table_of,
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
    entries = [[b"a", b"bc"], [], [b"d" * 1000], [memoryview(b"e")]]
    body = memoryview(b"".join(table_of(entries)))
    assert [bytes(entry_at(body, 4, index)) for index in range(4)] == [b"abc", b"", b"d" * 1000, b"e"]


def test_the_functions_of_a_record_are_read_without_its_key():
    digests = [b"a" * 16, b"b" * 16]
    header = pack_header(SEPARATE, 3, digests)
    assert HEADER.unpack_from(header) == (records.VERSION, SEPARATE, 3, 2)
    assert functions_of(header + bytes(32)) == digests
    assert functions_of(pack_header(SEPARATE, 3, []) + bytes(32)) == []


def test_what_redis_would_not_take_is_refused_with_its_size_and_a_way_out():
    check_size("the result", records.LIMIT)
    with pytest.raises(errors.TooLarge, match="the result: 1,024 MB pickled.*at most 512 MB.*Write it to a file"):
        check_size("the result", 2**30)


def test_an_older_and_a_newer_version_are_told_apart():
    for older in range(1, records.VERSION):
        assert "calls of b:0: the batch was submitted by an older nbqueue, in format" in words_of(older)
    for other in (0, records.VERSION + 1, 255):
        assert f"calls of b:0: in format {other}, " in words_of(other)
        assert "If a newer one submitted the batch" in words_of(other)


def words_of(version):
    return str(wrong_version("calls of b:0", version))
