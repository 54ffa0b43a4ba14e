"""Large values, read straight into memory of their own, however they are cut on the way."""

from __future__ import annotations

import ctypes
import socket
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue import errors
from nbqueue.server import embedded
from nbqueue.store.bulk import Values
from nbqueue.store.reply import Foreign, Reply
from nbqueue.store.store import Store


def told(values):
    parts = [b"*%d\r\n" % len(values)]
    for value in values:
        parts.append(b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value))
    return b"".join(parts)


def read(data, cuts=()):
    """What is understood of bytes that come in pieces."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        values = Values()
        position = 0
        for cut in [*sorted(cuts), len(data)]:
            theirs.sendall(data[position:cut])
            while position < cut:
                before = ours.recv(1 << 20, socket.MSG_PEEK)
                values.receive(ours)
                ours.setblocking(False)
                try:
                    left = len(ours.recv(1 << 20, socket.MSG_PEEK))
                except BlockingIOError:
                    left = 0
                ours.setblocking(True)
                position += len(before) - left
        return values


@given(
    st.lists(
        st.none() | st.binary(max_size=40) | st.integers(4000, 9000).map(lambda n: bytes(n % 251 for n in range(n)))
    ),
    st.data(),
)
def test_values_come_through_wherever_they_are_cut(values, data):
    text = told(values)
    cuts = data.draw(st.lists(st.integers(1, len(text) - 1), max_size=6, unique=True))
    found = read(text, cuts)
    assert found.is_complete
    assert found.error is None
    assert [None if value is None else bytes(value) for value in found.found] == values
    for value in found.found:
        if value:
            value[0] ^= 255  # it is the reader's own
            address = ctypes.addressof(ctypes.c_char.from_buffer(value))
            assert (address + len(value)) % 16 == 0


def test_an_error_is_an_answer():
    found = read(b"-WRONGTYPE Operation against a key\r\n", [3, 20])
    assert found.is_complete
    assert isinstance(found.error, Reply)
    assert found.error.code == "WRONGTYPE"


@pytest.mark.parametrize(
    "text",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"*1\r\n:3\r\n",
        b"$3\r\nabc\r\n",
        b"*1\r\n-ERR late\r\n",
        b"*one\r\n",
        b"*1\r\n$-2\r\n",
    ],
)
def test_what_is_no_list_of_values_is_told(text):
    with pytest.raises(Foreign, match="in a list of values"):
        read(text)


def test_an_end_in_the_middle_is_told():
    ours, theirs = socket.socketpair()
    with ours:
        values = Values()
        with theirs:
            theirs.sendall(b"*1\r\n$100\r\nabc")
        values.receive(ours)
        with pytest.raises(ConnectionResetError):
            values.receive(ours)


def test_a_connection_serves_others_after_values_and_after_an_error(namespace):
    store = Store(embedded.ensure().url, namespace)
    store.run("HSET", store.key("large"), "a", b"x" * 3_000_000, "b", b"")
    values = store.bulk("large", ["a", "absent", "b", b"a"])
    assert [value if value is None else len(value) for value in values] == [3_000_000, None, 0, 3_000_000]
    assert bytes(values[0]) == b"x" * 3_000_000
    assert store.run("PING") == b"PONG"
    store.run("SET", store.key("text"), "x")
    with pytest.raises(errors.ServerError, match="WRONGTYPE"):
        store.bulk("text", ["a"])
    assert store.run("PING") == b"PONG"
    assert len(store._idle) == 1
    store.run("CLIENT", "KILL", "ID", store.run("CLIENT", "ID"), "SKIPME", "no")
    assert len(store.bulk("large", ["a"])[0]) == 3_000_000
    store.run("DEL", store.key("large"), store.key("text"))
    store.close()


def test_the_embedded_server_is_reached_without_redis(q, worker):
    """It takes longer to import than all else of a first result together."""
    code = (
        "import sys\nfrom nbqueue import Queue\nq = Queue(namespace=sys.argv[1], progress=False)\n"
        "print(q.enqueue(abs, -1).result(), 'redis' in sys.modules, q.connection.ping(), 'redis' in sys.modules)"
    )
    command = [sys.executable, "-c", code, q.session.namespace]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "1 False True True\n"
