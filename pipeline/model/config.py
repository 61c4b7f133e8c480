"""Configuration: ``config.yaml`` + ``.env`` + ``ARB_*`` variables -> frozen structs.

Unknown keys are refused, every error is listed with its path before anything starts, and each value knows where it
came from (``origins``). Precedence: ``ARB_*`` of the environment, then ``.env``, then the file, then defaults.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

import msgspec

from pipeline.model.config_monitoring import MonitoringConfig
from pipeline.model.dialects import MARKETS as MARKETS
from pipeline.model.enums import BalanceCheck, Durability, Mode, OnLoss, OpportunityType, WaitStrategy


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Endpoints (drop-in values for the URLs of the venue's documentation) and symbols of one market."""

    rest: str = ""  # of REST, with the path that the venue's documents call the base
    ws: str = ""  # of the public streams
    ws_private: str = ""  # of the account's stream, where it is another one
    ws_api: str = ""  # of order entry by WebSocket, where the venue has it
    symbols: tuple[str, ...] = ()  # instruments, spelled as the venue spells them


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exchange: an instance of a dialect, with its markets by name (``MARKETS``)."""

    dialect: str  # whose wire formats it speaks: `arb dialect list`
    markets: dict[str, MarketConfig]
    enabled: bool = True  # false: as if it did not stand here
    trade: bool = True  # False: its books are read and shown, nothing is traded there, and no key is needed
    sockets: int = 0  # connections with the same streams, first arrival counts: 1 or 2; 0: 2 where a CPU is free


class VenueConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One tradable segment, with the dense ids that shared memory uses."""

    name: str
    exchange: str
    market: str
    dialect: str
    venue_id: int
    feed_id: int
    rest: str
    ws: str
    ws_private: str
    ws_api: str
    symbols: tuple[str, ...]
    trade: bool = True


class HedgeExitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an open hedge leaves (pipeline/economics/hedge_exit.py). By choice: below its threshold. Whole, at a bounded
    price: beyond the deadline or the loss, when funding has turned, or by command."""

    capital_bps_per_day: Decimal = Decimal(2)  # what the bound capital would earn elsewhere; beside carry_bps_per_day
    stamp_window_s: int = 60  # so near a funding time it is uncertain who pays: a payment counts, a receipt does not
    deadline_hours: Decimal = Decimal(240)  # a hedge that is older must leave
    max_loss_bps: Decimal = Decimal(150)  # if left, at the best of 10 s, all costs in; a failed model: keep it wide
    forced_slippage_bps: tuple[Decimal, ...] = (Decimal(10), Decimal(20), Decimal(50))  # bounds from the best price
    forced_step_s: int = 5  # each bound holds so long before the next


class MarginConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distance of a contract's mark price to its liquidation price, in percent of the mark.

    An entry must leave at least ``target_pct``, free balance of the venue counted. Below ``trigger_pct`` margin is
    added and both legs are cut until the distance is ``target_pct`` again; below ``out_pct`` all is closed.
    """

    trigger_pct: Decimal = Decimal(15)  # below it both legs are cut
    target_pct: Decimal = Decimal(20)  # an entry must leave it, a cut restores it
    out_pct: Decimal = Decimal(5)  # below it all is closed
    mark_interval_ms: int = 1000  # how often the distance is looked at


class HedgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a spot-futures hedge is charged beyond its four fees, and when it leaves."""

    #: The basis at leaving of a pair whose model is not trusted yet. None: as it is now, the mean of two minutes; no
    #: entry before five looks at proved books (five seconds; ten with 600 pairs). The engine learns each pair's own
    #: and prices entries with it.
    expected_exit_basis_bps: Decimal | None = None
    holding_hours: Decimal = Decimal(8)  # how long an entry is expected to be held: its funding and carry are charged
    carry_bps_per_day: Decimal = Decimal(1)  # cost of holding both legs
    leverage: Decimal = Decimal(3)  # isolated, of every contract; set at the venue
    margin: MarginConfig = MarginConfig()
    exit: HedgeExitConfig = HedgeExitConfig()


#: Coins whose ticker means the same coin on every exchange: paired by ticker and price where a venue gives no identity.
NAKED_S = 15  # longer than one unknown order takes to be proved, by default windows; several at once reach it sooner
TRUSTED_COINS = ("ADA", "BNB", "BTC", "DOGE", "ETH", "LTC", "SOL", "TRX", "XRP")


class DetectionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the detector looks for and how fresh books must be; reloadable but for types, trusted coins and hedge."""

    enabled: bool = True  # false: no entry is looked for; exits of open hedges are, and manual opportunities are taken
    types: tuple[str, ...] = ("spot_spot", "spot_futures_hedge")  # kinds of opportunities; `triangular` is the third
    min_edge_bps: Decimal = Decimal(0)  # an episode is counted above this
    execute_edge_bps: Decimal | None = None  # and executed from this on; default: risk_limits.min_profit_margin_bps
    max_age_to_trade_ms: int = 100  # a book is traded on no longer than this after its last proof
    dead_after_ms: int = 5000  # a book without proof for so long is dead: its price values nothing any more
    max_skew_ms: int = 150  # the proofs of two legs may be no further apart
    cooldown_ms: int = 250  # pause of a direction after it was taken; it doubles where legs break in a row
    max_notional_usd: Decimal = Decimal(2000)  # of one entry
    trusted_coins: tuple[str, ...] = TRUSTED_COINS  # tickers that mean the same coin everywhere; replaces the list
    also_trusted_coins: tuple[str, ...] = ()  # further ones, beside that list
    #: Hours before an announced delisting or delivery: no entries from then on, hedges with a leg there leave.
    no_entries_before_end_h: int = 24
    #: Spot-spot pays for the inventory that it moves; the way back is paid, less what its orders are worth elsewhere.
    #: `arb init` writes true. It is for markets that run one way; in the two-way demo it enters 15 % less and was not
    #: seen to earn more (figures: pipeline/economics/README.md).
    inventory_price: bool = False
    hedge: HedgeConfig = HedgeConfig()

    @property
    def every_trusted_coin(self) -> frozenset[str]:
        """``trusted_coins`` and ``also_trusted_coins``."""
        return frozenset({*self.trusted_coins, *self.also_trusted_coins})


class LimitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one asset or pair; absent = only the engine's own limits hold."""

    max_position_size_usd: Decimal | None = None  # of one coin on one venue
    max_exposure_usd: Decimal | None = None  # of all its positions
    enabled: bool = True  # false: no entries there


