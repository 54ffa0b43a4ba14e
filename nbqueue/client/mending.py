"""Running again with a mended function: which function is replaced, and that one has changed since it was submitted."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any

from nbqueue import errors
from nbqueue.client.handle import Handle
from nbqueue.client.named import function_of
from nbqueue.client.session import Session
from nbqueue.payload.calls import Calls
from nbqueue.payload.functions import Code, name_of, unpack_code
from nbqueue.payload.mended import Mended, pack_mended, unpack_mended
from nbqueue.payload.pickling import IMMUTABLE, names_read
from nbqueue.payload.records import DIGEST_SIZE
from nbqueue.store.description import BOUND, MANY, Description
from nbqueue.store.requests import looking, steering
from nbqueue.store.requests.looking import FunctionsOf

_MOST_COMPARED = 50_000_000
"""Bytes of a function that is loaded to see whether it has changed."""


def mend(batch: Handle, function: Any, index: int | None = None) -> int:
    """Give a batch a function for jobs that run again; returns its number there.

    Parameters
    ----------
    batch : Handle
    function : callable or str
    index : int, optional
        Of the only job that is meant.

    Raises
    ------
    UsageError
        It is not clear which function is to be replaced.
    CannotPickle, ServerFull, NotFound
    """
    session, described = batch.session, batch.description
    if described.cell is not None:
        raise errors.UsageError(f"batch {batch.id} is a cell of the notebook: submit it anew, as it stands there now")
    function = function_of(function)
    if index is None and described.calls == MANY:
        _check_that_there_is_one(batch, described)
    if described.calls == BOUND:
        function = _bound_as_before(batch, function, index)
    code = session.codes.pack(function, share=described.share)
    modules = session.codes.attached(code.imports, settings=False).modules
    record = pack_mended(session.seal, batch.id, Mended(code.digest, "" if modules is None else modules.digest.hex()))
    return _send(session, batch, record, [code] if modules is None else [code, modules])


def _send(session: Session, batch: Handle, record: bytes, needed: list[Code]) -> int:
    functions = session.codes.to_send([code.digest for code in needed])
    for _ in range(1 + len(functions)):
        answer = session.store.call(steering.mend(batch.id, record, functions))
        if answer.answer == "ok":
            session.codes.accepted(functions)
            return answer.number
        if answer.answer == "gone":
            session.state(batch.id)  # raises NotFound
        functions = session.codes.records(functions)
    raise errors.NotFound(f"the function could not be sent to batch {batch.id}: it goes from the server at once")


def _functions(batch: Handle) -> FunctionsOf:
    found = batch.session.store.call(looking.functions(batch.id))
    return found if found is not None else FunctionsOf([], None, [])


def _check_that_there_is_one(batch: Handle, described: Description) -> None:
    found = _functions(batch)
    others = set(described.digests)
    for record in found.mended:
        mended = unpack_mended(batch.session.seal, batch.id, record)
        others |= {mended.function, bytes.fromhex(mended.modules)}
    if len({digest for digest in found.digests if len(digest) == DIGEST_SIZE} - others) > 1:
        raise errors.UsageError(
            f"the jobs of batch {batch.id} call several functions, or share large arguments: which one is to be "
            "replaced cannot be told. Give each job its own, as in batch[17].retry(func=...)"
        )


def _bound_as_before(batch: Handle, function: Any, index: int | None) -> Any:
    """The arguments that all calls had in common were sent with the function, and stay."""
    digest = digest_of(batch, _functions(batch).index if index is None else index, as_submitted=True)
    record = None if digest is None else batch.session.store.function(digest)
    if digest is None or record is None:
        raise errors.ResultExpired(f"the function of batch {batch.id} is not in Redis any more")
    before = unpack_code(batch.session.seal, digest, record)
    if type(before) is not functools.partial or type(function) is functools.partial:
        return function
    return functools.partial(function, *before.args, **before.keywords)


def digest_of(batch: Handle, index: int | None, *, as_submitted: bool = False) -> bytes | None:
    """The digest of the function that a job runs with, or was submitted with; None if that is not known any more."""
    found = None if index is None else batch.session.store.calls(batch.id, index)
    if found is None or index is None:
        return None
    seal = batch.session.seal
    if found.mended and not as_submitted:
        return unpack_mended(seal, batch.id, found.mended).function
    if found.own:
        return Calls(seal, batch.id, index, found.own).digest_of(index)
    if found.block:
        first = index // found.per_block * found.per_block
        return Calls(seal, batch.id, first, found.block).digest_of(index)
    return None


# What has changed since


def change_of(batch: Handle, index: int | None = None) -> str:
    """What is said where the function of jobs that run again stands otherwise in this notebook than they run it; '' if
    it does not, or none of its name stands here.

    Parameters
    ----------
    batch : Handle
    index : int, optional
        Of the only job that is meant; else one of those that may run again.
    """
    main = sys.modules.get("__main__")
    described = batch.description
    if main is None or described.cell is not None or not _may_stand_in(main, described):
        return ""
    session = batch.session
    if index is None:
        index = _functions(batch).index
    digest = digest_of(batch, index)
    record = None if digest is None else session.store.function(digest)
    if digest is None or record is None or len(record) > _MOST_COMPARED:
        return ""
    try:
        before = unpack_code(session.seal, digest, record)
    except Exception:  # noqa: BLE001 - it is user code; the jobs tell it where they run, and that it may be mended
        return ""
    name = name_of(before)
    now = _standing_in(main, name)
    if now is None or not _differs(before, now):
        return ""
    called, what = ("batch", f"batch {batch.id}") if index is None or not described.is_single else ("job", "the job")
    return (
        f"{name}(), or what it refers to, has changed here since {what} was submitted, and what runs again runs as it "
        f"was submitted. {called}.retry(func={name}) runs it with what stands here now"
    )


def _may_stand_in(main: types.ModuleType, described: Description) -> bool:
    return described.is_single or described.calls == MANY or _standing_in(main, described.function) is not None


def _standing_in(main: types.ModuleType, name: str) -> Any:
    """What stands in the notebook under the name of a function, if it is one."""
    found: Any = main
    for part in name.split("."):
        found = vars(found).get(part) if isinstance(found, types.ModuleType | type) else None
    return found if isinstance(_plain(found), types.FunctionType) else None


def _plain(function: Any) -> Any:
    """The function that is called in the end."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType | staticmethod | classmethod):
            function = function.__func__
        elif hasattr(function, "__wrapped__") and not isinstance(function, types.FunctionType):
            function = function.__wrapped__
        else:
            return function


