"""A panel, whatever it shows: what is drawn when, without kernels and servers."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from conftest import wait_until

from nbqueue import errors
from nbqueue.notebook.panels import display
from nbqueue.notebook.panels.display import Display, outcome_of
from nbqueue.notebook.widgets import VIEW, Parts
from nbqueue.view.shown import FailureShown


class FakeContent:
    """Counts from `left` to 0, and has ended then."""

    id, tips, problem, batch = "k3f9x2", {"Cancel": "cancel it"}, None, SimpleNamespace(id="k3f9x2")

    def __init__(self, left):
        self.left, self.clicked, self.failures = left, threading.Event(), ()

    def look(self, workers, now):
        return self.left > 0

    def parts(self, *, is_reloaded, unreachable=""):
        buttons = ("Cancel",) if self.left else ()
        return Parts(f"<b>{self.left}</b>", ("bar",), self.failures, (unreachable or str(is_reloaded),), buttons)

    def bundle(self, *, is_left=False):
        return {"text/html": f"<p>{self.left}{', left' if is_left else ''}</p>", "text/plain": str(self.left)}

    def act(self, button):
        self.left = 0
        self.clicked.set()

    def revive(self):
        self.left = 1


class Cell:
    """What a page is sent, and what refreshes its panels."""

    def __init__(self):
        self.drawn, self.kept, self.woken = [], [], threading.Event()

    def show(self, bundle, *, raw, display_id, update):
        self.drawn.append(("update" if update else "new", bundle))

    def html(self):
        return [bundle["text/html"] for _, bundle in self.drawn]

    def wake(self):
        self.woken.set()

    def keep(self, live):
        self.kept.append(live)


@pytest.fixture
def cell(monkeypatch):
    found = Cell()
    monkeypatch.setattr(display, "show", found.show)
    return found


def opened(cell, content, **options):
    panel = Display(content, cell, cell="a cell", is_headless=options.pop("is_headless", False), **options)
    panel.open()
    return panel


def texts(panel):
    """What its widgets show, from top to bottom."""
    return [widget.value for widget in panel._live._texts()]


def buttons(panel):
    return [button.description for button in panel._live._top.children[1:]]


def test_widgets_show_what_is_live_and_plain_html_takes_their_place_at_the_end(cell):
    content = FakeContent(2)
    panel = opened(cell, content)
    ((kind, bundle),) = cell.drawn
    assert kind == "new" and set(bundle) == {VIEW, "text/html", "text/plain"}
    assert texts(panel) == ["<b>2</b>", "bar", "False"] and buttons(panel) == ["Cancel"]
    content.left = 1
    panel.refresh([], 0.0)
    assert texts(panel)[0] == "<b>1</b>" and len(cell.drawn) == 1, "the page is not drawn again"
    content.left = 0
    panel.refresh([], 0.0)
    assert cell.drawn[1:] == [("update", {"text/html": "<p>0</p>", "text/plain": "0"})]
    assert (panel.is_live, buttons(panel), cell.kept) == (False, [], [panel._live])
    panel.refresh([], 0.0)
    assert len(cell.drawn) == 2, "it has ended"


def test_what_has_ended_before_it_is_shown_has_no_widgets(cell):
    panel = opened(cell, FakeContent(0))
    assert cell.drawn == [("new", {"text/html": "<p>0</p>", "text/plain": "0"})]
    assert not panel.is_live


def test_without_widgets_it_is_drawn_again_where_it_has_changed_and_not_too_often(cell, monkeypatch):
    content = FakeContent(3)
    panel = opened(cell, content, is_headless=True)
    content.left = 2
    panel.refresh([], 0.0)
    assert cell.html() == ["<p>3</p>"], "it was drawn a moment ago"
    monkeypatch.setattr(display, "_REDRAW", 0.0)
    panel.refresh([], 0.0)
    panel.refresh([], 0.0)
    assert cell.html() == ["<p>3</p>", "<p>2</p>"]
    content.left = 0
    monkeypatch.setattr(display, "_REDRAW", 1000.0)
    panel.refresh([], 0.0)
    assert cell.html()[-1] == "<p>0</p>", "the end is drawn at once"
    panel.revive()
    monkeypatch.setattr(display, "_REDRAW", 0.0)
    panel.refresh([], 0.0)
    assert cell.html()[-1] == "<p>1</p>" and panel.is_live


def test_a_page_that_was_loaded_anew_keeps_the_widgets(cell):
    content = FakeContent(2)
    panel = opened(cell, content)
    panel._live._box._made_at -= 10
    panel._live._box.get_state()
    panel.refresh([], 0.0)
    assert texts(panel)[-1] == "True", "and is told so"
    panel.leave()
    content.left = 0
    panel.refresh([], 0.0)
    assert len(cell.drawn) == 1, "it would not see what is drawn"
    assert texts(panel)[0] == "<b>0</b>" and not panel.is_live


def test_a_server_that_is_away_is_told_in_the_widgets(cell):
    panel = opened(cell, FakeContent(2))
    panel.unreachable(errors.ServerUnreachable("the server is away"))
    assert texts(panel)[-1] == "the server is away"
    panel.refresh([], 0.0)
    assert texts(panel)[-1] == "False"
    assert len(cell.drawn) == 1


def test_when_the_kernel_ends_what_is_live_becomes_plain_html(cell):
    panel, ended = opened(cell, FakeContent(2)), opened(cell, FakeContent(0))
    panel.leave()
    ended.leave()
    assert cell.html() == ["<p>2</p>", "<p>0</p>", "<p>2, left</p>"]


def test_what_runs_again_is_live_again_with_widgets_of_its_own(cell):
    content = FakeContent(0)
    panel = opened(cell, content)
    panel.rewrite()
    panel.revive()
    panel.revive()
    panel.rewrite()
    assert [(kind, VIEW in bundle) for kind, bundle in cell.drawn] == [
        ("new", False), ("update", False), ("update", True),
    ]  # fmt: skip
    first = panel._live
    content.left = 0
    panel.refresh([], 0.0)
    panel.revive()
    assert panel._live is not first and cell.kept == [first]


def test_a_click_acts_beside_everything_else_and_has_it_looked_at_again(cell):
    content = FakeContent(2)
    panel = opened(cell, content)
    button = panel._live._top.children[1]
    button.click()
    assert content.clicked.wait(10) and cell.woken.wait(10)
    wait_until(lambda: not button.disabled)
    panel.refresh([], 0.0)
    content.clicked.clear()
    panel._act("Cancel")
    assert not content.clicked.is_set(), "it has ended"


def test_what_was_wrong_with_a_click_is_told_in_words():
    def fail():
        raise errors.NotFound("there is no batch")

    assert outcome_of("Cancel", fail) == "Cancel: there is no batch"
    assert outcome_of("Cancel", lambda: "Canceled.") == "Canceled."


def test_what_appears_below_is_read_before_the_panel_is_drawn_and_finished_after_its_end(cell):
    told = []

    class Below:
        def begin(self, panel):
            told.append(("begin", len(cell.drawn)))

        def relay(self):
            told.append(("relay", len(cell.drawn)))

        def finish(self):
            told.append(("finish", len(cell.drawn)))

    content = FakeContent(2)
    panel = opened(cell, content, below=Below())
    panel.refresh([], 0.0)
    content.left = 0
    panel.refresh([], 0.0)
    assert told == [("begin", 0), ("relay", 1), ("relay", 1), ("relay", 1), ("finish", 2)]


def test_an_opened_traceback_is_not_written_again_while_its_count_changes(cell):
    content = FakeContent(2)
    content.failures = (FailureShown("d", "ValueError", "no", 1, 0, "", "Trace"),)
    panel = opened(cell, content)
    row = panel._live._failures.children[0]
    details, before = row.children[1], row.children[1].value
    content.failures = (FailureShown("d", "ValueError", "no", 2, 0, "", "Trace"),)
    panel.refresh([], 0.0)
    assert panel._live._failures.children == (row,) and details.value == before
    assert "2 &times;" in row.children[0].value
    content.failures = ()
    panel.refresh([], 0.0)
    assert panel._live._failures.children == ()
    panel._live.close()
