"""What a cell puts out elsewhere: which messages are kept, and how they are drawn; without servers or kernels."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from nbqueue.cells.messages import Keeper, area_of, decode_message, last_line, text_shown
from nbqueue.notebook.panels.redraw import REDRAW, Relay


def stream(text, name="stdout"):
    return "stream", {"name": name, "text": text}


def display(text, id):
    return "display_data", {"data": {"text/plain": text}, "metadata": {}, "transient": {"display_id": id}}


def update(text, id):
    return "update_display_data", {"data": {"text/plain": text}, "metadata": {}, "transient": {"display_id": id}}


def clear(wait=True):
    return "clear_output", {"wait": wait}


def result(text):
    return "execute_result", {"data": {"text/plain": text}, "metadata": {}, "execution_count": 1}


def kept(messages):
    """What Redis is left with."""
    keeper, found = Keeper(), {}
    for kind, content in messages:
        shown = keeper.add(kind, content)
        for number in [n for n in found if n < shown.drop_before or n == shown.replaces]:
            del found[number]
        found[shown.sequence] = decode_message(shown.kind, bytes(shown.content))
    return list(found.values())


def seen(outputs):
    """What a reader sees."""
    return [(kind, text_shown([(kind, content)])) for kind, content in outputs]


def test_a_bar_updates_and_clearing_leave_few_messages():
    bar = [stream(f"\r{i:>3}% ", "stderr") for i in range(100)]
    assert kept([stream("begin\n"), *bar]) == [stream("begin\n"), bar[-1]]
    shorter = [stream("\rlong line"), stream("\rshort")]
    assert kept(shorter) == shorter, "what the shorter one does not cover is still to be seen"
    figure = display("0", "a")
    assert kept([figure, *(update(str(i), "a") for i in range(50))]) == [figure, update("49", "a")]
    frames = [part for i in range(50) for part in (clear(), stream(f"{i}\n"), display(str(i), "a"))]
    assert kept([stream("old\n"), *frames]) == frames[-3:]
    assert kept([stream("old\n"), clear(wait=False)]) == [clear(wait=False)]


messages_strategy = st.lists(
    st.one_of(
        st.builds(stream, st.text("ab\r\n ", min_size=1, max_size=6), st.sampled_from(["stdout", "stderr"])),
        st.builds(display, st.text("xyz", max_size=3), st.sampled_from("ABC")),
        st.builds(update, st.text("xyz", max_size=3), st.sampled_from("ABC")),
        st.builds(clear, st.booleans()),
    ),
    max_size=25,
)


@given(messages_strategy)
def test_what_is_kept_shows_what_all_would(messages):
    assert seen(area_of(kept(messages)).outputs) == seen(area_of(messages).outputs)


class Page:
    """A front end: a panel, and below it what was sent."""

    def __init__(self):
        self.sent = [("display_data", {"data": {}, "metadata": {}, "transient": {"display_id": "panel"}})]

    def take(self, messages):
        for message in messages:
            self.sent.append(self.sent[0] if message == REDRAW else message)

    def outputs(self):
        outputs = area_of(self.sent).outputs
        assert outputs[0][1].get("transient", {}).get("display_id") == "panel", "it is always there"
        return outputs[1:]


@given(messages_strategy, st.lists(st.integers(1, 5)))
def test_a_page_that_was_sent_everything_shows_at_the_end_what_the_cell_would(messages, sizes):
    page, relay = Page(), Relay("slot")
    rest = list(messages)
    for size in sizes:
        page.take(relay.take(rest[:size]))
        page.outputs()
        rest = rest[size:]
    page.take(relay.take(rest))
    page.take(relay.take([]))
    page.take(relay.finish())
    expected = area_of(messages)
    assert seen(page.outputs()) == seen(expected.outputs)


def test_frames_fill_the_same_slots_and_what_is_left_of_longer_ones_is_emptied():
    page, relay = Page(), Relay("slot")
    page.take(relay.take([stream("begin\n"), clear(), stream("1\n"), display("figure 1", "a"), display("more", "b")]))
    assert [text for _, text in seen(page.outputs())] == ["1\n", "figure 1\n", "more\n"]
    before = len(page.sent)
    page.take(relay.take([clear(), stream("2\n"), display("figure 2", "a")]))
    assert [kind for kind, _ in page.sent[before:]] == ["update_display_data"] * 2, "nothing jumps"
    page.take(relay.take([update("figure 2b", "a")]))
    page.take(relay.take([]))
    assert [text for _, text in seen(page.outputs())] == ["2\n", "figure 2b\n", "\n"]
    page.take(relay.finish())
    assert [text for _, text in seen(page.outputs())] == ["2\n", "figure 2b\n"]


def test_a_cell_that_is_started_again_begins_anew():
    page, relay = Page(), Relay("slot")
    page.take(relay.begin_with([stream("1\n"), clear(), stream("2\n"), result("3")]))
    assert [kind for kind, _ in page.outputs()] == ["stream", "execute_result"]
    page.take(relay.take([clear(wait=False), stream("again\n")]))
    page.take(relay.finish())
    assert page.outputs() == [stream("again\n")]


def test_outputs_as_text():
    error = ("error", {"ename": "E", "evalue": "", "traceback": ["\x1b[31mE\x1b[0m: no"]})
    outputs = area_of([stream("50%\r99%"), display("<Figure>", "a"), error]).outputs
    assert text_shown(outputs) == "99%\n<Figure>\nE: no\n"
    assert last_line(outputs) == "99%"
    assert last_line(area_of([stream("one\ntwo\n\n")]).outputs) == "two"
    assert last_line([]) == ""
    assert json.loads(Keeper().add(*stream("ä")).content) == {"name": "stdout", "text": "ä"}