def _differs(before: Any, now: Any, seen: frozenset[tuple[int, int]] = frozenset()) -> bool:
    """Whether two functions have other code, or refer to functions or values of which that is so."""
    before, now = _plain(before), _plain(now)
    if (id(before), id(now)) in seen:
        return False
    if not isinstance(before, types.FunctionType) or not isinstance(now, types.FunctionType):
        return False
    if not _is_same_code(before.__code__, now.__code__):
        return True
    if not _is_same(before.__defaults__, now.__defaults__) or not _is_same(before.__kwdefaults__, now.__kwdefaults__):
        return True
    seen |= {(id(before), id(now))}
    ours, theirs = before.__globals__, now.__globals__
    names = [name for name in names_read(now.__code__) if name in ours]
    return any(_refers_to_other(ours[name], theirs.get(name), seen) for name in names)


def _refers_to_other(before: Any, now: Any, seen: frozenset[tuple[int, int]]) -> bool:
    if type(before) in IMMUTABLE:
        return not _is_same(before, now)
    return getattr(_plain(before), "__module__", None) == "__main__" and _differs(before, now, seen)


def _is_same(before: Any, now: Any) -> bool:
    try:
        return bool(before == now)
    except Exception:  # noqa: BLE001 - arrays and other objects of the user's, of which it cannot be said
        return True


def _is_same_code(before: types.CodeType, now: types.CodeType) -> bool:
    """Whether they do the same, wherever they stand."""
    names = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars", "co_flags", "co_argcount",
             "co_posonlyargcount", "co_kwonlyargcount")  # fmt: skip
    if any(getattr(before, name) != getattr(now, name) for name in names):
        return False
    if len(before.co_consts) != len(now.co_consts):
        return False
    return all(map(_is_same_constant, before.co_consts, now.co_consts))


def _is_same_constant(before: Any, now: Any) -> bool:
    if isinstance(before, types.CodeType) and isinstance(now, types.CodeType):
        return _is_same_code(before, now)
    return type(before) is type(now) and repr(before) == repr(now)
