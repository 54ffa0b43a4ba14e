"""`python -m benchmarks`: measure nbqueue and what else runs functions in two processes, and print the table.

Needs nbqueue installed, and `pip install -r benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import figures, others, ours, stage, table
from benchmarks.figures import WORKERS, Figure, Measure, Sizes, System

PARTS = (*ours.PARTS, "start", *others.SYSTEMS)
_PART_LIMIT = 600.0
"""Seconds after which a part is given up."""


def main() -> int:
    chosen = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in ("NBQUEUE_URL", "NBQUEUE_KEY", "NBQUEUE_ENVIRONMENT", "NBQUEUE_AUTOSTART"):
        os.environ.pop(name, None)
    sizes = figures.QUICK if chosen.quick else figures.FULL
    found: list[Figure] = []
    failed: list[str] = []
    with stage.temporary_root() as root:
        try:
            server = _run_ours(chosen, sizes, root, found, failed)
            _run_others(chosen, root, found, failed)
        except KeyboardInterrupt:
            print("interrupted: what was measured so far", file=sys.stderr)
            server, failed = "", [*failed, "the rest"]
    facts = table.facts(server)
    print(table.render(found, facts, sizes))
    if chosen.json:
        contents = {"facts": facts, "quick": chosen.quick, "figures": [figure.as_dict() for figure in found]}
        chosen.json.write_text(json.dumps(contents, indent=1) + "\n")
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; all, if none is given")
    parser.add_argument("--quick", action="store_true", help="small numbers: whether it works, not how fast it is")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    chosen = parser.parse_args()
    wrong = [part for part in chosen.parts if part not in PARTS]
    if wrong:
        parser.error(f"{', '.join(wrong)}: one of {', '.join(PARTS)} is accepted")
    chosen.parts = chosen.parts or list(PARTS)
    return chosen


def _run_ours(chosen: argparse.Namespace, sizes: Sizes, root: Path, found: list[Figure], failed: list[str]) -> str:
    """Measure nbqueue's parts; returns the name and version of its server."""
    with stage.embedded_server(root / "home", WORKERS):
        server = _server_version()
        for part in ours.PARTS:
            if part in chosen.parts:
                _run("benchmarks.ours", part, chosen.quick, found, failed)
        if "start" in chosen.parts:
            found.append(_start(Measure.START_WARM, [_first_result() for _ in range(sizes.starts)]))
    if "start" in chosen.parts:
        found.append(_start(Measure.START_COLD, list(_cold_starts(root, sizes.starts))))
    return server


def _run_others(chosen: argparse.Namespace, root: Path, found: list[Figure], failed: list[str]) -> None:
    for system in others.SYSTEMS:
        if system not in chosen.parts:
            continue
        if system not in others.NEED_SERVER:
            _run("benchmarks.others", system, chosen.quick, found, failed)
            continue
        with stage.plain_server(root / system) as url:
            os.environ["NBQUEUE_BENCHMARKS_URL"] = url
            _run("benchmarks.others", system, chosen.quick, found, failed)


def _run(module: str, part: str, quick: bool, found: list[Figure], failed: list[str]) -> None:
    """Run one part in a process of its own; one that fails does not keep the others from being measured."""
    print(f"{part} ...", end=" ", file=sys.stderr, flush=True)
    start = time.monotonic()
    try:
        lines = stage.run_part(module, part, *(["--quick"] if quick else []), limit=_PART_LIMIT)
    except subprocess.SubprocessError as error:
        print(f"failed: {error}", file=sys.stderr)
        failed.append(part)
        return
    found.extend(Figure.from_json(line) for line in lines)
    print(f"{time.monotonic() - start:.1f} s", file=sys.stderr)


def _first_result() -> float:
    """Milliseconds from the start of a fresh interpreter to its first result."""
    took, line = stage.seconds_to_first_line("benchmarks.first_result")
    figures.check([line], ["1"])
    return took * 1000


def _cold_starts(root: Path, starts: int) -> Iterator[float]:
    """The same where there is neither a server nor a worker nor a directory: it starts them all."""
    for i in range(starts):
        with stage.embedded_server(root / f"cold-{i}"):
            yield _first_result()


def _start(measure: Measure, samples: list[float]) -> Figure:
    return Figure.median(System.NBQUEUE, measure, samples, len(samples))


def _server_version() -> str:
    from nbqueue.server import embedded

    status = embedded.status()
    return f"{status.family} {status.version or ''}".strip()


if __name__ == "__main__":
    sys.exit(main())
