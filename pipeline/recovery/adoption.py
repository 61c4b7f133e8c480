"""Taking over what a lost or older journal does not explain, by an operator's command (``arb resume --adopt``).

A futures position that no operation holds becomes a hedge again where its spot coins are found: coins that orders of
an engine bought there, or else coins that lie on a spot venue of the same pair. Its entry prices are the position's
entry price as the venue states it, and the spot price of now: what the hedge earned before is in no journal. A position
without coins, and coins without a position, become a baseline: they stay, are listed, and are not ours to trade. A
hedge of this journal that was left by orders which it lacks is closed. A position on a contract that the catalogue
lacks is left, and said, until a sweep of its venue that began after the command lacks it too: then it is none. No list
of the account poller says that: it has the catalogue's contracts only.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.external_fills import ADOPTED, EXTERNAL, given_fill
from pipeline.execution.external_shares import group_net, is_traded
from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST, Operation
from pipeline.execution.market import mid_price
from pipeline.execution.records import (
    AdoptedRecord,
    BreakerRecord,
    FillRecord,
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
        found: list[AdoptedRecord] = []
        for (venue, symbol), qty in sorted(ledger.external.unowned.items()):
            row = context.instruments.find(venue, symbol)
            if row is None or row.spec.kind is not InstrumentKind.PERPETUAL:
                continue
            price = self._account.entry_price(venue, symbol) or self._price(row)
            found += self._closed(row, qty, price)
            left = ledger.external.unowned.get((venue, symbol), ZERO)
            if left:
                found.append(self._hedge(row, left, price, reason) or self._baseline(row, left, price))
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
            if not offset or row is None:
                continue
            held = ledger.external.trades.contracts.get((venue, symbol))
            price = ledger.offset_entries.get((venue, symbol)) or self._account.entry_price(venue, symbol)
            price = price or (held.entry_price if held is not None else self._price(row))
            self._book.move_position(row, ledger.expected_position(venue, symbol), price, cause=ADOPTED, witness="poll")

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
            spot = self._context.instruments.find(hedge.spot_venue, hedge.spot_symbol)
            moved = self._traded(hedge.spot_venue, hedge.base)
            if spot is not None and moved * int(hedge.spot_side) < 0:
                side, part = _side(moved), min(abs(moved), taken)
                fills.append(self._fill(operation, spot, side, part, self._price(spot), EXTERNAL))
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

    def _hedge(self, row: InstrumentRow, qty: Decimal, price: Decimal, reason: str) -> AdoptedRecord | None:
        """The position as a hedge of an operation made for it; None where its coins are not found."""
        context, ledger, spec = self._context, self._context.ledger, row.spec
        spot = self._coins(row, qty)
        if spot is None:
            return None
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
        detail = "no coins that it could hedge: stays, not ours to trade"
        record = AdoptedRecord("baseline", spec.venue, spec.symbol, spec.base, qty, price, "", detail)
        self._context.record(record)
        return record

    def _coins(self, row: InstrumentRow, qty: Decimal) -> InstrumentRow | None:
        """Spot instrument of the pair on whose venue the other leg of a position lies. Coins that an engine's orders
        moved come first, where they still lie there; a short position may also be covered by coins no hedge holds."""
        ledger, spec = self._context.ledger, row.spec
        spots = [
            r
            for r in self._context.instruments
            if r.spec.kind is InstrumentKind.SPOT and (r.spec.base, r.spec.quote) == (spec.base, spec.quote)
        ]
        best, most = None, ZERO
        for spot in spots:
            moved = self._traded(spot.spec.venue, spec.base)
            free = (ledger.expected_balance(spot.spec.venue, spec.base) or ZERO) - self._hedged(spot)
            lie_there = qty > 0 or free >= -qty
            if moved * qty < 0 and abs(moved) >= abs(qty) and lie_there:
                return spot
            if qty < 0 and lie_there and free > most:
                best, most = spot, free
        return best

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
