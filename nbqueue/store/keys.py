"""The keys in Redis: their names, what they hold, and how that is written.

Every key begins with `nbq:{<namespace>}:`. Bytes that are pickled are signed (payload/seal.py).

| key                              | type   | holds                                                                       |
|----------------------------------|--------|-----------------------------------------------------------------------------|
| `batches`, `queue:<name>:batches` | zset  | batches by the time they were submitted: all, and those of a queue          |
| `queue:<name>:unfinished`        | zset   | those of them that have jobs to do, or get some                             |
| `expiring`, `expiring:jobs`      | zset,  | batches that have ended, by the time at which they expire; `finished failed |
|                                  | hash   | canceled queue environment` of each                                         |
| `open`                           | zset   | batches to which single calls are appended, by when they are closed (seconds |
|                                  |        | since the epoch): until then they end without what an end brings with it    |
| `batch:<id>`                     | hash   | what never changes (queue, environment, description, calls per block,...), |
|                                  |        | busy (us), flags, and counters: total, and the jobs in each state (queued,  |
|                                  |        | started, deferred, scheduled, finished, failed, canceled)                   |
| `batch:<id>:calls`               | hash   | `b<block>`: signed calls; `<index>`: a large call. Freed when more than     |
|                                  |        | 1,000 jobs have all finished                                                |
| `batch:<id>:queued`              | list   | runs that wait, in order: `10-40`; `s10-40` are suspect                     |
| `batch:<id>:outcomes`            | hash   | `b<block>` and `<index>`: signed outcomes, the job's own wins; `!...` are   |
|                                  |        | plain words, never unpickled; `@...` is the name of a field of the next one |
| `batch:<id>:calls:bulk`,         | hash   | records of 64 KB and more, which no script touches: written and read by     |
|   `:outcomes:bulk`               |        | plain commands (`<token>:<field>`, `<worker>:<lease>:<field>`); above 256 MB |
|                                  |        | in pieces: `<field>+1` and so on follow                                     |
| `batch:<id>:scheduled`           | zset   | runs that wait for a time, by that: seconds since the epoch                 |
| `batch:<id>:deferred`            | zset   | runs that wait for other jobs, by where they begin                          |
| `batch:<id>:unmet`, `:groups`    | hash,  | those that were submitted with the same dependencies, by the first index:   |
|                                  | zset   | `stop pending failed flags due names`; where such a group begins that has   |
|                                  |        | several jobs                                                                |
| `batch:<id>:dependents`,         | zset   | who waits for its jobs, or has failed because of them: `target batch start  |
|   `:failed_dependents`           |        | may`, by the index of the job; -1 for all (target `*`); may is `a` if it    |
|                                  |        | may fail                                                                    |
| `batch:<id>:followers`           | set    | batches whose jobs each wait for that of the same index here                |
| `batch:<id>:ttl`                 | zset   | runs that are given up if they still wait, by when that is: seconds since   |
|                                  |        | the epoch                                                                   |
| `batch:<id>:ended`               | list   | in the order of ending: `10-40`, `17`, `c10-40` (canceled), `r10-40` (undone) |
| `batch:<id>:canceled`            | list   | runs that were canceled                                                     |
| `batch:<id>:cancels`, `:passes`  | set    | leased jobs that shall be canceled when they come back; those of them whose |
|                                  |        | dependents shall start all the same                                         |
| `batch:<id>:failed`, `:broken`   | hash   | index -> digest of its error; of those that failed because of another job,  |
|                                  |        | which come back with that                                                   |
| `batch:<id>:errors`              | hash   | digest -> summary (JSON), `n:<digest>` -> how many                          |
| `batch:<id>:tries`               | hash   | `<index>:<attempt>` -> the outcome of an attempt after which the job ran    |
|                                  |        | again, as in `:outcomes`; the last 20 of a job                              |
| `batch:<id>:attempts`, `:deaths` | hash   | index -> how often it was started before, how often its process died since  |
|                                  |        | it was submitted or retried                                                 |
| `batch:<id>:output`              | stream | what jobs printed, made when there is some: `job`: `<index> <attempt> <bytes |
|                                  |        | before>`, then `stdout` or `stderr` and text, in turns. The newest 1,000    |
|                                  |        | entries of up to 1,000 bytes; of a job its first and last 32 KB             |
| `batch:<id>:shown`               | stream | Jupyter messages that a cell has put out: id `<start>-<number>`, type,      |
|                                  |        | content (JSON). Less those that later ones make superfluous; 10,000 at most |
| `batch:<id>:rich`                | hash   | `<index>:<position>` -> `<attempt> <JSON>`: what jobs that are no cells     |
|                                  |        | displayed, beside its text; up to 100 of a job and 64 MB, which are counted |
| `batch:<id>:meta`                | hash   | index -> what a job has saved of its `meta` (JSON)                          |
| `batch:<id>:mended`              | hash   | `f<number>` -> signed names of a function that was given to it since, and   |
|                                  |        | index -> the number of that which a job runs with instead of its call's     |
| `batch:<id>:callbacks`           | hash   | index -> `<attempt> <words>`: what went wrong in the callback of a job      |
| `batch:<id>:decided`             | hash   | index -> how a job ends (as in `:outcomes`; `-` canceled) that waits until  |
|                                  |        | its callback has been called in another process                             |
| `batch:<id>:forgotten`           | set    | jobs that were deleted; they stay counted in the state in which they ended  |
| `batch:<id>:deleted`             | string | token of a batch that was deleted: its submission is not taken again        |
| `code:<digest>`                  | string | a signed function; `:batches` (set) need it, `:ended` (string) lives as     |
|                                  |        | long as an ended batch may be run again with it. `code:<digest>01` and so   |
|                                  |        | on are further pieces of one above 256 MB                                   |
| `queue:<name>:<env>:jobs`        | hash   | the same counters of all its batches together, and how many these are       |
| `queues`, `queue:<name>:environments` | set | names of queues that have batches, and for which environments              |
| `queue:<name>:<env>:ready`       | zset   | batches from which a job can be taken now, by fair-share tag (microseconds) |
| `queue:<name>:<env>:scheduled`   | zset   | batches that have runs which wait for a time, by when the first of these is |
|                                  |        | due; and schedules that are not paused, as `*<schedule>`, by when they are  |
| `queue:<name>:<env>:ttl`         | zset   | batches that have such runs, by when the first of these is given up         |
| `schedules`                      | set    | `<queue>:<schedule>`                                                        |
| `schedules:<queue>:<schedule>`   | hash   | when it recurs and is due, its signed call, and what its batches are made   |
|                                  |        | of; its batches (the newest first), last job, how many runs. It needs its   |
|                                  |        | functions as `*<queue>:<schedule>`                                          |
| `queue:<name>:<env>:clock`       | string | virtual time: the tag of the batch that was taken from last                 |
| `queue:<name>:<env>:wake`        | list   | at most one token, for which idle workers wait                              |
| `queue:<name>:<env>:parked`      | zset   | workers that have nothing to do, and may be handed a single job, by when    |
|                                  |        | they said so (milliseconds since the epoch)                                 |
| `queue:<name>:<env>:suspects`    | list   | `batch index`: jobs that run alone on a worker; `:worker` (string) is next  |
| `queue:<name>:<env>:starting`    | string | token of who starts the first worker, until it is there; for ten seconds     |
| `queue:<name>:paused`            | string | there while the queue is paused                                             |
| `settled`                        | list   | a work list: whose end is still to be told to those who wait for it:        |
|                                  |        | `batch start stop what`, see `lua/include/resolving.lua`                    |
| `suspended`                      | string | there while no worker takes anything                                        |
| `workers`                        | zset   | workers by the number of their last beat                                    |
| `worker:<id>`                    | hash   | its description; numbers of its beat, its last claim, its last output, and
|                                  |        | `parked`: of the lease for which it is parked, if it is above the last. Each |
|                                  |        | process has an id of its own; the `name` that people see may be others' too |
| `worker:<id>:leases`             | hash   | number -> `batch start stop cost kind`                                      |
| `worker:<id>:handed`             | list   | a job that was leased to it while it was parked: number, batch, index,       |
|                                  |        | description, record of the call                                             |
| `worker:<id>:orders`             | zset   | orders by number: `stop`, `cancel <batch> <lease>`, `cancel_job <batch>     |
|                                  |        | <index> <lease>`, where leases up to that number are meant                  |
| `named:<name>`                   | hash   | the batch whose job has this name of the user's, and since when. Kept as    |
|                                  |        | long as its results would be, and thirty days more                          |
| `submitting`                     | zset   | batches that are being submitted, by number of touches                      |

Each job is in exactly one place: in `deferred`, in `scheduled`, in `queued` (or `suspects`), in a lease, or ended (an
outcome, or
`canceled`).
Channels: `batch:<id>` tells what happened ('changed', 'outcome <index> <record>', 'ended', 'gone'), `worker:<id>`
that there are orders. They are hints: who waits reads the state.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from nbqueue.payload.files import CODE

SUSPENDED = "suspended"
WORKERS = "workers"
SUBMITTING = "submitting"


def prefix(namespace: str) -> bytes:
    """What all keys of a namespace begin with; a name from below follows."""
    return f"nbq:{{{namespace}}}:".encode()


WORKERS_OF_ANY = prefix("*") + WORKERS.encode()
"""A pattern: there is such a key for each namespace that has workers."""


def namespace_of(key: bytes) -> str:
    return key.decode().removeprefix("nbq:{").partition("}:")[0]


def batch(id: str) -> str:
    """A batch, and the channel that tells what happens to it."""
    return f"batch:{id}"


def batch_of(channel: str) -> str:
    return channel.removeprefix(batch(""))


def calls(id: str) -> str:
    return f"{batch(id)}:calls"


def calls_bulk(id: str) -> str:
    return f"{batch(id)}:calls:bulk"


def queued(id: str) -> str:
    return f"{batch(id)}:queued"


def outcomes_bulk(id: str) -> str:
    return f"{batch(id)}:outcomes:bulk"


def scheduled(id: str) -> str:
    return f"{batch(id)}:scheduled"


def tries(id: str) -> str:
    return f"{batch(id)}:tries"


def ended(id: str) -> str:
    return f"{batch(id)}:ended"


def failed(id: str) -> str:
    return f"{batch(id)}:failed"


def broken(id: str) -> str:
    return f"{batch(id)}:broken"


def failures(id: str) -> str:
    return f"{batch(id)}:errors"


def output(id: str) -> str:
    return f"{batch(id)}:output"


def shown(id: str) -> str:
    return f"{batch(id)}:shown"


def meta(id: str) -> str:
    return f"{batch(id)}:meta"


def callbacks(id: str) -> str:
    return f"{batch(id)}:callbacks"


def named(name: str) -> str:
    """A name of the user's for a job."""
    return f"named:{name}"


