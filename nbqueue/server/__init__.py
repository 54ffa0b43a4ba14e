"""The embedded server: one Valkey (or Redis) process per user and machine, started by whoever needs it first.

Owns its program, its files, its options, its process and the key that payloads are signed with. Knows no batch and no
worker; speaks to the server only to see whether it answers, and to stop it.

Read `embedded.py` first: it finds the server or starts it, says how it is, and stops it. `place.py` lists the files,
and has the lock that decides which one of those who would start it at once does.
"""
