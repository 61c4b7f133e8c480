"""The fields of ``arb demo --json``: the engine's journal and shared memory compared with the venues' ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.economics.equity import PerpetualHolding, equity, index_marks
from pipeline.execution.accounts import Accounts, Execution, venue_order
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord
from pipeline.execution.journal import JournalEntry
from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import (
    DustRecord,
    FillRecord,
    FundingRecord,
    HedgeRecord,
    OperationRecord,
    OperationResultRecord,
    OrderIntentRecord,
    OrderStateRecord,
)
from pipeline.execution.results.counts import EndedOperation, OpenTrips, OperationCounts, counts_from
from pipeline.execution.results.round_trips import RoundTrips, round_trips
from workers.demo.funding_read import unread_funding
from workers.demo.run_checker import add, check_all, until_stop, venue_changes
from workers.executor_file import read_executor_state

CLIENT_PREFIX = "t-"  # Gate.io wants it before custom ids; the engine's own ids are without it


def plain_journal(entries: Sequence[JournalEntry]) -> list[dict[str, Any]]:
    """Records as mappings with their type's name (``record``), as ``run_checker`` takes them."""
    rows = []
    for entry in entries:
        fields = {key: value for key, value in msgspec.structs.asdict(entry.record).items()}
        fields["record"] = type(entry.record).__name__
        fields["at_mono_ns"] = entry.mono_ns
        if isinstance(entry.record, OrderStateRecord):
            fields["terminal"] = entry.record.state.is_terminal
        rows.append(fields)
    return rows


