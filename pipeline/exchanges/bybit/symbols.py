"""Bybit instruments of spot and USDT perpetuals: REST bytes -> specs. Sans-I/O.

::

    {"symbol":"ABCUSDT","contractType":"LinearPerpetual","status":"Trading","baseCoin":"ABC","quoteCoin":"USDT",
     "settleCoin":"USDT","deliveryTime":"0","priceFilter":{"tickSize":"0.01"},"lotSizeFilter":{"minOrderQty":"0.1",
     "qtyStep":"0.1","maxOrderQty":"8000.0","minNotionalValue":"5"},"fundingInterval":240}
    {"symbol":"ABCUSDT","status":"Trading","baseCoin":"ABC","quoteCoin":"USDT","priceFilter":{"tickSize":"0.01"},
     "lotSizeFilter":{"basePrecision":"0.0001","minOrderAmt":"5","maxLimitOrderQty":"900"}}

Quantities of contracts are base coin. Spot's ``minOrderQty`` is no longer checked by the venue: ``minOrderAmt`` is.

*Source:* Bybit V5 documentation: instruments info, tickers, fee rate, coin info, risk limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.economics.margin import Tier, endless
from pipeline.exchanges.bybit.listing import PERPETUAL, SETTLED_IN, page_of
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
from pipeline.model.network_names import coin_identity, network_name
from pipeline.model.networks import CoinNetwork, minutes_of
from pipeline.model.structs import ZERO, CoinIdentity, FeeSchedule, InstrumentSpec
from pipeline.model.trading_times import announced_s

STANDARD_TAKER_PPM = {"spot": 1000, "futures": 550}  # base tier; the row has no fees
STANDARD_MAKER_PPM = {"spot": 1000, "futures": 200}
_PPB = 1_000_000_000


class _Price(msgspec.Struct):
    tickSize: Decimal | None = None


class _Lot(msgspec.Struct):
    basePrecision: Decimal | None = None  # spot
    qtyStep: Decimal | None = None
    minOrderQty: Maybe = ABSENT
    minOrderAmt: Maybe = ABSENT  # spot
    minNotionalValue: Maybe = ABSENT
    maxOrderQty: Maybe = ABSENT
    maxLimitOrderQty: Maybe = ABSENT  # spot


class _Row(msgspec.Struct):
    symbol: str
    status: str
    baseCoin: str
    quoteCoin: str
    priceFilter: _Price
    lotSizeFilter: _Lot
    contractType: str = ""
    settleCoin: str = ""
    launchTime: Maybe = ABSENT
    deliveryTime: Maybe = ABSENT
    fundingInterval: Maybe = ABSENT  # minutes


class _Ticker(msgspec.Struct):
    symbol: str
    lastPrice: Maybe = ABSENT
    markPrice: Maybe = ABSENT
    fundingRate: Maybe = ABSENT
    nextFundingTime: Maybe = ABSENT


class _Fee(msgspec.Struct):
    symbol: str
    takerFeeRate: Decimal
    makerFeeRate: Decimal


class _Chain(msgspec.Struct):
    chain: str
    contractAddress: str | None = ""
    chainDeposit: str = "0"
    chainWithdraw: str = "0"
    withdrawFee: Maybe = ABSENT
    withdrawMin: Maybe = ABSENT
    withdrawPercentageFee: Maybe = ABSENT
    confirmation: Maybe = ABSENT


class Coin(msgspec.Struct):
    """One coin with the chains that it lies on."""

    coin: str
    chains: list[_Chain] = []


class _CoinRows(msgspec.Struct):
    rows: msgspec.Raw


class _Limit(msgspec.Struct):
    symbol: str
    riskLimitValue: Maybe
    maintenanceMargin: Maybe
    mmDeduction: Maybe = ABSENT


class Quote(msgspec.Struct, frozen=True):
    """Mark or last price, funding rate (a fraction) and unix ms of the next funding; 0 where there is none."""

    price: Decimal = ZERO
    rate: Decimal = ZERO
    next_funding_ms: int = 0


_rows = Rows(_Row)
_tickers = Rows(_Ticker)
_fees = Rows(_Fee)
_coin_rows = msgspec.json.Decoder(_CoinRows)
_coins = Rows(Coin)
_limits = Rows(_Limit)


def parse_instruments(
    venue: str,
    market: str,
    pages: Iterable[bytes],
    symbols: Sequence[str],
    *,
    quotes: Mapping[str, Quote],
    odd: OddRows,
    fees: Mapping[str, FeeSchedule] | None = None,
    coins: Mapping[str, CoinIdentity] | None = None,
) -> list[InstrumentSpec]:
    """Specs of ``symbols`` from the pages of instruments-info, in their order; unlisted and unreadable ones not.
    Without ``fees`` the base tier's stand, without ``coins`` no identity."""
    wanted = frozenset(symbols)

    def spec(row: _Row) -> InstrumentSpec | None:
        own = row.contractType in PERPETUAL and row.settleCoin in SETTLED_IN
        if row.symbol not in wanted or not own:
            return None
        found = _spec(venue, market, row, quotes.get(row.symbol, Quote()))
        fee = (fees or {}).get(row.symbol)
        if fee is not None:
            found = msgspec.structs.replace(found, taker_fee_ppm=fee.taker_ppm, maker_fee_ppm=fee.maker_ppm)
        return msgspec.structs.replace(found, identity=(coins or {}).get(row.baseCoin))

    found: list[InstrumentSpec | None] = []
    for page in pages:
        rows = bytes(page_of(venue, page, "instruments-info").list)
        found += _rows.read(rows, venue, "instruments-info", spec, odd=odd, foreign=any_row)
    return in_order(symbols, found)


