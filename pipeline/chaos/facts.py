"""Two rows that every tape has: what the run was configured with, and what the core believes at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.chaos.tape import Row, plain
from pipeline.execution.journal import JournalEntry
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import RetiredRecord
from pipeline.model.config import EngineConfig
from pipeline.model.units import NS_PER_MS


def config_fields(
    config: EngineConfig, *, flight_ns: int, send_ns: int, notice_ns: int, feed_lag_ns: Mapping[str, int]
) -> Row:
    """What the rules need of a configuration. ``flight_ns``: the longest way of a request or an answer; ``send_ns``:
    for how long a host may keep a process waiting between its last look and the send; ``notice_ns``: until which a cut
    connection need not be seen; ``feed_lag_ns``: the way of a frame by venue, {} where the tape does
    not have what the feeds published."""
    limits = config.risk_limits
    return {
        "grace_ns": config.execution.unknown_grace_ms * NS_PER_MS,
        "answer_ns": config.answer_timeout_ms * NS_PER_MS,
        "cooldown_ns": config.detection.cooldown_ms * NS_PER_MS,
        "max_age_ns": config.detection.max_age_to_trade_ms * NS_PER_MS,
        "max_skew_ns": config.detection.max_skew_ms * NS_PER_MS,
        "execute_edge_bps": config.execute_edge_bps,
        "exit_basis_known": config.detection.hedge.expected_exit_basis_bps is not None,
        "unwind_max_slippage_bps": config.execution.unwind_max_slippage_bps,
        "margin_trigger_pct": config.detection.hedge.margin.trigger_pct,
        "numeraire": config.execution.numeraire,
        "venues": [venue.name for venue in config.venues],
        "flight_ns": flight_ns,
        "send_ns": send_ns,
        "notice_ns": notice_ns,
        "feeds_seen": bool(feed_lag_ns),
        "refusals_seen": bool(feed_lag_ns),
        "feed_lag_ns": dict(feed_lag_ns),
        "limits": {
            **plain(limits),
            "max_total_loss_usd": limits.total_loss_usd,
            "max_naked_usd_s": config.naked_usd_s,
        },
    }


def end_fields(ledger: Ledger, entries: Sequence[JournalEntry]) -> Row:
    """What ``ledger`` believes, and whether the fold of ``entries``, its whole journal, is the same."""
    replayed = Ledger()
    for entry in entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    fields: dict[str, Any] = {
        "breakers": dict(ledger.breakers),
        "orders": {name: (order.state.name, order.filled) for name, order in ledger.orders.items()},
        "unsettled": sorted(ledger.unsettled),
        "flows": {"|".join(key): amount for key, amount in ledger.accounts.flows.items() if amount},
        "dust": {asset: amount for asset, amount in ledger.dust.items() if amount},
        "hedges": {name: hedge.qty for name, hedge in ledger.hedges.items()},
        "positions": {"|".join(key): position.qty for key, position in ledger.accounts.futures.items()},
        "costs": {"|".join(key): position.cost for key, position in ledger.accounts.futures.items()},
        "digest_equal": ledger.digest() == replayed.digest(),
        "retired": any(isinstance(entry.record, RetiredRecord) for entry in entries),
    }
    return fields
