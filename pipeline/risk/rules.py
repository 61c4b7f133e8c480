"""The rules of an entry in one table: what may refuse it, which limits say so, and where each path judges it.

Both paths of an entry obey these rules. The exact path judges every one of them in ``Rule.exact``. The fast path
judges it in ``Rule.fast``, or is switched off where the rule needs more than the jitted verdict can do.

Whoever adds a limit adds its rule here. Two things hold that: ``tests/unit/risk/test_rules.py`` fails for a
configured field or an executor's refusal without a row, without a test that tries to break it, or that the fast path
does not see; and :func:`unknown_limits` switches the fast path off where a field has no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgspec

from pipeline.model.config import EngineConfig
from pipeline.model.enums import Refusal


class Judge(Enum):
    """Where the fast path of an entry judges a rule."""

    VERDICT = "the jitted verdict refuses (fast_entry/verdict.py)"
    TABLE_OFF = "the limits table switches itself, or the instrument's row, off (fast_entry/limits_table.py)"
    MAY_ENTER = "the gate is asked after the verdict (Gate.may_enter)"
    LAST_LOOK = "right before the bytes leave, on both paths (risk/last_look.py)"
    PERFORMER = "the venue's session takes no order, on both paths (workers/executor/performer.py)"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``exact``: module and name of what judges it on the exact path. ``limits``: dotted paths of the
    configuration. ``test``: id of the test that tries to break it on both paths."""

    name: str
    refusal: Refusal
    exact: str
    fast: tuple[Judge, ...]
    test: str
    limits: tuple[str, ...] = ()


VERDICT, TABLE_OFF, MAY_ENTER, LAST_LOOK, PERFORMER = Judge

_GATE = "pipeline.risk.gate:Gate."
_PLAN = "pipeline.execution.plan:"
_SCOPES = "pipeline.risk.scopes:Scopes."
_LOOK = "pipeline.risk.last_look:LastLook."
_FAST_TESTS = "tests/unit/fast_entry/"
_MARGIN = "tests/unit/fast_entry/test_attack_margin.py::"
_SENDS = "tests/unit/workers/executor/test_performer.py::"


def _attack(name: str) -> str:
    test = "test_what_the_exact_gate_refuses_does_not_go_the_fast_path"
    return f"{_FAST_TESTS}test_attack_fast_entry.py::{test}[{name}]"


def _reason(name: str) -> str:
    return f"{_FAST_TESTS}test_entry.py::test_whatever_stands_in_the_way_is_named_by_the_exact_path[{name}]"


def _alone(name: str) -> str:
    return f"{_FAST_TESTS}test_attack_limits.py::{name}"


