"""Records of functions that take the place of others: what jobs run with that are run again with a mended function.

The calls stay as they were signed. What stands in for their function is signed for their batch.
"""

from __future__ import annotations

from dataclasses import dataclass

from nbqueue.payload.records import SEPARATE, Blob
from nbqueue.payload.seal import Seal


@dataclass(frozen=True, slots=True)
class Mended:
    """The function that jobs run with instead of that of their calls."""

    function: bytes
    """Its digest."""
    modules: str = ""
    """The digest of the local modules that it finds, as text; '' if there are none."""


def pack_mended(seal: Seal, batch: str, mended: Mended) -> bytes:
    """The record of a function for jobs of a batch: of the same one it is the same."""
    digests = [mended.function, *([bytes.fromhex(mended.modules)] if mended.modules else [])]
    return seal.close(b"mended", batch, 0, SEPARATE, 1, digests, [])


def unpack_mended(seal: Seal, batch: str, record: Blob) -> Mended:
    """The function of a record.

    Raises
    ------
    SignatureError, CorruptPayload
    """
    function, *modules = seal.open(b"mended", batch, 0, record).digests
    return Mended(function, modules[0].hex() if modules else "")
