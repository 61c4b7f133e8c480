"""The one list of metrics: name (with its unit), kind, help and where its values stand in a reading of the instance.

``/metrics`` serves all of it; the alert rules of ``systemd/prometheus/`` use its names. Values come from the reading
that ``arb status`` shows (``workers/view/status.py``), so that every view says the same. Every counter of every process
is in ``arb_counted`` besides: nothing that a process counts is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import psutil

from pipeline.model.enums import AlertSeverity
from pipeline.trade_state import TradeState

Reading = Mapping[str, Any]
Sample = tuple[tuple[str, ...], float]
Samples = Callable[[Reading], Iterable[Sample]]
TRADING = (TradeState.READY, TradeState.DEGRADED)
#: Counters of a feed's row that are metrics of their own: field -> (name, kind, help).
FEED_FIELDS = {
    "messages": ("arb_feed_messages_total", "counter", "Depth messages of known symbols."),
    "applied": ("arb_feed_applied_total", "counter", "Depth messages applied to a book."),
    "dropped": ("arb_feed_dropped_total", "counter", "Depth messages older than their book."),
    "gaps": ("arb_feed_gaps_total", "counter", "Breaks in a book's sequence."),
    "resyncs": ("arb_feed_resyncs_total", "counter", "Books synchronised again."),
    "crossed": ("arb_feed_crossed_total", "counter", "Books found with best bid at or above best ask."),
    "rejected": ("arb_feed_rejected_total", "counter", "Frames refused as malformed."),
    "connects": ("arb_feed_connects_total", "counter", "Connections of streams that were made."),
    "disconnects": ("arb_feed_disconnects_total", "counter", "Connections of streams that were lost."),
    "connected": ("arb_feed_connected", "gauge", "1 while a stream of the venue stands."),
    "books_whole": ("arb_feed_books_whole", "gauge", "Books that have their snapshot."),
}


class Metric(NamedTuple):
    """One metric. ``kind``: gauge or counter; the name of a counter ends in ``_total``."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    samples: Samples


def number(value: object) -> float | None:
    """A reading's value as a float; None where it is not known."""
    if value is None or isinstance(value, bool):
        return None if value is None else float(value)
    try:
        return float(Decimal(str(value)))
    except InvalidOperation:
        return None


def _one(*path: str) -> Samples:
    """The value at a path of the reading."""

    def samples(reading: Reading) -> Iterator[Sample]:
        value: Any = reading
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        if (found := number(value)) is not None:
            yield (), found

    return samples


def _rows(section: str, value_of: Callable[[Mapping[str, Any]], object]) -> Samples:
    """One value of each row of a section, labelled by the row's name."""

    def samples(reading: Reading) -> Iterator[Sample]:
        for name, row in reading[section].items():
            if (found := number(value_of(row))) is not None:
                yield (name,), found

    return samples


def _process(value_of: Callable[[psutil.Process], float]) -> Samples:
    """What the kernel says of each living process."""

    def samples(reading: Reading) -> Iterator[Sample]:
        for name, row in reading["processes"].items():
            if not row["pid"]:
                continue
            try:
                yield (name,), value_of(psutil.Process(row["pid"]))
            except psutil.Error:  # it has just ended, or belongs to somebody else
                continue

    return samples


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _states(reading: Reading) -> Iterator[Sample]:
    for state in TradeState:
        yield (str(state),), float(reading["state"] == state)


def _counted(process: str, begin: str) -> Samples:
    """Counters of a process whose label begins so, labelled by the rest."""

    def samples(reading: Reading) -> Iterator[Sample]:
        for label, value in reading["counters"].get(process, {}).items():
            if label.startswith(begin):
                yield (label.removeprefix(begin),), float(value)

    return samples


def _per_venue(what: str) -> Samples:
    """Counters ``<what>.<venue>`` of every process."""

    def samples(reading: Reading) -> Iterator[Sample]:
        for process, counters in reading["counters"].items():
            for label, value in counters.items():
                if label.startswith(f"{what}."):
                    yield (process, label.removeprefix(f"{what}.")), float(value)

    return samples


def _every_counter(reading: Reading) -> Iterator[Sample]:
    for process, counters in reading["counters"].items():
        for label, value in counters.items():
            yield (process, label), float(value)


def _refused(reading: Reading) -> Iterator[Sample]:
    for reason, count in reading["opportunities"]["refused"].items():
        yield (reason,), float(count)