def plain_ledger(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The venues' rows with client order ids as the engine knows them, without the prefix of the wire."""
    plain = []
    for row in rows:
        fields = dict(row)
        if fields.get("client_id"):
            fields["client_id"] = str(fields["client_id"]).removeprefix(CLIENT_PREFIX)
        if fields.get("wire_trade_id"):
            fields["trade_id"] = fields["wire_trade_id"]
        plain.append(fields)
    return plain


def journal_of(state_dir: Path) -> list[JournalEntry]:
    """Every record of an instance: its executor's, and what those lack of its guard's. Raises JournalError."""
    return list(whole_journal(state_dir))


class JournalTotals:
    """Orders, operations and money by the engine's own journal: the sums of its fills, fees and funding."""

    def __init__(self, entries: Sequence[JournalEntry]) -> None:
        self.accounts = Accounts()
        self.dust: dict[str, Decimal] = {}
        self.hedges: dict[str, HedgeRecord] = {}
        self.results: dict[str, OperationResultRecord] = {}
        self.operations: dict[str, OperationRecord] = {}
        self.orders = 0
        self.fills = 0
        self.funding: dict[str, Decimal] = {}
        self.payments: set[tuple[str, str]] = set()  # (venue, its number of the booking)
        self.coins: dict[tuple[str, str], tuple[str, str]] = {}  # (venue, symbol) -> base and quote
        self.foreign: dict[str, Decimal] = {}  # what others hold on our accounts
        self.foreign_fills: dict[str, int] = {}  # executions that are not ours, by their cause
        self.external: dict[tuple[str, str], Decimal] = {}  # (venue, asset): money that moved without an order
        fills: list[Execution] = []
        ledger = Ledger()
        for entry in entries:
            record = entry.record
            ledger.apply(record, entry.mono_ns, entry.wall_ns)
            if isinstance(record, FillRecord):
                fills.append(record)
                self.coins[record.venue, record.symbol] = (record.base, record.quote)
                self.fills += 1
            elif isinstance(record, ExternalFillRecord):
                self.coins[record.venue, record.symbol] = (record.base, record.quote)
                if record.booked:
                    fills.append(record)
                    self.foreign_fills[record.cause] = self.foreign_fills.get(record.cause, 0) + 1
            elif isinstance(record, ExternalPositionRecord):
                self.coins[record.venue, record.symbol] = (record.base, record.quote)
                self._book(fills)
                self.accounts.set_position(record.venue, record.symbol, record.qty, record.price)
            elif isinstance(record, ExternalFlowRecord):
                trading = record.trading
                self.accounts.apply_external(record.venue, record.asset, record.amount, trading=trading)
            elif isinstance(record, OrderIntentRecord):
                self.orders += 1
            elif isinstance(record, OperationRecord):
                self.operations[record.operation_id] = record
            elif isinstance(record, OperationResultRecord):
                self.results[record.operation_id] = record
            elif isinstance(record, DustRecord):
                add(self.dust, record.asset, record.delta)
            elif isinstance(record, HedgeRecord):
                self.hedges[record.operation_id] = record
            elif isinstance(record, FundingRecord) and (record.venue, record.event_id) not in self.payments:
                self.payments.add((record.venue, record.event_id))
                self.accounts.apply_funding(record)
                add(self.funding, record.asset, record.amount)
        self._book(fills)
        self.external = self.accounts.external
        self.foreign = ledger.external.foreign()
        self.breakers = dict(ledger.breakers)  # tripped at the end, and why

    def _book(self, fills: list[Execution]) -> None:
        """Books the fills so far and forgets them. A position's realised profit depends on their order: the venue's
        own, not that of arrival."""
        for fill in sorted(fills, key=venue_order):
            self.accounts.apply_fill(fill)
        fills.clear()

    def pnl(self) -> dict[str, Decimal]:
        """Asset -> change over all venues."""
        total: dict[str, Decimal] = {}
        for (_, asset), amount in self.accounts.flows.items():
            add(total, asset, amount)
        return total

    def targets(self, numeraire: str) -> dict[str, Decimal]:
        """What the exposure per asset is allowed to be: dust, and what others hold on our accounts."""
        totals = dict(self.dust)
        for asset, amount in self.foreign.items():
            add(totals, asset, amount)
        totals.pop(numeraire, None)
        return totals

    def money(self) -> dict[str, Decimal]:
        """Asset -> money that came or went without an order, over all venues."""
        totals: dict[str, Decimal] = {}
        for (_, asset), amount in self.external.items():
            add(totals, asset, amount)
        return totals

    def open_hedges(self, shown: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows of the hedges that are still open, as `arb demo --json` shows them; ``shown``: by id, what the executor
        said of each (age, marks, result, funding, liquidation), which no journal has."""
        return [
            {
                **shown.get(hedge.operation_id, {}),
                "operation_id": hedge.operation_id,
                "base": hedge.base,
                "qty": hedge.qty,
                "spot": f"{hedge.spot_venue} {hedge.spot_symbol}",
                "futures": f"{hedge.futures_venue} {hedge.futures_symbol}",
                "spot_side": hedge.spot_side.name.lower(),
                "entry_spot_price": hedge.entry_spot_price,
                "entry_futures_price": hedge.entry_futures_price,
            }
            for hedge in self.hedges.values()
            if hedge.qty
        ]

    def counts(self) -> OperationCounts:
        """Operations by how they ended, and round trips won and lost."""
        rows = [
            EndedOperation(self.results[name].outcome if name in self.results else None, record.closes)
            for name, record in self.operations.items()
        ]
        return counts_from(rows, self.round_trips())

    def round_trips(self) -> RoundTrips:
        """Round trips; a hedge counts once it is closed."""
        return round_trips(
            {name: result.pnl_numeraire for name, result in self.results.items()},
            {name: record.closes for name, record in self.operations.items() if record.closes},
            {name for name, hedge in self.hedges.items() if hedge.qty},
        )

    def perpetuals(self, marks: Mapping[tuple[str, str], Decimal]) -> list[PerpetualHolding]:
        """Open perpetuals at their venue's mark, ``marks``: (venue, symbol) -> mark; at their entry without one."""
        found = []
        for key, position in self.accounts.futures.items():
            if position.qty:
                base, quote = self.coins[key]
                entry = position.entry_price
                found.append(PerpetualHolding(base, quote, position.qty, entry, marks.get(key, entry)))
        return found

    def closings(self, operation_id: str) -> list[OperationResultRecord]:
        """Results of the operations that closed this one's hedge."""
        return [
            self.results[name]
            for name, record in self.operations.items()
            if record.closes == operation_id and name in self.results
        ]


def numeraire_value(
    books: JournalTotals, marks: Mapping[tuple[str, str], Decimal], numeraire: str, rates: str
) -> dict[str, Any]:
    """The run's profit in the numeraire: changes at one mark per asset (the median of its listings' ``marks``), and
    what open perpetuals have gained at their venue's mark. An asset without a mark is listed, not guessed."""
    mids = [
        (base, mark)
        for key, mark in marks.items()
        for base, quote in [books.coins.get(key, ("", ""))]
        if quote == numeraire
    ]
    worth = equity(books.pnl(), books.perpetuals(marks), {**index_marks(mids), numeraire: Decimal(1)})
    fields: dict[str, Any] = {"asset": numeraire, "value": worth.value.quantize(Decimal("1e-8")), "rates": rates}
    if worth.unmarked:
        fields["without_rate"] = list(worth.unmarked)
    return fields


def last_word(state_dir: Path) -> tuple[dict[str, Any], dict[str, Mapping[str, Any]]]:
    """What the executor said when it stopped: equity and the day's P&L in the numeraire, and its hedges by id."""
    state = read_executor_state(state_dir)
    pnl = {} if state is None else state.pnl or {}
    hedges = [] if state is None else state.hedges
    said = {name: pnl[name] for name in ("equity", "daily") if pnl.get(name) is not None}
    return said, {str(row["hedge_id"]): row for row in hedges}


def venue_marks(venues: Mapping[str, Any]) -> dict[tuple[str, str], Decimal]:
    """(venue, symbol) -> its mark at the end of the run, as the simulated venues say it."""
    return {
        (venue, symbol): Decimal(price)
        for venue, row in venues.items()
        for symbol, price in row.get("marks", {}).items()
        if price is not None and Decimal(price) > 0
    }


def plain_amounts(amounts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """Amounts without trailing zeros: what is equal reads alike, however it was summed."""
    return {asset: Decimal(f"{amount.normalize():f}") for asset, amount in amounts.items()}


def feed_totals(feeds: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Sums over venues of what the feeds counted."""

    def total(*names: str) -> int:
        return sum(int(row.get(name, 0)) for row in feeds.values() for name in names)

    return {
        "messages": total("messages"),
        "books_published": total("published", "books_published"),
        "gaps": total("gaps"),
        "resyncs": total("resyncs"),
    }


def summarise(
    *,
    reading: Mapping[str, Any],
    sim: Mapping[str, Any],
    ledger: Sequence[Mapping[str, Any]],
    sim_summary: Mapping[str, Any],
    offered_before: Mapping[str, Any],
    journal_dir: Path,
    config: Mapping[str, Any],
    seconds: float,
    start_seconds: float,
    killed: Mapping[str, Any],
    due_until_ns: int | None = None,
) -> dict[str, Any]:
    """The fields of ``arb demo --json``; ``offered_before``: dislocations that ended before the engine was READY."""
    entries = journal_of(journal_dir.parent)
    books = JournalTotals(entries)
    journal = plain_journal(entries)
    venue_rows = until_stop(plain_ledger(ledger), journal, due_until_ns)
    uids = frozenset(str(row["uid"]) for row in sim["venues"].values())
    numeraire = str(config.get("execution", {}).get("numeraire", "USDT"))
    engine_pnl, venue_pnl = books.pnl(), venue_changes(venue_rows, uids)
    violations = check_all(
        ledger=venue_rows,
        journal=journal,
        uids=uids,
        numeraire=numeraire,
        engine_pnl=engine_pnl,
        dust=books.targets(numeraire),
    )
    marks = venue_marks(sim_summary["venues"])
    said, shown = last_word(journal_dir.parent)
    dislocations = sim_summary.get("dislocations", {})
    counts, open_hedges = books.counts(), books.open_hedges(shown)
    offered = int(dislocations.get("offered", 0)) - int(offered_before.get("offered", 0))
    captured = int(dislocations.get("captured", 0)) - int(offered_before.get("captured", 0))
    return {
        "seconds": round(seconds, 3),
        "start_seconds": round(start_seconds, 3),
        "venues": list(sim["venues"]),
        "instruments": sum(len(row["symbols"]) for row in sim["venues"].values()),
        **feed_totals(reading["feeds"]),
        "opportunities": reading["opportunities"],
        "operations": counts.fields(),
        "dislocations": {"offered": offered, "captured": captured},
        "captured_share": round(captured / offered, 4) if offered else None,
        "success_rate": counts.success_rate,
        "win_rate": counts.win_rate,
        "win_rate_with_open": counts.win_rate_with(OpenTrips.of(open_hedges)),
        "orders": sim_summary["orders"],
        "fills": sim_summary["fills"],
        "pnl": {
            "engine": plain_amounts(engine_pnl),
            "venue": plain_amounts(venue_pnl),
            "equal": engine_pnl == venue_pnl,
            "numeraire": numeraire_value(books, marks, numeraire, "the median of the venues' marks") | said,
        },
        "funding": {
            "payments": len(books.payments),
            "amounts": books.funding,
            "unread": len(unread_funding(venue_rows, journal)),
        },
        "flat": not any(row["invariant"] == "I1" for row in violations),
        "dust": books.dust,
        "external": {"held_by_others": books.foreign, "money": books.money(), "fills": books.foreign_fills},
        "breakers": books.breakers,
        "hedges": {"opened": len(books.hedges), "closed": sum(not hedge.qty for hedge in books.hedges.values())},
        "open_hedges": open_hedges,
        "losing_operations": losing(books),
        "latency_us": reading["latency_us"],
        "terms": terms(config, venue_rows),
        "expect_no_orders": bool(sim_summary.get("expect_no_orders")),
        "killed": _killed(killed, books),
        "sim": dict(sim),
        "violations": violations,
    }


def _killed(killed: Mapping[str, Any], books: JournalTotals) -> dict[str, Any] | None:
    """What was killed, and how the operation ended in which it was killed."""
    result = books.results.get(str(killed.get("operation_id", "")))
    if not killed or result is None:
        return dict(killed) or None
    return {
        **killed,
        "outcome": result.outcome.name.lower(),
        "pnl_numeraire": result.pnl_numeraire,
        "reason": result.reason,
    }


def losing(books: JournalTotals, limit: int = 10) -> list[dict[str, Any]]:
    """The round trips that lost most, worst first; ``closed_by``: the operations that closed a hedge."""
    lost = sorted((pnl, name) for name, pnl in books.round_trips().closed().items() if pnl < 0)
    rows = []
    for pnl, name in lost[:limit]:
        closings = books.closings(name)
        opening = books.results.get(name) or closings[0]
        rows.append(
            {
                "operation_id": name,
                "outcome": opening.outcome.name.lower(),
                "pnl_numeraire": pnl,
                "edge_detect_bps": round(opening.edge_detect_bps, 2),
                "edge_fill_bps": round(_trip_edge(opening, closings), 2),
                "closed_by": [row.operation_id for row in closings],
                "reason": "; ".join([opening.reason, *(row.reason for row in closings)]),
            }
        )
    return rows


def _trip_edge(opening: OperationResultRecord, closings: Sequence[OperationResultRecord]) -> float:
    """Edge of a whole round trip in bps of its entry: a closing's edge counts by its share of the quantity."""
    if not opening.filled_qty:
        return opening.edge_fill_bps
    left = sum(row.edge_fill_bps * float(row.filled_qty / opening.filled_qty) for row in closings)
    return opening.edge_fill_bps + left


def terms(config: Mapping[str, Any], ledger: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The scenario's minimum margin and taker fees in bps, under which the run's figures hold."""
    fees: dict[str, str] = {}
    for row in ledger:
        if row["kind"] == "instrument":
            fees[row["venue"]] = f"{Decimal(row['taker_fee_ppm']) / 100:f}"
    return {
        "min_profit_margin_bps": str(config.get("risk_limits", {}).get("min_profit_margin_bps", "")),
        "taker_fee_bps": fees,
    }
