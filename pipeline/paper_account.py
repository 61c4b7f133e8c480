"""The accounts of paper trading: a file of JSON lines for each venue, ``<folder>/<venue>.jsonl``.

Written by one process (the executor's), read by any. It survives a killed process, as a venue's account does.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import msgspec

from pipeline.execution.accounts import FuturesPosition
from pipeline.model.clock import mono_ns
from pipeline.model.config import PaperConfig
from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import ZERO, Balance, Fill, Funding, InstrumentSpec, OrderUpdate

LEVERAGE = Decimal(3)  # of contracts, where none is given
START_QUOTE = Decimal(10_000)
START_BASE_VALUE = Decimal(5_000)  # of every coin that a spot venue trades, at a reference price in dollars
DOLLARS = ("USDT", "USDC", "USD", "FDUSD", "TUSD", "BUSD")
COIN_STEP = Decimal("0.00000001")


class PaperFile(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the account file. ``balances`` (first line only), an ended order with its fills, or a payment of
    funding."""

    balances: dict[str, Decimal] = {}
    order: OrderUpdate | None = None
    fills: tuple[Fill, ...] = ()
    moves: dict[str, Decimal] = {}  # asset -> change of the wallet
    futures: bool = False  # the fills move a position, not coins
    funding: Funding | None = None  # a payment that ``moves`` holds


class PaperAccount:
    """The account of one venue: a fold over its file. ``leverage``: of its contracts."""

    def __init__(self, folder: Path, venue: str, leverage: Decimal = LEVERAGE) -> None:
        self.leverage = leverage
        self.path = folder / f"{venue}.jsonl"
        self.venue = venue
        self.wallet: dict[str, Decimal] = {}
        self.changes: dict[str, Decimal] = {}  # by trading alone, the starting balances apart
        self.orders: dict[str, OrderUpdate] = {}
        self.fills: list[Fill] = []
        self.positions: dict[str, FuturesPosition] = {}
        self.funding: dict[str, Funding] = {}  # by its id
        self._offset = 0

    def refresh(self) -> None:
        """Fold in the whole lines that were added since the last call."""
        try:
            with self.path.open("rb") as handle:
                handle.seek(self._offset)
                raw = handle.read()
        except FileNotFoundError:
            return
        whole = raw[: raw.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._apply(msgspec.json.decode(line, type=PaperFile))

    def _apply(self, line: PaperFile) -> None:
        for asset, amount in (*line.balances.items(), *line.moves.items()):
            self.wallet[asset] = self.wallet.get(asset, ZERO) + amount
        for asset, amount in line.moves.items():
            self.changes[asset] = self.changes.get(asset, ZERO) + amount
        self.fills.extend(line.fills)
        if line.order is not None:
            self.orders[line.order.client_id] = line.order
        if line.funding is not None:
            self.funding[line.funding.event_id] = line.funding
        if line.futures:
            for fill in line.fills:
                self.positions.setdefault(fill.symbol, FuturesPosition()).apply(fill.qty * int(fill.side), fill.price)

    def append(self, line: PaperFile) -> None:
        """Adds one line, by one write, and folds it in. Only the account's one writer may call it. Raises OSError."""
        self.refresh()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            raw, before = msgspec.json.encode(line) + b"\n", os.fstat(descriptor).st_size
            if os.write(descriptor, raw) != len(raw):  # a full disk: no part of a line stays
                os.ftruncate(descriptor, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)
        self.refresh()

    def margin(self) -> Decimal:
        """Quote held as margin by open positions."""
        return sum((abs(position.cost) / self.leverage for position in self.positions.values()), ZERO)

    def free(self, asset: str) -> Decimal:
        """Balance less margin."""
        return self.wallet.get(asset, ZERO) - (self.margin() if self.positions else ZERO)

    def balances(self, source: str) -> list[Balance]:
        """All balances as the private stream (``source`` "ws") or REST ("rest") would report them."""
        now = mono_ns()
        locked = self.margin()
        return [
            Balance(
                venue=self.venue,
                asset=asset,
                free=total - locked if self.positions else total,
                locked=locked if self.positions else ZERO,
                recv_mono_ns=now,
                source=source,
            )
            for asset, total in self.wallet.items()
        ]


def open_accounts(
    folder: Path, specs: Sequence[InstrumentSpec], paper: Mapping[str, PaperConfig] | None = None
) -> None:
    """Give every venue of ``specs`` what it begins with, once. ``paper``: by venue, what is configured."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    prices = {s.base: s.reference_price for s in specs if s.quote in DOLLARS and s.reference_price > 0}
    of_venue: dict[str, list[InstrumentSpec]] = {}
    for spec in specs:
        of_venue.setdefault(spec.venue, []).append(spec)
    for venue, own in of_venue.items():
        account = PaperAccount(folder, venue)
        if not account.path.exists():
            account.append(PaperFile(balances=_beginning(own, prices, (paper or {}).get(venue, PaperConfig()))))


def _beginning(
    specs: Sequence[InstrumentSpec], prices: Mapping[str, Decimal], config: PaperConfig
) -> dict[str, Decimal]:
    """What the account of one venue begins with. A quote that is a coin itself (ETH/BTC) is held as that coin."""
    if config.balances:
        return {asset: amount for asset, amount in config.balances.items() if amount > 0}
    coins = {asset for s in specs for asset in _coins_of(s) if asset in prices}
    dollars = sorted({s.quote for s in specs if s.quote in DOLLARS})
    quote_usd, coin_usd = START_QUOTE, START_BASE_VALUE
    if config.capital_usd is not None:
        in_coins = config.capital_usd / 2 if coins and dollars else config.capital_usd if coins else ZERO
        coin_usd = in_coins / len(coins) if coins else ZERO
        quote_usd = (config.capital_usd - in_coins) / len(dollars) if dollars else ZERO
    wallet = {asset: quote_usd.quantize(COIN_STEP, ROUND_DOWN) for asset in dollars}
    for asset in sorted(coins):
        wallet[asset] = (coin_usd / prices[asset]).quantize(COIN_STEP, ROUND_DOWN)
    return wallet


def _coins_of(spec: InstrumentSpec) -> list[str]:
    """Coins that trading it needs: none of a contract in dollars, which is held by margin."""
    own = [] if spec.kind is InstrumentKind.PERPETUAL else [spec.base]
    return own if spec.quote in DOLLARS else [*own, spec.quote]