def _books(tradable: bool) -> Samples:
    def samples(reading: Reading) -> Iterator[Sample]:
        count: dict[str, int] = {}
        for row in reading["books"]:
            count[row["venue"]] = count.get(row["venue"], 0) + bool(row["tradable"] or not tradable)
        yield from (((venue,), float(found)) for venue, found in count.items())

    return samples


def _oldest_book_s(reading: Reading) -> Iterator[Sample]:
    oldest: dict[str, float] = {}
    for row in reading["books"]:
        if row["age_ms"] is not None:
            oldest[row["venue"]] = max(oldest.get(row["venue"], 0.0), row["age_ms"] / 1000)
    yield from (((venue,), age_s) for venue, age_s in oldest.items())


def _pnl(field: str) -> Samples:
    def samples(reading: Reading) -> Iterator[Sample]:
        pnl = reading["pnl"] or {}
        if (found := number(pnl.get(field))) is not None:
            yield (str(pnl.get("asset", "")),), found

    return samples


def _balances(field: str) -> Samples:
    def samples(reading: Reading) -> Iterator[Sample]:
        for venue, assets in reading["balances"].items():
            for asset, row in assets.items():
                if (found := number(row[field])) is not None and (row["free"] or row["locked"]):
                    yield (venue, asset), found

    return samples


def _alerts(standing: bool) -> Samples:
    def samples(reading: Reading) -> Iterator[Sample]:
        for severity in AlertSeverity:
            rows = [row for row in reading["alerts"] if row["severity"] == severity]
            yield (str(severity),), float(sum(bool(row["standing"]) if standing else row["needed"] for row in rows))

    return samples