#: In the order in which the exact path judges.
RULES = (
    # --- the engine itself ---
    Rule("reconciled, not stopping", Refusal.NOT_READY, _GATE + "_permission", (TABLE_OFF, MAY_ENTER),
         _reason("stopping")),
    Rule("not halted", Refusal.HALT_LATCH, _GATE + "_permission", (VERDICT, LAST_LOOK), _reason("latch")),
    Rule("lease held", Refusal.LEASE, _GATE + "_permission", (VERDICT, LAST_LOOK), _reason("lease over")),
    Rule("record well formed", Refusal.MALFORMED, _PLAN + "malformed", (VERDICT,), _reason("checksum")),
    Rule("record of this catalogue row", Refusal.HALTED, _PLAN + "of_other_rows", (VERDICT,),
         _attack("record of an old row")),
    Rule("nothing broken for too long", Refusal.BREAKER, _GATE + "_stops", (TABLE_OFF, MAY_ENTER),
         _attack("reducing"), ("risk_limits.max_unhedged_ms",)),
    Rule("naked notional x time", Refusal.BREAKER, _GATE + "_breaker_for", (TABLE_OFF, MAY_ENTER),
         _attack("naked"), ("risk_limits.max_naked_usd_s", "detection.max_notional_usd")),
    Rule("type of opportunity enabled", Refusal.DISABLED_TYPE, _GATE + "_stops", (VERDICT,),
         _attack("disabled type"), ("detection.types",)),
    Rule("no breaker of everything", Refusal.BREAKER, _GATE + "_breaker_for", (TABLE_OFF, MAY_ENTER),
         _attack("held")),
    Rule("no breaker of the venue", Refusal.BREAKER, _GATE + "_breaker_for", (VERDICT, MAY_ENTER),
         _attack("venue tripped")),
    Rule("no breaker of the instrument's fees", Refusal.BREAKER, _GATE + "_breaker_for", (VERDICT, MAY_ENTER),
         _attack("fees tripped")),
    # --- the detection ---
    Rule("detected in the past", Refusal.STALE_AT_EXECUTOR, _GATE + "_future", (VERDICT,),
         _reason("detected in the future")),
    Rule("direction not in its cooldown", Refusal.COOLDOWN, _GATE + "_cooldown_left", (MAY_ENTER,), _attack("cooldown"),
         ("detection.cooldown_ms",)),
    Rule("not judged before", Refusal.DUPLICATE, _GATE + "_duplicate", (VERDICT,), _attack("seen before")),
    Rule("direction not under way", Refusal.DUPLICATE, _GATE + "_already_open", (MAY_ENTER,),
         _attack("direction under way")),
    Rule("not the exit of an open hedge", Refusal.NETS, _GATE + "_netting", (VERDICT,),
         _attack("exit of an open hedge")),
    Rule("detected lately", Refusal.STALE_AT_EXECUTOR, _GATE + "_stale", (VERDICT,),
         _reason("detected too long ago"), ("detection.max_age_to_trade_ms",)),
    # --- venues and instruments ---
    Rule("venue not blocked", Refusal.VENUE_BLOCKED, _GATE + "_places", (VERDICT, LAST_LOOK),
         _reason("venue blocked")),
    Rule("instrument not blocked", Refusal.INSTRUMENT_BLOCKED, _GATE + "_places", (VERDICT, LAST_LOOK),
         _reason("instrument blocked")),
    Rule("not disabled by limits", Refusal.INSTRUMENT_BLOCKED, _SCOPES + "disabled", (TABLE_OFF,),
         _attack("venue off"), ("risk_limits.per_venue", "risk_limits.per_asset", "risk_limits.per_pair")),
    Rule("pair not in quarantine", Refusal.QUARANTINED, _GATE + "_places", (TABLE_OFF,), _attack("quarantined")),
    Rule("exchange traded on", Refusal.QUARANTINED, _GATE + "_places", (TABLE_OFF,),
         _alone("test_what_is_of_an_exchange_that_is_not_traded_on_passes_neither_path"), ("exchanges.*.trade",)),
    Rule("side open at the venue", Refusal.STATUS, _GATE + "_places", (VERDICT,), _attack("no sells")),
    Rule("trading does not end soon", Refusal.STATUS, _GATE + "_places", (VERDICT,), _attack("ends soon")),
    Rule("wallet open", Refusal.STATUS, _GATE + "_places", (TABLE_OFF,), _attack("wallet closed")),
    Rule("sessions up, past known", Refusal.SESSION_DOWN, _GATE + "_places", (VERDICT, PERFORMER),
         _reason("session down")),
    Rule("own orders there settled", Refusal.INSTRUMENT_BLOCKED, _GATE + "_places", (VERDICT,), _attack("own order")),
    Rule("venue's clock near, not in doubt", Refusal.CLOCK_SKEW, _GATE + "_places", (VERDICT,),
         _attack("venue's clock"), ("execution.max_clock_skew_ms",)),
    Rule("positions shown lately", Refusal.BALANCE_UNPROVED, _GATE + "_places", (VERDICT,),
         _attack("positions not shown")),
    Rule("row as its venue has it", Refusal.INSTRUMENT_BLOCKED, _GATE + "_places", (VERDICT,),
         _attack("row in question")),
    Rule("account agrees with the ledger", Refusal.INSTRUMENT_BLOCKED, _GATE + "_places", (VERDICT,),
         _attack("account in doubt")),
    Rule("account's modes known", Refusal.INSTRUMENT_BLOCKED, _GATE + "_places", (VERDICT,),
         _attack("modes not known")),
    # --- the books ---
    Rule("book there", Refusal.NO_BOOK, _PLAN + "Planner._book_fault", (VERDICT,), _attack("no book")),
    Rule("book without gap", Refusal.GAP, _PLAN + "Planner._book_fault", (VERDICT,), _attack("gap")),
    Rule("book not crossed", Refusal.CROSSED, _PLAN + "Planner._book_fault", (VERDICT,), _attack("crossed")),
    Rule("book proved by its venue", Refusal.UNPROVED, _PLAN + "Planner._book_fault", (VERDICT,),
         _attack("unproved book")),
    Rule("book not halted", Refusal.HALTED, _PLAN + "Planner._book_fault", (VERDICT,), _attack("halted book")),
    Rule("book of this catalogue row", Refusal.HALTED, _PLAN + "Planner._book_fault", (VERDICT,),
         _attack("book of an old row")),
    Rule("books young", Refusal.STALE_AT_EXECUTOR, _PLAN + "too_old", (VERDICT, LAST_LOOK),
         _attack("old first book"), ("detection.max_age_to_trade_ms",)),
    Rule("books of one time", Refusal.SKEW, _PLAN + "too_far_apart", (VERDICT, LAST_LOOK),
         _attack("skew"), ("detection.max_skew_ms",)),
    Rule("steps fit the books' numbers", Refusal.MALFORMED, _PLAN + "Planner._size", (TABLE_OFF,),
         _attack("tick between the numbers")),
    Rule("price still there", Refusal.MOVED, _PLAN + "Planner._size", (VERDICT,), _attack("price left")),
    Rule("depth within the slippage", Refusal.MOVED, _PLAN + "Planner._limit_ticks", (VERDICT,),
         _attack("slippage"), ("risk_limits.max_slippage_bps",)),
    Rule("quantity the venue takes", Refusal.BELOW_MINIMUM, _PLAN + "Planner._leg", (VERDICT,),
         _attack("least notional")),
    Rule("edge still there", Refusal.MOVED, _PLAN + "Planner._size", (VERDICT,), _attack("dearer fee"),
         ("risk_limits.min_profit_margin_bps", "detection.execute_edge_bps",
          "detection.hedge.expected_exit_basis_bps", "detection.hedge.holding_hours",
          "detection.hedge.carry_bps_per_day")),
    Rule("edge pays for the inventory", Refusal.MOVED, _PLAN + "Planner._price_bps", (VERDICT,),
         _alone("test_a_direction_whose_inventory_has_a_price_needs_that_much_more_edge")),
    Rule("edge pays for the hedge's exit", Refusal.MOVED, _PLAN + "Planner._price_bps", (VERDICT,),
         _alone("test_a_hedge_whose_exit_has_a_price_needs_that_much_more_edge"),
         ("detection.hedge.expected_exit_basis_bps", "detection.hedge.exit.capital_bps_per_day")),
    Rule("books later than own fills", Refusal.NOT_AFTER_OWN_FILL, _GATE + "_after_fill", (VERDICT,),
         _reason("own fill")),
    # --- limits and money ---
    Rule("quote valued in USD", Refusal.EXPOSURE_LIMIT, _GATE + "_value", (TABLE_OFF,),
         _alone("test_a_quote_without_a_declared_rate_is_the_exact_paths")),
    Rule("worth the least profit", Refusal.BELOW_MIN_PROFIT, "pipeline.risk.profit:least_profit", (VERDICT,),
         _attack("profit under the least"), ("risk_limits.min_profit_usd",)),
    Rule("position of each coin and venue", Refusal.POSITION_LIMIT, _GATE + "_limits", (VERDICT,),
         _attack("position of what is open"), ("risk_limits.max_position_size_usd",)),
    Rule("operations under way", Refusal.IN_FLIGHT_LIMIT, _GATE + "_limits", (VERDICT,), _attack("open operations"),
         ("risk_limits.max_open_operations",)),
    Rule("exposure of everything", Refusal.EXPOSURE_LIMIT, _GATE + "_limits", (VERDICT,),
         _attack("exposure of what is open"), ("risk_limits.max_total_exposure_usd",)),
    Rule("position within a scope", Refusal.POSITION_LIMIT, _SCOPES + "refusal", (TABLE_OFF,),
         _attack("position of a venue"),
         ("risk_limits.per_venue", "risk_limits.per_asset", "risk_limits.per_pair")),
    Rule("exposure within a scope", Refusal.EXPOSURE_LIMIT, _SCOPES + "refusal", (TABLE_OFF,),
         _attack("exposure of an asset"),
         ("risk_limits.per_venue", "risk_limits.per_asset", "risk_limits.per_pair")),
    Rule("loss of the day", Refusal.DAILY_LOSS, _GATE + "_limits", (TABLE_OFF,), _attack("daily loss"),
         ("risk_limits.max_daily_loss_usd",)),
    Rule("loss of all days", Refusal.TOTAL_LOSS, _GATE + "_limits", (TABLE_OFF,), _attack("total loss"),
         ("risk_limits.max_total_loss_usd",)),
    Rule("worth of what is open known", Refusal.EXPOSURE_LIMIT, _GATE + "_limits", (TABLE_OFF,),
         _attack("worth not known")),
    Rule("orders a second", Refusal.ORDER_RATE, _GATE + "_rate_limits", (VERDICT,), _attack("order rate"),
         ("risk_limits.max_orders_per_s",)),
    Rule("orders a second of a venue", Refusal.ORDER_RATE, _GATE + "_rate_limits", (TABLE_OFF,),
         _attack("order rate of a venue"), ("risk_limits.per_venue",)),
    Rule("the venue's own order budget", Refusal.ORDER_RATE, _GATE + "has_room", (MAY_ENTER,), _reason("budget")),
    Rule("balance confirmed lately", Refusal.BALANCE_UNPROVED, _GATE + "_money", (VERDICT,),
         _attack("buyer's balance unproved"), ("execution.balance_refresh_interval_ms",)),
    Rule("balance enough", Refusal.BALANCE_SHORT, _GATE + "_money", (VERDICT,), _attack("no money to buy")),
    Rule("margin enough", Refusal.MARGIN_LIMIT, _GATE + "_money", (VERDICT,),
         _alone("test_a_hedge_within_one_balance_needs_the_sum"), ("detection.hedge.leverage",)),
    Rule("distance to liquidation", Refusal.MARGIN_LIMIT, "pipeline.risk.margin_state:MarginState.entry_refusal",
         (VERDICT,), _MARGIN + "test_an_entry_that_leaves_too_little_distance_passes_neither_path",
         ("detection.hedge.leverage", "detection.hedge.margin.target_pct")),
    Rule("liquidation price agreed", Refusal.MARGIN_LIMIT, "pipeline.risk.margin_state:MarginState.entry_refusal",
         (VERDICT,), _MARGIN + "test_a_liquidation_price_that_differs_from_the_venues_passes_neither_path"),
    Rule("room in the journal", Refusal.JOURNAL_FULL, _GATE + "_money", (MAY_ENTER,), _attack("journal full")),
    Rule("the user's own check", Refusal.BREAKER, _GATE + "_user", (TABLE_OFF, MAY_ENTER), _reason("user")),
    # --- right before the bytes leave ---
    Rule("books still young", Refusal.STALE_AT_SEND, _LOOK + "entry", (LAST_LOOK,),
         _SENDS + "test_a_pause_between_verdict_and_send_sends_nothing_and_ends_flat[fast]",
         ("detection.max_age_to_trade_ms", "detection.max_skew_ms")),
    Rule("order not expired", Refusal.STALE_AT_SEND, _LOOK + "entry", (LAST_LOOK,),
         _SENDS + "test_an_entry_whose_sync_took_longer_than_its_window_is_not_sent[fast]",
         ("execution.entry_window_ms",)),
)  # fmt: skip

