"""``arb report``: sums over the SQLite ledger for a span of time, in Decimal and never in SQL floats."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.economics.attribution import Attribution
from pipeline.execution.records import Outcome
from pipeline.execution.results.counts import EndedOperation, OpenTrips, OperationCounts, counts_from, share
from pipeline.execution.results.round_trips import RoundTrips, round_trips
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import plain
from workers.control_plane.instances import ledger_path
from workers.executor_file import pnl_text, read_executor_state
from workers.recorder.attribution import attributed
from workers.recorder.report_cache import FILE_NAME, ReportCache
from workers.recorder.sqlite_ledger import SCHEMA_VERSION, open_reader
from workers.report.markouts import markout_rows, markout_text
from workers.report.parts import FundingFlow, ReportParts, drawdown, part_fields
from workers.report.tables import ledger_tables, tables_of
from workers.report.times import WALL_NS_MAX, since_wall_ns
from workers.state_folder import instance_dir
from workers.tradable import utc


def _add(sums: dict[str, Decimal], amounts: Mapping[str, str | Decimal]) -> None:
    for asset, amount in amounts.items():
        sums[asset] = sums.get(asset, Decimal(0)) + Decimal(amount)


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None


def _trips(db: sqlite3.Connection, rows: Sequence[sqlite3.Row]) -> RoundTrips:
    """The round trips with an operation in ``rows``; their other operations may be older than the span."""
    pnl: dict[str, Decimal] = {}
    closes: dict[str, str] = {}
    began = {row["closes"] or row["operation_id"] for row in rows}
    hedged = {row["closes"] for row in rows if row["closes"]} | {r["operation_id"] for r in rows if r["hedge_open"]}
    of_hedges = [
        row
        for name in sorted(hedged)
        for row in db.execute("SELECT * FROM operations WHERE operation_id = ? OR closes = ?", (name, name))
    ]
    for row in [*rows, *of_hedges]:
        if row["pnl_numeraire"] is not None:
            pnl[row["operation_id"]] = Decimal(row["pnl_numeraire"])
            closes[row["operation_id"]] = row["closes"] or ""
    left: dict[str, Decimal] = {}
    for (body,) in db.execute("SELECT body_json FROM events WHERE kind = 'hedge' ORDER BY seq"):
        hedge = msgspec.json.decode(body)
        left[hedge["operation_id"]] = Decimal(str(hedge["qty"]))
    mine = {name: amount for name, amount in pnl.items() if (closes[name] or name) in began}
    return round_trips(mine, closes, {name for name, qty in left.items() if qty})


def _counts(rows: Sequence[sqlite3.Row], trips: RoundTrips) -> OperationCounts:
    return counts_from(
        (
            EndedOperation(Outcome[row["outcome"].upper()] if row["outcome"] else None, row["closes"] or "")
            for row in rows
        ),
        trips,
    )


def _change_of_accounts(
    db: sqlite3.Connection, cache: ReportCache, start_wall_ns: int
) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """(change, fees) per asset by the fills since then.

    A futures fill realises profit against earlier fills, which may be of another operation or older than the span: so
    all fills are folded, and the result of those before the span is subtracted.
    """
    before = cache.accounts_before(db, start_wall_ns)
    now = cache.accounts_before(db, WALL_NS_MAX)
    change, fees = now.per_asset(), now.fees_per_asset()
    for sums, old in ((change, before.per_asset()), (fees, before.fees_per_asset())):
        _add(sums, {asset: -amount for asset, amount in old.items()})
    return change, fees


def open_ledger(instance: str) -> sqlite3.Connection:
    """The instance's ledger, for reading. Raises BadInput where there is none of this build's version."""
    path = ledger_path(instance)
    if not path.exists():
        raise BadInput(f"found no ledger at {path}, wanted the recorder's; see `arb status --instance {instance}`")
    db = open_reader(path)
    schema = int(db.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])
    if schema != SCHEMA_VERSION:
        db.close()
        raise BadInput(
            f"{path}: found version {schema}, wanted {SCHEMA_VERSION}; the next `arb up` of it brings it up to date"
        )
    return db


def read_report(
    instance: str, since: str, by: str = "", *, tables: bool = False, of_page: bool = False
) -> dict[str, Any]:
    """The fields of ``arb report``: changes of the accounts by fills, fees and funding since ``since`` (``pnl``), sums
    over the operations that began since then, round trips won and lost, the P&L in its parts (also ``by`` one of
    REPORT_BY). With ``tables`` every table besides, by its name, for files; ``of_page``: what a page shows of them.
    Raises BadInput without a ledger."""
    start = since_wall_ns(since)
    cache = ReportCache(ledger_path(instance).with_name(FILE_NAME))
    with open_ledger(instance) as db:
        rows = db.execute("SELECT * FROM operations WHERE wall_ns >= ? ORDER BY wall_ns", (start,)).fetchall()
        opportunities = db.execute("SELECT COUNT(*) FROM opportunities WHERE wall_ns >= ?", (start,)).fetchone()[0]
        orders = db.execute(
            "SELECT state, COUNT(*) FROM orders WHERE intent_wall_ns >= ? GROUP BY state", (start,)
        ).fetchall()
        fills = db.execute("SELECT COUNT(*) FROM fills WHERE wall_ns >= ?", (start,)).fetchone()[0]
        pnl, fees = _change_of_accounts(db, cache, start)
        events = db.execute("SELECT kind, COUNT(*) FROM events WHERE wall_ns >= ? GROUP BY kind", (start,)).fetchall()
        payments = _payments(db, start)
        moved = db.execute(
            "SELECT body_json FROM events WHERE kind = 'external_flow' AND wall_ns >= ?", (start,)
        ).fetchall()
        trips = _trips(db, rows)
        counts = _counts(rows, trips)
        operations, unknown = attributed(db, rows, cache)
        boots = db.execute("SELECT wall_ns FROM events WHERE kind = 'boot' ORDER BY wall_ns").fetchall()
        markouts = markout_rows(db, start)
        of_ledger = ledger_tables(db, start, of_page=of_page) if tables else {}
    cache.save()
    funding: dict[str, Decimal] = {}
    for row in payments:
        _add(funding, {row["asset"]: row["amount"]})
    flows = [
        FundingFlow(int(row["wall_ns"]), row["venue"], row["symbol"], Decimal(row.get("value_numeraire", 0)))
        for row in payments
    ]
    _add(pnl, funding)
    external: dict[str, Decimal] = {}
    for row in (msgspec.json.decode(body) for (body,) in moved):
        _add(pnl if row["trading"] else external, {row["asset"]: row["amount"]})
    numeraire: dict[str, Decimal] = {}
    for row in rows:
        if row["pnl_numeraire"] is not None:
            _add(numeraire, {row["numeraire"]: row["pnl_numeraire"]})
    funding_value = sum((flow.amount for flow in flows), Decimal(0))
    profit = {asset: value + funding_value for asset, value in numeraire.items()}  # there is one numeraire
    parts = ReportParts(operations, flows, [int(row[0]) for row in boots], {r["operation_id"]: _about(r) for r in rows})
    state = read_executor_state(instance_dir(instance))
    said = {} if state is None else {row["hedge_id"]: row for row in state.hedges}
    open_ = OpenTrips.of(said.get(name, {}) for name in trips.open)
    return {
        "instance": instance,
        "profit": profit,
        "today": None if state is None or state.pnl is None else {**state.pnl, "as_of": utc(state.wall_ns)},
        "attribution": {**part_fields(parts.total), "residual": parts.residual.normalize(), "unknown": unknown},
        "rows": parts.rows(by),
        "since_wall_ns": start,
        "opportunities": opportunities,
        "operations": counts.fields(),
        "success_rate": counts.success_rate,
        "win_rate": counts.win_rate,
        "win_rate_with_open": counts.win_rate_with(open_),
        "open_trips": open_._asdict(),
        "recovery_rate": recovery_rate(counts),
        "orders": {row[0]: row[1] for row in orders},
        "fills": fills,
        "pnl": {asset: amount for asset, amount in sorted(pnl.items()) if amount},
        "pnl_numeraire": numeraire,
        "fees": {asset: amount for asset, amount in sorted(fees.items()) if amount},
        "funding": dict(sorted(funding.items())),
        "external": {asset: amount for asset, amount in sorted(external.items()) if amount},
        "edge_bps": _edges(rows),
        "max_drawdown": drawdown(parts.curve())[0],
        "markouts": markouts,
        "events": {row[0]: row[1] for row in events},
        "read": {"operations": cache.computed, "fills": cache.folded},
        **({"tables": {**tables_of(parts, rows), **of_ledger}} if tables else {}),
    }


def recovery_rate(counts: OperationCounts) -> float | None:
    """Recovered per operation with a broken leg, those included that are not over; None where no leg broke."""
    broken = counts.recovered + counts.unresolved
    return round(counts.recovered / broken, 4) if broken else None


def _payments(db: sqlite3.Connection, start_wall_ns: int) -> list[dict[str, Any]]:
    """Funding since then, each booking once, by the venue's own number."""
    rows = db.execute(
        "SELECT body_json, wall_ns FROM events WHERE kind = 'funding' AND wall_ns >= ?", (start_wall_ns,)
    ).fetchall()
    found = [{**msgspec.json.decode(body), "wall_ns": wall_ns} for body, wall_ns in rows]
    return list({(row["venue"], row["event_id"]): row for row in found}.values())


