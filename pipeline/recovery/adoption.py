"""Taking over what a lost or older journal does not explain, by an operator's command (``arb resume --adopt``).

A futures position that no operation holds becomes a hedge again where its spot coins are found: coins that orders of
an engine bought there, or else coins that lie on a spot venue of the same pair. Its entry prices are the position's
entry price as the venue states it, and the spot price of now: what the hedge earned before is in no journal. A position
without coins, and coins without a position, become a baseline: they stay, are listed, and are not ours to trade. A
hedge of this journal that was left by orders which it lacks is closed. A position on a contract that the catalogue
lacks is left, and said.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.external_fills import ADOPTED, EXTERNAL, given_fill
from pipeline.execution.external_shares import group_net
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
from pipeline.recovery.external_book import ExternalBook

LEFT = "left"  # listed for the operator, not taken over
NO_CONTRACT = "not in the catalogue: close it at the venue, or adopt again once the contract is listed"


class Adoption:
    """Finds and takes over. ``book`` writes what moves positions; ``rate(asset)``: USD per unit, None where unknown;
    ``entry_price(venue, symbol)``: of a position, as the venue states it; 0 where it does not;
    ``gone(venue, symbol)``: the venue's newest list of all positions lacks it."""

    def __init__(
        self,
        context: CoreContext,
        book: ExternalBook,
        rate: Callable[[str], Decimal | None],
        entry_price: Callable[[str, str], Decimal],
        gone: Callable[[str, str], bool],
    ) -> None:
        self._context = context
        self._book = book
        self._rate = rate
        self._entry_price = entry_price
        self._gone = gone

    def adopt(self, reason: str) -> list[AdoptedRecord]:
        """Takes everything over, releases the breakers that waited for it; what was found, for the operator.

        Positions from before this journal on contracts that the catalogue lacks are listed and not taken over: while
        there are any, ``unknown_past`` stays.
        """
        context, ledger = self._context, self._context.ledger
        self._take_positions_in()
        coins = dict(ledger.external.foreign_spot)
        found: list[AdoptedRecord] = []
        for (venue, symbol), qty in sorted(ledger.external.unowned.items()):
            row = context.instruments.find(venue, symbol)
            if row is None or row.spec.kind is not InstrumentKind.PERPETUAL:
                continue
            price = self._entry_price(venue, symbol) or self._price(row)
            found += self._closed(row, qty, price)
            left = ledger.external.unowned.get((venue, symbol), ZERO)
            if left:
                found.append(self._hedge(row, left, price, reason) or self._baseline(row, left, price))
        for (venue, asset), qty in sorted(ledger.external.foreign_spot.items()):
            if qty * coins.get((venue, asset), ZERO) <= 0:
                continue  # a hedge has taken them
            if any(r.spec.base == asset and r.spec.venue == venue for r in context.instruments):
                found.append(
                    AdoptedRecord("baseline", venue, "", asset, qty, ZERO, "", "coins moved by orders of others")
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

    def _not_in_catalogue(self) -> list[AdoptedRecord]:
        """Positions from before this journal on contracts that the catalogue lacks, for the operator's list only; one
        that its venue no longer lists is none."""
        ledger, now_ns = self._context.ledger, self._context.now.mono_ns
        left: list[AdoptedRecord] = []
        for (venue, symbol), offset in sorted(ledger.position_offsets.items()):
            if not offset or self._context.instruments.find(venue, symbol) is not None:
                continue
            if not ledger.accounts.futures_qty(venue, symbol) and self._gone(venue, symbol):
                self._context.record(PositionRecord(venue, symbol, ZERO, ZERO, ZERO, now_ns, baseline=True))
            else:
                price = self._entry_price(venue, symbol)
                left.append(AdoptedRecord(LEFT, venue, symbol, "", offset, price, "", NO_CONTRACT))
        return left

    def _take_positions_in(self) -> None:
        """Positions from before this journal become the ledger's: from here on it shows what is at the venue."""
        ledger = self._context.ledger
        for (venue, symbol), offset in sorted(ledger.position_offsets.items()):
            row = self._context.instruments.find(venue, symbol)
            if not offset or row is None:
                continue
            price = self._entry_price(venue, symbol) or self._price(row)
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
            moved = ledger.external.foreign_spot.get((hedge.spot_venue, hedge.base), ZERO)
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
        moved come first; a short position may also be covered by coins that no hedge holds."""
        ledger, spec = self._context.ledger, row.spec
        spots = [
            r
            for r in self._context.instruments
            if r.spec.kind is InstrumentKind.SPOT and (r.spec.base, r.spec.quote) == (spec.base, spec.quote)
        ]
        best, most = None, ZERO
        for spot in spots:
            moved = ledger.external.foreign_spot.get((spot.spec.venue, spec.base), ZERO)
            if moved * qty < 0 and abs(moved) >= abs(qty):
                return spot
            free = (ledger.expected_balance(spot.spec.venue, spec.base) or ZERO) - self._hedged(spot)
            if qty < 0 and free >= -qty and free > most:
                best, most = spot, free
        return best

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
