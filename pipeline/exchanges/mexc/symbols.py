"""MEXC instruments, fees and coin identities: REST bytes -> specs. Sans-I/O.

Row of GET /exchangeInfo (recorded 2025-01)::

    {"symbol":"BROCKUSDT","status":"1","baseAsset":"BROCK","baseAssetPrecision":2,"quoteAsset":"USDT",
     "quotePrecision":5,"quoteAssetPrecision":5,"orderTypes":["LIMIT","MARKET","LIMIT_MAKER"],
     "isSpotTradingAllowed":true,"quoteAmountPrecision":"1","baseSizePrecision":"0","maxQuoteAmount":"2000000",
     "makerCommission":"0.0005","takerCommission":"0.0005","tradeSideType":1, ...}

*Source:* MEXC spot v3, exchange information; GET /capital/config/getall as independent clients read it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal

import msgspec

from pipeline.exchanges.parsing.announced_ends import Ends, OursAmong, ends_of, with_end
from pipeline.exchanges.parsing.rows import OddRows, Rows, any_row, in_order
from pipeline.exchanges.parsing.venue_json import ABSENT, Maybe, decode, number, required_number
from pipeline.model.enums import FeeAssetRule, InstrumentKind, TradingStatus
from pipeline.model.fixedpoint import fee_ppm
from pipeline.model.network_names import coin_identity
from pipeline.model.structs import CoinIdentity, FeeSchedule, InstrumentSpec
from pipeline.model.trading_times import announced_s

_STATUS_ONLINE = ("1", "ENABLED")  # "ENABLED" is the documentation's old sample
_SIDE_OF_TYPE = {1: TradingStatus.TRADING, 2: TradingStatus.BUY_ONLY, 3: TradingStatus.SELL_ONLY}


class _Row(msgspec.Struct):
    symbol: str
    status: str | int
    baseAsset: str
    quoteAsset: str
    baseAssetPrecision: int
    quotePrecision: int
    isSpotTradingAllowed: bool = True
    quoteAmountPrecision: str = "0"
    baseSizePrecision: str = "0"
    makerCommission: Maybe = ABSENT
    takerCommission: Maybe = ABSENT
    tradeSideType: int | str = 1


class _Info(msgspec.Struct):
    symbols: msgspec.Raw


class _Rates(msgspec.Struct):
    makerCommission: Decimal
    takerCommission: Decimal


class _TradeFee(msgspec.Struct):
    data: _Rates


class _Network(msgspec.Struct):
    network: str = ""
    netWork: str = ""
    contract: str | None = None
    depositEnable: bool = False
    withdrawEnable: bool = False


class _Coin(msgspec.Struct):
    coin: str
    networkList: list[_Network] = []


class _Ticker(msgspec.Struct):
    symbol: str
    bidPrice: str | None = None
    askPrice: str | None = None


class _Offline(msgspec.Struct):
    symbol: str
    offlineTime: int = 0


class _OfflineReply(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"null")


_offline_reply = msgspec.json.Decoder(_OfflineReply)
_info = msgspec.json.Decoder(_Info)
_trade_fee = msgspec.json.Decoder(_TradeFee, float_hook=Decimal)
_rows = Rows(_Row)
_coins = Rows(_Coin)
_tickers = Rows(_Ticker, or_one=True)
_offline = Rows(_Offline)


def _status(row: _Row) -> TradingStatus:
    """Also what keeps entries away before a listing: no answer of this venue is known to say when that is."""
    if str(row.status) not in _STATUS_ONLINE or not row.isSpotTradingAllowed:
        return TradingStatus.HALTED
    return _SIDE_OF_TYPE.get(int(row.tradeSideType), TradingStatus.HALTED)


def parse_instruments(
    venue: str,
    payload: bytes,
    symbols: Sequence[str],
    *,
    fees: Mapping[str, FeeSchedule],
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
    ends: Ends | None = None,
    odd: OddRows | None = None,
) -> list[InstrumentSpec]:
    """Specs of ``symbols`` from GET /exchangeInfo, in their order; unlisted and unreadable ones are left out.

    ``ends``: announced ends of trading. ``fees`` (by symbol) come from the account's own
    endpoint; without an entry the row's base rates stand.
    """
    wanted = frozenset(symbols)

    def spec(row: _Row) -> InstrumentSpec | None:
        if row.symbol not in wanted:
            return None
        return with_end(_spec(venue, row, fees.get(row.symbol), coins, prices), ends)

    rows = bytes(decode(_info, payload, venue, "exchangeInfo").symbols)
    return in_order(symbols, _rows.read(rows, venue, "exchangeInfo", spec, odd=odd, foreign=any_row))


def _spec(
    venue: str,
    row: _Row,
    own: FeeSchedule | None,
    coins: Mapping[str, CoinIdentity],
    prices: Mapping[str, Decimal],
) -> InstrumentSpec:
    lot = Decimal(1).scaleb(-row.baseAssetPrecision)
    return InstrumentSpec(
        venue=venue,
        symbol=row.symbol,
        base=row.baseAsset,
        quote=row.quoteAsset,
        kind=InstrumentKind.SPOT,
        tick=Decimal(1).scaleb(-row.quotePrecision),
        lot=lot,
        min_qty=max(lot, number(row.baseSizePrecision, venue)),
        min_notional=number(row.quoteAmountPrecision, venue),
        status=_status(row),
        taker_fee_ppm=own.taker_ppm if own else fee_ppm(required_number(row.takerCommission, venue)),
        maker_fee_ppm=own.maker_ppm if own else fee_ppm(required_number(row.makerCommission, venue)),
        fee_rule=FeeAssetRule.QUOTE,
        reference_price=prices.get(row.symbol, Decimal(0)),
        identity=coins.get(row.baseAsset),
    )


def parse_fee(venue: str, symbol: str, payload: bytes) -> FeeSchedule:
    """GET /tradeFee: ``{"data":{"makerCommission":0.003,"takerCommission":0.003},"code":0,"msg":"success"}``."""
    rates = decode(_trade_fee, payload, venue, "tradeFee").data
    return FeeSchedule(
        venue=venue, symbol=symbol, taker_ppm=fee_ppm(rates.takerCommission), maker_ppm=fee_ppm(rates.makerCommission)
    )


def parse_coins(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, CoinIdentity]:
    """GET /capital/config/getall: identity and wallet switches by coin. A wallet is open if any network is. A coin
    without an identity is doubt, which quarantines its pair."""
    found = _coins.read(payload, venue, "capital/config/getall", _identity, odd=odd, foreign=any_row)
    return {coin.asset: coin for coin in found}


def parse_ends(venue: str, payload: bytes, symbols: Collection[str] = (), odd: OddRows | None = None) -> Ends:
    """GET /symbol/offline: ``{"data":[{"symbol":"XYZUSDT","status":"1","offlineTime":1700000000000}]}``.
    ``symbols``: ours."""
    rows = bytes(decode(_offline_reply, payload, venue, "symbol/offline").data)
    ours = OursAmong(symbols, "symbol")
    if rows == b"null":
        return Ends()

    def one(row: _Offline) -> tuple[str, int]:
        return row.symbol, announced_s(row.offlineTime // 1000)

    return ends_of(dict(_offline.read(rows, venue, "symbol/offline", one, odd=odd, foreign=ours)), ours)


def _identity(coin: _Coin) -> CoinIdentity:
    return coin_identity(
        coin.coin,
        ((net.netWork or net.network, net.contract or "") for net in coin.networkList),
        deposit_enabled=any(net.depositEnable for net in coin.networkList),
        withdraw_enabled=any(net.withdrawEnable for net in coin.networkList),
    )


def parse_prices(venue: str, payload: bytes, odd: OddRows | None = None) -> dict[str, Decimal]:
    """GET /ticker/bookTicker: mid price by symbol, where both sides are there."""

    def one(row: _Ticker) -> tuple[str, Decimal]:
        bid, ask = number(row.bidPrice or "0", venue), number(row.askPrice or "0", venue)
        return row.symbol, (bid + ask) / 2 if bid > 0 and ask > 0 else Decimal(0)

    found = _tickers.read(payload, venue, "ticker/bookTicker", one, odd=odd, foreign=any_row)
    return {symbol: price for symbol, price in found if price > 0}
