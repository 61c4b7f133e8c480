"""External movements become records: what moved, what reported it, whose leg it took, and what stops because of it.

Answers:

| what | answer |
|---|---|
| liquidation | the hedge shrinks, its other leg is reduced; breaker of the venue |
| ADL, settlement | the hedge shrinks, its other leg is reduced |
| order of another client | booked; what it took of a hedge as above; breaker of the venue |
| the same, for an operation that an operator has taken over | its repair: it ends when nothing of it stands alone |
| order with an id of an engine's form | booked, nothing is taken or repaired; ``second_engine`` or ``unknown_past`` |
| deposit, incoming transfer | the expected balance moves |
| withdrawal, outgoing transfer | the same; breaker of the venue; hedges shrink by coins of theirs that it took |
| money that no list and no notice explains | the same; lost beyond the limit: breaker ``unexplained_loss`` |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal

import msgspec

from pipeline.execution.accounts import EXACT, PNL_DIGITS, Execution
from pipeline.execution.core_context import CoreContext, epoch_of
from pipeline.execution.external import MISSED
from pipeline.execution.external_fills import ADOPTED, EXTERNAL, given_fill
from pipeline.execution.external_records import (
    ExternalFillRecord,
    ExternalFlowRecord,
    ExternalPositionRecord,
    TakenShare,
)
from pipeline.execution.external_shares import done_by_hand, futures_taken, group_net, spot_taken
from pipeline.execution.ledger import SECOND_ENGINE, UNEXPLAINED_LOSS, UNKNOWN_PAST, Operation
from pipeline.execution.records import AdoptedRecord, ExternalRecord, FillRecord
from pipeline.execution.settle import hedge_left, hedge_record
from pipeline.model.enums import InstrumentKind, OpportunityType, OrderSide
from pipeline.model.fixedpoint import plain
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO, Fill, InstrumentSpec

#: How venues name the end of an order that they placed themselves, and the text of such an order -> the cause.
#: The first word that is found counts: names of ADL and settlements hold a liquidation's ("adl_autoclose").
FORCED = (
    ("adl", "adl"),
    ("auto_deleverag", "adl"),
    ("settlement", "settlement"),
    ("delivery", "settlement"),
    ("liq", "liquidation"),
    ("insurance", "liquidation"),
    ("autoclose", "liquidation"),
    ("clear", "settlement"),
)
UNARMED = ("adl", "settlement")  # nobody's fault: the venue goes on
FLOW_CAUSES = {"deposit": "deposit", "withdraw": "withdrawal"}  # others are transfers


def forced_cause(reason: str) -> str:
    """Cause of an order by how its venue says that it came or ended; "order" for one that a client placed."""
    lower = reason.lower()
    return next((cause for word, cause in FORCED if word in lower), "order")


def flow_cause(reason: str) -> str:
    """Cause of a movement of money by the venue's own word for it."""
    lower = reason.lower()
    return next((cause for word, cause in FLOW_CAUSES.items() if lower.startswith(word)), "transfer")


