"""The limits table: what the jitted verdict reads of limits, venues, balances and instruments, as two arrays.

``refresh`` writes after each event what the event may have changed, ``rows_changed`` a new catalogue. Nothing is
decided here: where a number does not fit the arrays exactly enough, its row (or the whole table) is switched off, and
the exact path judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pipeline.detection.spot_futures import HedgeTerms, hedge_cost
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.market import PPM, USD_COINS, UsdRates, can_trade, reserved_share
from pipeline.execution.plan import Grid, grid_of
from pipeline.model.enums import BalanceCheck, InstrumentKind, OpportunityType, OrderSide
from pipeline.model.instruments import InstrumentRow, wallet_open
from pipeline.risk.breakers import fee_breaker, stops_everything, venue_breaker
from pipeline.risk.exposure import Exposure
from pipeline.risk.gate import Gate
from pipeline.risk.rules import unknown_limits
from pipeline.templates.template import factor_of
from shm.layout_pages import VENUE_CAPACITY

# --- integers: globals, venues, assets, rows ---
G_ENABLED = 0
G_LEASE_TOKEN = 1
G_MAX_AGE_NS = 2
G_MAX_SKEW_NS = 3
G_SLIP = 4
G_SLIP_UNIT = 5
G_TYPES = 6  # bit per opportunity type
G_OPEN_LEFT = 7  # operations that may still be opened
G_RATE_FREE_MONO_NS = 8  # from when on the order rate takes one more entry
G_REFRESH_NS = 9  # age up to which a balance is proved
G_LAST_DETECT_MONO_NS = 10
G_LAST_ID = 11
G_ROW_COUNT = 12
G_VENUES_OFF = 13
G_ASSETS_OFF = 14
G_ROWS_OFF = 15
G_FLOAT_ROWS_OFF = 16
G_POSITIONS_OFF = 17  # in the floats: USD by which the position of each coin on each venue may still grow
GLOBALS = 32

A_CONFIRMED_MONO_NS = 0
ASSET_WORDS = 1

R_USABLE = 0
R_PAIR = 1
R_VENUE = 2
R_FEED_OFF = 3
R_BOOK = 4
R_EPOCH = 5
R_KIND = 6
R_CAN_BUY = 7
R_CAN_SELL = 8
R_BUSY = 9  # no entry here: an own order is not settled, a fee breaker is tripped, margin needs the exact path
R_FILL_MONO_NS = 10
R_FILL_WALL_MS = 11
R_TICK_FP = 12
R_LOT_FP = 13
R_KEEP_PPM = 14
R_FEE_IN_BASE = 15
R_MIN_LOTS = 16
R_MAX_LOTS = 17
R_TICK_FACTOR = 18
R_LOT_FACTOR = 19
R_ASSET_BUY = 20
R_ASSET_SELL = 21
R_QTY_EXP = 22
R_COIN = 23  # number of its base coin on its venue
R_WORDS = 24

# --- floats: globals, usable amount per asset, room of the position per asset, rows ---
F_EDGE_MIN_BPS = 0
F_EXPOSURE_ROOM = 1
FLOAT_GLOBALS = 8

FR_MIN_NOTIONAL = 0
FR_PRICE = 1  # of one unit of the book
FR_LOT = 2
FR_FEE = 3
FR_NOTIONAL = 4  # of lots x ticks in their factors
FR_RESERVE_BUY = 5  # part of the notional that an order may take; 0 = its quantity, in base
FR_RESERVE_SELL = 6
FR_FACTOR_BUY = 7  # what the notional is multiplied with in the text of the reservation
FR_FACTOR_SELL = 8
FR_HEDGE_SHORT_BPS = 9  # what a hedge with this contract sold, or bought, still costs after its entry
FR_HEDGE_LONG_BPS = 10
FR_WORDS = 16

LOTS_MAX = 1 << 61
WORD_MAX = 1 << 61  # a configured number beyond it means as much as this
FLOAT_UNDER = 1.0 - 1e-12  # of what may be used: a float64 may lie above the Decimal that it stands for
ZERO = Decimal(0)
Key = tuple[str, str]  # venue and asset, or venue and symbol


class LimitsTable:
    """The arrays ``ints`` and ``floats``, and what keeps them equal to the ledger.

    ``feeds``: first word of each feed's books in the market's memory; ``lease_token``: the lease that lets us send.
    """

    def __init__(
        self,
        context: CoreContext,
        gate: Gate,
        balances: BalanceMonitor,
        rates: UsdRates,
        *,
        lease_token: int,
        feeds: list[int],
    ) -> None:
        self._context = context
        self._gate = gate
        self._balances = balances
        self._rates = rates
        self._feeds = feeds
        self._lease_token = lease_token
        self._assets: dict[Key, int] = {}
        self._busy: set[Key] = set()
        self._ids: dict[Key, int] = {}  # (venue, symbol) -> instrument of this run
        self._fee_breakers: dict[str, Key] = {}
        self._venues: dict[str, int] = {}
        self._held: set[Key] = set()
        self._open: set[Key] = set()  # coins and venues with an open position
        self._all_known = False  # every limit that is set is one that this path judges
        self.orderable: set[tuple[int, OrderSide]] = set()  # instruments and sides whose order can be written
        self.ints: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        self.floats: npt.NDArray[np.float64] = np.zeros(0, np.float64)
        self.rows_changed()

    # --- all of it ---

    def rows_changed(self) -> None:
        """A new catalogue (or templates): every array anew."""
        rows = list(self._context.instruments)
        self._gate.margin.reconfigured()
        self._ids = {(row.spec.venue, row.spec.symbol): row.instrument_id for row in rows}
        self._fee_breakers = {fee_breaker(*key): key for key in self._ids}
        self._venues = {row.spec.venue: row.venue_id for row in rows}
        self._assets = {}
        for row in rows:
            for asset in (row.spec.base, row.spec.quote):
                self._assets.setdefault((row.spec.venue, asset), len(self._assets))
        count = max((row.instrument_id for row in rows), default=-1) + 1
        venues, assets = GLOBALS, GLOBALS + VENUE_CAPACITY
        first = assets + ASSET_WORDS * max(1, len(self._assets))
        self.ints = np.zeros(first + R_WORDS * count, np.int64)
        positions = FLOAT_GLOBALS + max(1, len(self._assets))
        float_first = positions + max(1, len(self._assets))
        self.floats = np.zeros(float_first + FR_WORDS * count, np.float64)
        words = self.ints
        words[G_ROW_COUNT], words[G_VENUES_OFF], words[G_ASSETS_OFF], words[G_ROWS_OFF] = count, venues, assets, first
        words[G_POSITIONS_OFF], words[G_FLOAT_ROWS_OFF] = positions, float_first
        for row in rows:
            self._row(row)
        self._constants()
        self.all_changed()

    def all_changed(self) -> None:
        """Everything that moves anew: after an entry that was reserved here and not made, and at the start."""
        self._busy = set()
        self._open = set(self._assets)
        self._balances.changed.update(self._assets)
        self._gate.fills_noted.update(self._ids)
        first = int(self.ints[G_ROWS_OFF])
        self.ints[first + R_BUSY :: R_WORDS] = 0
        self.refresh()

    def row_changed(self, row: InstrumentRow) -> None:
        """The catalogue says something else of one instrument that was known before."""
        self._gate.margin.reconfigured()
        at = int(self.ints[G_ROWS_OFF]) + R_WORDS * row.instrument_id
        keep = self.ints[at + R_BUSY : at + R_FILL_WALL_MS + 1].copy()
        self.ints[at : at + R_WORDS] = 0
        self._row(row)
        self.ints[at + R_BUSY : at + R_FILL_WALL_MS + 1] = keep

    def _constants(self) -> None:
        config, words, floats = self._context.config, self.ints, self.floats
        slip = Fraction(config.risk_limits.max_slippage_bps) / 10_000
        words[G_LEASE_TOKEN] = self._lease_token
        words[G_MAX_AGE_NS] = min(config.detection.max_age_to_trade_ms * 1_000_000, WORD_MAX)
        words[G_MAX_SKEW_NS] = min(config.detection.max_skew_ms * 1_000_000, WORD_MAX)
        writable = slip.denominator < WORD_MAX  # more digits than a word has: the exact path's alone
        words[G_SLIP], words[G_SLIP_UNIT] = (
            (slip.numerator, slip.denominator) if 0 <= slip <= 1 and writable else (1, 0)
        )
        words[G_REFRESH_NS] = min(config.execution.balance_refresh_interval_ms * 1_000_000, WORD_MAX)
        two_legged = self._gate.enabled_types - {OpportunityType.TRIANGULAR}
        words[G_TYPES] = sum(1 << int(kind) for kind in two_legged)
        floats[F_EDGE_MIN_BPS] = float(config.execute_edge_bps)
        self._all_known = not unknown_limits(config)

    def _row(self, row: InstrumentRow) -> None:
        """What the catalogue says of one instrument."""
        spec, grid = row.spec, grid_of(row)
        at = int(self.ints[G_ROWS_OFF]) + R_WORDS * row.instrument_id
        words = self.ints[at : at + R_WORDS]
        words[R_PAIR], words[R_VENUE], words[R_BOOK] = row.pair_id, row.venue_id, row.book_index
        words[R_EPOCH], words[R_KIND], words[R_QTY_EXP] = row.row_epoch, int(spec.kind), row.qty_exp
        words[R_COIN] = self._assets[spec.venue, spec.base]
        lot_fp = Fraction(grid.lot) * 10**row.qty_exp
        sides = [side for side in OrderSide if (row.instrument_id, side) in self.orderable]
        if not sides or not self._fits(row, grid, lot_fp):
            return
        words[R_FEED_OFF] = self._feeds[row.feed_id]
        words[R_TICK_FP], words[R_LOT_FP] = grid.tick_fp, int(lot_fp)
        words[R_KEEP_PPM] = grid.keep_ppm
        words[R_FEE_IN_BASE] = int(grid.keep_ppm != int(PPM))
        words[R_MIN_LOTS] = int((spec.min_qty / grid.lot).to_integral_value(ROUND_CEILING))
        words[R_MAX_LOTS] = int((spec.max_qty / grid.lot).to_integral_value(ROUND_FLOOR)) if spec.max_qty else LOTS_MAX
        words[R_TICK_FACTOR], words[R_LOT_FACTOR] = factor_of(grid.tick)[0], factor_of(grid.lot)[0]
        self._float_row(row, grid)
        words[R_CAN_BUY] = OrderSide.BUY in sides and can_trade(row, OrderSide.BUY)
        words[R_CAN_SELL] = OrderSide.SELL in sides and can_trade(row, OrderSide.SELL)
        words[R_USABLE] = 1

    def _fits(self, row: InstrumentRow, grid: Grid, lot_fp: Fraction) -> bool:
        """Whether the verdict's integers and floats can hold everything about this instrument."""
        spec = row.spec
        return (
            row.tradable_pair
            and wallet_open(spec)
            and spec.quote in USD_COINS
            and grid.exact
            and lot_fp.denominator == 1
            and 0 < lot_fp < LOTS_MAX
            and 0 <= row.venue_id < VENUE_CAPACITY
            and 0 <= row.feed_id < len(self._feeds)
            and 0 <= 2 * spec.taker_fee_ppm <= int(PPM)
            and max(spec.min_qty, spec.max_qty) / grid.lot < LOTS_MAX
        )

    def _float_row(self, row: InstrumentRow, grid: Grid) -> None:
        spec, words = row.spec, self.ints
        at = int(words[G_ROWS_OFF]) + R_WORDS * row.instrument_id
        float_at = int(words[G_FLOAT_ROWS_OFF]) + FR_WORDS * row.instrument_id
        floats = self.floats[float_at : float_at + FR_WORDS]
        floats[FR_MIN_NOTIONAL] = float(spec.min_notional)
        floats[FR_PRICE] = 10.0**-row.price_exp
        floats[FR_LOT] = float(grid.lot)
        floats[FR_FEE] = spec.taker_fee_ppm / 1e6
        floats[FR_NOTIONAL] = 10.0 ** -(factor_of(grid.tick)[1] + factor_of(grid.lot)[1])
        leverage = self._context.config.detection.hedge.leverage
        for side, asset, reserve, factor in (
            (OrderSide.BUY, R_ASSET_BUY, FR_RESERVE_BUY, FR_FACTOR_BUY),
            (OrderSide.SELL, R_ASSET_SELL, FR_RESERVE_SELL, FR_FACTOR_SELL),
        ):
            takes, share = reserved_share(row, side, leverage)
            words[at + asset] = self._assets[spec.venue, takes]
            floats[reserve] = float(share)
            floats[factor] = float(factor_of(share)[0]) if share else 1.0
        if spec.kind is InstrumentKind.PERPETUAL:
            for short, slot in ((True, FR_HEDGE_SHORT_BPS), (False, FR_HEDGE_LONG_BPS)):
                hedge = HedgeTerms(
                    spot_taker_ppm=0,
                    futures_taker_ppm=spec.taker_fee_ppm,
                    funding_rate_ppb=spec.funding_rate_ppb,
                    funding_interval_s=spec.funding_interval_s,
                    short_futures=short,
                )
                floats[slot] = float(hedge_cost(hedge, self._context.config.detection.hedge) * 10_000)

    # --- what moves ---

    def refresh(self) -> None:
        """After an event: the engine's state, venues, what is busy, own fills, balances and positions that moved."""
        words, ledger, known = self.ints, self._context.ledger, self._gate.reconciled
        breakers = ledger.breakers
        now = self._gate.exposure()
        self._globals(now)
        self._positions(now)
        for venue, number in self._venues.items():
            words[GLOBALS + number] = self._balances.session_up(venue) and venue in known
        rows = int(words[G_ROWS_OFF])
        ids = self._ids  # what an order or a fill of the run before names need not be in this catalogue
        busy = {(order.intent.venue, order.intent.symbol) for order in ledger.unsettled.values()}
        if breakers:
            busy |= self._stopped_by(breakers)
        busy |= self._gate.margin.exact_only()
        for key in busy ^ self._busy:
            if key in ids:
                words[rows + R_WORDS * ids[key] + R_BUSY] = key in busy
        self._busy = busy
        noted = self._gate.fills_noted
        while noted:
            key = noted.pop()
            if key in ids:
                at = rows + R_WORDS * ids[key]
                words[at + R_FILL_MONO_NS], words[at + R_FILL_WALL_MS] = self._gate.last_fill(*key)
        changed, holding = self._balances.changed, self._balances.holding()
        self._amounts(changed | holding | self._held)
        changed.clear()
        self._held = holding

    def _stopped_by(self, breakers: Mapping[str, str]) -> set[Key]:
        """Closes the venues of tripped breakers; the instruments whose fee breakers are tripped."""
        for venue, number in self._venues.items():
            if venue_breaker(venue) in breakers:
                self.ints[GLOBALS + number] = 0
        return {self._fee_breakers[name] for name in breakers if name in self._fee_breakers}

    def _amounts(self, keys: Iterable[Key]) -> None:
        for key in keys:
            asset = self._assets.get(key)
            if asset is not None:
                self.floats[FLOAT_GLOBALS + asset] = float(self._balances.usable(*key)) * FLOAT_UNDER
                self.ints[self.ints[G_ASSETS_OFF] + asset] = self._balances.confirmed_mono_ns(*key)

    def _positions(self, now: Exposure) -> None:
        """By how much each coin's position on each venue may still grow."""
        limit, first = self._context.config.risk_limits.max_position_size_usd, int(self.ints[G_POSITIONS_OFF])
        positions, floats = now.by_position, self.floats
        for key in self._open.union(positions):
            asset = self._assets.get(key)
            if asset is not None:
                floats[first + asset] = float(limit - positions.get(key, ZERO)) * FLOAT_UNDER
        self._open = set(positions)

    def _globals(self, now: Exposure) -> None:
        context, gate, words = self._context, self._gate, self.ints
        config, ledger, limits = context.config, context.ledger, context.config.risk_limits
        words[G_LAST_DETECT_MONO_NS], words[G_LAST_ID] = gate.newest
        words[G_OPEN_LEFT] = min(limits.max_open_operations - len(ledger.open_operations), WORD_MAX)
        words[G_RATE_FREE_MONO_NS] = gate.rate_free_mono_ns(2)
        self.floats[F_EXPOSURE_ROOM] = float(limits.max_total_exposure_usd - now.total) * FLOAT_UNDER
        words[G_ENABLED] = (
            gate.ready
            and not gate.reducing
            and gate.user_check is None
            and self._all_known
            and config.features.enable_risk_checks
            and config.execution.balance_check is BalanceCheck.CONFIRMED
            and not (limits.per_venue or limits.per_asset or limits.per_pair)
            and not (ledger.breakers and any(stops_everything(name) for name in ledger.breakers))
            and words[G_SLIP] <= words[G_SLIP_UNIT]
            and gate.day_loss() <= limits.max_daily_loss_usd
            and now.fixed
            and not now.unvalued
        )
