"""What can be seen, as plain data, for all faces: the terminal, the notebook, programs.

Holds no HTML and draws nothing: `command/terminal.py` and `notebook/markup/` do. It only reads, but for one thing: who
follows a batch sees to it that somebody serves it.

Read `seen.py` first: a namespace at one moment. `shown.py` is what a panel shows, all its words for the
state of a batch included, `snapshot.py` reads that. `recurring.py` is a schedule. `words.py` writes numbers and times.
"""