class VenueLimitConfig(LimitConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one venue; absent = only the engine's own limits hold."""

    max_orders_per_s: int | None = None  # to this venue; every order counts, entries beyond it are refused


Limit = TypeVar("Limit", bound=LimitConfig)


def narrowed(limit: Limit, most: Decimal) -> Limit:
    """A limit of one venue, asset or pair that allows ``most`` at most; what it leaves out stays left out."""
    size, exposure = (
        None if found is None else min(found, most) for found in (limit.max_position_size_usd, limit.max_exposure_usd)
    )
    return msgspec.structs.replace(limit, max_position_size_usd=size, max_exposure_usd=exposure)


class RiskLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of risk, all bounds inclusive. A limit that is left out has its default. What
    each may be stands in ``BOUNDS`` (``config_bounds.py``)."""

    max_position_size_usd: Decimal = Decimal(10000)  # of one coin on one venue
    max_total_exposure_usd: Decimal = Decimal(50000)  # of all positions, at their marks
    warn_exposure_usd: Decimal = Decimal(40000)  # from here on an alert
    max_daily_loss_usd: Decimal = Decimal(5000)  # of a UTC day, what is not realised of it too: trips `daily_loss`
    #: Below the highest P&L since the journal began, over all days and restarts; absent: four times the day's.
    max_total_loss_usd: Decimal | None = None
    min_profit_margin_bps: Decimal = Decimal(50)  # edge of an entry, net of all fees
    min_profit_usd: Decimal = Decimal("0.50")  # of one entry: expected, net of all fees and the inventory's price
    max_execution_time_ms: int = 1000  # a leg without an answer for this long is UNKNOWN: recovery begins
    max_slippage_bps: Decimal = Decimal(20)  # how much worse than decided an entry's limit price may be
    max_orders_per_s: int = 20  # every order counts; entries beyond it are refused
    max_open_operations: int = 8  # entries that have not ended yet
    max_unhedged_ms: int = 2000  # while an operation is broken for longer, no new risk is taken anywhere
    #: USD x seconds of what stands alone in all open operations; absent: the largest entry alone for 15 s.
    max_naked_usd_s: Decimal | None = None
    max_unexplained_loss_usd: Decimal = Decimal(50)  # money gone from the accounts without a reason: more halts
    per_venue: dict[str, VenueLimitConfig] = {}
    per_asset: dict[str, LimitConfig] = {}
    per_pair: dict[str, LimitConfig] = {}

    @property
    def total_loss_usd(self) -> Decimal:
        """``max_total_loss_usd``, or what it is where it is absent."""
        return self.max_daily_loss_usd * 4 if self.max_total_loss_usd is None else self.max_total_loss_usd


class ExecutionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How orders are sent, waited for and repaired, and how the journal is kept."""

    balance_check: BalanceCheck = BalanceCheck.CONFIRMED  # strict: every venue is asked by REST at each decision
    balance_refresh_interval_ms: int = 1000  # how often balances are confirmed by REST; older ones are refused
    durability: Durability = Durability.PROCESS  # power: every intent is on the disk before its bytes leave
    target_execution_time_ms: int = 30  # operations that take longer are counted (``over_target_time``)
    order_timeout_ms: int = 800  # an order without an answer for this long is UNKNOWN and queried
    entry_window_ms: int = 1000  # how long a venue may take an entry: it refuses what arrives later
    repair_window_ms: int = 500  # and a repair or an exit; doubled where a venue is slower than that
    max_clock_skew_ms: int = 1000  # a venue whose clock is further from ours takes no entries
    unknown_grace_ms: int = 10000  # added to an order's expiry before a negative sweep may settle it
    unwind_slippage_bps: Decimal = Decimal(50)  # bound of the first repair's price
    unwind_max_slippage_bps: Decimal = Decimal(200)  # bound of the last one's; then an operator decides
    journal_segment_bytes: int = 64 * 1024 * 1024  # size of a file of the journal
    journal_max_bytes: int = 2 * 1024 * 1024 * 1024  # above it, segments that a checkpoint covers are removed
    numeraire: str = "USDT"  # asset in which P&L is shown


class DeductionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A coin that the account has set aside for fees (Gate.io GT or POINT, MEXC MX, Binance BNB)."""

    coin: str  # its ticker
    discount_ppm: int = 0  # what a fee in the coin is cheaper than the plain one
    price_usd: Decimal | None = None  # of one coin, where no book tells it; a POINT is 1 USD unless this says otherwise
    warn_usd: Decimal = Decimal(10)  # a stock worth less is a note
    warn_days: Decimal = Decimal(2)  # and one that lasts fewer days at this run's pace


class FeeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fees of the account at one venue; what is left out is read from the venue. A negative rate is a rebate."""

    taker_ppm: int | None = None  # of the notional, a millionth each
    maker_ppm: int | None = None  # of what has rested in the book
    deduction: DeductionConfig | None = None


class PaperConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The simulated account of one venue. What it begins with is read once, when the account is made."""

    #: Of the account at its beginning: on spot half dollars, half the coins that are traded there in equal parts; for
    #: contracts all dollars. Absent, like ``balances``: 10,000 dollars, and on spot 5,000 USD of every coin.
    capital_usd: Decimal | None = None
    balances: dict[str, Decimal] = {}  # amounts by coin at the beginning, instead; a coin that is not named: none
    latency_ms: Decimal = Decimal(5)  # to the venue and through its matching: half of the orders take longer
    latency_p99_ms: Decimal | None = None  # one in a hundred takes longer; absent: each takes latency_ms
    missed_ppm: int = 0  # orders that come too late: others have taken what the book shows, the other leg stands alone
    late_ppm: int = 0  # orders whose answer comes late_ms after they were executed: UNKNOWN meanwhile, and looked for
    late_ms: int = 3000  # how much later


class ProcessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """CPU set (empty = not pinned), wait strategy and niceness of one process."""

    cpus: tuple[int, ...] = ()  # CPUs it may run on; empty: all
    wait: WaitStrategy = WaitStrategy.AUTO  # auto: by the number of CPUs
    nice: int = 0  # as `nice` has it: higher is later


class RecordingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the recorder keeps: ``log_files`` files of ``log_file_bytes`` each, the newest opportunities, and with
    ``market`` every frame of the feeds and every input of the detector (``arb replay`` takes them)."""

    log_file_bytes: int = 4 * 1024 * 1024  # of one file of `logs/`
    log_files: int = 5  # how many are kept
    opportunities_max: int = 1_000_000  # how many are kept in the ledger
    ledger_keep_days: int = 0  # ended operations, fills and events that are older leave the ledger; 0: none do
    balances_every_s: int = 60  # balances that changed, at most this often
    market: bool = False  # raw frames and the detector's inputs, compressed, in the state folder's market/
    market_max_bytes: int = 4 * 1024 * 1024 * 1024  # all of it; beyond that the oldest piece goes
    market_keep_hours: int = 72  # a piece that ended longer ago goes
    market_piece_s: int = 600  # a piece can be read alone: with each, books get new snapshots by REST


class GuardConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the guard takes over from the executor, and what it does with open hedges. A leg without its partner is
    closed in any case."""

    on_executor_loss: OnLoss = OnLoss.FLATTEN  # what a takeover does with open hedges
    hung_after_ms: int = 1000  # a READY executor without a beat for this long is fenced and killed
    restart_within_ms: int = 10_000  # one that has gone must be READY again by then; `arb close` waits 10 s at most
    on_stop: OnLoss = OnLoss.HOLD  # what an orderly stop does with open hedges


class TransferConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a coin travels between two exchanges: what the network takes, in the coin, and how long it lasts."""

    network: str = ""  # as a venue spells it
    fee: Decimal = Decimal(0)  # in the coin
    minutes: int = 30  # from the withdrawal to the credit


class InventoryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept where, and how it is moved.

    ``targets`` and ``alarms``: venue -> asset -> amount, the stock
    that is wanted and the free amount below which an alert is given. ``transfers``: coin -> how it travels, in place
    of the cheapest open network of the venues' own lists. ``transfer_minutes``: how long a transfer lasts where neither
    says; a direction that is empty in less than twice its time is an alert.
    ``propose_worth_per_cost``: a transfer with a known cost is proposed when it earns this many times its cost.
    """

    targets: dict[str, dict[str, Decimal]] = {}  # venue, asset: the stock that is wanted there
    alarms: dict[str, dict[str, Decimal]] = {}  # venue, asset: below this free amount an alert is given
    transfers: dict[str, TransferConfig] = {}
    transfer_minutes: int = 30  # where neither `transfers` nor a venue says how long
    propose_worth_per_cost: Decimal = Decimal(2)  # a transfer is proposed when it earns this many times its cost

    @property
    def target_of(self) -> dict[tuple[str, str], Decimal]:
        """``targets`` by (venue, asset)."""
        return {(venue, asset): amount for venue, row in self.targets.items() for asset, amount in row.items()}

    @property
    def alarm_of(self) -> dict[tuple[str, str], Decimal]:
        """``alarms`` by (venue, asset)."""
        return {(venue, asset): amount for venue, row in self.alarms.items() for asset, amount in row.items()}


class CanaryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first days with real money: while the section stands, the smaller of these and the own limits hold. `arb
    canary` says what was seen; the section is removed, and `arb config reload` takes in what the own limits say."""

    max_notional_usd: Decimal = Decimal(10)  # of one entry; `risk_limits.min_profit_usd` shrinks in proportion
    max_total_exposure_usd: Decimal = Decimal(40)  # of all positions, and of each coin on each venue
    max_daily_loss_usd: Decimal = Decimal(2)  # of a UTC day; four times as much in all
    max_open_operations: int = 1  # entries that have not ended yet


class FeatureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Switches, by the names that users know."""

    enable_circuit_breakers: bool = True  # false is refused in live mode
    enable_risk_checks: bool = True  # false drops limits, never balances; refused in live mode
    enable_recovery_mode: bool = True  # false leaves a broken leg naked; refused in live mode
    enable_dry_run: bool = False  # refused in live mode: a dry run is ``mode: paper``
    enable_detailed_logging: bool = False  # no effect: every fact is in the journal, always
    enable_performance_metrics: bool = True  # no effect: every stage is measured, always


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of one instance (``ArbitrageConfig`` to its users)."""

    engine_name: str = "arb"  # the instance: its shared memory, state folder and units
    #: what it trades on: simulated exchanges, public data with simulated execution, real accounts
    mode: Mode = Mode.PAPER
    exchanges: dict[str, ExchangeConfig] = {}
    dialects: tuple[str, ...] = ()  # folders with dialects from outside: PATH/exchanges/NAME and PATH/sim/wire/NAME
    detection: DetectionConfig = DetectionConfig()
    risk_limits: RiskLimits = RiskLimits()
    execution: ExecutionConfig = ExecutionConfig()
    features: FeatureConfig = FeatureConfig()
    recording: RecordingConfig = RecordingConfig()
    inventory: InventoryConfig = InventoryConfig()
    guard: GuardConfig = GuardConfig()
    processes: dict[str, ProcessConfig] = {}
    fees: dict[str, FeeConfig] = {}  # by venue
    paper: dict[str, PaperConfig] = {}  # by venue: the simulated account of mode paper; other modes do not look at it
    monitoring: MonitoringConfig | None = None  # None: no alerts are sent, nothing is served
    canary: CanaryConfig | None = None  # None: the own limits hold alone

    @property
    def instance(self) -> str:
        """Name of the instance: of its shared memory, its state folder and its units."""
        return self.engine_name

    @property
    def feeds(self) -> tuple[str, ...]:
        """Exchanges in the order of their feed ids."""
        return tuple(name for name, exchange in self.exchanges.items() if exchange.enabled)

    @property
    def venues(self) -> tuple[VenueConfig, ...]:
        """Venues in the order of their ids: exchanges as configured, spot before futures."""
        found: list[VenueConfig] = []
        for feed_id, name in enumerate(self.feeds):
            exchange = self.exchanges[name]
            for market in MARKETS:
                if market in exchange.markets:
                    entry = exchange.markets[market]
                    found.append(
                        VenueConfig(
                            name=f"{name}_{market}",
                            exchange=name,
                            market=market,
                            dialect=exchange.dialect,
                            venue_id=len(found),
                            feed_id=feed_id,
                            rest=entry.rest.rstrip("/"),
                            ws=entry.ws,
                            ws_private=entry.ws_private,
                            ws_api=entry.ws_api,
                            symbols=entry.symbols,
                            trade=exchange.trade,
                        )
                    )
        return tuple(found)

    @property
    def trading_exchanges(self) -> tuple[str, ...]:
        """Exchanges that orders are sent to: each needs a key where they are real."""
        return tuple(name for name in self.feeds if self.exchanges[name].trade)

    @property
    def trading_venues(self) -> tuple[VenueConfig, ...]:
        """Venues that orders are sent to, in the order of their ids."""
        return tuple(venue for venue in self.venues if venue.trade)

    def venue(self, name: str) -> VenueConfig:
        """The venue of that name; ``KeyError`` names the known ones."""
        for venue in self.venues:
            if venue.name == name:
                return venue
        raise KeyError(f"venue {name!r} is not configured, known: {[v.name for v in self.venues]}")

    def process(self, name: str) -> ProcessConfig:
        """Settings of a process; ``feed`` serves for every feed that has no entry of its own."""
        return self.processes.get(name) or self.processes.get(name.split(".", 1)[0]) or ProcessConfig()

    @property
    def enabled_opportunity_types(self) -> tuple[OpportunityType, ...]:
        """``detection.types`` as enum members."""
        return tuple(OpportunityType[name.upper()] for name in self.detection.types)

    def as_canary(self) -> EngineConfig:
        """With every limit that section ``canary`` narrows, and the least profit in proportion to the largest entry;
        itself without the section. Twice is as once."""
        if self.canary is None:
            return self
        own, canary = self.risk_limits, self.canary
        entry = min(self.detection.max_notional_usd, canary.max_notional_usd)
        most = min(own.max_total_exposure_usd, canary.max_total_exposure_usd)
        loss = min(own.max_daily_loss_usd, canary.max_daily_loss_usd)
        limits = msgspec.structs.replace(
            own,
            max_position_size_usd=min(own.max_position_size_usd, most),
            max_total_exposure_usd=most,
            warn_exposure_usd=min(own.warn_exposure_usd, most),
            max_daily_loss_usd=loss,
            max_total_loss_usd=min(own.total_loss_usd, loss * 4),
            max_unexplained_loss_usd=min(own.max_unexplained_loss_usd, most),
            max_open_operations=min(own.max_open_operations, canary.max_open_operations),
            per_venue={name: narrowed(limit, most) for name, limit in own.per_venue.items()},
            per_asset={name: narrowed(limit, most) for name, limit in own.per_asset.items()},
            per_pair={name: narrowed(limit, most) for name, limit in own.per_pair.items()},
        )
        detection = msgspec.structs.replace(self.detection, max_notional_usd=entry)
        small = msgspec.structs.replace(self, detection=detection, risk_limits=limits)
        before, now = (min(config.entry_sizes_usd.values()) for config in (self, small))
        if now == before:
            return small
        # smaller in dollars, or no entry would ever pass, and as strict in bps of the largest one
        least = own.min_profit_usd * now / before
        limits = msgspec.structs.replace(limits, min_profit_usd=least)
        return msgspec.structs.replace(small, risk_limits=limits)

    @property
    def entry_sizes_usd(self) -> dict[str, Decimal]:
        """What holds the size of one entry, by path: the least of them is the largest entry there is."""
        return {
            "detection.max_notional_usd": self.detection.max_notional_usd,
            "risk_limits.max_position_size_usd": self.risk_limits.max_position_size_usd,
            "risk_limits.max_total_exposure_usd": self.risk_limits.max_total_exposure_usd,
        }

    @property
    def naked_usd_s(self) -> Decimal:
        """``max_naked_usd_s``, or what it is where it is absent: small limits bound what stands alone as well."""
        own = self.risk_limits.max_naked_usd_s
        return min(self.entry_sizes_usd.values()) * NAKED_S if own is None else own

    @property
    def answer_timeout_ms(self) -> int:
        """An order without an answer for this long is UNKNOWN, and its operation goes to recovery."""
        return min(self.execution.order_timeout_ms, self.risk_limits.max_execution_time_ms)

    @property
    def execute_edge_bps(self) -> Decimal:
        """Edge in bps from which an opportunity is executed."""
        own = self.detection.execute_edge_bps
        return self.risk_limits.min_profit_margin_bps if own is None else own


#: ``ARB_*`` variable -> path in the configuration (limits, and the switches beside them)
ENV_PATHS: dict[str, tuple[str, ...]] = {
    "ARB_ENGINE_NAME": ("engine_name",),
    "ARB_MODE": ("mode",),
    "ARB_MAX_POSITION_SIZE_USD": ("risk_limits", "max_position_size_usd"),
    "ARB_MAX_TOTAL_EXPOSURE_USD": ("risk_limits", "max_total_exposure_usd"),
    "ARB_MIN_PROFIT_MARGIN_BPS": ("risk_limits", "min_profit_margin_bps"),
    "ARB_MIN_PROFIT_USD": ("risk_limits", "min_profit_usd"),
    "ARB_MAX_DAILY_LOSS_USD": ("risk_limits", "max_daily_loss_usd"),
    "ARB_TARGET_EXECUTION_TIME_MS": ("execution", "target_execution_time_ms"),
    "ARB_BALANCE_REFRESH_INTERVAL_MS": ("execution", "balance_refresh_interval_ms"),
    "ARB_ENABLE_CIRCUIT_BREAKERS": ("features", "enable_circuit_breakers"),
    "ARB_ENABLE_RISK_CHECKS": ("features", "enable_risk_checks"),
    "ARB_ENABLE_RECOVERY_MODE": ("features", "enable_recovery_mode"),
}
#: Accepted because the source documents name them, without effect: detection is event-driven.
ENV_WITHOUT_EFFECT = {"ARB_OPPORTUNITY_SCAN_INTERVAL_MS": "detection is event-driven; nothing scans by interval"}
#: Read by other parts: folders, tests, cache.
ENV_ELSEWHERE = frozenset(
    {
        "ARB_AWAIT_ROOM",
        "ARB_STATE_DIR",
        "ARB_CACHE_DIR",
        "ARB_CAPTURES",
        "ARB_CRASH_AT",
        "ARB_CRASH_MARKS",
        "ARB_CONFIG",
        "ARB_OPENED_KEYS",
        "ARB_PROFILE",
        "ARB_STARTED_AGAIN",
        "ARB_STRESS_READS",
    }
)