class ExternalBook:
    """Writes the records. ``rate(asset)``: USD per unit, None where unknown; ``coin_rates(fills, quote)``: quote per
    unit of each coin that only their fees were paid in."""

    def __init__(
        self,
        context: CoreContext,
        rate: Callable[[str], Decimal | None],
        coin_rates: Callable[[Iterable[Execution], str], Mapping[str, Decimal]],
    ) -> None:
        self._context = context
        self._rate = rate
        self._coin_rates = coin_rates

    def tick(self) -> None:
        """What was lost beside an operation that opens a hedge there is missed of that hedge once it has ended."""
        for (venue, coin), lost in list(self._context.ledger.external.missed.items()):
            if not self._opening(venue, coin):
                self.shortage(venue, coin, lost, self._rate(coin) or ZERO)
                self._miss(venue, coin, ZERO)

    # --- executions and orders ---

    def fill(
        self, fill: Fill, *, client_id: str, reason: str, witness: str, booked: bool, live: bool, late: bool = False
    ) -> None:
        """Books an execution of an order that is not ours. ``client_id`` and ``reason``: of its order, "" where the
        venue does not list one; ``live``: it happened while this run was under way; ``late``: see :meth:`engine`."""
        context = self._context
        row = context.instruments.find(fill.venue, fill.symbol)
        if row is None:
            return
        spec = row.spec
        cause = "engine" if epoch_of(client_id) is not None else forced_cause(reason)
        by_hand, of_others, expected = self._takers(fill, spec, cause) if booked else ([], [], False)
        taken = self._shares(by_hand + of_others, fill.qty, fill.fee)
        record = ExternalFillRecord(
            venue=fill.venue,
            symbol=fill.symbol,
            trade_id=fill.trade_id,
            order_id=fill.order_id,
            client_id=client_id,
            instrument_id=row.instrument_id,
            kind=spec.kind,
            base=spec.base,
            quote=spec.quote,
            side=fill.side,
            qty=fill.qty,
            price=fill.price,
            fee=fill.fee,
            fee_asset=fill.fee_asset or spec.quote,
            cause=cause,
            witness=witness,
            venue_wall_ms=fill.venue_wall_ms,
            recv_mono_ns=fill.recv_mono_ns,
            booked=booked,
            taken=taken,
            extra_fees=fill.extra_fees,
        )
        had = {coin: context.ledger.expected_balance(fill.venue, coin) or ZERO for coin in (spec.base, spec.quote)}
        rates = self._coin_rates((record,), spec.quote)
        in_coins = sum((amount * rates[coin] for coin, amount in record.fees_of_others if coin in rates), ZERO)
        context.record(msgspec.structs.replace(record, coin_fees=in_coins.quantize(PNL_DIGITS, ROUND_HALF_EVEN)))
        self._shrink(taken)
        text = f"{fill.side.name} {plain(fill.qty)} {fill.symbol} at {plain(fill.price)}"
        if cause == "engine":
            self.engine(fill.venue, client_id, live=live, late=late)
        if booked:
            done = "; it repairs" if by_hand else ""
            context.alert(1 if expected else 2, "external", f"{fill.venue} {cause}: {text}{done}{_lost(taken)}")
            if cause not in (*UNARMED, "engine") and not expected:
                whose = "order of another client" if cause == "order" else cause
                context.trip(f"venue.{fill.venue}", f"{whose}: {text}")
            if spec.kind is InstrumentKind.SPOT:
                self._shortages(spec, fill.price, had)

    def _takers(
        self, fill: Fill, spec: InstrumentSpec, cause: str
    ) -> tuple[list[tuple[Operation, Decimal]], list[tuple[Operation, Decimal]], bool]:
        """(operation, base coins) of those that an operator has taken over and repairs by this order; of those that
        lose a leg to it; whether it does no more than repair, dust included."""
        ledger, signed = self._context.ledger, fill.qty * int(fill.side)
        if cause == "engine":
            return [], [], False
        by_hand = done_by_hand(ledger, fill.venue, fill.symbol, spec.base, signed) if cause == "order" else []
        alone = sum((qty for _, qty in by_hand), ZERO)
        dust = sum((abs(operation.moved_to_dust.get(spec.base, ZERO)) for operation, _ in by_hand), ZERO)
        expected = bool(by_hand) and alone <= fill.qty <= alone + dust
        if spec.kind is not InstrumentKind.PERPETUAL:
            return by_hand, [], expected
        others = futures_taken(ledger, fill.venue, fill.symbol, signed, by_hand)
        more = {operation.operation_id: qty for operation, qty in others}  # dust stands alone in none, and is held
        by_hand = [(operation, qty + more.pop(operation.operation_id, ZERO)) for operation, qty in by_hand]
        return by_hand, [one for one in others if one[0].operation_id in more], expected

    def late_fill(self, record: FillRecord) -> None:
        """A fill of ours on a contract that is known late: what others have closed of its position since then, and of
        which nobody was known to hold it, its operation has lost."""
        context = self._context
        operation, place = context.ledger.operations[record.operation_id], (record.venue, record.symbol)
        for most, one in context.ledger.external.held_by(record):
            held = group_net(context.ledger, operation, *place) * int(record.side)
            qty = min(most, max(ZERO, held))
            if not qty:
                continue
            side = OrderSide.BUY if one.signed > 0 else OrderSide.SELL
            gone = given_fill(
                record.operation_id,
                record,
                side,
                qty,
                one.price,
                source=EXTERNAL,
                recv_mono_ns=record.recv_mono_ns,
                fee=(one.fee * qty / abs(one.signed)).quantize(PNL_DIGITS, ROUND_HALF_EVEN),
                venue_wall_ms=one.at_ms,
            )
            text = f"{plain(qty)} closed at the venue before its opening was known"
            signed = qty * int(side)
            context.record(
                AdoptedRecord("taken", *place, record.base, signed, one.price, record.operation_id, text, (gone,))
            )
            self.shrink(operation, text)
            context.alert(2, "external", f"{record.venue} {record.symbol} {record.operation_id}: {text}")

    def after_restart(self) -> None:
        """The process may have died between a late fill and what follows from it."""
        for operation in list(self._context.ledger.open_operations.values()):
            for fill in [fill for fill in operation.fills if fill.source not in (EXTERNAL, ADOPTED)]:
                self.late_fill(fill)

    def order(
        self,
        venue: str,
        symbol: str,
        order_id: str,
        client_id: str,
        *,
        reason: str,
        witness: str,
        live: bool,
        late: bool = False,
    ) -> None:
        """Notes an order of others that has no execution that is listed; ``reason`` and ``late`` as for a fill."""
        self._context.record(
            ExternalRecord(venue, "order", f"{symbol} order {order_id} {client_id}".rstrip(), order_id, witness)
        )
        if epoch_of(client_id) is not None:
            self.engine(venue, client_id, live=live, late=late)
            return
        cause = forced_cause(reason)
        self._context.alert(2, "external", f"{venue} order {order_id} on {symbol} is not ours ({cause})")
        if cause not in UNARMED:
            self._context.trip(f"venue.{venue}", f"order {order_id} on {symbol} is not ours")

    def engine(self, venue: str, client_id: str, *, live: bool, late: bool = False) -> None:
        """An order with an id of an engine's form that this journal does not know: a second engine on the key, or a
        journal that lacks what an earlier run did. Either stops all new risk.

        ``late``: a list shows now what was over before this journal's first balances of the venue, and the first whole
        sweep had not asked for. What it did is in those balances and positions, which an operator has taken over where
        they were not the journal's: it is said, and stops nothing a second time.
        """
        order = f"{venue} order {client_id}"
        if late:
            self._context.alert(1, "external", f"{order}: of a run before this journal, in its first balances already")
        elif live and epoch_of(client_id) not in self._context.ledger.epochs:
            self._context.trip(SECOND_ENGINE, f"{order}: another engine trades on this key")
        else:
            self._context.trip(UNKNOWN_PAST, f"{order}: the journal lacks what an earlier run did")

    # --- positions ---

    def position(
        self,
        venue: str,
        symbol: str,
        qty: Decimal,
        price: Decimal,
        *,
        cause: str,
        witness: str,
        order_ids: tuple[str, ...] = (),
    ) -> None:
        """Moves the ledger to a position for which the venue lists no execution; ``cause`` and ``order_ids`` as in the
        record."""
        row = self._context.instruments.find(venue, symbol)
        if row is None:
            return
        expected = self._context.ledger.expected_position(venue, symbol)
        self.take_in(row, price)
        taken = self.move_position(row, qty, price, cause=cause, witness=witness, order_ids=order_ids)
        detail = f"{symbol} is {qty}, not {expected}"
        self._context.alert(2, "external", f"{venue} position {detail} ({cause}){_lost(taken)}")
        if cause not in UNARMED:
            self._context.trip(f"venue.{venue}", f"position {detail}")

    def take_in(self, row: InstrumentRow, price: Decimal) -> None:
        """What stood on a contract before this journal becomes the ledger's: at what it was entered at, ``price`` where
        that is not known. From there on what it brings is its result, and no money without a reason."""
        ledger, place = self._context.ledger, (row.spec.venue, row.spec.symbol)
        if ledger.position_offsets.get(place):
            entry, expected = ledger.offset_entries.get(place), ledger.expected_position(*place)
            self.move_position(row, expected, entry or price, cause=ADOPTED, witness="poll")

    def move_position(
        self,
        row: InstrumentRow,
        qty: Decimal,
        price: Decimal,
        *,
        cause: str,
        witness: str,
        order_ids: tuple[str, ...] = (),
    ) -> tuple[TakenShare, ...]:
        """The record that moves a position to ``qty``, and what it takes of operations: nothing where it only takes
        into the ledger what was expected there."""
        spec = row.spec
        place = (spec.venue, spec.symbol, spec.base, spec.quote)
        return self.move_to(*place, qty, price, cause=cause, witness=witness, order_ids=order_ids)

    def move_to(
        self,
        venue: str,
        symbol: str,
        base: str,
        quote: str,
        qty: Decimal,
        price: Decimal,
        *,
        cause: str,
        witness: str,
        order_ids: tuple[str, ...] = (),
    ) -> tuple[TakenShare, ...]:
        """The same of a contract that the catalogue may lack."""
        context, ledger = self._context, self._context.ledger
        signed = EXACT.subtract(qty, ledger.expected_position(venue, symbol))
        taken = self._shares(futures_taken(ledger, venue, symbol, signed), abs(signed), ZERO) if signed else ()
        context.record(
            ExternalPositionRecord(
                venue=venue,
                symbol=symbol,
                base=base,
                quote=quote,
                qty_before=ledger.accounts.futures_qty(venue, symbol),
                qty=qty,
                price=price,
                cause=cause,
                witness=witness,
                recv_mono_ns=context.now.mono_ns,
                taken=taken,
                order_ids=order_ids,
            )
        )
        self._shrink(taken)
        return taken

    # --- money ---

    def flow(self, venue: str, asset: str, amount: Decimal, *, reason: str, witness: str) -> None:
        """Books money that moved without an order. ``reason``: as the venue names it, "" where it gave none."""
        context, external = self._context, self._context.ledger.external
        rate = self._rate(asset)
        trading = not reason and external.settles(venue, asset, amount, context.now.wall_ms)
        cause = "settlement" if trading else flow_cause(reason) if reason else "unexplained"
        value = (amount * rate).quantize(PNL_DIGITS, ROUND_HALF_EVEN) if rate is not None else ZERO
        context.record(
            ExternalFlowRecord(
                venue, asset, amount, cause, witness, context.now.mono_ns, trading=trading, value_usd=value
            )
        )
        context.alert(1 if amount > 0 or trading else 2, "external", f"{venue} {asset} {amount:+} ({cause})")
        if trading:
            return
        if amount < 0:
            context.trip(f"venue.{venue}", f"{cause}: {asset} {amount:+}")
        if amount < 0 and cause == "unexplained":
            self._bound(venue, asset, rate)
        self.shortage(venue, asset, -amount, rate or ZERO)

    def _bound(self, venue: str, asset: str, rate: Decimal | None) -> None:
        """Halts beyond the bound; a loss that cannot be valued counts as beyond it."""
        limit = self._context.config.risk_limits.max_unexplained_loss_usd
        lost = self._context.ledger.external.unexplained_usd
        if rate is None or not lost <= limit:
            text = f"{lost:.2f} USD are gone without a reason, at most {limit}" if rate else f"{asset} has no USD rate"
            self._context.trip(UNEXPLAINED_LOSS, f"{venue} {asset}: {text}")

    def _shortages(self, spec: InstrumentSpec, price: Decimal, had: Mapping[str, Decimal]) -> None:
        """What a spot trade of others took of coins that hedges hold: sold, or paid with. ``had``: coins there before
        it."""
        ledger, unit = self._context.ledger, self._rate(spec.quote)
        lost = {coin: before - (ledger.expected_balance(spec.venue, coin) or ZERO) for coin, before in had.items()}
        worth = price * unit if unit is not None else self._rate(spec.base) or ZERO
        self.shortage(spec.venue, spec.base, lost[spec.base], worth)
        if spec.quote not in USD_COINS:
            self.shortage(spec.venue, spec.quote, lost[spec.quote], unit or ZERO)

    def shortage(self, venue: str, asset: str, lost: Decimal, price: Decimal) -> None:
        """Shrinks hedges that miss some of the ``lost`` coins of their spot venue; ``price``: what the coins are valued
        at in USD (0 = nobody knows: as they were bought)."""
        ledger, left = self._context.ledger, lost
        opening = self._opening(venue, asset)
        for operation, symbol, qty in spot_taken(ledger, venue, asset, lost):
            taken, hedge = (TakenShare(operation.operation_id, qty),), ledger.hedges[operation.operation_id]
            self._context.record(
                ExternalFlowRecord(
                    venue,
                    asset,
                    ZERO,
                    "shortage",
                    "ledger",
                    self._context.now.mono_ns,
                    symbol=symbol,
                    price=price or hedge.entry_spot_price,
                    taken=taken,
                )
            )
            self._context.alert(2, "external", f"{venue} {asset}: coins of hedges are gone{_lost(taken)}")
            self._context.record(hedge_record(operation, hedge.qty - qty, f"{qty} {asset} are gone from {venue}"))
            left -= qty
        if opening and left > 0:
            self._miss(venue, asset, ledger.external.missed.get((venue, asset), ZERO) + left)

    def _miss(self, venue: str, coin: str, amount: Decimal) -> None:
        """Keeps, over an end of this process, what a hedge that is being opened is to miss."""
        text = f"{amount} {coin} that went while a hedge was being opened"
        self._context.record(ExternalRecord(venue, MISSED, text, asset=coin, amount=amount))

    def _opening(self, venue: str, coin: str) -> bool:
        """Whether an operation that opens a hedge with coins of a venue is open: what the hedge holds is not known."""
        return any(
            (leg.kind, leg.venue, leg.base) == (InstrumentKind.SPOT, venue, coin)
            for operation in self._context.ledger.open_operations.values()
            if operation.record.type is OpportunityType.SPOT_FUTURES_HEDGE and not operation.record.closes
            for leg in operation.record.legs
        )

    # --- inside ---

    def _shares(self, taken: list[tuple[Operation, Decimal]], qty: Decimal, fee: Decimal) -> tuple[TakenShare, ...]:
        """Each operation's part, with its part of the fee; what is rounded goes to the last when all is taken."""
        shares: list[TakenShare] = []
        fee_left, qty_left = fee, qty
        for operation, part in taken:
            qty_left -= part
            own = fee_left if not qty_left else (fee * part / qty).quantize(PNL_DIGITS, ROUND_HALF_EVEN)
            fee_left -= own
            shares.append(TakenShare(operation.operation_id, part, own))
        return tuple(shares)

    def _shrink(self, taken: tuple[TakenShare, ...]) -> None:
        for share in taken:
            operation = self._context.ledger.operations[share.operation_id]
            self.shrink(operation, f"{share.qty} taken at the venue")

    def shrink(self, operation: Operation, detail: str) -> None:
        """The hedge of an operation shows at once what is left of it; its result follows when the other leg is
        reduced."""
        ledger = self._context.ledger
        opening = ledger.operations[operation.record.closes] if operation.record.closes else operation
        if opening.operation_id in ledger.hedges:
            self._context.record(hedge_record(opening, hedge_left(ledger, opening), detail))


def _lost(taken: tuple[TakenShare, ...]) -> str:
    return "".join(f"; {plain(share.qty)} of {share.operation_id}" for share in taken)
