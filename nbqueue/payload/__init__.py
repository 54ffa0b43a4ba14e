"""The bytes that travel: functions, calls and outcomes, pickled, signed and verified.

Owns cloudpickle (`pickling.py`) and the key (`seal.py`, which signs and verifies). Knows nothing of Redis, of
processes, or of who asks: bytes and objects in, objects and bytes out. A record is verified before anything in it is
unpickled.

Read `records.py` first: its table describes every record, and all else stands on it. `calls.py`, `outcomes.py` (both
many in one record), `functions.py` (with their digests) and `variables.py` are the four things that are packed, the
last two with the `sources.py` of their code; `mended.py` names functions that stand in for others, `callbacks.py`
what is called after jobs; `explain.py` finds the part of an object that cannot be. What a batch has beside its
functions are records of their own: `modules.py` (sources of local modules), `surroundings.py` (settings), and
`values.py` (large arguments that come again; results that calls take). `serializers.py` has those that a user chose
instead of ours. Large bodies lie in `files.py`, beside the embedded server; `versions.py` compares packages.

How objects come back as what they were: `classes.py` (never touching one that is there), `exceptions.py` (without their
constructors), `random_streams.py`, `stored_names.py` (what files name), and for all of them `scope.py`, the `__main__`
that they are loaded into. Imports go memory, records, files, seal, these, pickling, explain, sources, then what is
packed.
"""
