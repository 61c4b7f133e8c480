"""Gate.io instruments, fees and coin identities of spot and USDT futures: REST bytes -> specs. Sans-I/O.

Row of GET /spot/currency_pairs::

    {"id":"ETH_USDT","base":"ETH","quote":"USDT","fee":"0.2","min_base_amount":"0.001","min_quote_amount":"1.0",
     "amount_precision":3,"precision":6,"trade_status":"tradable","delisting_time":0,"type":"normal", ...}

Row of GET /futures/usdt/contracts (recorded 2023)::

    {"name":"BTC_USDT","type":"direct","quanto_multiplier":"0.0001","order_price_round":"0.1","order_size_min":1,
     "order_size_max":1000000,"order_price_deviate":"0.5","funding_rate":"0.000086","funding_interval":28800,
     "funding_next_apply":1684944000,"mark_price":"26704.26","taker_fee_rate":"0.00075","maker_fee_rate":"-0.000152",
     "in_delisting":false, ...}

*Source:* Gate.io API v4: spot currency pairs, spot currencies, futures contracts, wallet fee.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.economics.margin import Tier, endless
from pipeline.exchanges.gateio.coin_networks import Currency
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row, in_order
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, lenient_ms, maybe_number, number
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import fee_ppm
from pipeline.model.network_names import coin_identity
from pipeline.model.structs import ZERO, CoinIdentity, FeeSchedule, FundingTerms, InstrumentSpec
from pipeline.model.trading_times import announced_s

_SPOT_STATUS = {
    "tradable": TradingStatus.TRADING,
    "buyable": TradingStatus.BUY_ONLY,
    "sellable": TradingStatus.SELL_ONLY,
    "untradable": TradingStatus.HALTED,
}


class _Pair(msgspec.Struct):
    id: str
    base: str
    quote: str
    amount_precision: int
    precision: int
    trade_status: str
    fee: Decimal = ZERO
    min_base_amount: Maybe = ABSENT
    min_quote_amount: Maybe = ABSENT
    max_base_amount: Maybe = ABSENT
    type: str = "normal"
    buy_start: Maybe = ABSENT
    sell_start: Maybe = ABSENT
    delisting_time: Maybe = ABSENT


class _Contract(msgspec.Struct):
    name: str
    quanto_multiplier: Decimal
    order_price_round: Decimal
    order_size_min: Decimal
    type: str = "direct"
    status: str = "trading"  # absent in rows before 2024
    in_delisting: bool = False
    delisting_time: Maybe = ABSENT  # only reductions from here on
    delisted_time: Maybe = ABSENT
    launch_time: Maybe = ABSENT
    enable_decimal: bool = False
    order_size_max: Maybe = ABSENT
    order_price_deviate: Maybe = ABSENT
    funding_rate: Maybe = ABSENT
    funding_interval: int = 0
    funding_next_apply: Maybe = ABSENT
    mark_price: Maybe = ABSENT
    last_price: Maybe = ABSENT
    taker_fee_rate: Maybe = ABSENT
    maker_fee_rate: Maybe = ABSENT


class _WalletFee(msgspec.Struct):
    taker_fee: Decimal
    maker_fee: Decimal
    futures_taker_fee: Decimal = ZERO
    futures_maker_fee: Decimal = ZERO


class _FuturesFee(msgspec.Struct):
    taker_fee: Decimal
    maker_fee: Decimal


class _Ticker(msgspec.Struct):
    currency_pair: str
    last: Maybe = ABSENT


class _RiskTier(msgspec.Struct):
    risk_limit: Decimal
    maintenance_rate: Decimal
    deduction: Maybe = ABSENT


_pairs = Rows(_Pair, or_one=True)
_contracts = Rows(_Contract, or_one=True)
_wallet_fee = msgspec.json.Decoder(_WalletFee)
_futures_fee = msgspec.json.Decoder(dict[str, _FuturesFee])
_risk_tiers = Rows(_RiskTier)
_currencies = Rows(Currency)
_tickers = Rows(_Ticker)


def parse_spot(
    venue: str,
    payload: bytes,
    symbols: Sequence[str],
    *,
    fees: Mapping[str, FeeSchedule],
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
    odd: OddRows | None = None,
) -> list[InstrumentSpec]:
    """Specs of ``symbols`` from GET /spot/currency_pairs, in their order; unlisted and unreadable ones are left out."""
    wanted = frozenset(symbols)

    def spec(row: _Pair) -> InstrumentSpec | None:
        return _spot_spec(venue, row, fees.get(row.id), coins, prices) if row.id in wanted else None

    return in_order(symbols, _pairs.read(payload, venue, "currency_pairs", spec, odd=odd, foreign=any_row))


def _spot_spec(
    venue: str,
    row: _Pair,
    own: FeeSchedule | None,
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
) -> InstrumentSpec:
    lot = Decimal(1).scaleb(-row.amount_precision)
    base_fee = fee_ppm(number(row.fee, venue) / 100)  # the row is in percent
    tradable = _SPOT_STATUS.get(row.trade_status, TradingStatus.HALTED)
    return InstrumentSpec(
        venue=venue,
        symbol=row.id,
        base=row.base,
        quote=row.quote,
        kind=InstrumentKind.SPOT,
        tick=Decimal(1).scaleb(-row.precision),
        lot=lot,
        min_qty=max(lot, maybe_number(row.min_base_amount, venue) or ZERO),
        max_qty=maybe_number(row.max_base_amount, venue) or ZERO,
        min_notional=maybe_number(row.min_quote_amount, venue) or ZERO,
        status=tradable if row.type == "normal" else TradingStatus.HALTED,
        taker_fee_ppm=own.taker_ppm if own else base_fee,
        maker_fee_ppm=own.maker_ppm if own else base_fee,
        fee_rule=FeeAssetRule.RECEIVED,
        trading_from_wall_s=announced_s(max(lenient_ms(row.buy_start), lenient_ms(row.sell_start))),
        trading_until_wall_s=announced_s(lenient_ms(row.delisting_time)),
        reference_price=prices.get(row.id, ZERO),
        identity=coins.get(row.base),
    )


def parse_futures(
    venue: str,
    payload: bytes,
    symbols: Sequence[str],
    *,
    fees: Mapping[str, FeeSchedule],
    coins: Mapping[str, CoinIdentity],
    odd: OddRows | None = None,
) -> list[InstrumentSpec]:
    """Specs of ``symbols`` from GET /futures/usdt/contracts: contracts become base coin here. Unlisted and unreadable
    ones are left out.

    A contract's coin is the exchange's own spot coin of that ticker (``coins`` of the same exchange).
    """
    wanted = frozenset(symbols)

    def spec(row: _Contract) -> InstrumentSpec | None:
        return _futures_spec(venue, row, fees.get(row.name), coins) if row.name in wanted else None

    return in_order(symbols, _contracts.read(payload, venue, "contracts", spec, odd=odd, foreign=any_row))


def _futures_spec(
    venue: str, row: _Contract, own: FeeSchedule | None, coins: Mapping[str, CoinIdentity]
) -> InstrumentSpec:
    base, separator, quote = row.name.partition("_")
    if not separator or row.quanto_multiplier <= 0:
        raise ProtocolViolation(f"{venue}: contract {row.name} with multiplier {row.quanto_multiplier}", venue=venue)
    multiplier = number(row.quanto_multiplier, venue)
    step = number(row.order_size_min, venue) if row.enable_decimal and 0 < row.order_size_min < 1 else Decimal(1)
    ending = row.status == "delisting" or row.in_delisting
    trading = (row.status == "trading" or ending) and row.status != "delisted" and row.type == "direct"
    return InstrumentSpec(
        venue=venue,
        symbol=row.name,
        base=base,
        quote=quote,
        kind=InstrumentKind.PERPETUAL,
        tick=number(row.order_price_round, venue),
        lot=step * multiplier,
        min_qty=max(step, number(row.order_size_min, venue)) * multiplier,
        max_qty=(maybe_number(row.order_size_max, venue) or ZERO) * multiplier,
        multiplier=multiplier,
        status=TradingStatus.TRADING if trading else TradingStatus.HALTED,
        taker_fee_ppm=own.taker_ppm if own else fee_ppm(maybe_number(row.taker_fee_rate, venue) or ZERO),
        maker_fee_ppm=own.maker_ppm if own else fee_ppm(maybe_number(row.maker_fee_rate, venue) or ZERO),
        fee_rule=FeeAssetRule.QUOTE,
        price_band_ppm=int((maybe_number(row.order_price_deviate, venue) or ZERO) * 1_000_000),
        funding_rate_ppb=round((maybe_number(row.funding_rate, venue) or ZERO) * 1_000_000_000),
        funding_interval_s=row.funding_interval,
        funding_next_wall_s=lenient_ms(row.funding_next_apply),
        trading_from_wall_s=announced_s(lenient_ms(row.launch_time)),
        trading_until_wall_s=announced_s(lenient_ms(row.delisting_time)) or announced_s(lenient_ms(row.delisted_time)),
        ending=ending,
        reference_price=maybe_number(row.mark_price, venue) or maybe_number(row.last_price, venue) or ZERO,
        identity=coins.get(base),
    )


def parse_funding_terms(venue: str, payload: bytes, odd: OddRows) -> dict[str, FundingTerms]:
    """Rate and next stamp by contract, of every contract in the reply."""

    def one(row: _Contract) -> tuple[str, FundingTerms]:
        rate = maybe_number(row.funding_rate, venue) or ZERO
        return row.name, FundingTerms(round(rate * 1_000_000_000), lenient_ms(row.funding_next_apply))

    return dict(_contracts.read(payload, venue, "contracts", one, odd=odd, foreign=any_row))


def parse_multipliers(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, Decimal]:
    """Base coins per contract, of every contract in the reply."""

    def one(row: _Contract) -> tuple[str, Decimal]:
        return row.name, number(row.quanto_multiplier, venue)

    found = _contracts.read(payload, venue, "contracts", one, odd=odd, foreign=any_row)
    return {name: multiplier for name, multiplier in found if multiplier > 0}


def parse_spot_fee(venue: str, symbol: str, payload: bytes) -> FeeSchedule:
    """GET /wallet/fee?currency_pair=…: rates as fractions. The GT discount is not assumed (GT may run out)."""
    rates = decode(_wallet_fee, payload, venue, "wallet/fee")
    return FeeSchedule(
        venue=venue, symbol=symbol, taker_ppm=fee_ppm(rates.taker_fee), maker_ppm=fee_ppm(rates.maker_fee)
    )


def parse_futures_fees(venue: str, payload: bytes) -> dict[str, FeeSchedule]:
    """GET /futures/usdt/fee: ``{"BTC_USDT":{"taker_fee":"0.00075","maker_fee":"-0.00010"}}``."""
    return {
        symbol: FeeSchedule(
            venue=venue, symbol=symbol, taker_ppm=fee_ppm(rates.taker_fee), maker_ppm=fee_ppm(rates.maker_fee)
        )
        for symbol, rates in decode(_futures_fee, payload, venue, "futures/usdt/fee").items()
    }


def parse_risk_tiers(venue: str, payload: bytes) -> tuple[Tier, ...]:
    """GET /futures/usdt/risk_limit_tiers?contract=BTC_USDT, in rising order; a position above the last limit (none may
    be opened there) counts as in the last tier: ``[{"maintenance_rate":"0.004","tier":1,"initial_rate":"0.008",
    "leverage_max":"125","risk_limit":"500000","deduction":"0"}]``. Maintenance = value x rate - deduction.

    Raises ``ProtocolViolation`` where rates, limits or deductions fall or are out of range.
    """

    def one(row: _RiskTier) -> Tier:
        deduction = maybe_number(row.deduction, venue) or ZERO
        return Tier(number(row.risk_limit, venue), number(row.maintenance_rate, venue), deduction)

    tiers = sorted(_risk_tiers.read(payload, venue, "futures/usdt/risk_limit_tiers", one))
    for below, tier in zip((Tier(ZERO, ZERO, ZERO), *tiers), tiers, strict=False):
        if not (below.cap < tier.cap and below.rate <= tier.rate < 1 and below.deduction <= tier.deduction):
            raise ProtocolViolation(f"{venue}: risk tiers must rise, found {below} before {tier}", venue=venue)
    return endless(tiers)


def parse_coins(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, CoinIdentity]:
    """GET /spot/currencies: identity and wallet switches by coin. A wallet is open if any chain is. A coin without an
    identity is doubt, which quarantines its pair."""
    found = _currencies.read(payload, venue, "spot/currencies", _identity, odd=odd, foreign=any_row)
    return {coin.asset: coin for coin in found}


def _identity(coin: Currency) -> CoinIdentity:
    chains = coin.chains
    return coin_identity(
        coin.currency,
        ((chain.name, chain.addr or "") for chain in chains),
        deposit_enabled=not coin.delisted
        and not coin.deposit_disabled
        and (not chains or any(not chain.deposit_disabled for chain in chains)),
        withdraw_enabled=not coin.delisted
        and not coin.withdraw_disabled
        and (not chains or any(not chain.withdraw_disabled for chain in chains)),
    )


def parse_prices(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, Decimal]:
    """GET /spot/tickers: last price by pair."""

    def one(row: _Ticker) -> tuple[str, Decimal]:
        return row.currency_pair, maybe_number(row.last, venue) or ZERO

    found = _tickers.read(payload, venue, "spot/tickers", one, odd=odd, foreign=any_row)
    return {symbol: price for symbol, price in found if price > 0}