def rich(id: str) -> str:
    return f"{batch(id)}:rich"


def code(digest: bytes) -> str:
    return f"{CODE}:{digest.hex()}"


def of_large(name: str) -> list[str]:
    """The keys that a file of a large value belongs to: see `payload.files.Known`."""
    owner, _, part = name.partition("/")
    if owner == CODE:
        return [f"{CODE}:{part}"]
    return [calls(owner), calls_bulk(owner)] if part else [batch(owner)]


def piece(field: str, number: int) -> str:
    """The field of a piece of a large value; the first one is the value's own."""
    return f"{field}+{number}" if number else field


def code_piece(digest: bytes, number: int) -> bytes:
    """The digest under which a piece of what is stored by its digest is found; the first one is its own."""
    return digest + bytes([number]) if number else digest


def wake(queue: str, environment: str) -> str:
    return f"queue:{queue}:{environment}:wake"


def paused(queue: str) -> str:
    return f"queue:{queue}:paused"


def handed(id: str) -> str:
    """The job that a worker was handed."""
    return f"worker:{id}:handed"


def worker(id: str) -> str:
    """A worker, and the channel that tells that there are orders for it."""
    return f"worker:{id}"


IN_WORDS = b"!"
"""Begins the record of an outcome that is plain words (JSON), never unpickled."""
POINTER = b"@"
"""Begins the record of an outcome that says which field of `batch:<id>:outcomes:bulk` holds it."""

