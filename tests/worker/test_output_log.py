"""From what jobs print to entries of the stream, and from these to text and lines."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from nbqueue.client.printed import Line, lines_of, text_of
from nbqueue.protocol.messages import Printed
from nbqueue.store.requests.running import MOST_ENTRIES, Entry
from nbqueue.worker.output_log import OutputLog


class Stream:
    """What Redis does with entries."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._count = 0

    def add(self, gone: Sequence[str], new: Sequence[Entry]) -> list[str]:
        for id in gone:
            del self.entries[id]
        ids = []
        for entry in new:
            self._count += 1
            ids.append(f"1-{self._count}")
            self.entries[ids[-1]] = Entry(entry.index, entry.attempt, entry.at, list(entry.parts), ids[-1])
        return ids

    def of(self, index: int) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.index == index]

    def text(self, index: int) -> str:
        return text_of(self.of(index), 1)


def tell(stream: Stream, output_log: OutputLog, *printed: Printed) -> None:
    gone, new = output_log.add(printed)
    output_log.stored(new, stream.add(gone, new))


def test_the_text_of_a_job_is_that_of_both_streams_in_order():
    stream, output_log = Stream(), OutputLog({})
    tell(stream, output_log, Printed(1, 3, "stdout", 0, b"out\n"), Printed(1, 3, "stderr", 4, b"err\n"))
    tell(stream, output_log, Printed(1, 3, "stdout", 8, b"again\n"), Printed(1, 4, "stdout", 0, b"other\n"))
    assert stream.text(3) == "out\nerr\nagain\n"
    assert stream.text(4) == "other\n"
    assert lines_of(list(stream.entries.values())) == [
        Line(3, "stdout", "out", "1-1"),
        Line(3, "stderr", "err", "1-1"),
        Line(3, "stdout", "again", "1-2"),
        Line(4, "stdout", "other", "1-3"),
    ]


def test_what_a_job_prints_bit_by_bit_is_put_together():
    stream, output_log = Stream(), OutputLog({})
    text, stored = b"", 0
    for n in range(500):
        line = b"line %d\n" % n
        tell(stream, output_log, Printed(1, 0, "stdout", len(text), line))
        text += line
    assert stream.text(0) == text.decode()
    assert len(stream.entries) <= len(text) / 900 + 9
    stored = sum(entry.size for entry in stream.entries.values())
    assert stored == len(text)
    whole = [entry for entry in stream.entries.values() if entry.parts[-1][1].endswith(b"\n")]
    assert len(whole) == len(stream.entries), "lines are kept together"


def test_of_a_job_that_prints_much_the_beginning_and_the_end_are_kept_and_what_is_cut_is_counted():
    stream, output_log = Stream(), OutputLog({})
    text = b"".join(b"%07d\n" % n for n in range(100_000))
    for at in range(0, len(text), 5000):
        tell(stream, output_log, Printed(1, 0, "stdout", at, text[at : at + 5000]))
        assert sum(entry.size for entry in stream.entries.values()) < 70_000
        assert len(stream.entries) < 100
        assert stream.text(0).endswith(f"{(min(len(text), at + 5000)) // 8 - 1:07}\n"), "the newest is there at once"
    shown = stream.text(0)
    first, _, rest = shown.partition("[nbqueue: ")
    count, _, last = rest.partition(" bytes of output are not kept]\n")
    assert int(count.replace(",", "")) == len(text) - len(first) - len(last)
    assert len(first) >= 32_000
    assert len(last) >= 31_000
    assert text.decode().startswith(first)
    assert text.decode().endswith(last)


def test_entries_of_which_nobody_knows_whether_they_are_stored_are_left_alone():
    stream, output_log = Stream(), OutputLog({})
    at = 0
    for turn in range(200):
        piece = Printed(1, 0, "stdout", at, b"%04d\n" % turn * 100)
        at += 500
        gone, new = output_log.add([piece])
        if turn % 3 == 0:
            output_log.stored(new, [])  # refused
        else:
            output_log.stored(new, stream.add(gone, new))
    assert sum(entry.size for entry in stream.entries.values()) < 70_000
    assert stream.text(0).endswith("0199\n")


def test_what_is_in_flight_is_not_replaced_before_it_was_answered():
    output_log = OutputLog({})
    first = output_log.add([Printed(1, 0, "stdout", 0, b"a\n")])
    for n in range(1, 20):
        gone, _ = output_log.add([Printed(1, 0, "stdout", 2 * n, b"b\n")])
        assert gone == []
    assert first[1][0].parts == [("stdout", b"a\n")]


