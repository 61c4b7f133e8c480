"""The limits table: what the jitted verdict reads of limits, venues, balances and instruments, as two arrays.

``refresh`` writes after each event what the event may have changed, ``rows_changed`` a new catalogue. Nothing is
decided here: where a number does not fit the arrays exactly enough, its row (or the whole table) is switched off, and
the exact path judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from pipeline.detection.spot_futures import HedgeTerms, hedge_cost
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.market import PPM, UsdRates, can_enter, reserved_share
from pipeline.execution.plan import Grid, grid_of
from pipeline.fast_entry.memory import LIMIT_FLOATS, LIMITS, ROW, ROW_FLOATS
from pipeline.model.enums import BalanceCheck, InstrumentKind, OpportunityType, OrderSide
from pipeline.model.instruments import USD_COINS, InstrumentRow, wallet_open
from pipeline.model.structs import ZERO
from pipeline.risk.breakers import fee_breaker, stops_everything, venue_breaker
from pipeline.risk.exposure import Exposure
from pipeline.risk.gate import Gate
from pipeline.risk.rules import unknown_limits
from pipeline.templates.template import factor_of
from shm.layout_pages import VENUE_CAPACITY

LOTS_MAX = 1 << 61
WORD_MAX = 1 << 61  # a configured number beyond it means as much as this
FLOAT_UNDER = 1.0 - 1e-12  # of what may be used: a float64 may lie above the Decimal that it stands for
FLOAT_OVER = 1e-12  # on top of what must be reached, likewise
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
        self._named: dict[Key, list[Key]] = {}  # (venue, symbol or coin) -> its instruments
        self._closing: set[tuple[int, int]] = set()  # (instrument, side) that shrink an open hedge's contract
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
        self._named = {}
        for spec in (row.spec for row in rows):
            for name in {spec.base, spec.quote, spec.symbol}:
                self._named.setdefault((spec.venue, name), []).append((spec.venue, spec.symbol))
        count = max((row.instrument_id for row in rows), default=-1) + 1
        first = LIMITS.assets + max(1, len(self._assets))
        self.ints = np.zeros(first + ROW.WORDS * count, np.int64)
        positions = LIMIT_FLOATS.usable + max(1, len(self._assets))
        float_first = positions + max(1, len(self._assets))
        self.floats = np.zeros(float_first + ROW_FLOATS.WORDS * count, np.float64)
        words = self.ints
        words[LIMITS.row_count], words[LIMITS.rows_off] = count, first
        words[LIMITS.positions_off], words[LIMITS.float_rows_off] = positions, float_first
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
        first = int(self.ints[LIMITS.rows_off])
        self.ints[first + ROW.busy :: ROW.WORDS] = 0
        self.refresh()

    def row_changed(self, row: InstrumentRow) -> None:
        """The catalogue says something else of one instrument that was known before."""
        self._gate.margin.reconfigured()
        at = int(self.ints[LIMITS.rows_off]) + ROW.WORDS * row.instrument_id
        keep = self.ints[at + ROW.busy : at + ROW.fill_wall_ms + 1].copy()
        self.ints[at : at + ROW.WORDS] = 0
        self._row(row)
        self.ints[at + ROW.busy : at + ROW.fill_wall_ms + 1] = keep

    def _constants(self) -> None:
        config, words, floats = self._context.config, self.ints, self.floats
        slip = Fraction(config.risk_limits.max_slippage_bps) / 10_000
        words[LIMITS.lease_token] = self._lease_token
        words[LIMITS.max_age_ns] = min(config.detection.max_age_to_trade_ms * 1_000_000, WORD_MAX)
        words[LIMITS.max_skew_ns] = min(config.detection.max_skew_ms * 1_000_000, WORD_MAX)
        writable = slip.denominator < WORD_MAX  # more digits than a word has: the exact path's alone
        words[LIMITS.slip], words[LIMITS.slip_unit] = (
            (slip.numerator, slip.denominator) if 0 <= slip <= 1 and writable else (1, 0)
        )
        words[LIMITS.refresh_ns] = min(config.execution.balance_refresh_interval_ms * 1_000_000, WORD_MAX)
        two_legged = self._gate.enabled_types - {OpportunityType.TRIANGULAR}
        words[LIMITS.types] = sum(1 << int(kind) for kind in two_legged)
        floats[LIMIT_FLOATS.edge_min_bps] = float(config.execute_edge_bps)
        least = float(config.risk_limits.min_profit_usd)
        floats[LIMIT_FLOATS.profit_min_usd] = least + abs(least) * FLOAT_OVER
        self._all_known = not unknown_limits(config)

    def _row(self, row: InstrumentRow) -> None:
        """What the catalogue says of one instrument."""
        spec, grid = row.spec, grid_of(row)
        at = int(self.ints[LIMITS.rows_off]) + ROW.WORDS * row.instrument_id
        words = self.ints[at : at + ROW.WORDS]
        words[ROW.pair], words[ROW.venue], words[ROW.book] = row.pair_id, row.venue_id, row.book_index
        words[ROW.epoch], words[ROW.kind], words[ROW.qty_exp] = row.row_epoch, int(spec.kind), row.qty_exp
        words[ROW.coin] = self._assets[spec.venue, spec.base]
        lot_fp = Fraction(grid.lot) * 10**row.qty_exp
        sides = [side for side in OrderSide if (row.instrument_id, side) in self.orderable]
        if not sides or not self._fits(row, grid, lot_fp):
            return
        words[ROW.feed_off] = self._feeds[row.feed_id]
        words[ROW.tick_fp], words[ROW.lot_fp] = grid.tick_fp, int(lot_fp)
        words[ROW.keep_ppm] = grid.keep_ppm
        words[ROW.fee_in_base] = int(grid.keep_ppm != int(PPM))
        words[ROW.min_lots] = int((spec.min_qty / grid.lot).to_integral_value(ROUND_CEILING))
        words[ROW.max_lots] = (
            int((spec.max_qty / grid.lot).to_integral_value(ROUND_FLOOR)) if spec.max_qty else LOTS_MAX
        )
        words[ROW.tick_factor], words[ROW.lot_factor] = factor_of(grid.tick)[0], factor_of(grid.lot)[0]
        self._float_row(row, grid)
        words[ROW.can_buy] = self._open_for(row, OrderSide.BUY)
        words[ROW.can_sell] = self._open_for(row, OrderSide.SELL)
        words[ROW.usable] = 1

    def _open_for(self, row: InstrumentRow, side: OrderSide) -> bool:
        """Whether a side can be entered: where it shrinks an open hedge's contract, the core makes an exit of it."""
        place = (row.instrument_id, side)
        return place in self.orderable and can_enter(row, side) and place not in self._closing

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
        at = int(words[LIMITS.rows_off]) + ROW.WORDS * row.instrument_id
        float_at = int(words[LIMITS.float_rows_off]) + ROW_FLOATS.WORDS * row.instrument_id
        floats = self.floats[float_at : float_at + ROW_FLOATS.WORDS]
        floats[ROW_FLOATS.min_notional] = float(spec.min_notional)
        floats[ROW_FLOATS.price] = 10.0**-row.price_exp
        floats[ROW_FLOATS.lot] = float(grid.lot)
        floats[ROW_FLOATS.fee] = spec.taker_fee_ppm / 1e6
        floats[ROW_FLOATS.notional] = 10.0 ** -(factor_of(grid.tick)[1] + factor_of(grid.lot)[1])
        leverage = self._context.config.detection.hedge.leverage
        for side, asset, reserve, factor in (
            (OrderSide.BUY, ROW.asset_buy, ROW_FLOATS.reserve_buy, ROW_FLOATS.factor_buy),
            (OrderSide.SELL, ROW.asset_sell, ROW_FLOATS.reserve_sell, ROW_FLOATS.factor_sell),
        ):
            takes, share = reserved_share(row, side, leverage)
            words[at + asset] = self._assets[spec.venue, takes]
            floats[reserve] = float(share)
            floats[factor] = float(factor_of(share)[0]) if share else 1.0
        if spec.kind is InstrumentKind.PERPETUAL:
            for short, slot in ((True, ROW_FLOATS.hedge_short_bps), (False, ROW_FLOATS.hedge_long_bps)):
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
        words, ledger = self.ints, self._context.ledger
        breakers = ledger.breakers
        now = self._gate.exposure()
        self._globals(now)
        self._positions(now)
        self._open_venues()
        rows = int(words[LIMITS.rows_off])
        ids = self._ids  # what an order or a fill of the run before names need not be in this catalogue
        busy = {(order.intent.venue, order.intent.symbol) for order in ledger.unsettled.values()}
        if breakers:
            busy |= self._stopped_by(breakers)
        busy |= self._gate.margin.exact_only()
        for name in self._gate.doubts():
            busy.update(self._named.get(name, ()))
        for key in busy ^ self._busy:
            if key in ids:
                words[rows + ROW.WORDS * ids[key] + ROW.busy] = key in busy
        self._busy = busy
        self._close(self._gate.closing())
        noted = self._gate.fills_noted
        while noted:
            key = noted.pop()
            if key in ids:
                at = rows + ROW.WORDS * ids[key]
                words[at + ROW.fill_mono_ns], words[at + ROW.fill_wall_ms] = self._gate.last_fill(*key)
        changed, holding = self._balances.changed, self._balances.holding()
        self._amounts(changed | holding | self._held)
        changed.clear()
        self._held = holding

    def _open_venues(self) -> None:
        """Until when each venue takes entries: what forbids them later needs no event."""
        gate, known = self._gate, self._gate.reconciled
        closed, shown_until = gate.clocks.closed() | gate.settings.unknown, gate.margin.rows.shown_until()
        for venue, number in self._venues.items():
            up = self._balances.session_up(venue) and venue in known and venue not in closed
            self.ints[LIMITS.venues + number] = shown_until.get(venue, WORD_MAX) if up else 0

    def _close(self, closing: set[tuple[int, int]]) -> None:
        """Closes the sides that shrink the contracts of open hedges, and opens those that do so no more."""
        changed, self._closing = closing ^ self._closing, closing
        for instrument_id, side in changed:
            row = self._context.instruments.get(instrument_id)
            if row is not None:
                word = ROW.can_buy if side > 0 else ROW.can_sell
                at = int(self.ints[LIMITS.rows_off]) + ROW.WORDS * instrument_id
                self.ints[at + word] = self._open_for(row, OrderSide(side))

    def _stopped_by(self, breakers: Mapping[str, str]) -> set[Key]:
        """Closes the venues of tripped breakers; the instruments whose fee breakers are tripped."""
        for venue, number in self._venues.items():
            if venue_breaker(venue) in breakers:
                self.ints[LIMITS.venues + number] = 0
        return {self._fee_breakers[name] for name in breakers if name in self._fee_breakers}

    def _amounts(self, keys: Iterable[Key]) -> None:
        for key in keys:
            asset = self._assets.get(key)
            if asset is not None:
                self.floats[LIMIT_FLOATS.usable + asset] = float(self._balances.usable(*key)) * FLOAT_UNDER
                self.ints[LIMITS.assets + asset] = self._balances.confirmed_mono_ns(*key)

    def _positions(self, now: Exposure) -> None:
        """By how much each coin's position on each venue may still grow."""
        limit, first = self._context.config.risk_limits.max_position_size_usd, int(self.ints[LIMITS.positions_off])
        positions, floats = now.by_position, self.floats
        for key in self._open.union(positions):
            asset = self._assets.get(key)
            if asset is not None:
                floats[first + asset] = float(limit - positions.get(key, ZERO)) * FLOAT_UNDER
        self._open = set(positions)

    def _globals(self, now: Exposure) -> None:
        context, gate, words = self._context, self._gate, self.ints
        config, ledger, limits = context.config, context.ledger, context.config.risk_limits
        words[LIMITS.last_detect_mono_ns], words[LIMITS.last_id] = gate.newest
        words[LIMITS.open_left] = min(limits.max_open_operations - len(ledger.open_operations), WORD_MAX)
        words[LIMITS.rate_free_mono_ns] = gate.sends.free_mono_ns(2, limits.max_orders_per_s)
        self.floats[LIMIT_FLOATS.exposure_room] = float(limits.max_total_exposure_usd - now.total) * FLOAT_UNDER
        words[LIMITS.enabled] = (
            gate.ready
            and not gate.reducing
            and gate.user_check is None
            and self._all_known
            and config.features.enable_risk_checks
            and config.execution.balance_check is BalanceCheck.CONFIRMED
            and not (limits.per_venue or limits.per_asset or limits.per_pair)
            and not (ledger.breakers and any(stops_everything(name) for name in ledger.breakers))
            and words[LIMITS.slip] <= words[LIMITS.slip_unit]
            and gate.worth.loss_beyond(limits) is None
            and now.fixed
            and not now.unvalued
            and not gate.worth.unknown
        )