#: Settings with which only the exact path judges: while they are set, the fast path is off.
EXACT_PATH_ONLY = {
    "execution.balance_check": "strict asks the venues between verdict and entry",
    "features.enable_risk_checks": "without checks the exact path alone approves",
}

#: Fields that refuse no entry, and what they are for.
NO_RULE = {
    "risk_limits.warn_exposure_usd": "warns an operator",
    "risk_limits.max_unexplained_loss_usd": "money that is gone without a reason trips a breaker",
    "risk_limits.max_execution_time_ms": "when an order without an answer counts as UNKNOWN",
    "detection.enabled": "whether the detector looks for entries; manual ones are judged all the same",
    "detection.min_edge_bps": "from when on the detector counts an episode",
    "detection.dead_after_ms": "when a feed is dead; forced exits may use books up to this age",
    "detection.inventory_price": "off: inventory costs nothing",
    "detection.hedge.exit.stamp_window_s": "how near a funding time counts, of an open hedge and of an entry's price",
    "detection.hedge.exit.deadline_hours": "when an open hedge must leave",
    "detection.hedge.exit.max_loss_bps": "when an open hedge must leave",
    "detection.hedge.exit.forced_slippage_bps": "prices of exits that must be",
    "detection.hedge.exit.forced_step_s": "prices of exits that must be",
    "detection.hedge.margin.trigger_pct": "below it the watch adds margin and cuts (risk/margin_watch.py)",
    "detection.hedge.margin.out_pct": "below it the watch closes",
    "detection.hedge.margin.mark_interval_ms": "how often the watch looks",
    "detection.no_entries_before_end_h": "when the catalogue marks an instrument that ends; the mark is the rule",
    "detection.trusted_coins": "which coins the catalogue pairs by ticker",
    "detection.also_trusted_coins": "which coins the catalogue pairs by ticker",
    "execution.durability": "when a record counts as written; the last look sees the time that it took",
    "execution.target_execution_time_ms": "slower operations are counted",
    "execution.order_timeout_ms": "when an order without an answer counts as UNKNOWN",
    "execution.repair_window_ms": "how long a venue may take what reduces risk",
    "execution.unknown_grace_ms": "when a sweep may prove that an order never was",
    "execution.unwind_slippage_bps": "prices of repairs",
    "execution.unwind_max_slippage_bps": "prices of repairs",
    "execution.journal_segment_bytes": "size of the journal's files",
    "execution.journal_max_bytes": "when old files of the journal are removed",
    "execution.numeraire": "in which asset profit is counted",
    "features.enable_circuit_breakers": "off: breakers stop nothing on the exact path; the fast path still obeys them",
    "features.enable_recovery_mode": "whether broken legs are repaired without an operator",
    "features.enable_dry_run": "refused in live mode",
    "features.enable_detailed_logging": "no effect",
    "features.enable_performance_metrics": "no effect",
}

