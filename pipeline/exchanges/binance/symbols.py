"""Binance instruments, commissions and coin identities of spot and USDⓈ-M: REST bytes -> specs. Sans-I/O.

Ticks and steps come from the filters only (``pricePrecision`` of USDⓈ-M is not the tick)::

    {"filterType":"PRICE_FILTER","minPrice":"0.00000100","maxPrice":"100000.00000000","tickSize":"0.00000100"}
    {"filterType":"LOT_SIZE","minQty":"0.00100000","maxQty":"100000.00000000","stepSize":"0.00100000"}
    {"filterType":"NOTIONAL","minNotional":"10.00000000", ...}      older: MIN_NOTIONAL {"minNotional":…}
    {"filterType":"MIN_NOTIONAL","notional":"5.0"}                  USDⓈ-M

*Source:* venues/binance_spot.md section 1, venues/binance_usdm.md section 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.network_names import coin_identity
from pipeline.exchanges.parsing.venue_json import decode, number
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import fee_ppm
from pipeline.model.structs import ZERO, CoinIdentity, FeeSchedule, InstrumentSpec
from pipeline.model.trading_times import announced_s

STANDARD_TAKER_PPM = {"spot": 1000, "futures": 500}  # base tier; the row has no fees, the account's endpoint has
STANDARD_MAKER_PPM = {"spot": 1000, "futures": 200}


class _Filter(msgspec.Struct):
    filterType: str
    tickSize: Decimal | None = None
    stepSize: Decimal | None = None
    minQty: Decimal | None = None
    maxQty: Decimal | None = None
    minNotional: Decimal | None = None
    notional: Decimal | None = None


class _Row(msgspec.Struct):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: list[_Filter]
    isSpotTradingAllowed: bool = True
    contractType: str = ""
    onboardDate: int = 0
    deliveryDate: int = 0


class _Info(msgspec.Struct):
    symbols: list[_Row]


class _Rates(msgspec.Struct):
    maker: Decimal
    taker: Decimal


class _SpotCommission(msgspec.Struct):
    standardCommission: _Rates


class _FuturesCommission(msgspec.Struct):
    makerCommissionRate: Decimal
    takerCommissionRate: Decimal


class _Network(msgspec.Struct):
    network: str = ""
    contractAddress: str | None = None
    depositEnable: bool = False
    withdrawEnable: bool = False


class _Coin(msgspec.Struct):
    coin: str
    networkList: list[_Network] = []


class _Delisting(msgspec.Struct):
    delistTime: int
    symbols: list[str]


class _Ticker(msgspec.Struct):
    symbol: str
    bidPrice: Decimal
    askPrice: Decimal


class _Premium(msgspec.Struct):
    symbol: str
    markPrice: Decimal = ZERO
    lastFundingRate: Decimal | None = None
    nextFundingTime: int = 0


_info = msgspec.json.Decoder(_Info)
_spot_commission = msgspec.json.Decoder(_SpotCommission)
_futures_commission = msgspec.json.Decoder(_FuturesCommission)
_coins = msgspec.json.Decoder(list[_Coin])
_tickers = msgspec.json.Decoder(list[_Ticker] | _Ticker)
_delistings = msgspec.json.Decoder(list[_Delisting])
_premiums = msgspec.json.Decoder(list[_Premium] | _Premium)
FUNDING_INTERVAL_S = 8 * 3600  # the usual one; contracts with another are listed by a fundingInfo endpoint


def parse_instruments(
    venue: str,
    market: str,
    payload: bytes,
    symbols: Sequence[str],
    *,
    fees: Mapping[str, FeeSchedule],
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
    premiums: Mapping[str, _Premium] | None = None,
    ends: Mapping[str, int] | None = None,
) -> list[InstrumentSpec]:
    """Specs of ``symbols`` from exchangeInfo, in their order; unlisted ones are left out. ``ends``: unix seconds of
    announced delistings by symbol, of spot."""
    rows = {row.symbol: row for row in decode(_info, payload, venue, "exchangeInfo").symbols}
    return [
        _spec(venue, market, rows[symbol], fees.get(symbol), coins, prices, (premiums or {}).get(symbol), ends or {})
        for symbol in symbols
        if symbol in rows
    ]


def _spec(
    venue: str,
    market: str,
    row: _Row,
    own: FeeSchedule | None,
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
    premium: _Premium | None,
    ends: Mapping[str, int],
) -> InstrumentSpec:
    filters = {item.filterType: item for item in row.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    if price is None or lot is None or not price.tickSize or not lot.stepSize:
        raise ProtocolViolation(f"{venue}: {row.symbol} without tick or step in its filters", venue=venue)
    floor = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
    minimum = (floor.minNotional or floor.notional or ZERO) if floor else ZERO
    futures = market == "futures"
    trading = row.status == "TRADING" and (row.contractType == "PERPETUAL" if futures else row.isSpotTradingAllowed)
    rate = premium.lastFundingRate if premium and premium.lastFundingRate is not None else ZERO
    return InstrumentSpec(
        venue=venue,
        symbol=row.symbol,
        base=row.baseAsset,
        quote=row.quoteAsset,
        kind=InstrumentKind.PERPETUAL if futures else InstrumentKind.SPOT,
        tick=number(price.tickSize, venue).normalize(),
        lot=number(lot.stepSize, venue).normalize(),
        min_qty=number(lot.minQty or ZERO, venue),
        max_qty=number(lot.maxQty or ZERO, venue),
        min_notional=number(minimum, venue),
        status=TradingStatus.TRADING if trading else TradingStatus.HALTED,
        taker_fee_ppm=own.taker_ppm if own else STANDARD_TAKER_PPM[market],
        maker_fee_ppm=own.maker_ppm if own else STANDARD_MAKER_PPM[market],
        fee_rule=FeeAssetRule.QUOTE if futures else FeeAssetRule.RECEIVED,
        funding_rate_ppb=round(number(rate, venue) * 1_000_000_000),
        funding_interval_s=FUNDING_INTERVAL_S if futures else 0,
        funding_next_wall_s=premium.nextFundingTime // 1000 if premium else 0,
        trading_from_wall_s=announced_s(row.onboardDate // 1000),
        trading_until_wall_s=announced_s(row.deliveryDate // 1000) or ends.get(row.symbol, 0),
        reference_price=premium.markPrice if premium else prices.get(row.symbol, ZERO),
        identity=coins.get(row.baseAsset),
    )


def parse_fee(venue: str, market: str, symbol: str, payload: bytes) -> FeeSchedule:
    """GET /api/v3/account/commission or /fapi/v1/commissionRate. The BNB discount is not assumed (BNB may run out)."""
    if market == "futures":
        rates = decode(_futures_commission, payload, venue, "commissionRate")
        taker, maker = rates.takerCommissionRate, rates.makerCommissionRate
    else:
        standard = decode(_spot_commission, payload, venue, "account/commission").standardCommission
        taker, maker = standard.taker, standard.maker
    return FeeSchedule(venue=venue, symbol=symbol, taker_ppm=fee_ppm(taker), maker_ppm=fee_ppm(maker))


def parse_coins(venue: str, payload: bytes) -> dict[str, CoinIdentity]:
    """GET /sapi/v1/capital/config/getall."""
    return {
        coin.coin: coin_identity(
            coin.coin,
            ((net.network, net.contractAddress or "") for net in coin.networkList),
            deposit_enabled=any(net.depositEnable for net in coin.networkList),
            withdraw_enabled=any(net.withdrawEnable for net in coin.networkList),
        )
        for coin in decode(_coins, payload, venue, "capital/config/getall")
    }


def parse_prices(venue: str, payload: bytes) -> dict[str, Decimal]:
    """GET /api/v3/ticker/bookTicker: mid price by symbol, where both sides are there."""
    rows = decode(_tickers, payload, venue, "ticker/bookTicker")
    return {
        row.symbol: (number(row.bidPrice, venue) + number(row.askPrice, venue)) / 2
        for row in (rows if isinstance(rows, list) else [rows])
        if row.bidPrice > 0 and row.askPrice > 0
    }


def parse_ends(venue: str, payload: bytes) -> dict[str, int]:
    """GET /sapi/v1/spot/delist-schedule: ``[{"delistTime":1700000000000,"symbols":["XYZUSDT"]}]``; unix seconds."""
    rows = decode(_delistings, payload, venue, "delist-schedule")
    return {symbol: announced_s(row.delistTime // 1000) for row in rows for symbol in row.symbols}


def parse_premiums(venue: str, payload: bytes) -> dict[str, _Premium]:
    """GET /fapi/v1/premiumIndex: mark price, funding rate and next funding by symbol."""
    rows = decode(_premiums, payload, venue, "premiumIndex")
    return {row.symbol: row for row in (rows if isinstance(rows, list) else [rows])}
