"""Joining messages: few come out, and the notebook is left with the same."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cell_interpreter import fold
from conftest import wait_until
from hypothesis import given, settings
from hypothesis import strategies as st

from nbqueue.cells.capture import Outputs
from nbqueue.cells.carriage_returns import collapse
from nbqueue.cells.joiner import Joiner, message_size

Message = tuple[str, dict[str, Any]]


def stream(text: str, name: str = "stdout") -> Message:
    return "stream", {"name": name, "text": text}


def display(data: str, display_id: str | None = None, kind: str = "display_data") -> Message:
    transient = {} if display_id is None else {"display_id": display_id}
    return kind, {"data": {"text/plain": data}, "metadata": {}, "transient": transient}


def clear(*, wait: bool) -> Message:
    return "clear_output", {"wait": wait}


ERROR: Message = ("error", {"ename": "E", "evalue": "", "traceback": ["E"]})
RESULT: Message = ("execute_result", {"data": {"text/plain": "5"}, "metadata": {}, "execution_count": 1})


def joined(messages: list[Message | None], limit: int = 10**9) -> list[Message]:
    """What comes out; None stands for a moment at which it is taken."""
    joiner = Joiner(limit)
    taken = []
    for message in [*messages, None]:
        if message is None:
            taken += joiner.take()
        else:
            joiner.add(*message, message_size(*message))
    return taken


def texts(messages: list[Message]) -> list[str]:
    return [content["text"] for kind, content in messages if kind == "stream"]


def test_neighbouring_texts_become_one() -> None:
    assert joined([stream("a"), stream("b"), stream("c", "stderr"), stream("d")]) == [
        stream("ab"), stream("c", "stderr"), stream("d")
    ]  # fmt: skip


def test_of_several_updates_the_last_goes_out() -> None:
    updates = [display(data, "i", "update_display_data") for data in "bcd"]
    assert joined([display("a", "i"), *updates, stream("x")]) == [display("a", "i"), updates[-1], stream("x")]


def test_what_is_cleared_before_it_goes_out_does_not_go_out() -> None:
    assert joined([stream("a"), display("b"), clear(wait=False), stream("c")]) == [clear(wait=False), stream("c")]
    assert joined([stream("a"), clear(wait=True), stream("c")]) == [clear(wait=True), stream("c")]
    assert joined([stream("a"), clear(wait=True)]) == [stream("a"), clear(wait=True)], "nothing took its place"
    many = [part for i in range(1000) for part in (clear(wait=True), stream(str(i)))]
    assert joined(many) == [clear(wait=True), stream("999")]


def test_displays_get_ids_by_their_place_since_the_last_clear() -> None:
    out = joined([display("a"), display("b", "mine"), display("c"), None, clear(wait=True), display("d"), display("e")])
    ids = [content["transient"]["display_id"] for kind, content in out if kind == "display_data"]
    first, mine, second, again, second_again = ids
    assert mine == "mine"
    assert (first, second) == (again, second_again)
    assert first != second
    other = joined([display("a")])[0][1]["transient"]["display_id"]
    assert other != first


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("a\rb\rc", "a\rc"),
        ("1%\r2%\r100%\n", "1%\r100%\n"),
        ("\r1\r2\r3", "\r3"),
        ("long text\rab\rcd", "long text\rcd"),
        ("\rlong\rab", "\rlong\rab"),
        ("a\r\nb\r\n", "a\r\nb\r\n"),
        ("\r\x1b[31mlong\x1b[0m\r1\r2", "\r\x1b[31mlong\x1b[0m\r1\r2"),
    ],
)
def test_what_is_overwritten_in_a_burst_does_not_go_out(text: str, shorter: str) -> None:
    assert collapse(text) == shorter
    assert render(collapse(text)) == render(text)


def render(text: str) -> str:
    """What a terminal shows."""
    lines: list[list[str]] = [[]]
    column = 0
    for character in text:
        if character == "\n":
            lines.append([])
            column = 0
        elif character == "\r":
            column = 0
        else:
            lines[-1][column : column + 1] = [character]
            column += 1
    return "\n".join(map("".join, lines))


pieces = st.text(alphabet="ab\r\n", min_size=1, max_size=8)
ids = st.sampled_from(["i", "j"])
messages = st.one_of(
    st.builds(stream, pieces, st.sampled_from(["stdout", "stderr"])),
    st.builds(display, st.sampled_from("xyz"), st.none() | ids),
    st.builds(display, st.sampled_from("xyz"), ids, st.just("update_display_data")),
    st.builds(lambda wait: clear(wait=wait), st.booleans()),
    st.sampled_from([ERROR, RESULT]),
    st.none(),
)


def left(sequence: list[Message]) -> list[dict[str, Any]]:
    outputs = []
    for output in fold(sequence):
        output.pop("id", None)
        if "text" not in output or render(output["text"]):
            outputs.append({**output, "text": render(output.get("text", ""))})
    return outputs


@settings(max_examples=1000, deadline=None)
@given(st.lists(messages, max_size=30))
def test_joining_changes_nothing_of_what_is_left(sequence: list[Message | None]) -> None:
    assert left(joined(sequence)) == left([message for message in sequence if message is not None])


@settings(max_examples=300, deadline=None)
@given(st.lists(messages, max_size=60), st.integers(1, 40))
def test_what_is_left_is_bounded(sequence: list[Message | None], limit: int) -> None:
    kept = "".join(output["text"] for output in fold(joined(sequence, limit)) if "text" in output)
    kept = re.sub(r"\n\[nbqueue: .*? was cut\]\n", "", kept)
    assert len(kept.replace("\r", "")) <= limit + 8 * kept.count("\r"), "what is overwritten does not count"


def test_one_sentence_says_that_more_was_cut_until_it_is_cleared() -> None:
    out = joined([stream("a" * 90), stream("b" * 90), stream("c"), clear(wait=False), stream("d" * 200)], 100)
    assert texts(out) == ["d" * 100, "\n[nbqueue: the limit of 0 KB is reached; further text was cut]\n"]
    out = joined([stream("a" * 90), None, stream("b" * 90), None, stream("c"), RESULT, ERROR], 100)
    assert texts(out)[:2] == ["a" * 90, "b" * 10]
    assert sum("further text was cut" in text for text in texts(out)) == 1
    assert [kind for kind, _ in out][-1] == "error"
    assert any("further rich output was cut" in text for text in texts(out))


def test_a_progress_bar_of_any_length_is_never_cut() -> None:
    bar: list[Message | None] = [stream(f"\r{i:60}", "stderr") for i in range(1000)]
    spaced = [part for message in bar for part in (message, None)]
    assert texts(joined(spaced, 1000))[-1] == f"\r{999:60}"


def test_what_a_short_text_leaves_of_a_long_one_under_it_counts() -> None:
    lines: list[Message | None] = [stream("x" * 90 + "\rshort\n") for _ in range(20)]
    out = texts(joined(lines, 1000))
    assert "further text was cut" in out[-1]
    assert len(render("".join(out[:-1]))) <= 1000


def test_who_puts_out_faster_than_it_is_taken_waits() -> None:
    gate = threading.Event()
    outputs = Outputs(lambda kind, content: gate.wait() and None)
    outputs.open()
    done = threading.Event()

    def work() -> None:
        for _ in range(40):
            outputs.put(*stream("x" * 2**20))
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: outputs._given - outputs._taken > 2**24)
    assert not done.is_set()
    gate.set()
    thread.join()
    outputs.close()
    outputs.stop()


def test_a_clear_that_nothing_follows_is_handed_on(outputs: tuple[Outputs, list[Message]]) -> None:
    taker, taken = outputs
    taker.put(*stream("a"))
    taker.flush()
    taker.put(*clear(wait=False))
    wait_until(lambda: taken == [stream("a"), clear(wait=False)])


@pytest.fixture
def outputs() -> Iterator[tuple[Outputs, list[Message]]]:
    taken: list[Message] = []
    taker = Outputs(lambda kind, content: taken.append((kind, content)))
    taker.open()
    yield taker, taken
    taker.close()
    taker.stop()


def test_after_its_end_a_stream_writes_where_the_process_does(capfd: pytest.CaptureFixture[str]) -> None:
    taken: list[Message] = []
    outputs = Outputs(lambda kind, content: taken.append((kind, content)))
    outputs.open()
    print("inside", file=outputs.stdout)
    outputs.close()
    outputs.stop()
    outputs.put(*display("shown"))
    outputs.put(*ERROR)
    print("late", file=outputs.stderr, flush=True)
    assert taken == [stream("inside\n")]
    assert capfd.readouterr() == ("shown\n", "E\nlate\n")
