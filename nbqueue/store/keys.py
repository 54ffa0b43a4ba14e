"""Ids and tokens."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def new_id() -> str:
    """Six characters that are easy to read and type; whether they are free, `submit` tells."""
    letters = "abcdefghjkmnpqrstuvwxyz"
    characters = letters + "23456789"
    return secrets.choice(letters) + "".join(secrets.choice(characters) for _ in range(5))


def new_token() -> str:
    """Tells one call from another."""
    return secrets.token_hex(8)