def test_attempts_are_told_apart():
    old = Entry(0, 1, 0, [("stdout", b"first\n")], "1-1")
    new = Entry(0, 2, 0, [("stdout", b"second\n")], "1-2")
    assert text_of([old, new], 1) == text_of([old, new], 2) == "second\n"
    assert text_of([old], 1) == "first\n"
    assert text_of([old], 2) == ""
    # Given back by a worker that left, which does not count as an attempt:
    again = Entry(0, 1, 0, [("stdout", b"once more\n")], "1-3")
    assert text_of([old, again], 1) == "once more\n"
    assert OutputLog({7: 2}).add([Printed(1, 7, "stdout", 0, b"x")])[1] == [Entry(7, 3, 0, [("stdout", b"x")])]


def test_more_jobs_than_entries_are_kept_are_not_even_sent():
    _, new = OutputLog({}).add([Printed(1, index, "stdout", 0, b"x") for index in range(5000)])
    assert [entry.index for entry in new] == list(range(5000 - MOST_ENTRIES, 5000))


def test_characters_and_lines_that_are_cut_by_entries_are_whole_again():
    stream, output_log = Stream(), OutputLog({})
    text = ("€" * 2000 + "\n" + "ä" * 10 + "\n").encode()
    tell(stream, output_log, Printed(1, 0, "stdout", 0, text[:3001]), Printed(1, 0, "stdout", 3001, text[3001:]))
    for entry in stream.entries.values():
        for _, part in entry.parts:
            part.decode()
    lines = lines_of(list(stream.entries.values()))
    assert [line.text for line in lines] == ["€" * 2000, "ä" * 10]
    assert stream.text(0).encode() == text


def test_bytes_that_are_no_text_are_replaced():
    entry = Entry(0, 1, 0, [("stdout", b"\xff\xfe ok\n")], "1-1")
    assert text_of([entry], 1) == "\ufffd\ufffd ok\n"
    assert lines_of([entry])[0].text == "\ufffd\ufffd ok"


def test_of_a_line_that_is_written_again_and_again_the_last_state_is_shown():
    entries = [
        Entry(0, 1, 0, [("stderr", b"\r 10%\r 20%")], "1-1"),
        Entry(1, 1, 0, [("stdout", b"between\n")], "1-2"),
        Entry(0, 1, 10, [("stderr", b"\r 30%")], "1-3"),
    ]
    assert lines_of(entries) == [Line(1, "stdout", "between", "1-2"), Line(0, "stderr", " 30%", "1-3")]
    assert lines_of(entries[::2])[0].text == " 30%"


def test_lines_are_not_joined_over_what_is_missing():
    entries = [
        Entry(0, 1, 0, [("stdout", b"begins ")], "1-1"),
        Entry(0, 1, 100, [("stdout", b"ends\n")], "1-2"),
        Entry(1, 1, 0, [("stdout", b"begins ")], "1-3"),
        Entry(1, 2, 0, [("stdout", b"again\n")], "1-4"),
    ]
    assert [line.text for line in lines_of(entries)] == ["begins ", "ends", "begins ", "again"]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    turns=st.lists(
        st.tuples(
            st.integers(0, 1),  # the next job, or the same one
            st.lists(
                st.tuples(
                    st.sampled_from(["stdout", "stderr"]),
                    st.sampled_from([b"a", b"b\n", b"\xe2", b"c" * 99, b"d\n" * 99]),
                ),
                min_size=1,
                max_size=6,
            ),
            st.sampled_from([1, 1, 1, 100]),  # times
            st.booleans(),  # whether it is answered
        ),
        max_size=60,
    )
)
def test_whatever_is_printed_is_kept_in_order_and_bounded(turns):
    stream, output_log = Stream(), OutputLog({})
    written: dict[int, list[tuple[str, bytes]]] = {}
    late: list[tuple[list[Entry], list[str]]] = []
    index = 0
    for moves, pieces, times, is_answered in turns:
        index += moves
        printed = []
        parts = written.setdefault(index, [])
        at = sum(len(text) for _, text in parts)
        for name, text in pieces * times:
            printed.append(Printed(1, index, name, at, text))
            parts.append((name, text))
            at += len(text)
        gone, new = output_log.add(printed)
        late.append((new, stream.add(gone, new)))
        if is_answered:
            for entries, ids in late:
                output_log.stored(entries, ids)
            late.clear()
        assert all(0 < entry.size <= 1000 for entry in stream.entries.values())
    for index, parts in written.items():
        text = b"".join(text for _, text in parts)
        entries = stream.of(index)
        assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
        end = 0
        for entry in entries:
            assert entry.at >= end
            end = entry.at + entry.size
            assert text[entry.at : end] == b"".join(part for _, part in entry.parts)
        assert end == len(text), "its last words are there"
        if len(text) < 64 * 1024:
            assert sum(entry.size for entry in entries) == len(text)
            for name in ("stdout", "stderr"):
                kept = b"".join(part for entry in entries for stream_, part in entry.parts if stream_ == name)
                assert kept == b"".join(part for stream_, part in parts if stream_ == name)
