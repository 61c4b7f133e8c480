"""Configuration: ``config.yaml`` + ``.env`` + ``ARB_*`` variables -> frozen structs.

Unknown keys are refused, every error is listed with its path before anything starts, and each value knows where it
came from (``origins``). Precedence: ``ARB_*`` of the environment, then ``.env``, then the file, then defaults.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.model.config_monitoring import MonitoringConfig
from pipeline.model.enums import BalanceCheck, Durability, Mode, OnLoss, OpportunityType, WaitStrategy

MARKETS = ("spot", "futures")
DIALECTS = ("mexc", "gateio", "binance")


class MarketConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Endpoints (drop-in values for the URLs of the venue's documentation) and symbols of one market."""

    rest: str = ""
    ws: str = ""
    ws_private: str = ""
    ws_api: str = ""
    symbols: tuple[str, ...] = ()


class ExchangeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One exchange: an instance of a dialect, with its markets by name (``MARKETS``)."""

    dialect: str
    markets: dict[str, MarketConfig]
    enabled: bool = True


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


class HedgeExitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an open hedge leaves (pipeline/economics/hedge_exit.py). By choice: below its threshold. Whole, at a bounded
    price: beyond the deadline or the loss, when funding has turned, or by command."""

    capital_bps_per_day: Decimal = Decimal(2)  # what the bound capital would earn elsewhere; beside carry_bps_per_day
    stamp_window_s: int = 60  # so near a funding time it is uncertain who pays: a payment counts, a receipt does not
    deadline_hours: Decimal = Decimal(240)
    max_loss_bps: Decimal = Decimal(150)  # if left, at the best of 10 s, all costs in; a failed model: keep it wide
    forced_slippage_bps: tuple[Decimal, ...] = (Decimal(10), Decimal(20), Decimal(50))  # bounds from the best price
    forced_step_s: int = 5  # each bound holds so long before the next


class MarginConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distance of a contract's mark price to its liquidation price, in percent of the mark.

    An entry must leave at least ``target_pct``, free balance of the venue counted. Below ``trigger_pct`` margin is
    added and both legs are cut until the distance is ``target_pct`` again; below ``out_pct`` all is closed.
    """

    trigger_pct: Decimal = Decimal(15)
    target_pct: Decimal = Decimal(20)
    out_pct: Decimal = Decimal(5)
    mark_interval_ms: int = 1000  # how often the distance is looked at


class HedgeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a spot-futures hedge is charged beyond its four fees, and when it leaves."""

    expected_exit_basis_bps: Decimal = Decimal(0)
    holding_hours: Decimal = Decimal(8)
    carry_bps_per_day: Decimal = Decimal(1)
    leverage: Decimal = Decimal(3)  # isolated, of every contract; set at the venue
    margin: MarginConfig = MarginConfig()
    exit: HedgeExitConfig = HedgeExitConfig()


#: Coins whose ticker means the same coin on every exchange: paired by ticker and price where a venue gives no identity.
TRUSTED_COINS = ("ADA", "BNB", "BTC", "DOGE", "ETH", "LTC", "SOL", "TRX", "XRP")


class DetectionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the detector looks for and how fresh books must be; reloadable but for types, trusted coins and hedge."""

    types: tuple[str, ...] = ("spot_spot", "spot_futures_hedge")
    min_edge_bps: Decimal = Decimal(0)  # an episode is counted above this
    execute_edge_bps: Decimal | None = None  # and executed from this on; default: risk_limits.min_profit_margin_bps
    max_age_to_trade_ms: int = 100
    dead_after_ms: int = 5000
    max_skew_ms: int = 150
    cooldown_ms: int = 250
    max_notional_usd: Decimal = Decimal(2000)
    trusted_coins: tuple[str, ...] = TRUSTED_COINS
    #: Hours before an announced delisting or delivery: no entries from then on, hedges with a leg there leave.
    no_entries_before_end_h: int = 24
    #: Spot-spot pays for the inventory that it moves; the way back is paid, less what its orders are worth elsewhere.
    #: Opt-in, for markets that run one way: in the two-way demo it enters 15 % less and was not seen to earn more
    #: (figures: pipeline/economics/README.md).
    inventory_price: bool = False
    hedge: HedgeConfig = HedgeConfig()


class LimitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one venue, asset or pair; absent = only the engine's own limits hold."""

    max_position_size_usd: Decimal | None = None
    max_exposure_usd: Decimal | None = None
    max_orders_per_s: int | None = None
    enabled: bool = True


class RiskLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of risk, all bounds inclusive. A limit that is left out has its default. Those in ``LIMITS_POSITIVE``
    (``config_load.py``) refuse the start where they are not positive."""

    max_position_size_usd: Decimal = Decimal(10000)
    max_total_exposure_usd: Decimal = Decimal(50000)
    warn_exposure_usd: Decimal = Decimal(40000)
    max_daily_loss_usd: Decimal = Decimal(5000)
    min_profit_margin_bps: Decimal = Decimal(50)
    min_profit_usd: Decimal = Decimal("0.50")  # of one entry: expected, net of all fees and the inventory's price
    max_execution_time_ms: int = 1000  # a leg without an answer for this long is UNKNOWN: recovery begins
    max_slippage_bps: Decimal = Decimal(20)
    max_orders_per_s: int = 20
    max_open_operations: int = 8
    max_unhedged_ms: int = 2000
    max_naked_usd_s: Decimal = Decimal(50000)  # USD x seconds of what stands alone in all open operations
    max_unexplained_loss_usd: Decimal = Decimal(50)  # money gone from the accounts without a reason: more halts
    per_venue: dict[str, LimitConfig] = {}
    per_asset: dict[str, LimitConfig] = {}
    per_pair: dict[str, LimitConfig] = {}


class ExecutionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How orders are sent, waited for and repaired, and how the journal is kept."""

    balance_check: BalanceCheck = BalanceCheck.CONFIRMED
    balance_refresh_interval_ms: int = 1000
    durability: Durability = Durability.PROCESS
    target_execution_time_ms: int = 30  # operations that take longer are counted (``over_target_time``)
    order_timeout_ms: int = 800  # an order without an answer for this long is UNKNOWN and queried
    entry_window_ms: int = 1000  # how long a venue may take an entry: it refuses what arrives later
    repair_window_ms: int = 500  # and a repair or an exit; doubled where a venue is slower than that
    max_clock_skew_ms: int = 1000  # a venue whose clock is further from ours takes no entries
    unknown_grace_ms: int = 10000  # added to an order's expiry before a negative sweep may settle it
    unwind_slippage_bps: Decimal = Decimal(50)
    unwind_max_slippage_bps: Decimal = Decimal(200)
    journal_segment_bytes: int = 64 * 1024 * 1024
    journal_max_bytes: int = 2 * 1024 * 1024 * 1024  # above it, segments that a checkpoint covers are removed
    numeraire: str = "USDT"


class DeductionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A coin that the account has set aside for fees (Gate.io GT or POINT, MEXC MX, Binance BNB)."""

    coin: str
    discount_ppm: int = 0  # what a fee in the coin is cheaper than the plain one
    price_usd: Decimal | None = None  # of one coin, where no book tells it; a POINT is 1 USD unless this says otherwise
    warn_usd: Decimal = Decimal(10)  # a stock worth less is a note
    warn_days: Decimal = Decimal(2)  # and one that lasts fewer days at this run's pace


class FeeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fees of the account at one venue; what is left out is read from the venue. A negative rate is a rebate."""

    taker_ppm: int | None = None
    maker_ppm: int | None = None
    deduction: DeductionConfig | None = None


class ProcessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """CPU set (empty = not pinned), wait strategy and niceness of one process."""

    cpus: tuple[int, ...] = ()
    wait: WaitStrategy = WaitStrategy.AUTO
    nice: int = 0


class RecordingConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much the recorder keeps: ``log_files`` files of ``log_file_bytes`` each, and the newest opportunities."""

    log_file_bytes: int = 4 * 1024 * 1024
    log_files: int = 5
    opportunities_max: int = 1_000_000
    balances_every_s: int = 60  # balances that changed, at most this often


class GuardConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the guard takes over from the executor, and what it does with open hedges. A leg without its partner is
    closed in any case."""

    on_executor_loss: OnLoss = OnLoss.FLATTEN
    hung_after_ms: int = 1000  # a READY executor without a beat for this long is fenced and killed
    restart_within_ms: int = 10_000  # one that has gone must be READY again by then
    on_stop: OnLoss = OnLoss.HOLD  # what an orderly stop does with open hedges


class TransferConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a coin travels between two exchanges: what the network takes, in the coin, and how long it lasts."""

    network: str = ""
    fee: Decimal = Decimal(0)
    minutes: int = 30


class InventoryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept where, and how it is moved.

    ``targets`` and ``alarms``: venue -> asset -> amount, the stock
    that is wanted and the free amount below which an alert is given. ``transfers``: coin -> how it travels; a coin
    without an entry is proposed without a cost. ``transfer_minutes``: how long a transfer lasts where ``transfers``
    does not say; a direction that is empty in less than twice its time is an alert.
    ``propose_worth_per_cost``: a transfer with a known cost is proposed when it earns this many times its cost.
    """

    targets: dict[str, dict[str, Decimal]] = {}
    alarms: dict[str, dict[str, Decimal]] = {}
    transfers: dict[str, TransferConfig] = {}
    transfer_minutes: int = 30
    propose_worth_per_cost: Decimal = Decimal(2)

    @property
    def target_of(self) -> dict[tuple[str, str], Decimal]:
        """``targets`` by (venue, asset)."""
        return {(venue, asset): amount for venue, row in self.targets.items() for asset, amount in row.items()}

    @property
    def alarm_of(self) -> dict[tuple[str, str], Decimal]:
        """``alarms`` by (venue, asset)."""
        return {(venue, asset): amount for venue, row in self.alarms.items() for asset, amount in row.items()}


class FeatureConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Switches, by the names that users know."""

    enable_circuit_breakers: bool = True
    enable_risk_checks: bool = True
    enable_recovery_mode: bool = True
    enable_dry_run: bool = False  # refused in live mode: a dry run is ``mode: paper``
    enable_detailed_logging: bool = False  # no effect: every fact is in the journal, always
    enable_performance_metrics: bool = True  # no effect: every stage is measured, always


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration of one instance (``ArbitrageConfig`` to its users)."""

    engine_name: str = "arb"
    mode: Mode = Mode.PAPER
    exchanges: dict[str, ExchangeConfig] = {}
    detection: DetectionConfig = DetectionConfig()
    risk_limits: RiskLimits = RiskLimits()
    execution: ExecutionConfig = ExecutionConfig()
    features: FeatureConfig = FeatureConfig()
    recording: RecordingConfig = RecordingConfig()
    inventory: InventoryConfig = InventoryConfig()
    guard: GuardConfig = GuardConfig()
    processes: dict[str, ProcessConfig] = {}
    fees: dict[str, FeeConfig] = {}  # by venue
    monitoring: MonitoringConfig | None = None  # None: nobody is told, nothing is served

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
                        )
                    )
        return tuple(found)

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
        "ARB_STATE_DIR",
        "ARB_CACHE_DIR",
        "ARB_CAPTURES",
        "ARB_CRASH_AT",
        "ARB_CONFIG",
        "ARB_STARTED_AGAIN",
        "ARB_STRESS_READS",
    }
)