ENDED, CANCELED_RUN, UNDONE = "", "c", "r"
"""What an entry of `batch:<id>:ended` says of its jobs: they have an outcome, were canceled, are queued again."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """An entry of the list of what ended."""

    start: int
    stop: int
    what: str
    """ENDED, CANCELED_RUN or UNDONE."""

    @classmethod
    def read(cls, entry: bytes) -> EndedRun:
        """From its text: '17', '10-40', 'c10-40', 'r10-40'."""
        text = entry.decode()
        what = text[0] if text[0] in (CANCELED_RUN, UNDONE) else ENDED
        start, _, stop = text[len(what) :].partition("-")
        return cls(int(start), int(stop) if stop else int(start) + 1, what)


def read_run(entry: bytes) -> tuple[int, int]:
    """First index, and the index after the last one, of a run: '10-40', 's10-40', or of a single job: '17'."""
    start, _, stop = entry.decode().lstrip("s").partition("-")
    return int(start), int(stop) if stop else int(start) + 1


def new_id() -> str:
    """Six characters that are easy to read and type; whether they are free, `submit` tells."""
    letters = "abcdefghjkmnpqrstuvwxyz"
    characters = letters + "23456789"
    return secrets.choice(letters) + "".join(secrets.choice(characters) for _ in range(5))


def new_token() -> str:
    """Tells one call from another."""
    return secrets.token_hex(8)
