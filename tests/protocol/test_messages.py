"""What a worker and its children say arrives as it was said, in whatever pieces it comes."""

from __future__ import annotations

import socket

import pytest

from nbqueue.protocol.messages import Do, Done, GoesOn, Hello, Inbox, Message, Show, Waits, encode, receive, send
from nbqueue.store.requests.running import Again, FailureNote, Input, Shown

LARGE = bytes(range(256)) * 300

MESSAGES = [
    Hello("worker", "namespace", bytes(range(32))),
    Do(
        7, "batch", 3, 9, 4, '{"label": "é"}', True, {3: 1, 5: 2}, [("b0", b"calls"), ("5", LARGE)],
        [(bytes(16), b"function"), (b"\xff" * 16, b"")], True,
    ),
    Do(7, "batch", 3, 9, 4, "{}", False, {}, [], []),
    Do(
        7, "batch", 3, 9, 4, "{}", False, {}, [("b0", b"calls")], [(bytes(16), b"function")], False, {3: "{}"},
        (Input("other", 4, 90, [("b0", b"outcomes"), ("5", b"own")]), Input("third", 1, 1, [])), b"mended", b"decided",
    ),
    Done(7, 3, 9, 0.25, True, [("b0", b"outcomes"), ("5", LARGE)], [FailureNote(4, "digest", '{"type": "X"}')], True),
    Done(7, 3, 3, 0.0, False, [], []),
    Done(7, 3, 9, 0.5, True, [("4", b"outcome")], [], False, (Again(3, 1, 2.5, b"how it failed"),)),
    Show(7, Shown(3, "stream", b'{"text": "x"}', 1, 2)),
    Waits(7, 3, "batch"),
    GoesOn(7, 3, 2),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: Message) -> None:
    here, there = socket.socketpair()
    with here, there:
        send(here, message)
        here.close()
        assert list(receive(there, Inbox())) == [message]


def test_messages_arrive_in_whatever_pieces_they_come() -> None:
    data = b"".join(bytes(piece) for message in MESSAGES for piece in encode(message))
    for step in (1000, len(data) - 1):
        here, there = socket.socketpair()
        inbox = Inbox()
        found: list[Message] = []
        with here, there:
            for start in range(0, len(data), step):
                here.sendall(data[start : start + step])
                there.setblocking(False)
                while True:
                    try:
                        inbox.read(there)
                    except BlockingIOError:
                        break
                    found += inbox.messages()
        assert found == MESSAGES
