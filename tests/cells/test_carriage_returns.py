"""What a terminal shows of a text with carriage returns, of what is kept of it, and of lines that jobs printed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.cells.carriage_returns import collapse, visible
from nbqueue.client.printed import lines_of
from nbqueue.store.requests.running import Entry

RED, GREEN, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[0m"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("abc\rx", "xbc"),
        (" 10%\r 20%", " 20%"),
        ("50%\r", "50%"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("long\rab\rc\nnext", "cbng\nnext"),
        ("\r\r", ""),
        ("no return\n", "no return\n"),
        (f"{RED}long{PLAIN}\rab", f"ab{RED}ng{PLAIN}"),
        (f"{RED} 10%{PLAIN}\r{GREEN} 20%{PLAIN}", f"{GREEN} 20%{PLAIN}"),
        (f"{RED}a\rb\nnext", f"{RED}b\nnext"),
        (f"{RED}first\n12345\rab{PLAIN}c\rx", f"{RED}first\n{PLAIN}x{RED}b{PLAIN}c{RED}45{PLAIN}"),
        ("long text\r\x1b[Kab", "ab"),
        ("long text\rab\x1b[K", "ab"),
        ("long text\x1b[2K\rab", "ab"),
        (f"{RED}\x1b[1mab{PLAIN}\r\x1b[?25lcd", "cd"),
        ("abc\r\x1b", "\x1bbc"),
    ],
)
def test_later_words_stand_over_earlier_ones_and_escape_sequences_take_no_column(text: str, seen: str) -> None:
    assert visible(text) == seen


@pytest.mark.parametrize("text", ["abc\rx", " 10%\r 20%", "50%\r", f"{RED}long{PLAIN}\rab", "long text\r\x1b[Kab\n"])
def test_lines_that_jobs_printed_are_as_a_terminal_shows_them(text: str) -> None:
    (line,) = lines_of([Entry(0, 1, 0, [("stdout", text.encode())], "1-1")])
    assert line.text == visible(text).rstrip("\n")


texts = st.lists(st.sampled_from(["a", "bc", "\r", "\n", RED, GREEN, PLAIN, "\x1b[K"]), max_size=12).map("".join)


@given(texts, texts)
def test_what_is_kept_shows_the_same_whatever_follows(text: str, more: str) -> None:
    assert visible(collapse(text) + more) == visible(text + more)
    assert len(collapse(text)) <= len(text)


@given(texts)
def test_what_is_shown_of_what_is_shown_is_the_same(text: str) -> None:
    assert visible(visible(text)) == visible(text)
    assert "\r" not in visible(text)


def test_styles_that_are_set_again_and_again_are_not_added_up() -> None:
    assert visible(f"{RED}a\r" * 50 + "b") == f"{RED}b"
