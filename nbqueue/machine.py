"""This machine and its processes: how many CPUs and how much memory may be used, what kind of disk holds a directory,
which time zone it is in, who is alive, and how a process died, in words.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType


def name() -> str:
    """The host's name."""
    return socket.gethostname()


def identity() -> str:
    """Equal for processes that see each other's ids: the same boot of the same machine or container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = Path("/proc/self/ns/pid").readlink().name
    except OSError:  # not Linux
        return f"{socket.gethostname()}"
    return f"{boot}/{space}"


def cpus() -> int:
    """The CPUs that this process may use: its affinity, and the share that a container allows."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(count, round(quota))) if quota else max(1, count)


def _quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if limit in ("max", "-1"):
        return None
    return int(limit) / int(period)


def memory(groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that this process may use: the machine's, or the least limit of the cgroups it is in."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for line in groups.read_text().splitlines() if groups.exists() else ():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = mount, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = mount / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for level in (group, *group.parents):  # inside a container only the last ones can be seen
            if level.is_relative_to(root):
                limits += _number_in(level / name)
    return min(limits)


def _number_in(path: Path) -> list[int]:
    try:
        return [int(path.read_text())]
    except (OSError, ValueError):  # not there, or 'max'
        return []


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds `path`; empty where nobody says (macOS)."""
    deepest, kind = 0, ""
    for line in mounts.read_text(errors="surrogateescape").splitlines() if mounts.exists() else ():
        _, point, found, *_ = line.split(" ")
        where = Path(point.replace("\\040", " "))
        if path.is_relative_to(where) and len(where.parts) >= deepest:
            deepest, kind = len(where.parts), found
    return kind


def time_zone(localtime: Path = Path("/etc/localtime"), timezone: Path = Path("/etc/timezone")) -> str | None:
    """The name of this process's time zone in the IANA's database; None if that cannot be told."""
    import zoneinfo  # here, because most processes do not need it
    from datetime import datetime, timedelta

    now = time.time()
    for name in _zone_names(localtime, timezone):
        with contextlib.suppress(LookupError, ValueError, OSError):  # there is no such zone
            zone = zoneinfo.ZoneInfo(name)
            offsets = {
                datetime.fromtimestamp(moment, zone).utcoffset() == timedelta(seconds=time.localtime(moment).tm_gmtoff)
                for moment in (now, now + 183 * 86400)
            }
            if offsets == {True}:  # else the process has read another one
                return "UTC" if name == "Etc/UTC" else name
    return None


def _zone_names(localtime: Path, timezone: Path) -> Iterator[str]:
    """What may be the name of the time zone."""
    chosen = os.environ.get("TZ")
    if chosen is not None:
        yield chosen.removeprefix(":").rpartition("zoneinfo/")[2] or "UTC"
        return
    yield str(localtime.resolve()).rpartition("zoneinfo/")[2]
    with contextlib.suppress(OSError, UnicodeDecodeError):
        yield timezone.read_text().strip()
    yield "UTC"


def added_path() -> list[str]:
    """Entries of `sys.path` that are not of the installation, as absolute paths."""
    own = tuple({f"{prefix}{os.sep}" for prefix in (sys.prefix, sys.base_prefix, sys.exec_prefix)})
    entries = [entry for entry in sys.path if isinstance(entry, str) and entry]  # imports pass over all others, too
    return [str(Path(entry).absolute()) for entry in entries if not entry.startswith(own)]


def started(pid: int) -> str:
    """Tells a process from a later one of the same id; '' where that cannot be known."""
    import psutil

    # On Linux seconds since the boot: those since the epoch change when the clock is set, and it would seem to be dead.
    origin = psutil.boot_time() if sys.platform == "linux" else 0.0
    try:
        return f"{psutil.Process(pid).create_time() - origin:.2f}"
    except psutil.Error:
        return ""


def is_alive(pid: int, since: str) -> bool:
    """Whether the process that had this id and start still runs; a zombie does not."""
    is_another_users = False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        is_another_users = True
    import psutil

    try:
        is_running = psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return is_another_users  # whose processes /proc may hide
    return is_running and (not since or started(pid) in (since, ""))


def end_of(pid: int) -> int | None:
    """A descriptor that can be read when a process has ended; None where the system has no such."""
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def kill_tree(pid: int) -> None:
    """Kill a process and all that it started, directly or not."""
    import psutil

    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    found: list[psutil.Process] = []
    new = [root]
    while new:
        for process in new:
            with contextlib.suppress(psutil.Error):  # it has just ended, or is another user's, as under sudo
                process.suspend()  # so that it starts no more while it is looked for
        found += new
        try:
            new = [child for child in root.children(recursive=True) if child not in found]
        except psutil.Error:  # it has just ended
            break
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()


def interrupt_group() -> None:
    """Interrupt the other processes of this process's group, as Ctrl-C does in a terminal. For the main thread."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        os.killpg(0, signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, former)


_STARTING = {
    ("subprocess", "Popen.__init__"),
    ("multiprocessing.process", "BaseProcess.start"),
    ("pexpect.pty_spawn", "spawn.__init__"),
    ("ptyprocess.ptyprocess", "PtyProcess.spawn"),
    ("pty", "fork"),
}


def is_starting_process(frame: FrameType | None) -> bool:
    """Whether a process is just being started there: after an exception now it would run on, known to nobody."""
    while frame is not None:
        if (frame.f_globals.get("__name__"), frame.f_code.co_qualname) in _STARTING:
            return True
        frame = frame.f_back
    return False


def commands() -> Iterator[tuple[int, str]]:
    """Pid and command line of each process of this user; on Linux of those that see the same files as this one."""
    import psutil

    here = _mounts_of("self")
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid() and _mounts_of(str(process.pid)) == here:
                yield process.pid, " ".join(process.cmdline()).strip()
        except psutil.Error:  # it has ended
            continue


def _mounts_of(process: str) -> str:
    """Equal for processes that see the same file systems."""
    try:
        return str(Path("/proc", process, "ns", "mnt").readlink())
    except OSError:  # not Linux, or a kernel without them
        return ""


def memory_kills() -> int:
    """The number of processes that the kernel has killed for memory since it started; 0 where it does not tell."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def memory_of(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where that is not told."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def is_short_of_memory(pids: Iterable[int]) -> bool:
    """Whether less than a tenth of the memory is free, or some processes hold more than half of what may be used."""
    import psutil

    limit = memory()
    return psutil.virtual_memory().available < limit / 10 or sum(map(memory_of, pids)) > limit / 2


def own_memory() -> int:
    """Bytes of memory that are this process's alone; 0 where that is not known."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - for calls of functions; `Path` takes longer
            _, resident, shared, *_ = file.read().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def death_in_words(returncode: int, memory_kills: int) -> str:
    """The death of a process, in words.

    Parameters
    ----------
    returncode : int
        As `subprocess` has it: negative for a signal.
    memory_kills : int
        Processes that the kernel has killed for memory meanwhile.
    """
    if returncode >= 0:
        return f"its process ended itself with exit code {returncode} (os._exit or a crash of a library)"
    number = -returncode
    if number == signal.SIGKILL and memory_kills:
        return "the kernel killed its process for memory (signal 9)"
    words = {signal.SIGSEGV: "segmentation fault", signal.SIGABRT: "abort", signal.SIGBUS: "bus error",
             signal.SIGFPE: "arithmetic error", signal.SIGILL: "illegal instruction"}  # fmt: skip
    try:
        called = signal.Signals(number).name
    except ValueError:
        called = "unknown"
    if number in words:
        return f"its process died of a {words[signal.Signals(number)]} (signal {number}, {called})"
    return f"its process was killed by signal {number} ({called})"


def threads_each(children: int) -> dict[str, str]:
    """The settings that share the CPUs out among the BLAS and OpenMP threads of children, where the user set none."""
    share = str(max(1, cpus() // children))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
             "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS")  # fmt: skip
    return {name: share for name in names if name not in os.environ}


def hash_seed() -> dict[str, str]:
    """The setting that makes `hash` of a text, and so the order of sets, the same in all children of an environment."""
    return {} if "PYTHONHASHSEED" in os.environ else {"PYTHONHASHSEED": "0"}


def python() -> str:
    """The version of this interpreter: '3.11.7'."""
    return f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
