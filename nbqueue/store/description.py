"""What never changes of a batch, for workers and for those who look: written once, when it is submitted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbqueue import errors

MANY, ONE, BOUND = "", "one", "bound"
"""What the calls of a batch have in common: nothing that is known, their function, and that with some arguments."""


@dataclass(frozen=True, slots=True)
class CellDescription:
    """Which cell of a notebook runs in the background."""

    key: str = ""
    """Equal for runs of the same cell."""
    name: str = ""
    """The variable that is its job."""
    execution: str = ""
    """Which execution of a cell of the notebook submitted it."""
    returns: tuple[str, ...] = ()
    """Variables that come back."""


@dataclass(frozen=True, slots=True)
class RetryDescription:
    """How often a job runs again, when, and after which errors.

    Examples
    --------
    >>> RetryDescription(max=3, interval=(1.0, 10.0)).seconds_after(5)
    10.0
    >>> RetryDescription(max=3, interval=(1.0,), backoff=2.0, max_delay=3.0).seconds_after(2)
    2.0
    """

    max: int = 0
    interval: tuple[float, ...] = (0.0,)
    """Seconds after the first attempt, the second, ...; after further ones the last."""
    backoff: float = 1.0
    """Each time so many times as long."""
    max_delay: float | None = None
    jitter: float = 0.0
    """The part of it that is left to chance, from 0 to 1."""
    on: tuple[str, ...] = ()
    """Errors after which it runs again, `module:name` of their types; after all if empty."""

    def seconds_after(self, attempt: int, chance: float = 0.0) -> float:
        """Seconds between an attempt (from 1) that failed and the next one; `chance` is from 0 to 1."""
        seconds = self.interval[min(attempt, len(self.interval)) - 1]
        seconds *= self.backoff ** min(attempt - 1, 100)
        if self.max_delay is not None:
            seconds = min(seconds, self.max_delay)
        return seconds * (1 - self.jitter * chance)

    def is_for(self, kind: type[BaseException]) -> bool:
        """Whether a job runs again after an error of this type."""
        if not self.on:
            return issubclass(kind, Exception)
        return any(f"{base.__module__}:{base.__qualname__}" in self.on for base in kind.__mro__)


@dataclass(frozen=True, slots=True)
class Description:
    """A batch as its submitter described it.

    Examples
    --------
    >>> Description.from_json(Description(label="score", timeout=2.5).to_json()).timeout
    2.5
    """

    label: str = ""
    function: str = ""
    """The name of the function, or of what else is called."""
    calls: str = MANY
    """`ONE` if all call that, `BOUND` if some arguments are the same for all, and a part of it."""
    directory: str = ""
    """Where it was submitted; '' if that is not known."""
    path: tuple[str, ...] = ()
    """Entries of the submitter's `sys.path` that are not of its installation."""
    modules: str = ""
    """Digest of the local modules that its jobs run with, as hexadecimal; '' if there are none."""
    settings: str = ""
    """Digest of the settings that its jobs run with, in the same way."""
    serializer: str = ""
    """What makes bytes of arguments and results, if it is not ours: see `payload.serializers`."""
    compiled: tuple[str, ...] = ()
    """Local modules that do not travel, because they are compiled."""
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the packages that its functions refer to, where it was submitted to a server by its URL."""
    host: str = ""
    pid: int = 0
    notebook: str = ""
    """Path of the notebook that submitted it; '' if none did."""
    queue: str = ""
    is_single: bool = False
    """Single calls of several functions, appended one by one."""
    timeout: float | None = None
    """Seconds that a job may take."""
    ttl: float | None = None
    """Seconds after which a job is given up that still waits."""
    share: bool = False
    """Calls that run in the same process find what others have left in the function, its globals and closure."""
    seed: int | None = None
    """Of the random numbers of its jobs: each has a stream of its own, see `numpy.random.SeedSequence.spawn`."""
    retry: RetryDescription | None = None
    """Its jobs run again when they have failed."""
    repeat: RetryDescription | None = None
    """Its jobs run again when they have returned."""
    schedule: str = ""
    """The name of the schedule whose runs its jobs are."""
    callbacks: Mapping[str, tuple[str, float]] = dataclasses.field(default_factory=dict)
    """What is called after its jobs, by the name of the option: the digest of a function as hexadecimal, and the
    seconds that it may take."""
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """The user's own."""
    cell: CellDescription | None = None

    @property
    def digests(self) -> list[bytes]:
        """What its jobs need beside their functions."""
        found = [self.modules, self.settings, *(digest for digest, _ in self.callbacks.values())]
        return [bytes.fromhex(digest) for digest in found if digest]

    def to_json(self) -> str:
        """Only what is not the default.

        Raises
        ------
        WrongType
            `meta` holds what JSON cannot.
        """
        default = Description()
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        said = {name: value for name, value in fields.items() if value != getattr(default, name)}
        if self.cell is not None:
            said["cell"] = dataclasses.asdict(self.cell)
        for name in _RETRIES & said.keys():
            said[name] = dataclasses.asdict(said[name])
        try:
            return json.dumps(said)
        except TypeError as error:
            raise errors.WrongType(f"meta: only what JSON can hold is accepted ({error})") from None

    @classmethod
    def from_json(cls, text: str | bytes) -> Description:
        """What `to_json` wrote; what a later version said in addition is passed over.

        Raises
        ------
        ValueError
            It is not that.
        """
        said = json.loads(text)
        if not isinstance(said, dict):
            raise ValueError(f"{said!r:.40} is no description")
        known = {name: said[name] for name in said.keys() & _NAMES}
        if "cell" in known:
            cell = {name: value for name, value in known["cell"].items() if name in _CELL_NAMES}
            known["cell"] = CellDescription(**{**cell, "returns": tuple(cell.get("returns", ()))})
        for name in _RETRIES & known.keys():
            retry = {field: value for field, value in known[name].items() if field in _RETRY_NAMES}
            known[name] = RetryDescription(**retry | {field: tuple(retry[field]) for field in ("interval", "on")})
        if "callbacks" in known:
            known["callbacks"] = {name: tuple(callback) for name, callback in known["callbacks"].items()}
        lists = {name: tuple(known.get(name, ())) for name in ("path", "compiled")}
        return cls(**{**known, **lists})


_NAMES = {field.name for field in dataclasses.fields(Description)}
_RETRIES = {"retry", "repeat"}
"""Fields that are each a `RetryDescription`."""
_RETRY_NAMES = {field.name for field in dataclasses.fields(RetryDescription)}
_CELL_NAMES = {field.name for field in dataclasses.fields(CellDescription)}