def _spec(venue: str, market: str, row: _Row, quote: Quote) -> InstrumentSpec:
    futures = market == "futures"
    tick, lots = row.priceFilter.tickSize, row.lotSizeFilter
    lot = lots.qtyStep if futures else lots.basePrecision
    if not tick or not lot:
        raise ProtocolViolation(f"{venue}: {row.symbol} without tick or step", venue=venue)
    least = maybe_number(lots.minOrderQty, venue) if futures else None
    most = maybe_number(lots.maxOrderQty if futures else lots.maxLimitOrderQty, venue)
    notional = maybe_number(lots.minNotionalValue if futures else lots.minOrderAmt, venue)
    return InstrumentSpec(
        venue=venue,
        symbol=row.symbol,
        base=row.baseCoin,
        quote=row.quoteCoin,
        kind=InstrumentKind.PERPETUAL if futures else InstrumentKind.SPOT,
        tick=number(tick, venue).normalize(),
        lot=number(lot, venue).normalize(),
        min_qty=least or number(lot, venue).normalize(),
        max_qty=most or ZERO,
        min_notional=notional or ZERO,
        status=TradingStatus.TRADING if row.status == "Trading" else TradingStatus.HALTED,
        taker_fee_ppm=STANDARD_TAKER_PPM[market],
        maker_fee_ppm=STANDARD_MAKER_PPM[market],
        fee_rule=FeeAssetRule.QUOTE if futures else FeeAssetRule.RECEIVED,
        funding_rate_ppb=round(quote.rate * _PPB),
        funding_interval_s=lenient_ms(row.fundingInterval, 60) if futures else 0,
        funding_next_wall_s=quote.next_funding_ms // 1000,
        trading_from_wall_s=announced_s(lenient_ms(row.launchTime) // 1000),
        trading_until_wall_s=announced_s(lenient_ms(row.deliveryTime) // 1000),
        reference_price=quote.price,
    )


def parse_quotes(venue: str, payload: bytes, odd: OddRows) -> dict[str, Quote]:
    """GET /v5/market/tickers: by symbol; mark price where there is one, else the last."""

    def one(row: _Ticker) -> tuple[str, Quote]:
        price = maybe_number(row.markPrice, venue) or maybe_number(row.lastPrice, venue) or ZERO
        rate = maybe_number(row.fundingRate, venue) or ZERO
        return row.symbol, Quote(price, rate, lenient_ms(row.nextFundingTime))

    rows = bytes(page_of(venue, payload, "tickers").list)
    return dict(_tickers.read(rows, venue, "tickers", one, odd=odd, foreign=any_row))


def parse_fees(venue: str, rows: bytes, odd: OddRows) -> dict[str, FeeSchedule]:
    """Rows of GET /v5/account/fee-rate, by symbol. A discount for MNT is not assumed."""

    def one(row: _Fee) -> FeeSchedule:
        taker, maker = fee_ppm(number(row.takerFeeRate, venue)), fee_ppm(number(row.makerFeeRate, venue))
        return FeeSchedule(venue=venue, symbol=row.symbol, taker_ppm=taker, maker_ppm=maker)

    return {fee.symbol: fee for fee in _fees.read(rows, venue, "fee-rate", one, odd=odd, foreign=any_row)}


def parse_coins(venue: str, result: bytes, odd: OddRows) -> list[Coin]:
    """``result`` of GET /v5/asset/coin/query-info: ``{"rows":[{"coin":"ETH","chains":[{"chain":"ETH","contractAddress":
    "","chainDeposit":"1","chainWithdraw":"1","withdrawFee":"0.004","withdrawMin":"0.01","confirmation":"12"}]}]}``."""
    rows = bytes(decode(_coin_rows, result, venue, "coin/query-info").rows)
    return _coins.read(rows, venue, "coin/query-info", lambda row: row, odd=odd, foreign=any_row)


def identity_of(coin: Coin) -> CoinIdentity:
    """Doubt: whether every chain names its contract; one that does not differs from where it is named: quarantine."""
    return coin_identity(
        coin.coin,
        ((chain.chain, chain.contractAddress or "") for chain in coin.chains),
        deposit_enabled=any(chain.chainDeposit == "1" for chain in coin.chains),
        withdraw_enabled=any(chain.chainWithdraw == "1" for chain in coin.chains),
    )


def networks_of(venue: str, coin: Coin) -> tuple[CoinNetwork, ...]:
    """Networks of a coin. No fee, or one that grows with the amount: what a withdrawal costs is not known."""

    def one(chain: _Chain) -> CoinNetwork:
        name, fee = network_name(chain.chain), maybe_number(chain.withdrawFee, venue)
        part = maybe_number(chain.withdrawPercentageFee, venue)
        return CoinNetwork(
            network=name,
            contract=(chain.contractAddress or "").strip().lower(),
            deposit=chain.chainDeposit == "1",
            withdraw=chain.chainWithdraw == "1" and fee is not None,
            fee=None if part else fee,
            least=maybe_number(chain.withdrawMin, venue) or ZERO,
            minutes=minutes_of(name, int(maybe_number(chain.confirmation, venue) or 0)),
        )

    return tuple(one(chain) for chain in coin.chains)


def parse_risk_tiers(venue: str, symbol: str, rows: bytes) -> tuple[Tier, ...]:
    """Rows of GET /v5/market/risk-limit, of one contract::

        [{"id":1,"symbol":"BTCUSDT","riskLimitValue":"2000000","maintenanceMargin":"0.005","initialMargin":"0.01",
          "maxLeverage":"100.00","mmDeduction":""}]

    Maintenance = notional x rate - deduction; what closing costs is kept, too. Raises ``ProtocolViolation``.
    """

    def tier(row: _Limit) -> Tier:
        cap, rate = required_number(row.riskLimitValue, venue), required_number(row.maintenanceMargin, venue)
        return Tier(cap, rate, maybe_number(row.mmDeduction, venue) or ZERO)

    found = _limits.read(rows, venue, "risk-limit", lambda row: row, foreign=any_row)
    tiers = sorted(tier(row) for row in found if row.symbol == symbol)
    return endless(tiers) if tiers else ()