#: Parts of the configuration that hold limits of entries.
SECTIONS = ("risk_limits", "detection", "execution", "features")
KNOWN = frozenset([path for rule in RULES for path in rule.limits]) | EXACT_PATH_ONLY.keys() | NO_RULE.keys()


def limit_fields(config: EngineConfig) -> dict[str, tuple[Any, Any]]:
    """Dotted path -> (value, default) of every field of the sections that hold limits; nested structs field by field.
    Of the exchanges (``exchanges.*``: of each) the one field that forbids entries; all others say how they are reached.

    A field without a default has the default ``msgspec.NODEFAULT``, which no value equals.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for section in SECTIONS:
        _walk(section, getattr(config, section), found)
    found["exchanges.*.trade"] = (all(exchange.trade for exchange in config.exchanges.values()), True)
    return found


def _walk(path: str, struct: msgspec.Struct, found: dict[str, tuple[Any, Any]]) -> None:
    for field in msgspec.structs.fields(struct):
        value, default = getattr(struct, field.name), field.default
        if isinstance(value, msgspec.Struct):
            _walk(f"{path}.{field.name}", value, found)
            continue
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        found[f"{path}.{field.name}"] = (value, default)


def unknown_limits(config: EngineConfig) -> list[str]:
    """Fields without a row here: what they forbid, also by their default, the fast path cannot tell."""
    return [path for path in limit_fields(config) if path not in KNOWN]
