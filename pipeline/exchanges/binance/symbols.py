"""Binance instruments, commissions and coin identities of spot and USDⓈ-M: REST bytes -> specs. Sans-I/O.

Ticks and steps come from the filters only (``pricePrecision`` of USDⓈ-M is not the tick)::

    {"filterType":"PRICE_FILTER","minPrice":"0.00000100","maxPrice":"100000.00000000","tickSize":"0.00000100"}
    {"filterType":"LOT_SIZE","minQty":"0.00100000","maxQty":"100000.00000000","stepSize":"0.00100000"}
    {"filterType":"NOTIONAL","minNotional":"10.00000000", ...}      older: MIN_NOTIONAL {"minNotional":…}
    {"filterType":"MIN_NOTIONAL","notional":"5.0"}                  USDⓈ-M

*Source:* Binance spot REST API and USDⓈ-M futures API: exchange information.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.economics.margin import Tier, endless
from pipeline.exchanges.parsing.announced_ends import Ends, OursAmong, ends_of, with_end
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row, in_order
from pipeline.exchanges.parsing.venue_json import (
    ABSENT,
    Maybe,
    decode,
    lenient_ms,
    maybe_number,
    number,
    required_number,
)
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import fee_ppm
from pipeline.model.network_names import coin_identity
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
    onboardDate: Maybe = ABSENT
    deliveryDate: Maybe = ABSENT


class _Info(msgspec.Struct):
    symbols: msgspec.Raw


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


class _Opening(msgspec.Struct):
    openTime: int
    symbols: list[str]


class _Ticker(msgspec.Struct):
    symbol: str
    bidPrice: Decimal
    askPrice: Decimal


class _Premium(msgspec.Struct):
    symbol: str
    markPrice: Maybe = ABSENT
    lastFundingRate: Maybe = ABSENT  # "" for a dated contract
    nextFundingTime: Maybe = ABSENT


class _FundingInfo(msgspec.Struct):
    symbol: str
    fundingIntervalHours: int


class _Bracket(msgspec.Struct):
    notionalCap: Maybe
    maintMarginRatio: Maybe
    cum: Maybe = ABSENT


class _Brackets(msgspec.Struct):
    symbol: str
    brackets: list[_Bracket]


class Premium(msgspec.Struct, frozen=True):
    """Mark price, funding rate (a fraction; 0 where the contract pays none) and unix ms of the next funding."""

    mark_price: Decimal
    rate: Decimal
    next_funding_ms: int


_info = msgspec.json.Decoder(_Info)
_spot_commission = msgspec.json.Decoder(_SpotCommission)
_futures_commission = msgspec.json.Decoder(_FuturesCommission)
_rows = Rows(_Row)
_coins = Rows(_Coin)
_tickers = Rows(_Ticker, or_one=True)
_premiums = Rows(_Premium, or_one=True)
_funding_infos = Rows(_FundingInfo)
_delistings = Rows(_Delisting)
_openings = Rows(_Opening)
_brackets = Rows(_Brackets, or_one=True)
FUNDING_INTERVAL_S = 8 * 3600  # of a contract that fundingInfo does not list


def parse_instruments(
    venue: str,
    market: str,
    payload: bytes,
    symbols: Sequence[str],
    *,
    fees: Mapping[str, FeeSchedule],
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
    premiums: Mapping[str, Premium] | None = None,
    intervals_s: Mapping[str, int] | None = None,
    ends: Ends | None = None,
    begins: Ends | None = None,
    odd: OddRows | None = None,
) -> list[InstrumentSpec]:
    """Specs of ``symbols`` from exchangeInfo, in their order; unlisted and unreadable ones are left out.

    ``ends``, ``begins``: announced delistings and listings, of spot; ``intervals_s``: seconds between funding times of
    contracts that do not have the usual ones."""
    wanted = frozenset(symbols)

    def spec(row: _Row) -> InstrumentSpec | None:
        if row.symbol not in wanted:
            return None
        premium = (premiums or {}).get(row.symbol)
        own = _spec(venue, market, row, fees.get(row.symbol), coins, prices, premium)
        found = with_end(with_end(own, ends), begins)
        interval_s = (intervals_s or {}).get(row.symbol)
        return msgspec.structs.replace(found, funding_interval_s=interval_s) if interval_s else found

    rows = bytes(decode(_info, payload, venue, "exchangeInfo").symbols)
    return in_order(symbols, _rows.read(rows, venue, "exchangeInfo", spec, odd=odd, foreign=any_row))


def _spec(
    venue: str,
    market: str,
    row: _Row,
    own: FeeSchedule | None,
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
    premium: Premium | None,
) -> InstrumentSpec:
    filters = {item.filterType: item for item in row.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    if price is None or lot is None or not price.tickSize or not lot.stepSize:
        raise ProtocolViolation(f"{venue}: {row.symbol} without tick or step in its filters", venue=venue)
    floor = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
    minimum = (floor.minNotional or floor.notional or ZERO) if floor else ZERO
    futures = market == "futures"
    trading = row.status == "TRADING" and (row.contractType == "PERPETUAL" if futures else row.isSpotTradingAllowed)
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
        funding_rate_ppb=round((premium.rate if premium else ZERO) * 1_000_000_000),
        funding_interval_s=FUNDING_INTERVAL_S if futures else 0,
        funding_next_wall_s=premium.next_funding_ms // 1000 if premium else 0,
        trading_from_wall_s=announced_s(lenient_ms(row.onboardDate) // 1000),
        trading_until_wall_s=announced_s(lenient_ms(row.deliveryDate) // 1000),
        reference_price=premium.mark_price if premium else prices.get(row.symbol, ZERO),
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


def parse_coins(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, CoinIdentity]:
    """GET /sapi/v1/capital/config/getall. A coin without an identity is doubt, which quarantines its pair."""
    found = _coins.read(payload, venue, "capital/config/getall", _identity, odd=odd, foreign=any_row)
    return {coin.asset: coin for coin in found}


def _identity(coin: _Coin) -> CoinIdentity:
    return coin_identity(
        coin.coin,
        ((net.network, net.contractAddress or "") for net in coin.networkList),
        deposit_enabled=any(net.depositEnable for net in coin.networkList),
        withdraw_enabled=any(net.withdrawEnable for net in coin.networkList),
    )


def parse_prices(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, Decimal]:
    """GET /api/v3/ticker/bookTicker: mid price by symbol, where both sides are there."""

    def one(row: _Ticker) -> tuple[str, Decimal]:
        bid, ask = number(row.bidPrice, venue), number(row.askPrice, venue)
        return row.symbol, (bid + ask) / 2 if bid > 0 and ask > 0 else ZERO

    found = _tickers.read(payload, venue, "ticker/bookTicker", one, odd=odd, foreign=any_row)
    return {symbol: price for symbol, price in found if price > 0}


def parse_ends(venue: str, payload: bytes, symbols: Collection[str] = (), odd: OddRows | None = None) -> Ends:
    """GET /sapi/v1/spot/delist-schedule: ``[{"delistTime":1700000000000,"symbols":["XYZUSDT"]}]``.

    ``symbols``: ours."""

    def one(row: _Delisting) -> dict[str, int]:
        return dict.fromkeys(row.symbols, announced_s(row.delistTime // 1000))

    ours = OursAmong(symbols, "symbols")
    rows = _delistings.read(payload, venue, "delist-schedule", one, odd=odd, foreign=ours)
    return ends_of({symbol: at for row in rows for symbol, at in row.items()}, ours)


def parse_begins(venue: str, payload: bytes, symbols: Collection[str] = (), odd: OddRows | None = None) -> Ends:
    """GET /sapi/v1/spot/open-symbol-list: ``[{"openTime":1686161202000,"symbols":["BNBBTC","BNBETH"]}]``, of those that
    are to open. ``symbols``: ours."""

    def one(row: _Opening) -> dict[str, int]:
        return dict.fromkeys(row.symbols, announced_s(row.openTime // 1000))

    ours = OursAmong(symbols, "symbols")
    rows = _openings.read(payload, venue, "open-symbol-list", one, odd=odd, foreign=ours)
    return Ends(unreadable=frozenset(ours.found), from_s={symbol: at for row in rows for symbol, at in row.items()})


def parse_premiums(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, Premium]:
    """GET /fapi/v1/premiumIndex: mark price, funding rate and next funding by symbol."""

    def one(row: _Premium) -> tuple[str, Premium]:
        return row.symbol, Premium(
            mark_price=maybe_number(row.markPrice, venue) or ZERO,
            rate=maybe_number(row.lastFundingRate, venue) or ZERO,
            next_funding_ms=lenient_ms(row.nextFundingTime),
        )

    return dict(_premiums.read(payload, venue, "premiumIndex", one, odd=odd, foreign=any_row))


def parse_funding_intervals(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, int]:
    """GET /fapi/v1/fundingInfo: seconds between funding times, of the contracts whose interval or caps were adjusted::

    [{"symbol":"BLZUSDT","adjustedFundingRateCap":"0.025","adjustedFundingRateFloor":"-0.025",
      "fundingIntervalHours":4,"disclaimer":false}]
    """

    def one(row: _FundingInfo) -> tuple[str, int]:
        return row.symbol, row.fundingIntervalHours * 3600

    found = _funding_infos.read(payload, venue, "fundingInfo", one, odd=odd, foreign=any_row)
    return {symbol: interval_s for symbol, interval_s in found if interval_s > 0}


def parse_risk_tiers(venue: str, symbol: str, payload: bytes) -> tuple[Tier, ...]:
    """GET /fapi/v1/leverageBracket, of one contract; a list or one row::

        [{"symbol":"ETHUSDT","notionalCoef":1.5,"brackets":[{"bracket":1,"initialLeverage":75,"notionalCap":10000,
          "notionalFloor":0,"maintMarginRatio":0.0065,"cum":0.0}]}]

    Maintenance = notional x ratio - cum; the trigger asks for no fee. Doubt: whether caps are the account's own already
    where it has a ``notionalCoef``; they are taken as they stand, the narrower reading. Raises ``ProtocolViolation``.
    """

    def tier(row: _Bracket) -> Tier:
        cap, rate = required_number(row.notionalCap, venue), required_number(row.maintMarginRatio, venue)
        return Tier(cap, rate, maybe_number(row.cum, venue) or ZERO, keeps_fee=False)

    rows = _brackets.read(payload, venue, "leverageBracket", lambda row: row, foreign=any_row)
    found = [sorted(map(tier, row.brackets)) for row in rows if row.symbol == symbol]
    return endless(found[0]) if found else ()
