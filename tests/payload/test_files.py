"""Large bodies of records in files: what is written comes back, and what nobody needs is removed."""

from __future__ import annotations

import errno
import gc
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nbqueue import errors
from nbqueue.payload import files as module
from nbqueue.payload import memory
from nbqueue.payload.calls import Calls, pack_arguments, pack_entries, pack_items
from nbqueue.payload.files import Files, Usage, sweep, usage
from nbqueue.payload.functions import Opened, pack_code
from nbqueue.payload.outcomes import Failure, Outcomes, pack_failure, pack_outcomes
from nbqueue.payload.records import weight_of
from nbqueue.payload.seal import Seal

DIGEST = b"d" * 16


@pytest.fixture
def seal(tmp_path):
    return Seal(b"k" * 32, "a space", Files(tmp_path, "a space"))


def with_table():
    table = np.arange(50_000)
    return lambda: table


def names(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


def call_of(seal, *args, batch="abcdef", index=3):
    return pack_entries(seal, batch, index, [DIGEST], [pack_arguments(0, args, {})])


def test_a_large_call_is_in_a_file_that_its_record_names(seal, tmp_path):
    record = call_of(seal, np.arange(50_000.0))
    (name,) = names(tmp_path)
    assert name.startswith("a%20space/abcdef/calls-3-1-")
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / name).parent.stat().st_mode & 0o777 == 0o700
    assert len(record) < 200
    assert weight_of(record) > 400_000
    (array,) = Calls(seal, "abcdef", 3, record)[3][1]
    assert (array == np.arange(50_000.0)).all()


def test_small_ones_are_not(seal, tmp_path):
    record = call_of(seal, np.arange(5_000.0))
    assert weight_of(record) == len(record) > 40_000
    assert names(tmp_path) == []


def test_what_is_written_to_an_array_nobody_else_sees(seal):
    record = call_of(seal, np.zeros(50_000))
    calls = Calls(seal, "abcdef", 3, record)
    first, second = calls[3][1][0], calls[3][1][0]
    assert first.flags.writeable
    assert first.flags.aligned
    first[:] = 1
    assert not second.any()
    assert not Calls(seal, "abcdef", 3, record)[3][1][0].any()


def test_arrays_are_mapped_and_not_copied(seal):
    """100 readers of 8 MB grow by less than two of them would."""
    record = call_of(seal, np.ones(1_000_000))
    before = own_memory()
    arrays = [Calls(seal, "abcdef", 3, record)[3][1][0] for _ in range(100)]
    assert own_memory() - before < 16e6
    assert sum(array[7] for array in arrays) == 100


def own_memory():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return int(fields["RssAnon"].split()[0]) * 1024


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.complex128])
def test_several_arrays_of_a_call_are_aligned_all(seal, dtype):
    given = [np.arange(n).astype(dtype) for n in (70_001, 66_003, 500_007)]
    found = Calls(seal, "abcdef", 3, call_of(seal, *given))[3][1]
    for one, other in zip(given, found, strict=True):
        assert (one == other).all()
        assert other.flags.aligned
        assert other.ctypes.data % 64 == 0 or other.nbytes < 65_536


def test_large_values_that_are_no_arrays_too(seal, tmp_path):
    for value in ("x" * 100_000, b"y" * 100_000, list(range(50_000)), {"a": ["b" * 70_000]}):
        record = pack_outcomes(seal, "abcdef", 0, [value], [0.5], started=time.time(), worker="w")
        assert len(record) < 200
        outcomes = Outcomes(seal, "abcdef", 0, record)
        assert outcomes.value(0) == value
        assert outcomes.duration(0) == 0.5
    assert len(names(tmp_path)) == 4
    record = pack_items(seal, "abcdef", 0, DIGEST, ["x" * 100_000])
    assert Calls(seal, "abcdef", 0, record).atoms(range(1)) == ["x" * 100_000]


