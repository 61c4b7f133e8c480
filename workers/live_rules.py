"""What a configuration for real money may not say, what it probably does not mean, and what it puts at stake.

``live_errors`` refuse a start and a reload in live mode; ``trade_errors`` every mode that sends orders.
``live_warnings`` are advice. Nothing is asked here: `arb config check --online` asks the venues (``setup/online.py``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from pipeline.exchanges.factory import trading_problems
from pipeline.execution.crash_points import live_problem
from pipeline.model.config import EngineConfig, LimitConfig, VenueConfig, VenueLimitConfig
from pipeline.model.dialects import facts_of, symbol_problem
from pipeline.model.enums import Mode

BPS = Decimal(10_000)
#: Quotes by which a symbol without a separator is split, longest first.
QUOTES = ("FDUSD", "USDT", "USDC", "USDE", "USD1", "TUSD", "USD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "GBP")
SAFETIES = {
    "enable_risk_checks": "limits would not be checked",
    "enable_circuit_breakers": "nothing would stop after losses and faults",
    "enable_recovery_mode": "a broken leg would stay naked",
}
#: Path -> the largest value that a live configuration may hold: beyond it the limit limits nothing.
MOST: dict[str, Decimal] = {
    "risk_limits.max_position_size_usd": Decimal(50_000_000),
    "risk_limits.max_total_exposure_usd": Decimal(200_000_000),
    "risk_limits.max_daily_loss_usd": Decimal(20_000_000),
    "risk_limits.total_loss_usd": Decimal(80_000_000),
    "risk_limits.max_unexplained_loss_usd": Decimal(20_000_000),
    "risk_limits.max_naked_usd_s": Decimal(250_000_000),
    "risk_limits.min_profit_margin_bps": Decimal(5000),
    "risk_limits.max_slippage_bps": Decimal(500),
    "risk_limits.max_orders_per_s": Decimal(1000),
    "risk_limits.max_open_operations": Decimal(1000),
    "risk_limits.max_unhedged_ms": Decimal(60_000),
    "risk_limits.max_execution_time_ms": Decimal(60_000),
    "detection.max_age_to_trade_ms": Decimal(1000),
    "detection.max_skew_ms": Decimal(2000),
    "detection.dead_after_ms": Decimal(60_000),
    "detection.hedge.leverage": Decimal(20),
    "detection.hedge.exit.max_loss_bps": Decimal(5000),
    "execution.order_timeout_ms": Decimal(60_000),
    "execution.entry_window_ms": Decimal(10_000),
    "execution.repair_window_ms": Decimal(10_000),
    "execution.max_clock_skew_ms": Decimal(10_000),
    "execution.unwind_slippage_bps": Decimal(500),
    "execution.unwind_max_slippage_bps": Decimal(1000),
}
#: Path -> (the smallest value that a live configuration may hold, why).
LEAST = {
    "execution.unknown_grace_ms": (2000, "an order may be taken so long after its window, by a clock or on its way"),
}
ABOVE_ZERO = ("risk_limits.min_profit_margin_bps", "risk_limits.min_profit_usd", "execute_edge_bps")


def trade_errors(config: EngineConfig) -> list[str]:
    """What no mode that sends orders can do: trade on a venue as it is configured, or on none."""
    found = [problem for venue in config.trading_venues for problem in trading_problems(venue)]
    found += _shared_wallets(config)
    if config.venues and not config.trading_venues:
        text = "wanted one at least that trades in mode sim or live; mode paper reads books alone"
        found.append(f"exchanges.*.trade: found false for {', '.join(config.feeds)}, {text}")
    return found


def _shared_wallets(config: EngineConfig) -> list[str]:
    """Exchanges whose markets would count the coins of one wallet twice."""
    found = []
    for exchange in config.trading_exchanges:
        venues = [venue for venue in config.trading_venues if venue.exchange == exchange]
        if len(venues) > 1 and (facts := facts_of(venues[0].dialect)).one_wallet:
            names = " and ".join(venue.market for venue in venues)
            found.append(
                f"exchanges.{exchange}: found {names} of one account, which spends the same coins at {facts.title}; "
                f"wanted an exchange for each (dialect: {venues[0].dialect}), each with a sub-account's key"
            )
    return found


def live_errors(config: EngineConfig) -> list[str]:
    """One line for each thing that live refuses; [] where it may start."""
    rules = (_safeties, _margins, _absurd, _order_of_limits, _losses, _symbols, _bound_tables, _spelling, _cpus, _tests)
    return [line for rule in rules for line in rule(config)]


def live_warnings(config: EngineConfig) -> list[str]:
    """What is allowed and probably not meant."""
    return [line for rule in (_lonely_symbols, _large_entry, _loose_exposure) for line in rule(config)]


def at_stake(config: EngineConfig) -> list[str]:
    """What may be lost at most, by the limits of ``config``, and what no limit bounds."""
    limits, execution = config.risk_limits, config.execution
    entry = min(config.detection.max_notional_usd, limits.max_position_size_usd)
    beyond = limits.max_open_operations * entry * execution.unwind_max_slippage_bps / BPS
    left = limits.max_total_exposure_usd * leaving_bps(config) / BPS
    venues = ", ".join(venue.name for venue in config.trading_venues)
    trades = "trades real money" if config.mode is Mode.LIVE else "would trade real money in mode live"
    return [
        f"{config.engine_name} {trades} at {venues}",
        f"a day: entries stop at a loss of {limits.max_daily_loss_usd:f} USD; operations under way then may lose "
        f"{beyond:.2f} USD more ({limits.max_open_operations} of {entry:f} USD, unwound at "
        f"{execution.unwind_max_slippage_bps:f} bps)",
        f"in all: entries stop at a loss of {limits.total_loss_usd:f} USD below the highest P&L since the journal "
        "began, over days and restarts, until an operator re-arms",
        f"at most {limits.total_loss_usd + beyond + left:.2f} USD in all: that, {beyond:.2f} USD of operations under "
        f"way, and {left:.2f} USD of open hedges until they must leave ({limits.max_total_exposure_usd:f} USD at "
        f"{leaving_bps(config):f} bps)",
        f"one entry: at most {entry:f} USD; one coin on one venue: {limits.max_position_size_usd:f} USD; "
        f"all positions: {limits.max_total_exposure_usd:f} USD",
        f"not bounded by any limit: an exchange that does not pay out, and {limits.max_total_exposure_usd:f} USD of "
        "positions whose hedge fails in a market that jumps",
    ]


def leaving_bps(config: EngineConfig) -> Decimal:
    """What an open hedge may lose of its notional before it must leave, and by leaving at the widest bound."""
    leaving = config.detection.hedge.exit
    return leaving.max_loss_bps + max(leaving.forced_slippage_bps, default=Decimal(0))


def pair_of(symbol: str) -> tuple[str, str] | None:
    """(base, quote) that a symbol spells; None where its quote is not known."""
    base, separator, quote = symbol.partition("_")
    if separator and quote and not quote.isdigit():
        return base, quote
    found = next((quote for quote in QUOTES if base.endswith(quote) and base != quote), None)
    return (base.removesuffix(found).rstrip("/-"), found) if found else None


def _value(config: EngineConfig, path: str) -> Any:
    value: Any = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _safeties(config: EngineConfig) -> Iterator[str]:
    for name, lost in SAFETIES.items():
        if not getattr(config.features, name):
            yield f"features.{name}: found false, refused in live mode: {lost}; remove the line"


def _margins(config: EngineConfig) -> Iterator[str]:
    for path in ABOVE_ZERO:
        if not _value(config, path) > 0:
            named = "detection.execute_edge_bps" if path == "execute_edge_bps" else path
            if named == path or config.detection.execute_edge_bps is not None:
                yield f"{named}: found {_value(config, path)}, wanted more than 0 in live mode: else entries lose money"


def _absurd(config: EngineConfig) -> Iterator[str]:
    for path, most in MOST.items():
        found = _value(config, path)
        if found is not None and found > most:  # absent: it follows from others
            path = path.replace(".total_", ".max_total_")  # the value where it is absent
            yield f"{path}: found {found}, wanted at most {most:f} in live mode: more is no limit"
    for path, (least, why) in LEAST.items():
        if (found := _value(config, path)) < least:
            yield f"{path}: found {found}, wanted {least} at least in live mode: {why}"


def _order_of_limits(config: EngineConfig) -> Iterator[str]:
    limits = config.risk_limits
    total = limits.max_total_exposure_usd
    for key in ("max_position_size_usd", "warn_exposure_usd", "max_daily_loss_usd", "max_unexplained_loss_usd"):
        found = getattr(limits, key)
        if found > total:
            yield f"risk_limits.{key}: found {found}, above max_total_exposure_usd {total}: it would never bind"
    for table in ("per_venue", "per_asset", "per_pair"):
        for name, limit in getattr(limits, table).items():
            yield from _never_binds(f"risk_limits.{table}.{name}", limit, config)


def _losses(config: EngineConfig) -> Iterator[str]:
    limits = config.risk_limits
    if limits.total_loss_usd < limits.max_daily_loss_usd:
        yield (
            f"risk_limits.max_total_loss_usd: found {limits.total_loss_usd}, below max_daily_loss_usd "
            f"{limits.max_daily_loss_usd}: the limit of a day would never bind"
        )


def _never_binds(path: str, limit: LimitConfig, config: EngineConfig) -> Iterator[str]:
    limits = config.risk_limits
    wider: dict[str, Decimal | int] = {
        "max_position_size_usd": limits.max_position_size_usd,
        "max_exposure_usd": limits.max_total_exposure_usd,
    }
    if isinstance(limit, VenueLimitConfig):
        wider["max_orders_per_s"] = limits.max_orders_per_s
    for key, whole in wider.items():
        found = getattr(limit, key)
        if found is not None and found > whole:
            yield f"{path}.{key}: found {found}, above the engine's own {whole}: it would never bind"
    if limit.enabled and all(getattr(limit, key) is None for key in wider):
        yield f"{path}: found no limit, wanted one of {', '.join(wider)}, or enabled: false"


def _symbols(config: EngineConfig) -> Iterator[str]:
    for venue in config.venues:
        path = f"exchanges.{venue.exchange}.markets.{venue.market}.symbols"
        if not venue.symbols:
            yield f"{path}: found none, wanted at least one; `arb pairs --config FILE` shows what the venues share"
        market = facts_of(venue.dialect).markets[venue.market]
        for symbol in venue.symbols:
            if problem := symbol_problem(symbol, market):
                yield f"{path}: {problem}"


def _pairs(venues: tuple[VenueConfig, ...]) -> tuple[set[str], set[str], bool]:
    """(pairs, assets, whether every symbol could be split)."""
    split = [pair_of(symbol) for venue in venues for symbol in venue.symbols]
    pairs = {f"{one[0]}/{one[1]}" for one in split if one}
    return pairs, {asset for one in split if one for asset in one}, None not in split


def _bound_tables(config: EngineConfig) -> Iterator[str]:
    pairs, _, whole = _pairs(config.trading_venues)
    for name in config.risk_limits.per_venue:
        if name not in {venue.name for venue in config.trading_venues}:
            yield f"risk_limits.per_venue.{name}: nothing is traded there (trade: false), it would never bind"
    bases = {pair.partition("/")[0] for pair in pairs}  # an asset's limits are those of what is bought and sold
    known: dict[str, set[str]] = {"per_asset": bases, "per_pair": pairs}
    for table, names in known.items():
        for name in getattr(config.risk_limits, table):
            if whole and name not in names:
                yield (
                    f"risk_limits.{table}.{name}: no such {table.removeprefix('per_')} is configured, it would never "
                    f"bind; configured: {', '.join(sorted(names)) or 'none'}"
                )


def _spelling(config: EngineConfig) -> Iterator[str]:
    for key in ("trusted_coins", "also_trusted_coins"):
        for coin in getattr(config.detection, key):
            if coin != coin.strip().upper() or not coin:
                yield f"detection.{key}: found {coin!r}, wanted a coin in capitals, as BTC"
    _, assets, whole = _pairs(config.trading_venues)
    for table in ("targets", "alarms"):
        for venue, amounts in getattr(config.inventory, table).items():
            fees = config.fees.get(venue)
            known = assets | ({fees.deduction.coin} if fees and fees.deduction else set())
            for asset in amounts:
                if whole and asset not in known:
                    yield f"inventory.{table}.{venue}.{asset}: no such coin is configured; it would never bind"


def _cpus(config: EngineConfig) -> Iterator[str]:
    count = os.cpu_count() or 1
    for name, process in config.processes.items():
        for cpu in process.cpus:
            if cpu >= count:
                yield f"processes.{name}.cpus: found {cpu}, this host has 0 to {count - 1}"


def _tests(config: EngineConfig) -> Iterator[str]:
    problem = live_problem()
    if problem:
        yield problem


def _lonely_symbols(config: EngineConfig) -> Iterator[str]:
    if "triangular" in config.detection.types:
        return
    on: dict[str, list[str]] = {}
    for venue in config.trading_venues:
        for symbol in venue.symbols:
            split = pair_of(symbol)
            if split:
                on.setdefault("/".join(split), []).append(f"{venue.name} {symbol}")
    for pair, places in on.items():
        if len(places) == 1:
            yield f"exchanges: {pair} is on one venue alone ({places[0]}): it meets nothing to trade against"


def _large_entry(config: EngineConfig) -> Iterator[str]:
    most, position = config.detection.max_notional_usd, config.risk_limits.max_position_size_usd
    if most > position:
        yield f"detection.max_notional_usd: found {most}, above max_position_size_usd {position}, which is what binds"


def _loose_exposure(config: EngineConfig) -> Iterator[str]:
    limits = config.risk_limits
    if limits.max_daily_loss_usd * 5 > limits.max_total_exposure_usd:
        yield (
            f"risk_limits.max_daily_loss_usd: found {limits.max_daily_loss_usd}, more than a fifth of "
            f"max_total_exposure_usd {limits.max_total_exposure_usd}: a day's loss that spreads seldom reach"
        )
