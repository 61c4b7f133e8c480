"""Integration with existing infrastructure: imports, and the unified exceptions."""

from __future__ import annotations

import logging

from arbitrage import (
    ArbitrageEngine,
    ArbitrageEngineError,
    ArbitrageOpportunity,
    GateioPublicExchange,
    MexcPublicExchange,
    OrderExecutionError,
    PublicExchangeInterface,
    RecoveryError,
    RiskManagementError,
)

logger = logging.getLogger("examples")

PUBLIC: list[type[PublicExchangeInterface]] = [MexcPublicExchange, GateioPublicExchange]


async def execute_carefully(engine: ArbitrageEngine, opportunity: ArbitrageOpportunity) -> str:
    """What happened, in a word."""
    try:
        result = await engine.execute_opportunity(opportunity)
    except OrderExecutionError as e:
        # Handle execution failures
        logger.error(f"Execution failed: {e}")
        # Recovery procedures automatically initiated
        return "broken"
    except RiskManagementError as e:
        # Handle risk limit violations
        logger.warning(f"Risk limits exceeded: {e}")
        return "risk"
    except RecoveryError as e:
        # Waits for an operator
        logger.critical(f"Recovery needs approval: {e}")
        return "held"
    except ArbitrageEngineError as e:
        # Everything else that the engine raises on purpose
        logger.error(f"{type(e).__name__}: {e}")
        return "refused"
    return result.final_state.name
