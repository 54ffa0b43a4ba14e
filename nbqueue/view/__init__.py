"""What can be seen, as plain data, for all faces: the terminal, the notebook, programs.

Reads and changes nothing. Holds no HTML and draws nothing: `command/terminal.py` and `notebook/markup.py` do.

Read `seen.py` first.
"""
