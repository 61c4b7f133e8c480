"""The suite: ``python -m bench [OPTIONS] [NAME...]``; ``--help`` lists them."""

from __future__ import annotations

import argparse
import cProfile
import importlib
import pstats
import re
import sys
from dataclasses import asdict
from pathlib import Path

import msgspec

from bench.cfloor import FLAGS, compiler
from bench.report import Report, clock_note, hgrm
from bench.results import compare, goals
from bench.settings import BadFile, BenchFailed, BenchSkipped, Settings, captures_path

BENCHES = ("books", "mexc", "hop", "detection", "scan", "journal", "log", "orders", "symbols", "start")
PROFILE_LINES = 40


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
    """Exit codes: 0 measured; 1 a result is wrong, a goal is missed (``--goals``) or a case got worse (``--compare``);
    2 bad usage, or no goal was measured and no case was compared at all."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.compare:
        return _compare(parser, options)
    names = tuple(options.names) or BENCHES
    if options.profile:
        names = (options.profile,)
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
        gc_on=options.gc_on,
    )
    profile = cProfile.Profile() if options.profile else None
    try:
        report = profile.runcall(run_all, settings, names) if profile else run_all(settings, names)
    except BenchFailed as failed:
        print(f"bench failed: {failed}", file=sys.stderr)
        if options.json:
            print(msgspec.json.encode({"error": str(failed), "exit": 1}).decode())
        return 1
    outcomes = goals.judged(report) if options.goals else []
    _write(report, outcomes, options, profile)
    if options.goals and goals.none_judged(outcomes):
        print("bench: no goal was measured; wanted captures (ARB_CAPTURES), a C compiler, --peers", file=sys.stderr)
        return 2
    return int(goals.missed(outcomes))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="everything in about two minutes")
    parser.add_argument("--tiny", action="store_true", help="does it work at all (numbers mean nothing)")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHES)}; none = all")
    parser.add_argument("--peers", action="store_true", help="beside what else is installed and does the same")
    parser.add_argument(
        "--goals", action="store_true", help="the goals next to the figures; exit code 1: one is missed"
    )
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two runs' JSON; exit code 1: a case got worse"
    )
    parser.add_argument("--profile", metavar="NAME", help="this bench under cProfile: where its Python time goes")
    parser.add_argument("--rounds", type=int, default=0, help="alternating rounds (quick 3, full 7)")
    parser.add_argument("--cpus", type=_cpus, default=(), help="the two CPUs of the hop")
    parser.add_argument(
        "--gc-on", action="store_true", help="orders: with the garbage collector, which the executor has off"
    )
    parser.add_argument("--captures", type=Path, default=None, help="recorded messages (default: ARB_CAPTURES)")
    parser.add_argument("--json", action="store_true", help="JSON alone on stdout, the table on stderr")
    parser.add_argument("--out", type=Path, default=None, help="the JSON also into this file")
    parser.add_argument("--hgrm", type=Path, default=None, metavar="DIR", help="every row's histogram, a file each")
    return parser


def _write(
    report: Report, outcomes: list[goals.Outcome], options: argparse.Namespace, profile: cProfile.Profile | None
) -> None:
    reported = report.json() | ({"goals": [asdict(outcome) for outcome in outcomes]} if options.goals else {})
    encoded = msgspec.json.encode(reported).decode()
    prose = sys.stderr if options.json else sys.stdout
    print(report.table(), file=prose)
    if options.goals:
        print(f"\n{goals.table(outcomes)}", file=prose)
    if profile is not None:
        pstats.Stats(profile, stream=prose).sort_stats("tottime").print_stats(PROFILE_LINES)
    if options.json:
        print(encoded)
    if options.out is not None:
        options.out.write_text(encoded + "\n", encoding="utf-8")
    if options.hgrm is not None:
        options.hgrm.mkdir(parents=True, exist_ok=True)
        for row in report.rows:
            name = re.sub(r"[^A-Za-z0-9.]+", "_", f"{row.bench}.{row.case}.{row.who}")
            (options.hgrm / f"{name}.hgrm").write_text(hgrm(row), encoding="utf-8")


def _compare(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        old, new = (compare.read(path) for path in options.compare)
    except BadFile as error:
        parser.error(str(error))
    found = compare.changes(old, new)
    print(compare.table(old, new, found), file=sys.stderr if options.json else sys.stdout)
    if options.json:
        rows = [{"case": c.case, "old": c.old, "new": c.new, "factor": c.factor, "verdict": c.verdict} for c in found]
        print(msgspec.json.encode({"changes": rows, "left_out": compare.left_out(old, new)}).decode())
    if not any(change.judged for change in found):
        return 2
    return int(any(change.verdict == compare.WORSE for change in found))


if __name__ == "__main__":
    sys.exit(main())
