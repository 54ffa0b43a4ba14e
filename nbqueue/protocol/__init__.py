"""What a worker and its children say to each other, and nothing else: both sides import it, neither the other.

Messages over a socket (`messages.py`), memory that both map (`page.py`), and in it the ring through which text goes
that jobs print (`ring.py`); pipes for what is written past Python (`descriptors.py`). Nothing here is unpickled.

Read `messages.py` first.
"""
