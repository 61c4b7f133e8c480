"""Closed sets of values. Integers, because jitted code and shared memory carry them."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class Named(IntEnum):
    """For people an f-string shows the name; the value is what memory and records carry."""

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)


class InstrumentKind(IntEnum):
    """Spot pair or perpetual futures contract."""

    SPOT = 0
    PERPETUAL = 1


class TradingStatus(IntEnum):
    """Which orders a venue takes on an instrument, from any account."""

    TRADING = 0
    BUY_ONLY = 1
    SELL_ONLY = 2
    HALTED = 3


class FeeAssetRule(IntEnum):
    """In which asset a taker fee is taken."""

    RECEIVED = 0  # a buy pays in base, a sell in quote (Gate.io spot, Binance spot)
    QUOTE = 1  # always in the quote or settlement asset (futures, MEXC spot)


class OpportunityType(Named):
    """Kinds of arbitrage: two spot venues, spot against futures, a cycle of three pairs.

    ``HEDGE_EXIT`` is no kind to look for: the detector offers the executor the exit of a hedge that is open.
    """

    SPOT_SPOT = 0
    SPOT_FUTURES_HEDGE = 1
    TRIANGULAR = 2
    HEDGE_EXIT = 3


class OrderSide(IntEnum):
    """The sign is the sign of the base quantity."""

    BUY = 1
    SELL = -1


class OrderKind(IntEnum):
    """Limit or market order."""

    LIMIT = 0
    MARKET = 1


class TimeInForce(IntEnum):
    """How long an order may rest. The engine sends IOC; GTC only for what is left of a leg that others have ended."""

    GTC = 0
    IOC = 1
    FOK = 2
    POST_ONLY = 3


class OrderState(IntEnum):
    """States of one order. Only what the venue reports or a proof ends an order; UNKNOWN is not an end."""

    INTENT = 0  # journalled, no byte has left
    SENT = 1  # bytes handed to the socket
    OPEN = 2  # acknowledged, nothing filled
    PARTIALLY_FILLED = 3
    UNKNOWN = 4  # timeout, 5xx, disconnect: worst-case exposure is counted until proof
    FILLED = 5
    CANCELLED = 6  # terminal, possibly part-filled
    REJECTED = 7  # refused by the venue
    EXPIRED = 8  # proved never to have reached the book (expiry passed and a complete sweep found nothing)
    NOT_SENT = 9  # intent that provably never left this host

    @property
    def is_terminal(self) -> bool:
        """Whether the order has ended (fills that it had may still be missing)."""
        return self >= OrderState.FILLED


class ArbitrageState(Named):
    """States of one opportunity from its detection to its end.

    The first three are the detector's and appear in audit trails only; an operation is always in one of the others.
    """

    IDLE = 0
    DETECTING = 1
    OPPORTUNITY_FOUND = 2
    EXECUTING = 3
    COMPLETED = 4
    FAILED = 5
    RECOVERING = 6

    @property
    def persists(self) -> bool:
        """Whether an operation can be found in this state between two events."""
        return self >= ArbitrageState.EXECUTING


class ReportOutcome(IntEnum):
    """How an opportunity ended, in the executor's report to the detector."""

    COMPLETED = 0
    FAILED = 1
    REFUSED = 2
    RECOVERED = 3


class ProcessState(IntEnum):
    """State that a process writes into its status page."""

    STARTING = 0
    WARMING = 1
    READY = 2
    DEGRADED = 3
    STOPPING = 4
    STOPPED = 5


class WaitStrategy(StrEnum):
    """How a loop waits for work; AUTO is resolved by the number of CPUs (shm/wait.py)."""

    SPIN = "spin"
    YIELD = "yield"
    PARK = "park"
    AUTO = "auto"


class Mode(StrEnum):
    """What an instance trades on: simulated exchanges, real public feeds with simulated execution, or real accounts."""

    SIM = "sim"
    PAPER = "paper"
    LIVE = "live"


class BalanceCheck(StrEnum):
    """Which balances a decision may use: REST confirmed within the refresh interval, or asked for at the decision."""

    CONFIRMED = "confirmed"
    STRICT = "strict"


class Durability(StrEnum):
    """What the journal survives before bytes are sent: the death of the process, or a loss of power (fdatasync)."""

    PROCESS = "process"
    POWER = "power"


class OnLoss(StrEnum):
    """What the guard does with hedges whose executor is lost: close them, or leave hedged what is hedged."""

    FLATTEN = "flatten"
    HOLD = "hold"