def test_neighbours_share_a_file_from_a_megabyte_on(seal, tmp_path):
    values = [np.full(20_000, number) for number in range(10)]
    record = pack_outcomes(seal, "abcdef", 0, values, [0.5] * 10, started=time.time(), worker="w")
    assert len(names(tmp_path)) == 1
    for once in (True, False):
        outcomes = Outcomes(seal, "abcdef", 0, record, once=once)
        assert [int(outcomes.value(index)[-1]) for index in range(10)] == [*range(10)]
    first, again = (Outcomes(seal, "abcdef", 0, record).value(4) for _ in range(2))
    first[:] = 77
    assert again[0] == 4


def test_equal_functions_are_in_one_file(seal, tmp_path):
    table = np.arange(100_000)
    first, second = (pack_code(seal, lambda: table) for _ in range(2))
    assert first.digest == second.digest
    assert names(tmp_path) == [f"a%20space/code/{first.digest.hex()}"]
    opened = Opened(seal, first.digest, first.record)
    one, other = opened.load()(), opened.load()()
    one[0] = 5
    assert other[0] == 0


def test_what_was_packed_before_is_known_again_by_what_its_file_holds(seal):
    table = np.arange(100_000)

    def function():
        return table

    first = pack_code(seal, function)
    assert pack_code(seal, function, first) is first
    table[-1] = 0
    changed = pack_code(seal, function, first)
    assert changed.digest != first.digest
    table[-1] = 99_999
    assert pack_code(seal, function, changed).digest == first.digest


# What is refused


def test_a_file_that_is_gone_cut_or_open_to_others_is_told(seal, tmp_path):
    record = call_of(seal, np.arange(50_000))
    path = tmp_path / names(tmp_path)[0]
    path.chmod(0o622)
    with pytest.raises(errors.CorruptPayload, match=r"calls of abcdef:3: .*not the one that was written.*mode 622"):
        Calls(seal, "abcdef", 3, record)
    path.chmod(0o600)
    os.truncate(path, 1000)
    with pytest.raises(errors.CorruptPayload, match=r"calls of abcdef:3: .*1,000 bytes"):
        Calls(seal, "abcdef", 3, record)
    path.unlink()
    with pytest.raises(errors.CorruptPayload, match=r"calls of abcdef:3: .*cannot be read any more: No such file"):
        Calls(seal, "abcdef", 3, record)
    path.symlink_to("/etc/passwd")
    with pytest.raises(errors.CorruptPayload, match="not the one that was written"):
        Calls(seal, "abcdef", 3, record)


def test_a_record_that_names_another_file_is_refused(seal, tmp_path):
    record = bytearray(call_of(seal, np.arange(50_000)))
    for position in (len(record) - 1, len(record) - 10, len(record) - 24):
        changed = bytearray(record)
        changed[position] ^= 1
        with pytest.raises(errors.SignatureError):
            Calls(seal, "abcdef", 3, changed)
    with pytest.raises(errors.SignatureError):
        Calls(seal, "ghijkl", 3, bytes(record))


def test_who_has_no_files_is_told_where_they_are(seal):
    record = call_of(seal, np.arange(50_000))
    with pytest.raises(errors.CorruptPayload, match="in a file beside the embedded server.*without NBQUEUE_URL"):
        Calls(Seal(b"k" * 32, "a space"), "abcdef", 3, record)


