"""Signatures: what is opened, and what is refused before anything in it is unpickled."""

from __future__ import annotations

import pytest
from conftest import wait_until

from nbqueue import errors
from nbqueue.payload import records
from nbqueue.payload.calls import Calls, pack_items
from nbqueue.payload.functions import pack_code, unpack_code
from nbqueue.payload.memory import Buffers
from nbqueue.payload.outcomes import Outcomes, pack_outcomes
from nbqueue.payload.records import SEPARATE, digest_of, functions_of, pieces_of
from nbqueue.payload.seal import Seal

SEAL = Seal(b"k" * 32, "space")


def test_what_is_closed_is_opened_at_its_place():
    record = SEAL.close(b"calls", "batch", 8, SEPARATE, 3, [b"d" * 16], [b"body", memoryview(b" and more")])
    opened = SEAL.open(b"calls", "batch", 8, record)
    assert (opened.layout, opened.count, opened.digests) == (SEPARATE, 3, [b"d" * 16])
    assert bytes(opened.body) == b"body and more"
    assert opened.signature in record


@pytest.mark.parametrize("size", [0, 10, 4095, 4096, 70_000, 1_000_000])
def test_a_record_is_the_same_in_memory_that_is_used_again(size):
    place = b"calls", "batch", 8, SEPARATE, 1, [b"d" * 16], [b"x" * size, b"", b"y" * size]
    buffers = Buffers()
    for _ in range(3):
        assert bytes(SEAL.close_in(buffers, *place)) == SEAL.close(*place) == SEAL.close_in(None, *place)


def test_what_no_server_would_take_is_refused_with_a_way_out(monkeypatch):
    monkeypatch.setattr("nbqueue.payload.seal._MOST", 100_000)
    for buffers in (None, Buffers()):
        with pytest.raises(errors.PayloadError, match="calls of batch:8: 0 MB pickled, and a server.*pass its path"):
            SEAL.close_in(buffers, b"calls", "batch", 8, SEPARATE, 1, [b"d" * 16], [b"x" * 100_001])
    assert SEAL.close(b"calls", "batch", 8, SEPARATE, 1, [b"d" * 16], [b"x" * 100_000])


@pytest.mark.parametrize("place", [("other", 8), ("batch", 0)])
def test_a_record_in_another_place_is_refused(place):
    record = pack_items(SEAL, "batch", 8, b"d" * 16, [1])
    with pytest.raises(errors.SignatureError):
        Calls(SEAL, *place, record)


def test_a_record_of_another_kind_is_refused():
    record = pack_items(SEAL, "batch", 8, b"d" * 16, [1])
    with pytest.raises(errors.SignatureError):
        Outcomes(SEAL, "batch", 8, record)


def test_a_changed_record_another_key_or_namespace_is_refused():
    record = pack_items(SEAL, "batch", 8, b"d" * 16, [1])
    for position in range(1, len(record)):
        changed = record[:position] + bytes([record[position] ^ 1]) + record[position + 1 :]
        with pytest.raises((errors.SignatureError, errors.CorruptPayload)):
            Calls(SEAL, "batch", 8, changed)
    for seal in (Seal(b"other", "space"), Seal(b"k" * 32, "elsewhere")):
        with pytest.raises(errors.SignatureError):
            Calls(seal, "batch", 8, record)
    with pytest.raises(errors.CorruptPayload):
        Calls(SEAL, "batch", 8, b"\x01")


@pytest.fixture
def older(monkeypatch):
    """What a function returns that packs records, as an older version would have signed them."""

    def call(pack, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(records, "VERSION", 1)
            return pack(*args, **kwargs)

    return call


def test_what_an_older_version_wrote_is_told_in_words(older):
    calls = older(pack_items, SEAL, "batch", 8, b"d" * 16, [1])
    outcomes = older(pack_outcomes, SEAL, "batch", 8, [1], [0.1], started=1.0, worker="w")
    code = older(pack_code, SEAL, lambda: 1)
    assert calls[0] == outcomes[0] == code.record[0] == 1
    assert functions_of(calls) == [b"d" * 16]
    words = (
        "the batch was submitted by an older nbqueue, in format 1, and this one reads format 4. Submit it again, or "
        "read it with the nbqueue that it was submitted with"
    )
    with pytest.raises(errors.CorruptPayload, match=f"calls of batch:8: {words}"):
        Calls(SEAL, "batch", 8, calls)
    with pytest.raises(errors.CorruptPayload, match=f"outcomes of batch:8: {words}"):
        Outcomes(SEAL, "batch", 8, outcomes)
    with pytest.raises(errors.CorruptPayload, match=f"code: {words}"):
        unpack_code(SEAL, code.digest, code.record)


def test_no_piece_of_a_function_is_empty(monkeypatch):
    body = [bytes(10_000)]
    record, _ = SEAL.close_stored(b"code", body)
    monkeypatch.setattr("nbqueue.payload.seal.PIECE", len(record))
    monkeypatch.setattr("nbqueue.payload.records.PIECE", len(record))
    assert not pieces_of(record)[-1]
    longer, _ = SEAL.close_stored(b"code", body)
    assert all(pieces_of(longer))
    opened = SEAL.open_stored(b"code", digest_of(longer), longer, "another")
    assert bytes(opened.body[: len(body[0])]) == body[0]


def test_a_job_that_an_older_version_submitted_fails_with_these_words(q, workers, older):
    batch = q.map(abs, [-1, -2, -3])
    calls = q.store.key(f"batch:{batch.id}:calls")
    fields = q.store.run("HKEYS", calls)
    (digest,) = functions_of(q.store.run("HGET", calls, fields[0]))
    assert fields == [b"b0"]
    q.store.run("HSET", calls, "b0", older(pack_items, q.seal, batch.id, 0, digest, [-1, -2, -3]))
    workers.start()
    assert batch.wait(20).counts["failed"] == 3
    (group,) = batch.failures()
    assert (group.type, group.count) == ("CorruptPayload", 3)
    for job in batch.jobs:
        with pytest.raises(errors.CorruptPayload, match=f"calls of {batch.id}:0: .*older nbqueue, in format 1.*again"):
            job.result(timeout=20)
    assert q.map(abs, [-4]).results(timeout=20) == [4]


def test_an_outcome_that_an_older_version_wrote_is_told_to_whoever_reads_it(q, worker, older):
    batch = q.map(abs, [-1]).wait(20)
    outcomes = q.store.key(f"batch:{batch.id}:outcomes")
    (field,) = wait_until(lambda: q.store.run("HKEYS", outcomes))
    record = older(pack_outcomes, q.seal, batch.id, 0, [1], [0.1], started=1.0, worker="w")
    q.store.run("HSET", outcomes, field, record)
    with pytest.raises(errors.CorruptPayload, match="older nbqueue, in format 1"):
        q.batch(batch.id).results()
