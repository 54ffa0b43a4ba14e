"""The command line: `nbqueue worker | server | demo | info | batch | cancel | retry | empty`.

Parses, calls, prints. Read `cli.py` first; `terminal.py` writes what is seen; `worker.py` is `nbqueue worker`, and for
scripts the class `Worker`.
"""
