"""Reports about dialects: ``scripts/verify_interface_compliance.py``, ``scripts/generate_performance_report.py``.

Both run against simulated venues: no key, no network. Names are those of dialects or venues (``mexc``, ``mexc_spot``).
"""

from __future__ import annotations

import argparse
import asyncio
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pipeline.conformance.figures import Figure, measure
from pipeline.conformance.runner import IntegrationTestRunner, TestReport, TestStatus
from pipeline.conformance.venue import checked_venue
from pipeline.model.dialects import add_root, dialect_names, facts_of
from pipeline.model.errors import ArbitrageEngineError, BadInput
from workers.exit_codes import EXIT_CHECK_FAILED, EXIT_OK, EXIT_USAGE
from workers.output import emit, say


def verify(argv: Sequence[str]) -> int:
    """Whether a dialect is what the engine needs of one. Exit code 0: it complies; 1: it does not; 2: bad input."""
    parser = argparse.ArgumentParser(
        prog="verify_interface_compliance.py", description="Run the conformance suite of an exchange."
    )
    parser.add_argument("exchange", help="dialect or venue: NAME, NAME_spot")
    _files(parser)
    options = parser.parse_args(argv)
    return _guarded(lambda: _verify(options))


def measure_all(argv: Sequence[str]) -> int:
    """What each market of dialects costs. Exit code 0: every threshold is kept; 1: one is not; 2: bad input."""
    parser = argparse.ArgumentParser(
        prog="generate_performance_report.py", description="Measure exchanges on their simulated venues."
    )
    parser.add_argument("--exchanges", default="", help="dialects or venues, by commas (default: all)")
    _files(parser)
    options = parser.parse_args(argv)
    return _guarded(lambda: _measure_all(options))


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, help="folder of dialects from outside")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--html", type=Path, help="write the report to this file as well")


def _guarded(work: Any) -> int:
    try:
        return int(work())
    except ArbitrageEngineError as error:
        say(f"arb: {error}")
        return EXIT_USAGE


def named_market(name: str) -> tuple[str, str]:
    """(dialect, market; "" = each) of a dialect's or a venue's name. Raises ``BadInput``."""
    dialect, _, market = name.strip().lower().partition("_")
    if dialect not in dialect_names() or (market and market not in facts_of(dialect).markets):
        known = [f"{one}_{each}" for one in dialect_names() for each in facts_of(one).markets]
        raise BadInput(f"found exchange {name!r}, wanted one of {', '.join((*dialect_names(), *known))}")
    return dialect, market


def _verify(options: argparse.Namespace) -> int:
    if options.root is not None:
        add_root(options.root)
    dialect, market = named_market(options.exchange)
    runner = IntegrationTestRunner(dialect)
    asyncio.run(runner.run_suite(dialect, market))
    report = runner.generate_report()
    _write(options.html, report.as_html())
    emit(msgspec.to_builtins(report), as_json=options.json, text=lambda _: _report_text(report))
    return EXIT_OK if report.overall_status is TestStatus.PASSED else EXIT_CHECK_FAILED


def _report_text(report: TestReport) -> str:
    lines = [
        f"{row.status:<8}{row.category:<12}{row.name}{': ' if row.said else ''}{row.said}" for row in report.results
    ]
    if report.overall_status is TestStatus.SKIPPED:
        ran = {row.category for row in report.results if row.status is not TestStatus.SKIPPED}
        missing = sorted(row.value for row in {row.category for row in report.results} - ran) or ["any category"]
        return "\n".join([*lines, f"{report.exchange} is not judged: nothing ran of {', '.join(missing)}"])
    complies = "complies" if report.compliance_status["overall_compliant"] else "does not comply"
    return "\n".join([*lines, f"{report.exchange} {complies}"])


def _measure_all(options: argparse.Namespace) -> int:
    if options.root is not None:
        add_root(options.root)
    names = [name for name in options.exchanges.split(",") if name.strip()] or list(dialect_names())
    found: dict[str, list[Figure]] = {}
    for dialect, market in map(named_market, names):
        for each in [market] if market else facts_of(dialect).markets:
            say(f"arb: {dialect}_{each}")
            found[f"{dialect}_{each}"] = asyncio.run(_figures(dialect, each))
    fields = {
        "exchanges": {
            venue: [{**msgspec.structs.asdict(row), "holds": row.holds} for row in rows]
            for venue, rows in found.items()
        }
    }
    _write(options.html, _figures_html(found))
    emit(fields, as_json=options.json, text=lambda _: _figures_text(found))
    return EXIT_OK if all(row.holds for rows in found.values() for row in rows) else EXIT_CHECK_FAILED


async def _figures(dialect: str, market: str) -> list[Figure]:
    async with checked_venue(dialect, market) as it:
        return await measure(it)


def _columns(venue: str, row: Figure) -> tuple[str, ...]:
    limit = f"{'<=' if row.at_most else '>='} {row.limit:g} {row.unit}"
    state = "holds" if row.holds else "misses"
    return venue, row.name, f"{row.best:.4g}", f"{row.p50:.4g}", f"{row.p99:.4g}", limit, state


_HEADS = ("venue", "figure", "best", "p50", "p99", "best is held to", "state")


def _figures_text(found: dict[str, list[Figure]]) -> str:
    rows = [_HEADS, *(_columns(venue, row) for venue, rows in found.items() for row in rows)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADS))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows)


def _figures_html(found: dict[str, list[Figure]]) -> str:
    heads = "".join(f"<th>{head}" for head in _HEADS)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}" for text in _columns(venue, row))
        for venue, rows in found.items()
        for row in rows
    )
    return (
        "<!doctype html><meta charset=utf-8><title>Exchanges</title><style>body{font-family:sans-serif}"
        f"td{{padding:2px 8px}}</style><h1>Exchanges on simulated venues</h1><table><tr>{heads}{rows}</table>\n"
    )


def _write(path: Path | None, text: str) -> None:
    if path is None:
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror}") from None
