"""``python -m bench [--quick] [--peers] [--rounds N] [--cpus A,B] [--json] [--out FILE] [NAME...]``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import msgspec

from bench.cfloor import FLAGS, compiler
from bench.report import Report, clock_note
from bench.settings import BenchFailed, BenchSkipped, Settings, captures_path

BENCHES = ("books", "mexc", "hop", "detection", "scan", "journal", "log", "orders", "symbols", "start")


def run_all(settings: Settings, names: tuple[str, ...] = BENCHES) -> Report:
    """Every named bench; what this host cannot do is in ``skipped``. Raises ``BenchFailed`` for a wrong result."""
    report = Report()
    found = compiler()
    report.notes.append(f"floors: {found[1]}, {' '.join(FLAGS)}" if found else "floors: none, no C compiler here")
    report.notes.append(clock_note())
    for name in names:
        try:
            importlib.import_module(f"bench.{name}").run(settings, report)
        except BenchSkipped as skipped:
            report.skipped[name] = str(skipped)
    return report


def _cpus(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 a result is wrong, 2 bad usage."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything in less than a minute")
    parser.add_argument("--tiny", action="store_true", help="does it work at all (numbers mean nothing)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHES)}; none = all")
    parser.add_argument("--peers", action="store_true", help="beside what else is installed and does the same")
    parser.add_argument("--rounds", type=int, default=0, help="alternating rounds (quick 3, full 7)")
    parser.add_argument("--cpus", type=_cpus, default=(), help="the two CPUs of the hop")
    parser.add_argument("--captures", type=Path, default=None, help="recorded messages (default: ARB_CAPTURES)")
    parser.add_argument("--json", action="store_true", help="JSON alone on stdout, the table on stderr")
    parser.add_argument("--out", type=Path, default=None, help="the JSON also into this file")
    options = parser.parse_args(arguments)
    names = tuple(options.names) or BENCHES
    unknown = sorted(set(names) - set(BENCHES))
    if unknown and options.json:
        print(msgspec.json.encode({"error": f"unknown benches: {', '.join(unknown)}", "exit": 2}).decode())
    if unknown or options.rounds < 0 or len(options.cpus) not in (0, 2):
        parser.error(f"unknown benches: {unknown}" if unknown else "rounds must be positive, cpus two numbers")
    size = 0 if options.tiny else 1 if options.quick else 2
    settings = Settings(
        size=size,
        rounds=options.rounds or (1, 3, 7)[size],
        captures=options.captures or captures_path(),
        cpus=options.cpus,
        peers=options.peers,
    )
    try:
        report = run_all(settings, names)
    except BenchFailed as failed:
        print(f"bench failed: {failed}", file=sys.stderr)
        if options.json:
            print(msgspec.json.encode({"error": str(failed), "exit": 1}).decode())
        return 1
    encoded = msgspec.json.encode(report.json()).decode()
    print(report.table(), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(encoded)
    if options.out is not None:
        options.out.write_text(encoded + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
