"""The engine for Python programs: ``from arbitrage import ArbitrageEngine, ArbitrageConfig, RiskLimits``.

Names are loaded when they are first used: a configuration in Python costs neither numba nor an event loop.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pipeline.model.dialects import dialect_names

if TYPE_CHECKING:
    from arbitrage.balances import BalanceMonitor as BalanceMonitor
    from arbitrage.config import ArbitrageConfig as ArbitrageConfig
    from arbitrage.config import get_config as get_config
    from arbitrage.config import get_exchange_config as get_exchange_config
    from arbitrage.detector import OpportunityDetector as OpportunityDetector
    from arbitrage.engine import ArbitrageEngine as ArbitrageEngine
    from arbitrage.exchange_names import ExchangeName as ExchangeName
    from arbitrage.exchanges import PrivateExchangeInterface as PrivateExchangeInterface
    from arbitrage.exchanges import PublicExchangeInterface as PublicExchangeInterface
    from arbitrage.market_data import BookArrays as BookArrays
    from arbitrage.market_data import MarketDataAggregator as MarketDataAggregator
    from arbitrage.names import AssetName as AssetName
    from arbitrage.names import Symbol as Symbol
    from arbitrage.orders import OrderOrchestrator as OrderOrchestrator
    from arbitrage.positions import PositionManager as PositionManager
    from arbitrage.recovery import RecoveryManager as RecoveryManager
    from arbitrage.results import ExecutionResult as ExecutionResult
    from arbitrage.risk import RiskManager as RiskManager
    from arbitrage.simulation import SimulatedExchanges as SimulatedExchanges
    from arbitrage.states import StateController as StateController
    from pipeline.execution.positions import PositionEntry as PositionEntry
    from pipeline.model.config import LimitConfig as LimitConfig
    from pipeline.model.config import RiskLimits as RiskLimits
    from pipeline.model.config import VenueLimitConfig as VenueLimitConfig
    from pipeline.model.enums import ArbitrageState as ArbitrageState
    from pipeline.model.enums import Mode as Mode
    from pipeline.model.enums import OpportunityType as OpportunityType
    from pipeline.model.enums import OrderSide as OrderSide
    from pipeline.model.enums import Refusal as Refusal
    from pipeline.model.errors import ArbitrageEngineError as ArbitrageEngineError
    from pipeline.model.errors import BadInput as BadInput
    from pipeline.model.errors import ConfigInvalid as ConfigInvalid
    from pipeline.model.errors import OrderExecutionError as OrderExecutionError
    from pipeline.model.errors import RecoveryError as RecoveryError
    from pipeline.model.errors import RiskManagementError as RiskManagementError
    from pipeline.model.structs import ArbitrageOpportunity as ArbitrageOpportunity
    from pipeline.risk.exposure import RiskMetrics as RiskMetrics

#: Name -> the module that has it.
_HOMES = {
    "ArbitrageConfig": "arbitrage.config",
    "ArbitrageEngine": "arbitrage.engine",
    "ArbitrageEngineError": "pipeline.model.errors",
    "ArbitrageOpportunity": "pipeline.model.structs",
    "ArbitrageState": "pipeline.model.enums",
    "AssetName": "arbitrage.names",
    "BadInput": "pipeline.model.errors",
    "BalanceMonitor": "arbitrage.balances",
    "BookArrays": "arbitrage.market_data",
    "ConfigInvalid": "pipeline.model.errors",
    "ExchangeName": "arbitrage.exchange_names",
    "ExecutionResult": "arbitrage.results",
    "LimitConfig": "pipeline.model.config",
    "MarketDataAggregator": "arbitrage.market_data",
    "Mode": "pipeline.model.enums",
    "OpportunityDetector": "arbitrage.detector",
    "OpportunityType": "pipeline.model.enums",
    "OrderExecutionError": "pipeline.model.errors",
    "OrderOrchestrator": "arbitrage.orders",
    "OrderSide": "pipeline.model.enums",
    "PositionEntry": "pipeline.execution.positions",
    "PositionManager": "arbitrage.positions",
    "PrivateExchangeInterface": "arbitrage.exchanges",
    "PublicExchangeInterface": "arbitrage.exchanges",
    "RecoveryError": "pipeline.model.errors",
    "RecoveryManager": "arbitrage.recovery",
    "Refusal": "pipeline.model.enums",
    "RiskLimits": "pipeline.model.config",
    "RiskManagementError": "pipeline.model.errors",
    "RiskManager": "arbitrage.risk",
    "RiskMetrics": "pipeline.risk.exposure",
    "SimulatedExchanges": "arbitrage.simulation",
    "StateController": "arbitrage.states",
    "Symbol": "arbitrage.names",
    "VenueLimitConfig": "pipeline.model.config",
    "get_config": "arbitrage.config",
    "get_exchange_config": "arbitrage.config",
}
#: With the classes of every dialect, as ``XPublicExchange`` for the dialect ``x``.
__all__ = sorted(
    [*_HOMES, *(f"{name.capitalize()}{side}Exchange" for name in dialect_names() for side in ("Public", "Private"))]
)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None and name.endswith(("PublicExchange", "PrivateExchange")):
        home = "arbitrage.exchanges"  # those of the dialects
    if home is None:
        raise AttributeError(f"module 'arbitrage' has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(home), name)
