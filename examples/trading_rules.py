"""The critical rules: fresh data, atomic operations, slow executions, the age of data."""

from __future__ import annotations

import logging
from decimal import Decimal

from arbitrage import (
    ArbitrageEngine,
    ExchangeName,
    ExecutionResult,
    OrderSide,
    PublicExchangeInterface,
    Symbol,
)

logger = logging.getLogger("examples")


async def fresh_data(exchange: PublicExchangeInterface, symbol: Symbol) -> Decimal:
    """Always fetch fresh data: the book is read from the feed's memory at this call, with the age of its proof."""
    orderbook = await exchange.get_orderbook(symbol)  # Fresh data
    return orderbook.bids[0][0]


async def atomic_operation(engine: ArbitrageEngine, quantity: Decimal) -> ExecutionResult | None:
    """Atomic spot + futures coordination."""
    position_manager, books = engine.position_manager, engine.market_data
    spot, futures = books.get_orderbook("mexc_spot", "ETH/USDT"), books.get_orderbook("gateio_futures", "ETH/USDT")

    async with position_manager.atomic_operation() as operation:
        operation.place_order(ExchangeName.MEXC, "ETH/USDT", OrderSide.BUY, quantity, spot.asks[0][0] * 2)
        operation.place_order(ExchangeName.GATEIO, "ETH/USDT", OrderSide.SELL, quantity, futures.bids[0][0] / 2)
        # Both are sent together when the block ends; a leg that stays alone is repaired
    return operation.result


def watch_execution_time(execution_time_ms: float) -> bool:
    """Performance monitoring and alerting."""
    if execution_time_ms > 50:
        logger.warning(f"Slow execution: {execution_time_ms}ms")
        # Trigger performance analysis and optimization
        return True
    return False


def validate_data_freshness(timestamp: int, current_time_ms: int) -> bool:
    """Validate market data is fresh enough for HFT trading"""
    age_ms = current_time_ms - timestamp
    return age_ms <= 100  # 100ms maximum age for HFT