METRICS: tuple[Metric, ...] = (
    Metric("arb_state", "gauge", "1 for the state that the instance is in: can it trade.", ("state",), _states),
    Metric(
        "arb_can_trade",
        "gauge",
        "1 while new risk is taken, everywhere or not (ready or degraded).",
        (),
        lambda reading: [((), float(reading["state"] in TRADING))],
    ),
    Metric("arb_halted", "gauge", "1 while the halt is latched.", (), _one("halted")),
    Metric("arb_reasons", "gauge", "Reasons that keep new risk away.", (), lambda r: [((), float(len(r["reasons"])))]),
    Metric(
        "arb_process_up", "gauge", "1 while the process lives.", ("process",), _rows("processes", lambda r: r["alive"])
    ),
    Metric(
        "arb_process_ready", "gauge", "1 while it is READY.", ("process",), _rows("processes", lambda r: r["ready"])
    ),
    Metric(
        "arb_process_beat_age_seconds",
        "gauge",
        "Age of its last proof of progress.",
        ("process",),
        _rows("processes", lambda r: r["beat_age_ms"] / 1000 if r["alive"] and r["beat_age_ms"] is not None else None),
    ),
    Metric(
        "arb_process_restarts_total",
        "counter",
        "Starts after the first.",
        ("process",),
        _rows("processes", lambda r: r["restarts"]),
    ),
    Metric(
        "arb_process_resident_bytes",
        "gauge",
        "Resident memory, shared pages included.",
        ("process",),
        _process(lambda p: float(p.memory_info().rss)),
    ),
    Metric("arb_process_cpu_seconds_total", "counter", "User and system time.", ("process",), _process(_cpu_s)),
    *(
        Metric(name, kind, text, ("venue",), _rows("feeds", lambda row, field=field: row.get(field)))  # type: ignore[misc]
        for field, (name, kind, text) in FEED_FIELDS.items()
    ),
    Metric(
        "arb_feed_topic_lag_seconds",
        "gauge",
        "How far topics of one connection are apart.",
        ("venue",),
        _rows("feeds", lambda r: r["cross_topic_lag_ms"] / 1000 if "cross_topic_lag_ms" in r else None),
    ),
    Metric("arb_books", "gauge", "Books.", ("venue",), _books(False)),
    Metric("arb_books_tradable", "gauge", "Books that may be traded now.", ("venue",), _books(True)),
    Metric(
        "arb_book_age_seconds_max",
        "gauge",
        "Time since the oldest book was proved current.",
        ("venue",),
        _oldest_book_s,
    ),
    Metric("arb_opportunities_detected_total", "counter", "Episodes found.", (), _one("opportunities", "detected")),
    Metric("arb_opportunities_taken_total", "counter", "Episodes entered.", (), _one("opportunities", "taken")),
    Metric(
        "arb_opportunities_refused_total", "counter", "Episodes refused, by the first reason.", ("reason",), _refused
    ),
    Metric(
        "arb_operations_total",
        "counter",
        "Operations that have ended, by outcome, over the whole journal.",
        ("outcome",),
        lambda r: [((key,), float(r["operations"][key])) for key in ("completed", "failed", "recovered", "unresolved")],
    ),
    Metric("arb_operations_success_ratio", "gauge", "Share of operations that completed.", (), _one("success_rate")),
    Metric("arb_operations_won_ratio", "gauge", "Share of decided operations that earned.", (), _one("win_rate")),
    Metric("arb_operations_open", "gauge", "Operations under way.", (), _one("risk", "open_operations")),
    Metric("arb_orders_sent_total", "counter", "Orders sent.", (), _one("orders", "orders_sent")),
    Metric(
        "arb_orders_not_sent_total", "counter", "Orders that could not be sent.", (), _one("orders", "orders_not_sent")
    ),
    Metric("arb_fills_total", "counter", "Fills booked.", (), _one("orders", "fills")),
    Metric(
        "arb_slow_operations_total",
        "counter",
        "Operations longer than execution.target_execution_time_ms.",
        (),
        _one("counters", "executor", "over_target_time"),
    ),
    Metric(
        "arb_protocol_violations_total",
        "counter",
        "Frames dropped.",
        ("venue",),
        _counted("executor", "protocol_violations."),
    ),
    Metric("arb_exposure_usd", "gauge", "Open exposure.", (), _one("risk", "exposure_usd")),
    Metric("arb_breakers_tripped", "gauge", "Tripped breakers.", (), lambda r: [((), float(len(r["breakers"])))]),
    Metric(
        "arb_recoveries_waiting",
        "gauge",
        "Recoveries that wait for an operator.",
        (),
        lambda r: [((), float(sum(row["state"] == "waiting_approval" for row in r["recoveries"])))],
    ),
    Metric("arb_hedges_open", "gauge", "Open hedges.", (), lambda r: [((), float(len(r["hedges"])))]),
    Metric("arb_positions_open", "gauge", "Open futures positions.", (), lambda r: [((), float(len(r["positions"])))]),
    Metric("arb_pnl_today", "gauge", "P&L of the day (UTC), in units of the asset.", ("asset",), _pnl("daily")),
    Metric("arb_pnl_today_trading", "gauge", "The part of it that trading earned.", ("asset",), _pnl("trading")),
    Metric("arb_pnl_today_inventory", "gauge", "The part that inventory moved.", ("asset",), _pnl("inventory")),
    Metric("arb_pnl_realised", "gauge", "Realised since the journal began.", ("asset",), _pnl("realised")),
    Metric(
        "arb_equity", "gauge", "Everything at one mark per asset, in units of the asset.", ("asset",), _pnl("equity")
    ),
    Metric("arb_balance_free", "gauge", "Free balance, in units of the asset.", ("venue", "asset"), _balances("free")),
    Metric(
        "arb_balance_locked", "gauge", "Locked balance, in units of the asset.", ("venue", "asset"), _balances("locked")
    ),
    Metric(
        "arb_rate_limit_hits_total",
        "counter",
        "Requests that a venue's rate limit refused.",
        ("process", "venue"),
        _per_venue("rate_limit_hits"),
    ),
    Metric(
        "arb_gateway_answers_total",
        "counter",
        "Answers that came from a gateway before the venue.",
        ("process", "venue"),
        _per_venue("gateway_answers"),
    ),
    Metric("arb_counted", "gauge", "Every counter of every process.", ("process", "name"), _every_counter),
    Metric("arb_alerts_standing", "gauge", "Alerts whose condition stands.", ("severity",), _alerts(True)),
    Metric("arb_alerts_unacknowledged", "gauge", "Alerts to be looked at.", ("severity",), _alerts(False)),
    Metric("arb_messages_sent_total", "counter", "Messages taken.", ("target",), _rows("targets", lambda r: r["sent"])),
    Metric(
        "arb_messages_failed_total",
        "counter",
        "Attempts that failed.",
        ("target",),
        _rows("targets", lambda r: r["failed_attempts"]),
    ),
    Metric(
        "arb_messages_dropped_total",
        "counter",
        "Messages lost: queue full, or refused.",
        ("target",),
        _rows("targets", lambda r: r["dropped"] + r["refused"]),
    ),
    Metric(
        "arb_messages_waiting",
        "gauge",
        "Messages not taken yet.",
        ("target",),
        _rows("targets", lambda r: r["waiting"]),
    ),
)