def test_a_full_disk_is_told_and_nothing_is_left(seal, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(errors.ServerFull, match=r"0.4 MB cannot be stored: the disk of .* is full. Make room there"):
        call_of(seal, np.arange(50_000))
    assert names(tmp_path) == []


def test_the_last_part_of_the_disk_is_left_to_the_server(seal, tmp_path, monkeypatch):
    disk = os.statvfs(tmp_path)
    monkeypatch.setattr(module, "_RESERVED_PART", 1.0)
    monkeypatch.setattr(module, "_RESERVED", disk.f_bavail * disk.f_frsize)
    with pytest.raises(errors.ServerFull):
        call_of(seal, np.arange(50_000))
    assert names(tmp_path) == []


def test_what_interrupts_writing_leaves_nothing(seal, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call_of(seal, np.arange(50_000))
    assert names(tmp_path) == []


def test_a_directory_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    seal = Seal(b"k", "x", Files(tmp_path / "file", "x"))
    with pytest.raises(errors.ServerError, match=r"cannot be stored in .*file"):
        call_of(seal, np.arange(50_000))


def test_there_are_more_values_than_descriptors(seal):
    """Each mapping takes a descriptor: when half of them are taken, values are copied instead."""
    records = [call_of(seal, np.full(10_000, index), index=index) for index in range(200)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    gc.collect()
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(memory._mappings) * 2 + 100, limits[1]))
    try:
        arrays = [Calls(seal, "abcdef", index, record)[index][1][0] for index, record in enumerate(records)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for index, array in enumerate(arrays):
        assert array[-1] == index
        array[:] = 0
    assert Calls(seal, "abcdef", 7, records[7])[7][1][0][0] == 7


# What is removed


def everything(_, wanted):
    return [True] * len(wanted)


def nothing(_, wanted):
    return [False] * len(wanted)


def test_what_redis_knows_is_left_alone(seal, tmp_path):
    call_of(seal, np.arange(50_000))
    code = pack_code(seal, with_table())
    del code
    before = names(tmp_path)
    assert len(before) == 2
    assert sweep(tmp_path, everything, 0) == Usage()
    assert names(tmp_path) == before
    assert usage(tmp_path).number == 2
    assert usage(tmp_path).bytes > 800_000


def test_what_redis_does_not_know_is_removed_after_a_while(seal, tmp_path):
    call_of(seal, np.arange(50_000))
    call_of(seal, np.arange(50_000), batch="ghijkl")
    pack_code(seal, with_table())
    asked = []

    def known(namespace, wanted):
        asked.append((namespace, wanted))
        return [False] * len(wanted)

    assert sweep(tmp_path, known) == Usage()
    assert asked == []
    removed = sweep(tmp_path, known, -1)
    assert removed.number == 3
    assert removed.bytes > 1_200_000
    assert {namespace for namespace, _ in asked} == {"a space"}
    assert ["abcdef", "abcdef/calls"] in [wanted for _, wanted in asked]
    assert names(tmp_path) == []
    assert [*(tmp_path / "a%20space").iterdir()] == []


def test_calls_go_before_outcomes(seal, tmp_path):
    call_of(seal, np.arange(50_000))
    pack_outcomes(seal, "abcdef", 3, [np.arange(50_000)], [0.5], started=1.0, worker="w")
    assert sweep(tmp_path, lambda _, wanted: [name == "abcdef" for name in wanted], -1).number == 1
    (name,) = names(tmp_path)
    assert "/outcomes-3-1-" in name


def test_code_that_a_client_holds_is_not_removed(seal, tmp_path):
    code = pack_code(seal, with_table())
    assert sweep(tmp_path, nothing, -1) == Usage()
    assert len(names(tmp_path)) == 1
    del code
    gc.collect()
    assert sweep(tmp_path, nothing, -1).number == 1


def test_code_that_was_removed_is_written_again(seal, tmp_path):
    table = np.arange(50_000)

    def function():
        return table

    first = pack_code(seal, function)
    (tmp_path / names(tmp_path)[0]).unlink()
    again = pack_code(seal, function)
    assert again.digest == first.digest
    assert Opened(seal, again.digest, again.record).load()()[-1] == 49_999


def test_what_a_writer_left_that_was_killed_is_removed(tmp_path):
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from nbqueue.payload import files\n"
        "write = files._write\n"
        "def half(descriptor, pieces):\n"
        "    write(descriptor, pieces[:2])\n"
        "    os.kill(os.getpid(), 9)\n"
        "files._write = half\n"
        "files.Files(Path(sys.argv[1]), 'x').write('abcdef/outcomes-0-1-00', [b'a' * 100_000, b'b'])\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)]).returncode == -9
    (name,) = names(tmp_path)
    assert name.endswith(".part")
    assert sweep(tmp_path, everything).number == 0
    assert sweep(tmp_path, everything, -1).number == 1
    assert names(tmp_path) == []


def test_a_deleted_job_takes_its_own_files_only(seal, tmp_path):
    for index in (1, 11):
        call_of(seal, np.arange(50_000), index=index)
    pack_outcomes(seal, "abcdef", 1, [np.arange(99_000)] * 2, [0.5] * 2, started=1.0, worker="w")
    seal.files.remove("abcdef", 1)
    assert [name.split("/")[-1].rpartition("-")[0] for name in names(tmp_path)] == ["calls-11-1", "outcomes-1-2"]
    seal.files.remove("abcdef")
    assert names(tmp_path) == []


def test_files_are_brought_to_the_disk_once(seal, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(module, "_sync_file", synced.append)
    call_of(seal, np.arange(50_000))
    now = time.time() + 1
    module.sync(tmp_path, now - 10, now)
    module.sync(tmp_path, now, now + 10)
    assert len(synced) == 1


def test_what_differs_where_no_sample_is_taken_is_another_file(seal, tmp_path):
    table = np.zeros(1_000_000)

    def function():
        return table

    first = pack_code(seal, function)
    table[5_000] = 1
    second = pack_code(seal, function)
    table[5_000] = 2
    third = pack_code(seal, function, second)
    assert len({code.digest for code in (first, second, third)}) == 3
    assert len(names(tmp_path)) == 3
    found = [Opened(seal, code.digest, code.record).load()()[5_000] for code in (first, second, third)]
    assert found == [0, 1, 2]
    table[5_000] = 0
    assert pack_code(seal, function).digest == first.digest


def test_what_children_keep_loaded_never_gets_the_digest_of_something_else(seal, tmp_path):
    """Also where the file of what came before was removed, so that nothing is there to compare with."""

    def function_with(text):
        scope = {"TEXT": text, "__name__": "__main__"}
        exec("def function():\n    return TEXT", scope)
        return scope["function"]

    digests = set()
    for position in (5_000, 70_000, 99_999):
        text = bytearray(200_000)
        text[position] = 1
        code = pack_code(seal, function_with(bytes(text)))
        digests.add(code.digest)
        for name in names(tmp_path):
            (tmp_path / name).unlink()
        del code
    assert len(digests) == 3


def test_a_function_whose_file_was_removed_by_hand_is_packed_again(seal, tmp_path):
    table = np.arange(50_000)

    def function():
        return table

    first = pack_code(seal, function)
    assert first.is_there
    (tmp_path / names(tmp_path)[0]).unlink()
    assert not first.is_there
    again = pack_code(seal, function, first)
    assert again.is_there
    assert Opened(seal, again.digest, again.record).load()()[-1] == 49_999


def test_how_a_job_failed_needs_no_file(seal, tmp_path):
    failure = Failure("E", "m" * 200_000, "t")
    record = pack_failure(seal, "abcdef", 1, failure, started=1.0, duration=1.0, worker="w", attempt=1)
    assert names(tmp_path) == []
    assert Outcomes(seal, "abcdef", 1, record).failure() == failure


def test_what_was_held_just_now_is_not_removed(seal, tmp_path):
    pack_code(seal, with_table())
    (name,) = names(tmp_path)
    os.utime(tmp_path / name, (1, 1))
    again = pack_code(seal, with_table())
    assert (tmp_path / name).stat().st_mtime > 1
    del again
    gc.collect()
    assert sweep(tmp_path, nothing, 100).number == 0
