"""``ArbitrageEngine``: one instance of the whole engine, started and ended by a Python program.

    engine = ArbitrageEngine(config=config, public_exchanges=public, private_exchanges=private)
    async with engine.session() as running:
        result = await running.execute_opportunity(opportunity)
        print(running.get_engine_statistics())

It starts the same processes as ``arb up``: detection and execution run in them from ``start`` on, and this object is
not on their path. Commands (``arb status``, ``arb halt``) work on the instance at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from arbitrage.balances import BalanceMonitor
from arbitrage.config import ArbitrageConfig
from arbitrage.detector import OpportunityDetector
from arbitrage.exchanges import PrivateExchangeInterface, PublicExchangeInterface, check_exchanges
from arbitrage.instance import Instance
from arbitrage.market_data import MarketDataAggregator
from arbitrage.orders import OrderOrchestrator
from arbitrage.positions import PositionManager
from arbitrage.recovery import RecoveryManager
from arbitrage.results import ExecutionResult
from arbitrage.risk import RiskManager
from arbitrage.states import StateController
from arbitrage.streams import fills, opportunities
from pipeline.execution.records import FillRecord
from pipeline.execution.results.counts import OperationCounts
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import load_config
from pipeline.model.errors import ArbitrageEngineError, BadInput, ConfigInvalid
from pipeline.model.structs import ArbitrageOpportunity, Credentials
from workers.control_plane.launch import Launched, compiling_text, wait_until_ended
from workers.control_plane.preflight import check_mode
from workers.view.status import Reader


class ArbitrageEngine:
    """One instance, owned by this object from ``start`` to ``stop``.

    The components (``detector``, ``risk_manager``, ``position_manager``, ``order_orchestrator``, ``state_controller``,
    ``balance_monitor``, ``recovery_manager``, ``market_data``) act on its processes while it runs.
    """

    def __init__(
        self,
        config: ArbitrageConfig | EngineConfig | str | Path,
        public_exchanges: Mapping[Any, PublicExchangeInterface] | None = None,
        private_exchanges: Mapping[Any, PrivateExchangeInterface] | None = None,
        *,
        instance: str = "",
        live_name: str = "",
    ) -> None:
        """``config``: an ``ArbitrageConfig``, or a file as ``arb up --config`` takes it (YAML, Python).

        The exchange objects, by ``ExchangeName``, say where the exchanges are and with which keys they are traded;
        without them both come from the configuration and the instance's state folder. ``live_name``: live mode
        needs the instance's name here (real money). Raises BadInput for objects that cannot be used, ConfigInvalid
        with every error.
        """
        public = check_exchanges(public_exchanges, PublicExchangeInterface, "public_exchanges")
        private = check_exchanges(private_exchanges, PrivateExchangeInterface, "private_exchanges")
        self.config = _engine_config(config, public, private)
        self.instance = instance or self.config.instance
        self._public: dict[str, PublicExchangeInterface] = {
            name: one for name, one in public.items() if name in self.config.exchanges
        }
        self._private: dict[str, PrivateExchangeInterface] = {
            name: one for name, one in private.items() if name in self.config.exchanges
        }
        self._keys: dict[str, Credentials] = {name: one.hand_over() for name, one in self._private.items()}
        check_mode(self.config, self.instance, live_name=live_name, given=self._keys)
        self._live_name = live_name
        self._launched: Launched | None = None
        self.detector = OpportunityDetector(self)
        self.risk_manager = RiskManager(self)
        self.position_manager = PositionManager(self)
        self.order_orchestrator = OrderOrchestrator(self)
        self.state_controller = StateController(self)
        self.balance_monitor = BalanceMonitor(self)
        self.recovery_manager = RecoveryManager(self)
        self.market_data = MarketDataAggregator(self)

    # --- life ---

    async def start(self, progress: Callable[[str], None] | None = None) -> None:
        """Start every process and wait until all are READY; a start that fails leaves none. Raises LaunchError, and
        ControlError where the READY executor does not answer; a second start is refused.

        An instance that has traded waits for as long as none of its venues answers: its guard and what is open there
        must not be given up. ``progress`` (``print``) hears that, and how far the first start ever is: it compiles for
        a quarter of a minute and more.
        """
        self._refuse_second_start()
        await asyncio.to_thread(wait_until_ended, self.instance)  # for seconds: the program's loop goes on
        self._refuse_second_start()  # one that was asked for meanwhile
        self._launched = launched = Launched(self.instance, live_name=self._live_name, keys=self._keys)
        try:
            launched.configure({**msgspec.to_builtins(self.config), "engine_name": self.instance})
            await asyncio.to_thread(launched.wait_ready, _said_in_loop(progress))
            await self.market_data.start_aggregation()
            await self.risk_manager.start_monitoring()
            await self.balance_monitor.start_monitoring()
            for exchange in self._public.values():
                exchange.read_by(self.market_data.get_orderbook)
        except BaseException:
            await self.stop()
            raise

    def _refuse_second_start(self) -> None:
        if self._launched is not None:
            raise BadInput(f"engine {self.instance} has been started already; call stop() first")

    async def stop(self) -> None:
        """Stop in order: no new opportunities, then no new orders, what is open is ended or left to recovery.

        The processes end whatever else of this stop fails. One that was interrupted may be asked for again.
        """
        if self._launched is None:
            return
        async with contextlib.AsyncExitStack() as ends:  # the last one first, each whatever became of the others
            ends.push_async_callback(self._end_processes)
            ends.push_async_callback(self.market_data.stop_aggregation)
            ends.push_async_callback(self.balance_monitor.stop_monitoring)
            ends.push_async_callback(self.risk_manager.stop_monitoring)
            for exchange in self._public.values():
                ends.callback(exchange.read_by, None)

    async def _end_processes(self) -> None:
        launched = self._launched
        if launched is not None:
            await asyncio.to_thread(launched.stop)
            if self._launched is launched:  # nobody has stopped and started meanwhile
                self._launched = None

    @contextlib.asynccontextmanager
    async def session(self, progress: Callable[[str], None] | None = None) -> AsyncIterator[ArbitrageEngine]:
        """Start on entering, stop on leaving, also after an error. ``progress``: see :meth:`start`."""
        await self.start(progress)
        try:
            yield self
        finally:
            await self.stop()

    # --- work ---

    async def execute_opportunity(self, opportunity: ArbitrageOpportunity) -> ExecutionResult:
        """A manual opportunity through the same gate and saga as every other; waits for its end.

        Raises BadInput for one that cannot be understood, RiskManagementError, OrderExecutionError and RecoveryError
        as ``results.result_of``, ControlError where the executor does not answer: its outcome is then not known.
        """
        self._running()
        return await self.order_orchestrator.execute_opportunity(opportunity)

    def opportunities(self, *, poll_s: float = 0.01) -> AsyncIterator[ArbitrageOpportunity]:
        """Every opportunity that the detector offers from now on, the engine's own doing apart: it executes them by
        itself (``detector.stop_detection`` ends both). A slow reader misses some; none is held up for it.

        Of a triangle (TRIANGULAR) the first purchase and the last sale are shown, on two pairs: not one to execute by
        hand.
        """
        self._running()
        return opportunities(self.instance, self.market_data, poll_s)

    def fills(self, *, poll_s: float = 0.02) -> AsyncIterator[FillRecord]:
        """Every fill that the journal gets from now on, each once, in order; none is missed."""
        self._running()
        return fills(Instance(self).state_dir / "journal", poll_s)

    def exchange(self, name: str) -> PublicExchangeInterface:
        """The public exchange object of that name that the engine was given. Raises BadInput."""
        if name not in self._public:
            raise BadInput(f"found no exchange {name!r}, wanted one of public_exchanges: {', '.join(self._public)}")
        return self._public[name]

    def account(self, name: str) -> PrivateExchangeInterface:
        """The private exchange object of that name that the engine was given. Raises BadInput."""
        if name not in self._private:
            raise BadInput(f"found no exchange {name!r}, wanted one of private_exchanges: {', '.join(self._private)}")
        return self._private[name]

    def _running(self) -> Launched:
        if self._launched is None:
            raise BadInput("found an engine that is not started, wanted a running one; call start(), or use session()")
        return self._launched

    # --- what it is doing ---

    @property
    def is_healthy(self) -> bool:
        """Whether new risk is taken everywhere: the state that ``arb status`` shows is ready."""
        if self._launched is None or not self._launched.alive():
            return False
        return str(Reader(self.instance).answer().state) == "ready"

    def health(self) -> dict[str, bool]:
        """Each part by name, and whether it works now."""
        return {
            "engine": self.is_healthy,
            "risk_manager": self.risk_manager.is_monitoring,
            "balance_monitor": self.balance_monitor.is_monitoring,
            "market_data": self.market_data.is_aggregating,
        }

    def get_engine_statistics(self) -> dict[str, Any]:
        """Counts over the whole journal, also after the end (pipeline/execution/results/counts.py).

        ``opportunities_executed``: operations that took an opportunity (exits of hedges apart). ``success_rate``: of
        those that have ended, completed ones in per cent. ``average_execution_time_ms``: of the operations that ended
        lately, from the gate to the last fill. 0 where nothing happened yet.
        """
        reading = Reader(self.instance).read()
        counts = OperationCounts.of(reading["operations"])
        return {
            "opportunities_detected": reading["opportunities"]["detected"],
            "opportunities_executed": counts.entries,
            "success_rate": round(100 * (counts.success_rate or 0.0), 2),
            "average_execution_time_ms": reading["average_execution_time_ms"] or 0.0,
        }


def _said_in_loop(progress: Callable[[str], None] | None) -> Callable[[dict[str, Any]], None] | None:
    """What a thread that waits for READY calls: ``progress`` hears of it in the loop of the program."""
    if progress is None:
        return None
    loop = asyncio.get_running_loop()
    return compiling_text(lambda text: loop.call_soon_threadsafe(progress, text))


def _engine_config(
    config: ArbitrageConfig | EngineConfig | str | Path,
    public: Mapping[str, PublicExchangeInterface],
    private: Mapping[str, PrivateExchangeInterface],
) -> EngineConfig:
    """The engine's own configuration, with what the objects were given laid over the exchanges that are configured."""
    if isinstance(config, str | Path):
        config = load_config(config)
    if isinstance(config, EngineConfig):
        if not public and not private:
            return config
        config = ArbitrageConfig.of_engine(config)
    if not isinstance(config, ArbitrageConfig):
        raise BadInput(f"config: found {type(config).__name__}, wanted an ArbitrageConfig or a file")
    exchanges: dict[str, Any] = dict(config.settings.get("exchanges") or {})
    for name in {**private, **public}:
        exchanges[name] = _section(exchanges.get(name), private.get(name), public.get(name))
    try:
        return config.engine_config(exchanges)
    except ConfigInvalid:
        raise
    except ArbitrageEngineError as error:
        raise ConfigInvalid([str(error)]) from None


def _section(
    configured: Mapping[str, Any] | None,
    private: PrivateExchangeInterface | None,
    public: PublicExchangeInterface | None,
) -> dict[str, Any]:
    """One exchange's section of the configuration, of at least one of its objects. Market data names the symbols, and
    the account none."""
    found = configured
    if private is not None and (private.own_endpoints or (found is None and public is None)):
        found = private.section() if found is None else private.over(found)
    if public is not None:
        found = public.section() if found is None else public.over(found)
    return dict(found or {})
