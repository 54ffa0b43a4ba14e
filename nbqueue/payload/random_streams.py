"""Random number generators that a function refers to: each call has a stream of its own.

A generator that was copied gives the same numbers in each call, which nobody wants. Instead of that it is seeded with
its state and the place of the call, by the method of `numpy.random.SeedSequence.spawn`: the same function gives the
same numbers whichever process runs it, and other ones in each call. Where a call is given a generator as an argument,
it is what it was.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

from nbqueue.payload.scope import entered


def reduce_generator(obj: Any) -> Any:
    """How a `numpy.random.Generator`, a `RandomState` or a `random.Random` is pickled."""
    make, arguments, *rest = obj.__reduce_ex__(2)
    state, setter = rest[0] if rest else None, rest[3] if len(rest) > 3 else None
    return _generator, (make, arguments, state, setter)


def _generator(make: Callable[..., Any], arguments: tuple[Any, ...], state: Any, setter: Any) -> Any:
    made = make(*arguments)
    if setter is not None:
        setter(made, state)
    elif state is not None:
        made.__setstate__(state)
    scope = entered()
    return made if scope is None or scope.stream is None else _own(made, scope.stream)


def _own(made: Any, stream: tuple[int, ...]) -> Any:
    if isinstance(made, random.Random):
        made.seed(_digest((made.getstate(), stream)))
        return made
    is_old = not hasattr(made, "bit_generator")
    bits = made._bit_generator if is_old else made.bit_generator
    import numpy as np  # there, as it was pickled

    sequence = np.random.SeedSequence(int.from_bytes(_digest(_told(bits.state)), "little"), spawn_key=stream)
    return type(made)(type(bits)(sequence))


def _told(state: Any) -> Any:
    """A state in values that are shown in full."""
    if isinstance(state, dict):
        return {name: _told(value) for name, value in sorted(state.items())}
    return state.tolist() if hasattr(state, "tolist") else state


def _digest(state: Any) -> bytes:
    return hashlib.sha256(repr(state).encode()).digest()