class AlertSeverity(StrEnum):
    """How much an alert matters, the least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(AlertSeverity).index(self)


class Refusal(Named):
    """First gate that refused an opportunity: what the detector gives (the executor too, where it finds the same fact
    on the books that it reads again), then what the executor alone gives, from 100 on.

    Who gives what: books and STATUS ``detection/gates.py`` (executor: ``execution/plan.py``, ``Planner._book_fault``);
    SKEW, QUARANTINED and INVENTORY to NOT_AFTER_OWN_FILL ``detection/cross_venue.py`` and ``triangular.py``;
    BELOW_MIN_PROFIT and QUEUE_FULL ``detection/publish.py``; from 100 on ``risk/gate.py``, ``execution/plan.py`` and,
    right before the send, ``risk/last_look.py``. The row of each that the executor gives: ``risk/rules.py``.

    The names, lower case, are the keys of ``opportunities.refused`` in the JSON of ``arb demo`` and ``arb status``. The
    numbers stand in journals: a new one is the next free of its part (the executor's: 125), none is used again.
    By those of the detector it is judged how far an evaluation came (``detection/episodes.py``).
    """

    NONE = 0
    NO_BOOK = 1  # no book of the instrument has come yet, or none that can be read
    GAP = 2  # updates are missing in the book; it is being synchronised again
    CROSSED = 3  # the book's best bid is not below its best ask
    UNPROVED = 4  # the feed does not vouch for it: no connection (REST alone), late frames, its ticker contradicts
    HALTED = 5  # halted by the feed or an operator, or a book of another epoch than its catalogue row's
    WRITER_DEAD = 6  # the feed that writes the book has gone
    QUIET_UNPROVED = 7  # proved current, but longer ago than max_age_to_trade_ms (executor: STALE_AT_EXECUTOR)
    SKEW = 8  # the proofs of two legs further apart than max_skew_ms
    QUARANTINED = 9  # the coin's identity is in doubt, or its exchange is not traded on
    STATUS = 10  # venue status or wallet switch forbids the direction
    INVENTORY = 11  # free balances do not cover the smallest executable quantity
    BELOW_MINIMUM = 12  # executable quantity under lot, minimum quantity or notional
    BELOW_THRESHOLD = 13  # edge positive, below the execution threshold
    COOLDOWN = 14  # this direction was taken a moment ago (detection.cooldown_ms)
    NOT_AFTER_OWN_FILL = 15  # book not later than our last fill there
    QUEUE_FULL = 16  # the executor does not keep up
    TORN = 17  # the book was overwritten while it was read
    BELOW_MIN_PROFIT = 18  # expected net profit under risk_limits.min_profit_usd, or not to be valued in USD

    STALE_AT_EXECUTOR = 100  # a book's proof, or the detection itself, older than max_age_to_trade_ms
    MOVED = 101  # edge gone when the executor re-read the books
    HALT_LATCH = 102  # halted
    LEASE = 103  # the guard grants no lease for new risk
    NOT_READY = 104  # a venue of it is not reconciled yet, or the executor is not READY
    VENUE_BLOCKED = 105  # an operator, or the drain, has blocked a venue of it
    INSTRUMENT_BLOCKED = 106  # blocked by an operator, or its row or account is in doubt
    POSITION_LIMIT = 107  # one coin on one venue would be too large
    EXPOSURE_LIMIT = 108  # all positions together would be too large
    DAILY_LOSS = 109  # the day has lost too much
    ORDER_RATE = 110  # too many orders in this second, or a venue's request budget is used up
    BALANCE_UNPROVED = 111  # no balance that is confirmed lately enough
    BALANCE_SHORT = 112  # less free than the order takes
    DUPLICATE = 113  # taken already
    MALFORMED = 114  # the record itself: checksum, legs, sides, numbers, epochs, steps
    BREAKER = 115  # a tripped breaker stands in the way
    MARGIN_LIMIT = 116  # the mark would be too near to liquidation, or the margin is not known
    IN_FLIGHT_LIMIT = 117  # as many operations are open as may be
    JOURNAL_FULL = 118  # the journal has no room for an intent
    DISABLED_TYPE = 119  # a kind of opportunity that is not in detection.types
    SESSION_DOWN = 120  # order entry or private stream of a venue not connected
    STALE_AT_SEND = 121  # approved, but books too old or too far apart, or the order expired, at the first byte
    NETS = 122  # the opposite of an open hedge on its own two instruments: that is its exit, not an entry
    CLOCK_SKEW = 123  # a venue's clock too far from ours, not read yet, or being read again after a refused time
    TOTAL_LOSS = 124  # too far below the highest P&L since the journal began


class AccountState(IntEnum):
    """How the poller's readings of a venue's account go (account page)."""

    NEVER = 0
    OK = 1
    FAILING = 2
    REFUSED = 3  # the key
    PAUSED = 4  # by the venue's rate limit
    UNSETTLED = 5  # balances and positions are read, the account's modes are not known
    SETTINGS_WRONG = 6  # it stands in a mode in which orders mean something else
