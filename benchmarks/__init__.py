"""How fast nbqueue is, measured beside what else runs functions in two processes: `python -m benchmarks`.

In the order of reading: `__main__` runs the parts, `ours` and `others` measure (each part in a process of its own),
`figures` is what they report, `stage` starts and ends servers and processes, `table` prints.
"""
