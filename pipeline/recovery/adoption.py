"""Taking over what a lost or older journal does not explain, by an operator's command (``arb resume --adopt``).

A futures position that no operation holds becomes a hedge again where its spot coins are found, one for each venue that
has some: coins that orders of an engine moved there, or else coins that lie on a spot venue of the same pair. Its entry
prices are the position's entry price as the venue states it, and the spot price of now: what the hedge earned before is
in no journal. A position without coins, and coins without a position, become a baseline: they stay, are listed, and are
not ours to trade. A hedge of this journal that was left by orders which it lacks is closed. A position on a contract
that the catalogue lacks is left, and said, until a sweep of its venue that began after the command lacks it too: then
it is none. No list of the account poller says that: it has the catalogue's contracts only.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.external_fills import ADOPTED, EXTERNAL, given_fill
from pipeline.execution.external_shares import group_net, is_traded
from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST, Operation
from pipeline.execution.market import is_tradable_qty, mid_price
from pipeline.execution.records import (
    AdoptedRecord,
    BreakerRecord,
    FillRecord,
    HedgeRecord,
    LegPlan,
    OperationRecord,
    OperationStateRecord,
    Outcome,
    PositionRecord,
)
from pipeline.execution.settle import entry_basis, hedge_record, result_of
from pipeline.model.enums import ArbitrageState, InstrumentKind, OpportunityType, OrderSide
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import ZERO
from pipeline.recovery.account import AccountCheck
from pipeline.recovery.differences import Key
from pipeline.recovery.external_book import ExternalBook

LEFT = "left"  # listed for the operator, not taken over
NO_CONTRACT = "not in the catalogue: close it at the venue, or adopt again once the contract is listed"
BEING_ASKED = "not in the catalogue: its venue is being asked whether it still stands, adopt again in some seconds"
NOT_TRADED = (
    "not in the catalogue: its venue is not traded here; close it there, and adopt again with the venue enabled"
)
ASKED_NS = 60_000_000_000  # so long a command may be given again for the answer to the first


class Adoption:
    """Finds and takes over. ``book`` writes what moves positions; ``rate(asset)``: USD per unit, None where unknown;
    ``account``: what the venues state."""

    def __init__(
        self,
        context: CoreContext,
        book: ExternalBook,
        rate: Callable[[str], Decimal | None],
        account: AccountCheck,
    ) -> None:
        self._context = context
        self._book = book
        self._rate = rate
        self._account = account
        self._net: dict[str, Decimal] = {}  # coin -> what others hold of it in all, as far as nothing has taken it
        self._asked: dict[Key, int] = {}  # position -> since when its venue is asked whether it still stands (mono ns)

    def asking(self) -> bool:
        """Whether a venue has not answered yet which positions of the last command still stand."""
        return any(not self._account.lists.swept_since(key[0], asked_ns) for key, asked_ns in self._asked.items())

    def adopt(self, reason: str) -> list[AdoptedRecord]:
        """Takes everything over, releases the breakers that waited for it; what was found, for the operator.

        Positions from before this journal on contracts that the catalogue lacks are listed and not taken over: while
        there are any, ``unknown_past`` stays.
        """
        context, ledger = self._context, self._context.ledger
        self._take_positions_in()
        self._net = {}
        found: list[AdoptedRecord] = []
        for (venue, symbol), qty in sorted(ledger.external.unowned.items()):
            row = context.instruments.find(venue, symbol)
            if row is None or row.spec.kind is not InstrumentKind.PERPETUAL:
                continue
            price = self._account.entry_price(venue, symbol) or self._price(row)
            found += self._closed(row, qty, price)
            left = ledger.external.unowned.get((venue, symbol), ZERO)
            if left:
                found += self._hedges(row, left, price, reason)
        for (venue, asset), held in sorted(ledger.external.trades.coins.items()):  # less what hedges have taken
            if is_traded(context.instruments, asset):  # as worth.py counts them
                found.append(
                    AdoptedRecord("baseline", venue, "", asset, held.qty, ZERO, "", "coins moved by orders of others")
                )
                context.record(found[-1])
        unlisted = self._not_in_catalogue()
        for name in (UNKNOWN_PAST, SECOND_ENGINE):
            if name in ledger.breakers and not (unlisted and name == UNKNOWN_PAST):
                context.record(BreakerRecord(name, False, f"adopted: {reason}"))
        context.alert(1, ADOPTED, f"{len(found)} taken over: {reason}")
        for record in unlisted:
            context.alert(2, ADOPTED, f"{record.venue} {record.symbol}: {record.qty} not taken over: {record.detail}")
        return [*found, *unlisted]

    def waiting(self) -> list[str]:
        """What has been found so far and waits to be taken over, in words; nothing is changed."""
        ledger = self._context.ledger
        positions = dict(ledger.external.unowned)
        for key, offset in ledger.position_offsets.items():
            positions[key] = positions.get(key, ZERO) + offset
        found = [f"{venue} {symbol} position {qty}" for (venue, symbol), qty in sorted(positions.items()) if qty]
        coins = sorted(ledger.external.trades.coins.items())
        return found + [f"{venue} {asset} {held.qty:+} by orders of others" for (venue, asset), held in coins]

    def _not_in_catalogue(self) -> list[AdoptedRecord]:
        """Positions from before this journal, and of others, on contracts that the catalogue lacks, for the operator's
        list only; one that its venue no longer lists is none, and is booked so."""
        ledger, before = self._context.ledger, self._asked
        self._asked = {}
        left: list[AdoptedRecord] = []
        for key in sorted({*ledger.position_offsets, *ledger.external.unowned}):
            offset, others = ledger.position_offsets.get(key, ZERO), ledger.external.unowned.get(key, ZERO)
            if not (offset or others) or self._context.instruments.find(*key) is not None:
                continue
            detail = self._unanswered(key, before.get(key))
            if not detail and self._account.gone(*key) and ledger.accounts.futures_qty(*key) == others:
                self._book_flat(key, others)
                continue
            price = self._account.entry_price(*key)
            left.append(AdoptedRecord(LEFT, *key, "", offset + others, price, "", detail or NO_CONTRACT))
        return left

    def _unanswered(self, key: Key, asked_ns: int | None) -> str:
        """ "" where a sweep that began after the command, or after the same one given a moment ago (``asked_ns``), has
        said what stands; else why none has. Asks for one."""
        now_ns = self._context.now.mono_ns
        if key[0] not in {venue.name for venue in self._context.config.trading_venues}:
            return NOT_TRADED
        if asked_ns is None or now_ns - asked_ns > ASKED_NS:
            asked_ns = now_ns
        elif self._account.lists.swept_since(key[0], asked_ns):
            return ""
        self._asked[key] = asked_ns
        self._account.look_at(*key)
        return BEING_ASKED

    def _book_flat(self, key: Key, others: Decimal) -> None:
        """``others``: what they held there, signed base coins; else it was from before this journal."""
        external, now_ns = self._context.ledger.external, self._context.now.mono_ns
        if not others:
            self._context.record(PositionRecord(*key, ZERO, ZERO, ZERO, now_ns, baseline=True))
            return
        base, quote = external.base_of[key], external.trades.quotes.get(key, "USDT")
        coin, unit = self._rate(base), self._rate(quote)
        price = self._account.prices.closing(key) or (coin / unit if coin and unit else ZERO)
        if self._context.ledger.position_offsets.get(key) == -others:  # they had closed it: nothing was left to settle
            price = self._context.ledger.offset_entries.get(key, ZERO)
        held = external.trades.contracts.get(key)
        self._book.move_to(
            *key, base, quote, ZERO, price or (held.entry_price if held else ZERO), cause=ADOPTED, witness="poll"
        )

    def _take_positions_in(self) -> None:
        """Positions from before this journal become the ledger's: from here on it shows what is at the venue. Each at
        what it was entered at, also where others have closed it since: a price of now would be a profit of nobody."""
        ledger = self._context.ledger
        for (venue, symbol), offset in sorted(ledger.position_offsets.items()):
            row = self._context.instruments.find(venue, symbol)
            if offset and row is not None:
                held = ledger.external.trades.contracts.get((venue, symbol))
                price = self._account.entry_price(venue, symbol)
                self._book.take_in(row, price or (held.entry_price if held is not None else self._price(row)))

    def _closed(self, row: InstrumentRow, qty: Decimal, price: Decimal) -> list[AdoptedRecord]:
        """Hedges of this journal that lost orders have left, in whole or in part."""
        ledger, spec = self._context.ledger, row.spec
        found: list[AdoptedRecord] = []
        left = abs(qty)
        for hedge in list(ledger.hedges.values()):
            operation = ledger.operations[hedge.operation_id]
            net = group_net(ledger, operation, spec.venue, spec.symbol)
            if not left or net * qty >= 0:
                continue
            taken = min(abs(net), left)
            left -= taken
            fills = [self._fill(operation, row, _side(qty), taken, price, EXTERNAL)]
            fills += self._coins_left(operation, hedge, taken)
            detail = f"{taken} of {hedge.qty} were left by orders that the journal lacks"
            record = AdoptedRecord(
                "closed",
                spec.venue,
                spec.symbol,
                spec.base,
                taken * int(_side(qty)),
                price,
                operation.operation_id,
                detail,
                tuple(fills),
            )
            self._context.record(record)
            self._book.shrink(operation, detail)
            found.append(record)
        return found

    def _coins_left(self, operation: Operation, hedge: HedgeRecord, taken: Decimal) -> list[FillRecord]:
        """What left the coins of a hedge whose contract lost orders have closed by ``taken``: orders on its own spot
        venue or on another one, as an exit sells where it can. Together with what entries and trades of that run moved
        there it may not show on any venue: then it shows in the sum of all that others hold of the coin."""
        spots = self._spots(hedge.base, self._context.instruments.find(hedge.spot_venue, hedge.spot_symbol))
        side = OrderSide.SELL if hedge.spot_side is OrderSide.BUY else OrderSide.BUY
        left, parts = taken, list[tuple[InstrumentRow, Decimal]]()
        for spot in spots:
            part = min(left, max(ZERO, self._traded(spot.spec.venue, hedge.base) * int(side)))
            left -= part
            parts += [(spot, part)] if part else []
        left -= self._alone(hedge.base, int(hedge.spot_side), left)
        parts += [(spots[0], left)] if spots and left else []
        return [self._fill(operation, spot, side, part, self._price(spot), EXTERNAL) for spot, part in parts]

    def _alone(self, base: str, sign: int, most: Decimal, lot: Decimal = ZERO) -> Decimal:
        """How much of a coin, at most ``most`` and in whole lots, stands alone with this sign in what others hold of
        it, coins and contracts together: nearly nothing where the lost orders had two legs each. It counts once."""
        external = self._context.ledger.external
        if base not in self._net:
            coins = (held.qty for (_, coin), held in external.trades.coins.items() if coin == base)
            contracts = (qty for key, qty in external.unowned.items() if external.base_of[key] == base)
            self._net[base] = sum(coins, ZERO) + sum(contracts, ZERO)
        alone = min(most, max(ZERO, self._net[base] * sign))
        alone = alone // lot * lot if lot else alone
        self._net[base] -= alone * sign
        return alone

    def _hedges(self, row: InstrumentRow, qty: Decimal, price: Decimal, reason: str) -> list[AdoptedRecord]:
        """The position as hedges, one for each spot venue that has coins of it, and as a baseline for what has none."""
        found: list[AdoptedRecord] = []
        left, sign = abs(qty), 1 if qty > 0 else -1
        for spot, part in self._coins(row, qty):
            left -= part
            found.append(self._hedge(row, spot, part * sign, price, reason))
        return found + ([self._baseline(row, left * sign, price)] if left else [])

    def _hedge(
        self, row: InstrumentRow, spot: InstrumentRow, qty: Decimal, price: Decimal, reason: str
    ) -> AdoptedRecord:
        """A part of a position as a hedge of an operation made for it; ``spot``: where its coins are."""
        context, ledger, spec = self._context, self._context.ledger, row.spec
        spot_price, amount = self._price(spot), abs(qty)
        legs = (self._leg(spot, _side(-qty), amount, spot_price), self._leg(row, _side(qty), amount, price))
        buy, sell = (spot, row) if qty < 0 else (row, spot)
        operation_id = context.ids.next()
        context.record(
            OperationRecord(
                operation_id=operation_id,
                opportunity_id=0,
                type=OpportunityType.SPOT_FUTURES_HEDGE,
                pair=spec.pair,
                legs=legs,
                edge_detect_bps=0.0,
                edge_send_bps=0.0,
                direction_key=buy.instrument_id * 4096 + sell.instrument_id,
                notional_usd=amount * price * (self._rate(spec.quote) or ZERO),
                trigger_recv_mono_ns=0,
                detect_mono_ns=0,
                dequeued_mono_ns=context.now.mono_ns,
                gate_mono_ns=context.now.mono_ns,
                manual=True,
            )
        )
        operation = ledger.operations[operation_id]
        fills = (
            self._fill(operation, spot, _side(-qty), amount, spot_price, ADOPTED),
            self._fill(operation, row, _side(qty), amount, price, ADOPTED),
        )
        detail = f"hedged by {spec.base} on {spot.spec.venue}: {reason}"
        record = AdoptedRecord("hedge", spec.venue, spec.symbol, spec.base, qty, price, operation_id, detail, fills)
        context.record(record)
        context.record(OperationStateRecord(operation_id, ArbitrageState.EXECUTING, ArbitrageState.COMPLETED, ADOPTED))
        context.record(hedge_record(operation, amount, ADOPTED))
        numeraire = context.config.execution.numeraire
        context.record(
            result_of(
                operation,
                ledger,
                outcome=Outcome.COMPLETED,
                reason=f"adopted: {reason}",
                numeraire=numeraire,
                numeraire_rate=Decimal(1) if spec.quote == numeraire else self._rate(spec.quote) or ZERO,
                ended_mono_ns=context.now.mono_ns,
                dust={},
                carried=-entry_basis(operation) * amount,
                fee_rates={},
                kept={},
            )
        )
        return record

    def _baseline(self, row: InstrumentRow, qty: Decimal, price: Decimal) -> AdoptedRecord:
        spec = row.spec
        detail = "no coins that it could hedge: stays, not ours to trade; close it at the venue"
        record = AdoptedRecord("baseline", spec.venue, spec.symbol, spec.base, qty, price, "", detail)
        self._context.record(record)
        return record

    def _coins(self, row: InstrumentRow, qty: Decimal) -> list[tuple[InstrumentRow, Decimal]]:
        """(spot instrument of the pair, base coins) where the other leg of a position lies. Coins that an engine's
        orders moved come first, where they still lie there: on one venue if one has all of them, else on several. A
        short position may also be covered by coins no hedge holds, and any by what the sum of all venues says is not
        alone: where trades have moved the coins on, no venue has them all."""
        spec, left, sign = row.spec, abs(qty), 1 if qty > 0 else -1
        moved = {spot: self._moved_for(spot, sign) for spot in self._spots(spec.base, row)}
        most = sorted(moved, key=lambda spot: moved[spot], reverse=True)
        found: dict[InstrumentRow, Decimal] = {}
        for spot in most:
            lot = max(spec.lot, spot.spec.lot)
            part = min(left, moved[spot] // lot * lot)
            if is_tradable_qty(spot, part, self._price(spot)):
                found[spot] = part
                left -= part
        rest = left - self._alone(spec.base, sign, left, spec.lot)
        if qty < 0:  # coins of the stock do as well
            most.sort(key=lambda spot: self._free(spot) - found.get(spot, ZERO), reverse=True)
            if most and self._free(most[0]) - found.get(most[0], ZERO) >= left:
                rest = left
        elif found:
            most = list(found)
        if most and rest > 0:
            found[most[0]] = found.get(most[0], ZERO) + rest
        return list(found.items())

    def _spots(self, base: str, like: InstrumentRow | None) -> list[InstrumentRow]:
        """Spot instruments of a coin with the quote of ``like``, which comes first if it is one."""
        if like is None:
            return []
        rows = [r for r in self._context.instruments if r.spec.kind is InstrumentKind.SPOT and r.spec.base == base]
        return sorted((r for r in rows if r.spec.quote == like.spec.quote), key=lambda r: r is not like)

    def _moved_for(self, spot: InstrumentRow, sign: int) -> Decimal:
        """Coins that orders of an engine left there (``sign`` < 0: for a short position) or took from there; of those
        that they left no more than lie there and no hedge holds."""
        moved = max(ZERO, self._traded(spot.spec.venue, spot.spec.base) * -sign)
        return moved if sign > 0 else min(moved, max(ZERO, self._free(spot)))

    def _free(self, spot: InstrumentRow) -> Decimal:
        """Coins on a spot venue that no hedge holds."""
        there = self._context.ledger.expected_balance(spot.spec.venue, spot.spec.base)
        return (there or ZERO) - self._hedged(spot)

    def _traded(self, venue: str, coin: str) -> Decimal:
        """Coins that orders of others (also of an engine) have left there or taken away, less what was taken for stock
        since, handed to a hedge, or undone by what came or went."""
        held = self._context.ledger.external.trades.coins.get((venue, coin))
        return ZERO if held is None else held.qty

    def _hedged(self, spot: InstrumentRow) -> Decimal:
        """Coins that hedges hold on a spot venue."""
        hedges = self._context.ledger.hedges.values()
        place = (spot.spec.venue, spot.spec.base)
        held = (h.qty for h in hedges if (h.spot_venue, h.base) == place and h.spot_side is OrderSide.BUY)
        return sum(held, ZERO)

    def _price(self, row: InstrumentRow) -> Decimal:
        """Mid of an instrument's book, else the venue's reference price."""
        view = self._context.market.book(row.instrument_id)
        mid = mid_price(view, row) if view is not None else None
        return mid if mid is not None else row.spec.reference_price

    def _leg(self, row: InstrumentRow, side: OrderSide, qty: Decimal, price: Decimal) -> LegPlan:
        spec = row.spec
        return LegPlan(
            row.instrument_id,
            spec.venue,
            spec.symbol,
            spec.kind,
            spec.base,
            spec.quote,
            side,
            qty,
            price,
            price,
            0,
            0,
            0,
            0,
        )

    def _fill(
        self, operation: Operation, row: InstrumentRow, side: OrderSide, qty: Decimal, price: Decimal, source: str
    ) -> FillRecord:
        leg = self._leg(row, side, qty, price)
        now_ns = self._context.now.mono_ns
        return given_fill(operation.operation_id, leg, side, qty, price, source=source, recv_mono_ns=now_ns)


def _side(qty: Decimal) -> OrderSide:
    return OrderSide.BUY if qty > 0 else OrderSide.SELL
