"""What the guard does with an execution core while the executor is fenced: close what must be closed, nothing new.

The core is the executor's own: booted on its journal it sweeps the venues, waits for the expiry of orders in flight,
settles them by proof, and repairs every operation that a death has left half done. A takeover adds the rest: what still
rests is cancelled; where all is to be closed, repairs that wait for an operator are tried once more, as `arb flatten`
has it of an executor; hedges are closed within the bounded prices of a forced close: first the futures leg, by an order
that only reduces, then spot for what that has filled. So a futures leg that is refused leaves a whole hedge, which no
price can hurt, and is tried again; spot first, it would leave a contract without its coins, which can be liquidated.
No clock, no socket: the caller feeds the commands and ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from pipeline.core import ExecutionCore
from pipeline.execution.bounds.unmatched import unmatched_quantities
from pipeline.execution.bounds.windows import answer_expected
from pipeline.execution.events import Command, CommandKind, HaltPort
from pipeline.execution.external_shares import position_unknown
from pipeline.execution.hedging.exits import all_bounds_ns
from pipeline.execution.ledger import Ledger, Operation
from pipeline.model.enums import ArbitrageState

ASK_AGAIN_NS = 20_000_000_000  # a forced close is tried by the core for longer; a hedge that is left is asked again
STUCK_NS = 20_000_000_000  # how long no hedge must get smaller: a session that only comes up anew is no outage


class TakeoverHalt(HaltPort):
    """The halt page as the guard's own core sees it: no new risk, and no fence, which is for the executor."""

    def latched(self) -> bool:
        return True

    def lease_expiry_mono_ns(self) -> int:
        return 0

    def fenced(self) -> bool:
        return False

    def venue_blocked(self, venue_id: int) -> bool:
        return True

    def instrument_blocked(self, instrument_id: int) -> bool:
        return True

    def may_launch(self, mono_ns: int, venue_id: int, instrument_id: int) -> bool:
        """Never: no entry leaves here."""
        return False

    def words(self) -> None:
        """No page: the fast path of entries stays shut."""


class TakeoverResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a takeover ended, all by ids: ``orders`` sent, hedges ``closed`` and ``left``, operations and orders still
    open, those operations that wait for an operator (``held``) and their orders without proof (``unproved``), and those
    operations and whole hedges that wait for a venue that is away (``waiting``)."""

    orders: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    open_operations: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    unproved: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()

    @property
    def flat(self) -> bool:
        """Nothing is open but hedges that were to be kept."""
        return not (self.open_operations or self.unsettled)

    @property
    def ended(self) -> bool:
        """Nothing that was to be closed is open but what waits for an operator."""
        open_without_operator = set(self.open_operations) - set(self.held) or set(self.unsettled) - set(self.unproved)
        return not (self.left or open_without_operator)


def anything_open(ledger: Ledger, *, close: bool) -> bool:
    """Whether anything is open that a takeover would act on. ``close``: hedges too."""
    return bool(ledger.open_operations or ledger.unsettled or (close and ledger.hedges))


class Takeover:
    """Says what to command to ``core`` and when it is done. ``hedges``: ids to close; None = all of them."""

    def __init__(self, core: ExecutionCore, hedges: Sequence[str] | None) -> None:
        self.core = core
        self._wanted: set[str] = set()
        self._all = False
        self._known_orders = frozenset(core.ledger.orders)
        self._stopped = self._reconciled = False
        self._asked_ns: dict[str, int] = {}  # hedge -> when its close was asked for last (mono ns)
        self._had = tuple(core.ledger.hedges)
        core.context.taking_over = True
        self._open: dict[str, Decimal] = {}  # what is open of each hedge that is to be closed
        self._still_since_ns = 0  # mono ns since when that has not changed
        self._released: set[str] = set()  # recoveries that were let go on: once each
        self.want(hedges)

    def want(self, hedges: Sequence[str] | None) -> None:
        """Closes these hedges as well; None = all."""
        self._all = self._all or hedges is None
        self._wanted.update(hedges or ())

    def commands(self, now_mono_ns: int, reason: str) -> list[Command]:
        """The commands that are due now."""
        found: list[Command] = []
        if not self._stopped:
            self._stopped = True
            found.append(Command(CommandKind.STOP, reason=reason))
        if not self.core.recovery.ready():
            return found
        if not self._reconciled:
            self._reconciled = True
            found.append(Command(CommandKind.CANCEL_ORDERS, reason=reason))
        if self._all:
            self._wanted |= self.core.ledger.hedges.keys()
            waiting = [name for name in self.core.recovery.waiting() if name not in self._released]
            self._released.update(waiting)
            found += [Command(CommandKind.APPROVE, name, reason) for name in waiting]
        left = sorted(self._left())
        hedges = self.core.ledger.hedges
        if (is_open := {name: hedges[name].qty for name in left}) != self._open or self._awaits_proof(
            left, now_mono_ns
        ):
            self._open, self._still_since_ns = is_open, now_mono_ns  # one ended: it is the next one's turn
        # One that a repair leaves behind is asked for at once, whenever the others were.
        due = [name for name in left if now_mono_ns - self._asked_ns.get(name, -ASK_AGAIN_NS) >= ASK_AGAIN_NS]
        self._asked_ns |= dict.fromkeys(due, now_mono_ns)
        return found + [Command(CommandKind.CLOSE_HEDGES, name, reason) for name in due]

    def _awaits_proof(self, hedges: Sequence[str], now_mono_ns: int) -> bool:
        """Whether an order from before the takeover, on an instrument of ``hedges``, is too young to be proved never to
        have executed: until then nothing is closed there, and that says nothing of its venue."""
        core, open_hedges = self.core, [self.core.ledger.hedges[name] for name in hedges]
        places = {(hedge.spot_venue, hedge.spot_symbol) for hedge in open_hedges}
        places |= {(hedge.futures_venue, hedge.futures_symbol) for hedge in open_hedges}
        return any(
            now_mono_ns < core.recovery.provable_at(order)
            for place in places
            for order in core.ledger.unsettled_of_symbol(*place)
            if order.client_id in self._known_orders
        )

    def _left(self) -> set[str]:
        return self._wanted & self.core.ledger.hedges.keys()

    @property
    def done(self) -> bool:
        """Reconciled, the wanted hedges closed, and nothing open that goes on without an operator."""
        if not self._reconciled or self._left():
            return False
        held = self._held()
        ledger = self.core.ledger
        return ledger.open_operations.keys() <= held and all(
            order.intent.operation_id in held for order in ledger.unsettled.values()
        )

    @property
    def proven_closed(self) -> bool:
        """As :meth:`done`, but for orders whose outcome is not known, for hedges whose closing waits for a venue that
        is away, or for an operator, and for whole hedges, which no price can hurt, of which nothing could be closed for
        a while, the widest bound included (a venue that is away, or refuses; an account without the coins, a book
        without depth): an executor waits for them as well. Not for an exit by choice from a hedge that is to be closed:
        an executor might undo it."""
        ledger, now_ns = self.core.ledger, self.core.context.now.mono_ns
        waiting = self._held() | {name for name in self._waiting() if self._stays(ledger.open_operations[name])}
        left_to_it = {o.record.closes for name, o in ledger.open_operations.items() if name in waiting}
        under_way = self.core.hedges.attempts.under_way
        # One whose venues are there may still leave within a wider bound.
        widest_ns, still_ns = all_bounds_ns(self.core.config.detection.hedge.exit), now_ns - self._still_since_ns
        stuck = () if still_ns < STUCK_NS else self._away() if still_ns < widest_ns else self._open
        left_to_it.update(name for name in stuck if not under_way(name))
        if not self._reconciled or not self._left() <= left_to_it:
            return False
        return ledger.open_operations.keys() <= waiting | {o.intent.operation_id for o in ledger.unsettled.values()}

    def why_left(self) -> dict[str, str]:
        """Hedge that is to be closed and is not yet -> the venue that its closing waits for, or what keeps the next
        attempt, else how the newest one ended."""
        found: dict[str, str] = {}
        for name in sorted(self._left()):
            answer = self.core.forced_close.answers.get(name)
            results = [one.result for one in self.core.ledger.closings.get(name, ()) if one.result is not None]
            found[name] = (answer.reason if answer is not None else "") or (results[-1].reason if results else "")
        found.update(self._away())
        for operation_id, venue in self._waiting().items():
            closes = self.core.ledger.open_operations[operation_id].record.closes
            if closes in found:
                found[closes] = f"operation {operation_id} waits for {venue}"
        return found

    def _away(self) -> dict[str, str]:
        """Hedge that is to be closed, of which nothing is under way, and a venue is away -> that venue, and how."""
        attempts, hedges = self.core.hedges.attempts, self.core.ledger.hedges
        found = {name: attempts.outage(hedges[name]) for name in self._left() if not attempts.under_way(name)}
        return {name: why for name, why in found.items() if why}

    def _waiting(self) -> dict[str, str]:
        """Operation that leaves a hedge and can do no more before a venue is back -> that venue, and why."""
        core, found = self.core, {}
        for name, operation in core.ledger.open_operations.items():
            if operation.state is ArbitrageState.RECOVERING and not self._goes_on(operation):
                found[name] = core.orders.repairs.waits_for_venue(operation)
        return {name: why for name, why in found.items() if why}

    def _goes_on(self, operation: Operation) -> bool:
        """Whether the answer to an order of an operation is due, or an order that repairs it could be sent now."""
        context, repairs = self.core.context, self.core.orders.repairs
        if any(answer_expected(context, order) for order in self.core.ledger.unsettled_of_operation(operation)):
            return True
        if position_unknown(self.core.ledger, operation, self.core.recovery.questioned):
            return False  # nothing is repaired before the venue, or an operator, has said what it holds
        execution = context.config.execution
        quantities = unmatched_quantities(operation, execution.numeraire, {})
        found = (repairs.choose(operation, one, execution.unwind_max_slippage_bps)[0] for one in quantities)
        return any(repair is not None for repair in found)

    def _stays(self, operation: Operation) -> bool:
        """Whether an executor, too, does not undo an operation, or may, as its hedge is to be kept."""
        must_leave = operation.record.manual or self.core.orders.repairs.in_turn(operation)
        return must_leave or operation.record.closes not in self._wanted

    def _held(self) -> set[str]:
        core = self.core
        waits = {name for name, o in core.ledger.open_operations.items() if core.recovery.held_by_operator(o)}
        return waits | core.recovery.unproved.keys()

    def result(self) -> TakeoverResult:
        """How it stands."""
        ledger, held = self.core.ledger, self._held()
        return TakeoverResult(
            orders=tuple(name for name in ledger.orders if name not in self._known_orders),
            closed=tuple(name for name in self._had if name not in ledger.hedges),
            left=tuple(sorted(self._left())),
            open_operations=tuple(ledger.open_operations),
            unsettled=tuple(ledger.unsettled),
            held=tuple(sorted(held)),
            unproved=tuple(name for name, order in ledger.unsettled.items() if order.intent.operation_id in held),
            waiting=tuple(sorted((self._waiting().keys() | self._away().keys()) - held)),
        )