def _edges(rows: Sequence[sqlite3.Row]) -> dict[str, float | None]:
    """Mean edges of the completed operations, bps: as detected, at the send, as filled."""
    done = [row for row in rows if row["outcome"] == "completed"]
    names = {"expected": "edge_detect_bps", "at_send": "edge_send_bps", "realised": "edge_fill_bps"}
    return {name: _mean([row[column] for row in done]) for name, column in names.items()}


def _about(row: sqlite3.Row) -> dict[str, Any]:
    """What an operation was: of a table by operation."""
    fields = {"at": utc(row["wall_ns"]), "pair": row["pair"], "outcome": row["outcome"] or row["state"]}
    return {**fields, "closes": row["closes"] or None}


def report_text(report: dict[str, Any]) -> str:
    """A report as text."""

    def amounts(sums: dict[str, Any]) -> str:
        return ", ".join(f"{plain(value)} {asset}" for asset, value in sums.items()) or "none"

    edge, parts, today = report["edge_bps"], report["attribution"], report["today"]
    return "\n".join(
        (
            f"P&L            {amounts(report['profit'])} realised: every operation at its own prices, and funding",
            *([f"{pnl_text(today)} (as of {today['as_of']})"] if today else []),
            f"  made of      {parts_text(parts)}",
            f"instance       {report['instance']}",
            f"opportunities  {report['opportunities']} recorded",
            f"operations     {OperationCounts.of(report['operations']).text(OpenTrips(**report['open_trips']))}",
            f"orders         {report['orders']}, fills {report['fills']}",
            f"changes        {amounts(report['pnl'])} (fills, fees and funding; a futures position counts once closed)",
            f"  operations   {amounts(report['pnl_numeraire'])}, each at its own prices, without funding",
            f"fees           {amounts(report['fees'])}",
            f"funding        {amounts(report['funding'])} (in the P&L and the changes, not in the operations')",
            f"external       {amounts(report['external'])} (deposits, withdrawals, unexplained; in neither)",
            f"recovery       {share(report['recovery_rate'])} of broken legs repaired; largest drawdown of the P&L "
            f"{plain(report['max_drawdown'])}",
            f"edge bps       expected {edge['expected']}, at send {edge['at_send']}, realised {edge['realised']}",
            f"markouts       {markout_text(report['markouts'])}",
            *_table(report["rows"]),
            *(f"written        {path}" for path in report.get("files", ())),
        )
    )


def parts_text(parts: Mapping[str, Any]) -> str:
    """The parts of a P&L in one line, and what they leave over."""
    terms = " ".join(f"{name} {_short(parts[name])}" for name in Attribution._fields)
    unknown = f"; {len(parts['unknown'])} operations without marks" if parts["unknown"] else ""
    return f"{terms} = {_short(parts['total'])}, residual {plain(parts['residual'])}{unknown}"


def _short(value: Decimal) -> str:
    return f"{value:+.4f}" if value else "0"


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows of ``--by`` under each other."""
    if not rows:
        return []
    key = next(iter(rows[0]))
    names = [*Attribution._fields, "total"]
    lines = ["", f"{key:<24} {'ops':>5} " + " ".join(f"{name:>10}" for name in names) + "  residual"]
    for row in rows:
        amounts = " ".join(f"{_short(row[name]):>10}" for name in names)
        about = f"  {row['at']} {row['pair']} {row['outcome']}" if row.get("pair") else ""
        about += f", closes {row['closes']}" if row.get("closes") else ""
        lines.append(f"{row[key]:<24} {row['operations']:>5} {amounts}  {plain(row['residual'])}{about}")
    return lines
