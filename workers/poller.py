"""The account poller: balances and positions of every venue by REST, outside the order path.

Each venue is asked twice per ``balance_refresh_interval_ms``, so that no balance in the account page is older than that
interval unless the venue is slow. A row's ``confirmed`` stamp is when the request that returned the value was *sent*.
A venue that fails is asked less often, its failures are counted, and its rows age: the gate refuses old ones.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import Collection, Sequence
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.fee_switch import read_fee_switch
from pipeline.exchanges.transport.backoff import GATEWAY_FACTOR, KEY_RETRY_S, Backoff
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.config import FeeConfig, VenueConfig
from pipeline.model.enums import AccountState
from pipeline.model.errors import (
    AccountSettingsWrong,
    AuthRefused,
    RateLimited,
    RowsUnreadable,
    VenueError,
    VenueRejected,
)
from pipeline.model.fixedpoint import to_fp_floor
from pipeline.model.structs import Balance, Position
from pipeline.model.venue_clock import MEASURE_EVERY_S, ClockEstimate
from shm.layout_pages import (
    ACCOUNT_BALANCE,
    ACCOUNT_POSITION,
    ACCOUNT_VENUE,
    ASSET_WORDS,
    CATALOGUE_ROW,
    CATALOGUE_TEXT_WORDS,
    FEE_COIN_WORDS,
    POSITION_HAS_LIQUIDATION,
    POSITION_HAS_MAINTENANCE,
    POSITION_UNREADABLE,
)
from shm.pages import AccountPage, CataloguePage
from shm.words import pack_text, unpack_text
from workers.account_clients import KeyRole, account_clients
from workers.base import WorkerContext, run_worker
from workers.last_run.fee_coins import FILE_NAME, fee_coin_seen, note_fee_coin_seen

BEAT_S = 0.025
#: Pauses after sweeps in vain are about a twentieth of the time that it has lasted: a minute of it costs that minute.
PAUSE_FIRST_S, PAUSE_MAX_S = 0.25, 10.0
SETTINGS_RETRY_S = 2.0  # an account in a wrong mode is looked at again after this
FEE_SWITCH_EVERY_S = 5.0  # an operator changes it by hand
FEE_SWITCH_TIMEOUT_S = 10.0  # more would be the wait of a silenced budget: the last answer stands meanwhile
LASTING = (AccountState.REFUSED, AccountState.SETTINGS_WRONG)  # until somebody mends it: said also after other failures
DIGITS_MAX = 18  # of an int64 fixed-point number
POSITION_AMOUNTS = (
    ACCOUNT_POSITION.entry_price_fp,
    ACCOUNT_POSITION.margin_fp,
    ACCOUNT_POSITION.upnl_fp,
    ACCOUNT_POSITION.liquidation_price_fp,
    ACCOUNT_POSITION.mark_price_fp,
    ACCOUNT_POSITION.maintenance_fp,
)


def fixed(value: Decimal, exp_max: int = DIGITS_MAX) -> tuple[int, int]:
    """(mantissa, exponent) of ``value`` with every digit that fits int64; further digits are rounded down."""
    digits = max(0, -int(value.normalize().as_tuple().exponent)) if value else 0
    exp = min(digits, exp_max)
    while exp > 0 and abs(value).scaleb(exp) >= 2**62:
        exp -= 1
    return to_fp_floor(value, exp), exp


def common_exp(values: Sequence[Decimal]) -> int:
    """The exponent that carries all of ``values``."""
    exps = [fixed(value)[1] for value in values]
    exp = max(exps, default=0)
    while exp > 0 and any(abs(value).scaleb(exp) >= 2**62 for value in values):
        exp -= 1
    return exp


def position_words(position: Position) -> npt.NDArray[np.int64]:
    """int64[ACCOUNT_POSITION.WORDS] of a position, venue, instrument and time left at 0."""
    amounts = (
        position.entry_price,
        position.margin,
        position.unrealised_pnl,
        position.liquidation_price or Decimal(0),
        position.mark_price,
        position.maintenance_margin or Decimal(0),
    )
    exp = common_exp(amounts)
    row = np.zeros(ACCOUNT_POSITION.WORDS, dtype=np.int64)
    row[ACCOUNT_POSITION.qty_fp], row[ACCOUNT_POSITION.qty_exp] = fixed(position.qty)
    row[ACCOUNT_POSITION.price_exp] = exp
    for place, amount in zip(POSITION_AMOUNTS, amounts, strict=True):
        row[place] = to_fp_floor(amount, exp)
    row[ACCOUNT_POSITION.maintenance_ppm] = int(position.maintenance_rate * 1_000_000)
    known = POSITION_HAS_LIQUIDATION if position.liquidation_price is not None else 0
    known |= POSITION_HAS_MAINTENANCE if position.maintenance_margin is not None else 0
    row[ACCOUNT_POSITION.known] = known
    return row


class AccountWriter:
    """Writes the account page. A row is appended once, never moved, and found again after a restart."""

    def __init__(self, page: AccountPage, catalogue: CataloguePage, venues: Sequence[VenueConfig]) -> None:
        self._page = page
        self._catalogue = catalogue
        self._venues = {venue.name: venue.venue_id for venue in venues}
        self._balances: dict[tuple[int, str], int] = {}
        self._positions: dict[tuple[int, int], int] = {}
        self._instruments: dict[tuple[int, str], int] = {}
        self._version = -1
        for index in range(page.balance_count):
            row = page.balance(index)
            if row is not None:
                asset = unpack_text(row[ACCOUNT_BALANCE.asset : ACCOUNT_BALANCE.asset + ASSET_WORDS])
                self._balances[int(row[ACCOUNT_BALANCE.venue]), asset] = index
        for index in range(page.position_count):
            row = page.position(index)
            if row is not None:
                self._positions[int(row[ACCOUNT_POSITION.venue]), int(row[ACCOUNT_POSITION.instrument])] = index

    def write_balances(self, venue: str, balances: Sequence[Balance], sent_mono_ns: int) -> None:
        """Write all balances of a venue as of the request sent at ``sent_mono_ns``; an asset not named is zero."""
        venue_id = self._venues[venue]
        named = {balance.asset: (balance.free, balance.locked) for balance in balances}
        for known_venue, asset in self._balances:
            if known_venue == venue_id:
                named.setdefault(asset, (Decimal(0), Decimal(0)))
        for asset, (free, locked) in named.items():
            exp = common_exp((free, locked))
            row = np.zeros(ACCOUNT_BALANCE.WORDS, dtype=np.int64)
            row[ACCOUNT_BALANCE.venue] = venue_id
            row[ACCOUNT_BALANCE.asset : ACCOUNT_BALANCE.asset + ASSET_WORDS] = pack_text(asset, ASSET_WORDS)
            row[ACCOUNT_BALANCE.free_fp] = to_fp_floor(free, exp)
            row[ACCOUNT_BALANCE.locked_fp] = to_fp_floor(locked, exp)
            row[ACCOUNT_BALANCE.exp] = exp
            row[ACCOUNT_BALANCE.confirmed_mono_ns] = sent_mono_ns
            index = self._balances.setdefault((venue_id, asset), len(self._balances))
            self._page.write_balance(index, row)

    def write_positions(
        self, venue: str, positions: Sequence[Position], sent_mono_ns: int, unreadable: Collection[str] = ()
    ) -> None:
        """Write all positions of a venue as of the request sent at ``sent_mono_ns``; one that is not named is zero.
        Those of ``unreadable`` contracts stay as they were, and are marked."""
        venue_id = self._venues[venue]
        self._read_catalogue()
        named: dict[int, Position | None] = {
            self._instruments[venue_id, position.symbol]: position
            for position in positions
            if (venue_id, position.symbol) in self._instruments
        }
        odd = {number for (of, symbol), number in self._instruments.items() if of == venue_id and symbol in unreadable}
        for known_venue, instrument in self._positions:
            if known_venue == venue_id:
                named.setdefault(instrument, None)
        for instrument in odd:
            self._mark_unreadable(venue_id, instrument)
        for instrument, position in named.items():
            if instrument in odd:
                continue
            row = np.zeros(ACCOUNT_POSITION.WORDS, dtype=np.int64) if position is None else position_words(position)
            row[ACCOUNT_POSITION.venue] = venue_id
            row[ACCOUNT_POSITION.instrument] = instrument
            row[ACCOUNT_POSITION.confirmed_mono_ns] = sent_mono_ns
            index = self._positions.setdefault((venue_id, instrument), len(self._positions))
            self._page.write_position(index, row)

    def _mark_unreadable(self, venue_id: int, instrument: int) -> None:
        index = self._positions.setdefault((venue_id, instrument), len(self._positions))
        known = self._page.position(index) if index < self._page.position_count else None
        row = np.zeros(ACCOUNT_POSITION.WORDS, dtype=np.int64) if known is None else np.array(known, dtype=np.int64)
        row[ACCOUNT_POSITION.venue] = venue_id
        row[ACCOUNT_POSITION.instrument] = instrument
        row[ACCOUNT_POSITION.known] |= POSITION_UNREADABLE
        self._page.write_position(index, row)

    def write_venue(
        self,
        venue: str,
        *,
        begin_ns: int,
        end_ns: int,
        state: int,
        failures: int,
        clock: tuple[int, int] = (0, 0),
        fee_coin: str | None = None,
        fault: str = "",
    ) -> None:
        """Write how a venue's sweeps go: monotonic ns of the last one, state, failures in a row, its clock as
        :meth:`clock` tells it, the coin that it takes fees in (None: it does not tell), and why the last one failed."""
        self._page.write_fault(self._venues[venue], fault)
        row = np.zeros(ACCOUNT_VENUE.WORDS, dtype=np.int64)
        row[ACCOUNT_VENUE.sweep_begin_mono_ns] = begin_ns
        row[ACCOUNT_VENUE.sweep_end_mono_ns] = end_ns
        row[ACCOUNT_VENUE.state] = state
        row[ACCOUNT_VENUE.failures] = failures
        row[ACCOUNT_VENUE.clock_offset_ns], row[ACCOUNT_VENUE.clock_read_mono_ns] = clock
        if fee_coin is not None:
            row[ACCOUNT_VENUE.fee_reported] = 1
            row[ACCOUNT_VENUE.fee_coin : ACCOUNT_VENUE.fee_coin + FEE_COIN_WORDS] = pack_text(fee_coin, FEE_COIN_WORDS)
        self._page.write_venue(self._venues[venue], row)

    def clock(self, venue: str) -> tuple[int, int]:
        """(the venue's unix time less our monotonic time, when it was read), as the page tells them, perhaps by an
        earlier poller; zeros: it was never read."""
        row = self._page.venue(self._venues[venue])
        if row is None:
            return 0, 0
        return int(row[ACCOUNT_VENUE.clock_offset_ns]), int(row[ACCOUNT_VENUE.clock_read_mono_ns])

    def _read_catalogue(self) -> None:
        self._catalogue.refresh()
        if self._catalogue.version == self._version:
            return
        self._version = self._catalogue.version
        for instrument in range(self._catalogue.count):
            row = self._catalogue.row(instrument)
            if row is not None:
                symbol = unpack_text(row[CATALOGUE_ROW.symbol : CATALOGUE_ROW.symbol + CATALOGUE_TEXT_WORDS])
                self._instruments[int(row[CATALOGUE_ROW.venue]), symbol] = instrument


class VenuePoller:
    """Sweeps one venue again and again. ``swept``: once at least; ``failures``: sweeps failed in a row."""

    def __init__(self, ctx: WorkerContext, venue: VenueConfig, client: VenueClient, writer: AccountWriter) -> None:
        self._ctx = ctx
        self._venue = venue
        self._client = client
        self._writer = writer
        self._interval_s = ctx.config.execution.balance_refresh_interval_ms / 2000
        self.failures = 0
        self.swept = False
        self._pauses = Backoff(base_s=PAUSE_FIRST_S, cap_s=PAUSE_MAX_S, factor=GATEWAY_FACTOR)
        self._clock = ClockEstimate()
        self._clock_read = writer.clock(venue.name)
        self._fee_coin: str | None = None
        #: The configured coin was looked for, and switched on where none was, by this poller or an earlier one.
        self._fee_switch_seen = fee_coin_seen(ctx.state_dir, ctx.instance, venue.name)
        self._fee_fault = ""  # why the last question about it had no answer
        self._settings_fault = ""  # the same about the account's modes
        self._lasts_as: int = AccountState.OK  # the failure in LASTING that was said last, until the venue answers
        self._sweeps = ctx.metrics.counter(f"sweeps.{venue.name}", "complete balance sweeps")
        self._odd = ctx.metrics.counter(f"odd_rows.{venue.name}", "rows of others that could not be read, left out")
        self._failed = ctx.metrics.counter(f"sweep_failures.{venue.name}", "balance sweeps that failed")
        self._limited = ctx.metrics.counter(
            f"rate_limit_hits.{venue.name}", "answers by which the venue's rate limit refused a request"
        )

    async def run(self) -> None:
        """Sweep until cancelled. The venue's time and the coin of fees are asked for beside the sweeps: they must not
        cost an account page."""
        async with asyncio.TaskGroup() as all_of_it:
            all_of_it.create_task(self._sweep_for_ever())
            all_of_it.create_task(self._follow_clock())
            all_of_it.create_task(self._follow_fee_switch())

    async def _sweep_for_ever(self) -> None:
        while True:
            began = time.monotonic()
            pause = await self._sweep()
            await asyncio.sleep(max(pause, self._interval_s - (time.monotonic() - began)))

    async def _sweep(self) -> float:
        """One sweep; returns the least pause before the next, in seconds."""
        try:
            return await self._ask()
        finally:
            count, news = self._client.take_odd_rows()
            self._ctx.metrics.set(self._odd, count)
            self._ctx.metrics.set(self._limited, self._client.rate_limit_hits)
            for line in news:
                self._ctx.say("warning", line)

    async def _ask(self) -> float:
        venue, begin_ns = self._venue, time.monotonic_ns()
        try:
            leverage = self._ctx.config.detection.hedge.leverage
            await self._client.apply_account_settings(venue.symbols, leverage)
            self._tell_settings()
            balances = await self._client.balances()
            sent_positions_ns = time.monotonic_ns()
            positions, unreadable = await self._positions()
        except AuthRefused as error:
            return self._failure(begin_ns, AccountState.REFUSED, f"key refused: {error}", KEY_RETRY_S)
        except AccountSettingsWrong as error:
            return self._failure(begin_ns, AccountState.SETTINGS_WRONG, str(error), SETTINGS_RETRY_S)
        except RateLimited as error:
            return self._failure(begin_ns, AccountState.PAUSED, str(error), error.retry_after_s)
        except (VenueError, TimeoutError, OSError) as error:
            return self._failure(begin_ns, AccountState.FAILING, str(error) or "no answer", self._pauses.next_s())
        self._writer.write_balances(venue.name, balances, begin_ns)
        if venue.market == "futures":
            self._writer.write_positions(venue.name, positions, sent_positions_ns, unreadable)
        if self.failures:
            self._ctx.recovered(f"{venue.name}: account answers again")
        self.failures, self._lasts_as = 0, AccountState.OK
        self._pauses.reset()
        state = AccountState.OK if self._client.settings_known else AccountState.UNSETTLED
        self._write_venue(begin_ns, time.monotonic_ns(), state)
        self._ctx.metrics.inc(self._sweeps)
        self.swept = True
        return 0.0

    def _tell_settings(self) -> None:
        """Says once that the account's modes cannot be read, and that they can be again."""
        fault = self._client.settings_fault
        if fault and not self._settings_fault:
            effect = "those seen last stand" if self._client.settings_known else "no entries there until they are known"
            self._ctx.say("warning", f"{self._venue.name}: account modes cannot be read, {effect}: {fault}")
        elif self._settings_fault and not fault:
            self._ctx.say("info", f"{self._venue.name}: account modes are read again")
        self._settings_fault = fault

    async def _follow_clock(self) -> None:
        while True:
            await self._read_clock()
            await asyncio.sleep(MEASURE_EVERY_S)

    async def _read_clock(self) -> None:
        """Asks the venue for its time once; without an answer the last reading stays, with its own time."""
        sent_ns = time.monotonic_ns()
        try:
            server_ms = await self._client.server_time_ms()
        except (VenueError, TimeoutError, OSError):
            return
        self._clock.learn(server_ms, sent_ns, time.monotonic_ns())
        self._clock_read = self._clock.offset_ns, sent_ns

    async def _positions(self) -> tuple[list[Position], list[str]]:
        """Positions, and the contracts whose row cannot be read."""
        if self._venue.market != "futures":
            return [], []
        try:
            return await self._client.positions(), []
        except RowsUnreadable as error:
            return error.rows, [row.name for row in error.unreadable]

    async def _follow_fee_switch(self) -> None:
        while True:
            await self._read_fee_switch()
            await asyncio.sleep(FEE_SWITCH_EVERY_S)

    async def _read_fee_switch(self) -> None:
        """Asks once which coin fees are taken in; without an answer the last one known stays."""
        try:
            async with asyncio.timeout(FEE_SWITCH_TIMEOUT_S):
                fees = self._ctx.config.fees.get(self._venue.name)
                reported = await self._switch_on(fees, await read_fee_switch(self._client, fees))
        except (VenueError, TimeoutError, OSError) as error:
            if not self._fee_fault:
                self._ctx.say(
                    "warning", f"{self._venue.name}: the coin of fees is not known: {str(error) or 'no answer'}"
                )
            self._fee_fault = str(error) or "no answer"
            return
        if self._fee_fault:
            self._ctx.say("info", f"{self._venue.name}: the coin of fees is known again")
        self._fee_fault = ""
        self._fee_coin = None if reported is None else reported.coin

    async def _switch_on(self, fees: FeeConfig | None, reported: FeeSwitch | None) -> FeeSwitch | None:
        """Where the first reading says that the venue takes plain fees, and a coin is configured, that is set; what is
        on stays on, and what an operator switches later is left alone. The reading that counts then; where the venue
        refuses, its plain fees do, and a note says what to do."""
        deduction = fees.deduction if fees is not None else None
        if reported is None or self._fee_switch_seen:
            return reported
        if reported.coin or deduction is None:
            self._see_fee_coin()
            return reported
        name = self._venue.name
        try:
            switch = await self._client.fee_switch()  # one that is on, and takes nothing for want of its coin, is on
            is_set = switch is not None and not switch.coin and await self._client.set_fee_coin(deduction.coin)
        except RateLimited:
            raise  # it is asked again, as after everything else that is no answer
        except VenueRejected as refused:
            self._see_fee_coin()
            self._ctx.say("warning", f"{name}: fees in {deduction.coin} cannot be set: {refused}")
            return reported
        self._see_fee_coin()
        if not is_set:
            return reported
        self._ctx.say("info", f"{name}: fees are taken in {deduction.coin} from now on, as configured")
        return await read_fee_switch(self._client, fees)

    def _see_fee_coin(self) -> None:
        self._fee_switch_seen = True
        try:
            note_fee_coin_seen(self._ctx.state_dir, self._ctx.instance, self._venue.name)
        except OSError as error:  # the next life of this process looks again
            self._ctx.say("warning", f"{FILE_NAME} cannot be written: {error.strerror}")

    def _failure(self, begin_ns: int, state: int, text: str, pause_s: float) -> float:
        if self.failures == 0 or (state != self._lasts_as and state in LASTING):
            self._ctx.degraded(f"{self._venue.name}: account sweep failed: {text}")
        if state in LASTING:
            self._lasts_as = state
        self.failures += 1
        self._ctx.metrics.inc(self._failed)
        self._write_venue(begin_ns, 0, state, fault=text)
        return pause_s

    def _write_venue(self, begin_ns: int, end_ns: int, state: int, fault: str = "") -> None:
        self._writer.write_venue(
            self._venue.name,
            begin_ns=begin_ns,
            end_ns=end_ns,
            state=state,
            failures=self.failures,
            clock=self._clock_read,
            fee_coin=self._fee_coin,
            fault=fault,
        )


async def _poll(ctx: WorkerContext) -> None:
    writer = AccountWriter(AccountPage.create(ctx.instance), CataloguePage.attach(ctx.instance), ctx.config.venues)
    clients = account_clients(ctx, KeyRole.READ)
    pollers = [VenuePoller(ctx, venue, clients[venue.name], writer) for venue in ctx.config.trading_venues]
    tasks = [asyncio.create_task(poller.run()) for poller in pollers]
    try:
        while not ctx.stop_requested():
            ctx.progress()
            if not ctx.is_ready and all(poller.swept or poller.failures for poller in pollers):
                ctx.ready(f"{sum(poller.swept for poller in pollers)} of {len(pollers)} venues answer")
            for task in tasks:
                if task.done():
                    task.result()  # raises: a venue's errors are handled in the task, so this one is ours
            await asyncio.sleep(BEAT_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in clients.values():
            await client.close()


def warm(dialects: Sequence[str]) -> None:
    """Import what the first sweep needs."""
    importlib.import_module("pipeline.exchanges.transport.spend").warm()
    importlib.import_module("aiohttp")
    for dialect in dialects:
        importlib.import_module(f"pipeline.exchanges.{dialect}.rest_client")


def run(ctx: WorkerContext) -> None:
    """The poller's life: sweep all venues side by side until SIGTERM; READY when each has answered or failed once."""
    ctx.liveness.parked = True  # it mostly waits for replies: the slow beat is enough
    asyncio.run(_poll(ctx))


def main() -> int:
    """``python -m workers.poller --instance I --config F``."""
    return run_worker("poller", run)


if __name__ == "__main__":
    sys.exit(main())
