"""Builds simulated venues from a scenario: instruments, accounts with their keys, coin identities."""

from __future__ import annotations

import secrets
from decimal import Decimal

from pipeline.model.enums import FeeAssetRule, TradingStatus
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.accounts import ApiKey, SimAccount
from pipeline.sim.exchange.faults import FaultPlan
from pipeline.sim.exchange.fees import FeeDeduction
from pipeline.sim.exchange.instruments import RiskTier, SimInstrument
from pipeline.sim.exchange.latency import NS_PER_S, ManualClock
from pipeline.sim.exchange.paths import rate_at
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.scenarios.specs import AccountSpec, CoinSpec, FeeDeductionSpec, ListingSpec, Scenario, VenueSpec
from pipeline.sim.wire.discovery import load_dialect

ORDERS_PER_S = 10  # of venues that say nothing else
KEY_ROLES = 3  # keys that a generated account gets: the engine's, the guard's, a read-only one


def build_venues(
    scenario: Scenario, clock: ManualClock, ledger: VenueLedger, faults: FaultPlan, seed: int
) -> dict[str, SimVenue]:
    """Every venue of the scenario, with its accounts opened and their starting balances in the ledger."""
    venues: dict[str, SimVenue] = {}
    for exchange, spec in scenario.exchanges.items():
        dialect = load_dialect(spec.dialect)
        keys, uid = _keys(dialect.key_prefix, spec.account)
        if dialect.account_per_market and spec.account is not None and len(spec.venues) > 1:
            text = "spot and contracts of one account spend the same coins there, which is not simulated"
            raise ConfigInvalid([f"exchanges.{exchange}.account: {text}; wanted an exchange for each market"])
        for market, venue_spec in spec.venues.items():
            if dialect.account_per_market:
                keys, uid = _keys(dialect.key_prefix, spec.account)
            name = f"{exchange}_{market}"
            venue = SimVenue(
                name=name,
                exchange=exchange,
                kind=venue_spec.instrument_kind,
                instruments=_instruments(scenario, name, venue_spec, clock, keeps_fee=dialect.trigger_keeps_fee),
                clock=clock,
                ledger=ledger,
                faults=faults,
                seed=seed,
                latency=venue_spec.latency_profile,
                ticker_interval_ms=venue_spec.ticker_interval_ms,
                refill_ms=venue_spec.refill_ms,
                rejects_unfillable=venue_spec.rejects_unfillable,
            )
            venue.signed_ahead_ms_max = dialect.signed_ahead_ms_max
            venue.orders_per_s = dialect.orders_per_s.get(market, ORDERS_PER_S)
            account = venue.add_account(uid, keys, dict(venue_spec.balances))
            account.default_leverage = Decimal(venue_spec.leverage)
            account.default_cross = venue_spec.margin_mode == "cross"
            account.dual_side = venue_spec.position_mode == "dual"
            account.account_mode = spec.account_mode
            _deduct_fees(venue, account, venue_spec.fee_deduction, splits=dialect.splits_fee_deduction)
            venues[name] = venue
    return venues


def _deduct_fees(venue: SimVenue, account: SimAccount, spec: FeeDeductionSpec | None, *, splits: bool) -> None:
    """The account's deduction coin, with its stock as a deposit."""
    if spec is None:
        return
    account.fee_deduction = FeeDeduction(
        coin=spec.coin, price=spec.price, rate=spec.rate, splits=splits, enabled=spec.enabled
    )
    if spec.balance:
        venue.settlement.external(account, spec.coin, spec.balance, "deposit")


def _keys(prefix: str, account: AccountSpec | None) -> tuple[list[ApiKey], str]:
    """The scenario's keys, or fresh random ones (never a constant in a file)."""
    if account is not None:
        return [ApiKey(row.api_key, row.api_secret, row.can_trade) for row in account.keys], account.uid
    uid = str(10_000_000 + secrets.randbelow(80_000_000))
    keys = [
        ApiKey(prefix + secrets.token_hex(14), secrets.token_hex(16), can_trade=role < KEY_ROLES - 1)
        for role in range(KEY_ROLES)
    ]
    return keys, uid


def _instruments(
    scenario: Scenario, venue: str, spec: VenueSpec, clock: ManualClock, *, keeps_fee: bool
) -> list[SimInstrument]:
    rows = []
    for pair, pair_spec in scenario.pairs.items():
        listing = pair_spec.listings.get(venue)
        if listing is not None:
            row = _instrument(scenario, pair, listing, spec, clock)
            row.trigger_keeps_fee = keeps_fee
            rows.append(row)
    return rows


def _instrument(
    scenario: Scenario, pair: str, listing: ListingSpec, spec: VenueSpec, clock: ManualClock
) -> SimInstrument:
    base, quote = pair.split("/")
    coin = spec.coins.get(base) or scenario.coins.get(base) or CoinSpec(networks=((base.lower(), ""),))
    interval_s = listing.funding_interval_s
    now_s = clock.wall_ns() // NS_PER_S
    return SimInstrument(
        symbol=listing.symbol,
        base=base,
        quote=quote,
        kind=spec.instrument_kind,
        tick=listing.tick,
        lot=listing.lot,
        unit=listing.unit or listing.lot,
        multiplier=listing.multiplier,
        min_qty=listing.min_qty,
        max_qty=listing.max_qty,
        min_notional=listing.min_notional,
        max_notional=listing.max_notional,
        taker_fee_ppm=spec.taker_fee_ppm,
        maker_fee_ppm=spec.maker_fee_ppm,
        list_taker_fee_ppm=spec.list_taker_fee_ppm,
        list_maker_fee_ppm=spec.list_maker_fee_ppm,
        fee_rule=FeeAssetRule[spec.fee_rule],
        status=TradingStatus[listing.status],
        identity=CoinIdentity(
            asset=base,
            networks=tuple(sorted((net.lower(), address.lower()) for net, address in coin.networks)),
            deposit_enabled=coin.deposit,
            withdraw_enabled=coin.withdraw,
        ),
        funding_rate=rate_at(listing.funding_path, 0.0) if listing.funding_path else listing.funding_rate,
        funding_interval_s=interval_s,
        funding_next_s=(now_s // interval_s + 1) * interval_s if interval_s else 0,
        funding_path=listing.funding_path,
        maintenance_rate=listing.maintenance_rate,
        leverage_max=listing.leverage_max,
        risk_tiers=tuple(
            RiskTier(
                cap=tier.cap,
                initial_rate=round(Decimal(1) / tier.leverage_max, 8),
                maintenance_rate=tier.maintenance_rate,
                leverage_max=tier.leverage_max,
                deduction=tier.deduction,
            )
            for tier in listing.risk_tiers
        ),
    )
