"""Bounds of every number of the configuration. A number without a row is found by a test, not by a start.

``BOUNDS`` names a number by its dotted path, ``*`` for the key of a table and for an item of a list. Bounds say what
cannot be meant; what live refuses beyond them stands in ``workers/live_rules.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from pipeline.model.config_monitoring import PORT_MAX

USD_MAX = 10**15
DAY_MS = 86_400_000
DAY_S = 86_400
WINDOW_MAX_MS = 59_999  # MEXC and Binance take less than a minute
FEE_PPM_MAX = 100_000  # a tenth of the notional
BYTES_MAX = 2**50
SEGMENT_BYTES_MIN = 16 * 1024  # the journal takes no smaller ones
COUNT_MAX = 10**9


class Bound(NamedTuple):
    """What a number may be: ``least`` to ``most``, both inclusive but where ``above`` leaves out ``least``."""

    least: int
    most: int
    above: bool = False
    why: str = ""

    def holds(self, value: Decimal | int) -> bool:
        """Whether a finite number is inside."""
        return (value > self.least if self.above else value >= self.least) and value <= self.most

    @property
    def wanted(self) -> str:
        """The bound in words."""
        text = f"a number above {self.least}, at most {self.most}" if self.above else f"{self.least} to {self.most}"
        return f"{text}: {self.why}" if self.why else text


USD = Bound(0, USD_MAX, above=True)
PROFIT_USD = Bound(-USD_MAX, USD_MAX)
EDGE_BPS = Bound(-10_000, 1_000_000)  # below 0 for demonstrations: live refuses it
COST_BPS = Bound(0, 10_000)
PRICE_BPS = Bound(0, 9_999)
MS = Bound(0, DAY_MS, above=True)
MS_OR_NONE = Bound(0, DAY_MS)
WINDOW_MS = Bound(1, WINDOW_MAX_MS, why="no venue takes more")
HOURS = Bound(0, 10 * 365 * 24, above=True)
S = Bound(0, DAY_S, above=True)
COUNT = Bound(0, COUNT_MAX, above=True)
BYTES = Bound(0, BYTES_MAX, above=True)
PERCENT = Bound(0, 100, above=True)
AMOUNT = Bound(0, 10**18)
SHARE_PPM = Bound(0, 1_000_000)
FEE_PPM = Bound(-FEE_PPM_MAX, FEE_PPM_MAX, why="10 %")

BOUNDS: dict[str, Bound] = {
    "exchanges.*.sockets": Bound(0, 2),
    "detection.min_edge_bps": EDGE_BPS,
    "detection.execute_edge_bps": EDGE_BPS,
    "detection.max_age_to_trade_ms": MS,
    "detection.dead_after_ms": MS,
    "detection.max_skew_ms": MS,
    "detection.cooldown_ms": MS_OR_NONE,
    "detection.max_notional_usd": USD,
    "detection.no_entries_before_end_h": Bound(0, 24 * 30),
    "detection.hedge.expected_exit_basis_bps": Bound(-5000, 5000),  # a basis has either sign
    "detection.hedge.holding_hours": Bound(0, HOURS.most),
    "detection.hedge.carry_bps_per_day": COST_BPS,
    "detection.hedge.leverage": Bound(1, 1000),
    "detection.hedge.margin.trigger_pct": PERCENT,
    "detection.hedge.margin.target_pct": PERCENT,
    "detection.hedge.margin.out_pct": PERCENT,
    "detection.hedge.margin.mark_interval_ms": MS,
    "detection.hedge.exit.capital_bps_per_day": COST_BPS,
    "detection.hedge.exit.stamp_window_s": Bound(0, DAY_S),
    "detection.hedge.exit.deadline_hours": HOURS,
    "detection.hedge.exit.max_loss_bps": Bound(0, 10_000, above=True),
    "detection.hedge.exit.forced_slippage_bps.*": Bound(0, PRICE_BPS.most, above=True),
    "detection.hedge.exit.forced_step_s": S,
    "risk_limits.max_position_size_usd": USD,
    "risk_limits.max_total_exposure_usd": USD,
    "risk_limits.warn_exposure_usd": USD,
    "risk_limits.max_daily_loss_usd": USD,
    "risk_limits.max_total_loss_usd": USD,
    "risk_limits.min_profit_margin_bps": EDGE_BPS,
    "risk_limits.min_profit_usd": PROFIT_USD,
    "risk_limits.max_execution_time_ms": MS,
    "risk_limits.max_slippage_bps": Bound(0, 10_000, above=True),
    "risk_limits.max_orders_per_s": COUNT,
    "risk_limits.max_open_operations": COUNT,
    "risk_limits.max_unhedged_ms": MS,
    "risk_limits.max_naked_usd_s": Bound(0, USD_MAX * DAY_S, above=True),
    "risk_limits.max_unexplained_loss_usd": USD,
    "risk_limits.per_venue.*.max_orders_per_s": COUNT,
    **{
        f"risk_limits.{table}.*.{key}": USD
        for table in ("per_venue", "per_asset", "per_pair")
        for key in ("max_position_size_usd", "max_exposure_usd")
    },
    "execution.balance_refresh_interval_ms": MS,
    "execution.target_execution_time_ms": MS,
    "execution.order_timeout_ms": MS,
    "execution.entry_window_ms": WINDOW_MS,
    "execution.repair_window_ms": WINDOW_MS,
    "execution.max_clock_skew_ms": MS,
    "execution.unknown_grace_ms": MS_OR_NONE,
    "execution.unwind_slippage_bps": PRICE_BPS,
    "execution.unwind_max_slippage_bps": PRICE_BPS,
    "execution.journal_segment_bytes": Bound(SEGMENT_BYTES_MIN, BYTES_MAX),
    "execution.journal_max_bytes": BYTES,
    "recording.log_file_bytes": BYTES,
    "recording.log_files": COUNT,
    "recording.opportunities_max": COUNT,
    "recording.ledger_keep_days": Bound(0, 36_500, why="0: nothing leaves"),
    "recording.balances_every_s": S,
    "recording.market_max_bytes": BYTES,
    "recording.market_keep_hours": COUNT,
    "recording.market_piece_s": S,
    "inventory.targets.*.*": AMOUNT,
    "inventory.alarms.*.*": AMOUNT,
    "inventory.transfers.*.fee": AMOUNT,
    "inventory.transfers.*.minutes": Bound(0, 30 * 24 * 60, above=True),
    "inventory.transfer_minutes": Bound(0, 30 * 24 * 60, above=True),
    "inventory.propose_worth_per_cost": Bound(0, 1_000_000, above=True),
    # Below these a healthy executor would be killed: it beats ten times a second, and starts in a second.
    "guard.hung_after_ms": Bound(500, DAY_MS),
    "guard.restart_within_ms": Bound(2000, DAY_MS),
    "processes.*.cpus.*": Bound(0, 65535),
    "processes.*.nice": Bound(-20, 19),
    "fees.*.taker_ppm": FEE_PPM,
    "fees.*.maker_ppm": FEE_PPM,
    "fees.*.deduction.discount_ppm": SHARE_PPM,
    "fees.*.deduction.price_usd": USD,
    "fees.*.deduction.warn_usd": Bound(0, USD_MAX),
    "fees.*.deduction.warn_days": Bound(0, 3650),
    "canary.max_notional_usd": USD,
    "canary.max_total_exposure_usd": USD,
    "canary.max_daily_loss_usd": USD,
    "canary.max_open_operations": COUNT,
    "paper.*.capital_usd": USD,
    "paper.*.balances.*": AMOUNT,
    "paper.*.latency_ms": MS,
    "paper.*.latency_p99_ms": MS,
    "paper.*.missed_ppm": SHARE_PPM,
    "paper.*.late_ppm": SHARE_PPM,
    "paper.*.late_ms": MS,
    "monitoring.port": Bound(0, PORT_MAX),
    "monitoring.heartbeat_every_s": S,
    "monitoring.remind_every_s": Bound(0, 365 * DAY_S, above=True),
    "monitoring.queue_max": COUNT,
    "monitoring.slow_cycle_ms": MS,
    "monitoring.latency_factor": Bound(1, 1_000_000, above=True),
}


def numbers(value: Any, path: str = "", row: str = "") -> Iterator[tuple[str, str, Decimal | int]]:
    """(dotted path, its row of ``BOUNDS``, number) of each number in a configuration or a part of one."""
    if isinstance(value, bool | Enum):
        return
    if isinstance(value, Decimal | int):
        yield path.removeprefix("."), row.removeprefix("."), value
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from numbers(getattr(value, name), f"{path}.{name}", f"{row}.{name}")
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from numbers(item, f"{path}.{name}", f"{row}.*")
    elif isinstance(value, list | tuple):
        for item in value:
            yield from numbers(item, path, f"{row}.*")


def check_numbers(config: msgspec.Struct, errors: list[str]) -> None:
    """Append a line for each number that is none, or outside its bound."""
    for path, row, value in numbers(config):
        bound = BOUNDS[row]
        if not Decimal(value).is_finite() or not bound.holds(value):
            errors.append(f"{path}: found {value}, wanted {bound.wanted}")
