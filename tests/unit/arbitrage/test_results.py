"""Which ends of a manual opportunity are results, and which are raised."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from arbitrage import (
    ArbitrageState,
    ExchangeName,
    ExecutionResult,
    OpportunityType,
    OrderExecutionError,
    OrderSide,
    RecoveryError,
    Refusal,
    RiskManagementError,
)
from arbitrage.names import venue_name
from arbitrage.results import BY_RISK, result_of


def reply(**fields: Any) -> dict[str, Any]:
    """As the executor answers."""
    return {"total_execution_time_ms": None, "realized_profit": None, **fields}


def test_a_completed_operation_is_a_result() -> None:
    result = result_of(
        reply(
            final_state="completed",
            outcome="completed",
            operation_id="a1",
            total_execution_time_ms=9.5,
            realized_profit="1.25",
            numeraire="USDT",
            reason="all legs filled",
        )
    )
    assert result == ExecutionResult(
        final_state=ArbitrageState.COMPLETED, total_execution_time_ms=9.5, realized_profit=Decimal("1.25"),
        numeraire="USDT", operation_id="a1", reason="all legs filled",
    )  # fmt: skip
    assert f"{result.final_state}" == "COMPLETED" and result.final_state == ArbitrageState.COMPLETED


@pytest.mark.parametrize("refusal", list(Refusal), ids=lambda refusal: refusal.name)
def test_a_limit_is_raised_and_every_other_refusal_is_a_failed_result(refusal: Refusal) -> None:
    reported = reply(final_state="refused", refusal=refusal.name.lower(), reason=f"{refusal.name.lower()}: x")
    if refusal in BY_RISK:
        with pytest.raises(RiskManagementError, match="nothing was sent"):
            result_of(reported)
    else:
        result = result_of(reported)
        assert (result.final_state, result.refusal, result.realized_profit) == (ArbitrageState.FAILED, refusal, 0)


def test_what_has_not_ended_is_raised() -> None:
    with pytest.raises(OrderExecutionError, match="a1 is recovering"):
        result_of(reply(final_state="recovering", operation_id="a1"))
    with pytest.raises(RecoveryError, match="recovery ra1"):
        result_of(reply(final_state="recovering", outcome="unresolved", operation_id="a1", reason="no venue takes it"))
    with pytest.raises(OrderExecutionError, match="pending: asked the venues"):
        result_of(reply(final_state="pending", reason="asked the venues"))


def test_an_exchange_means_its_spot_market_but_for_the_sale_of_a_hedge() -> None:
    spot, hedge = OpportunityType.SPOT_SPOT, OpportunityType.SPOT_FUTURES_HEDGE
    assert venue_name(ExchangeName.MEXC, spot, OrderSide.SELL) == "mexc_spot"
    assert venue_name(ExchangeName.GATEIO, hedge, OrderSide.BUY) == "gateio_spot"
    assert venue_name(ExchangeName.GATEIO, hedge, OrderSide.SELL) == "gateio_futures"
    assert venue_name("gateio_futures", hedge, OrderSide.BUY) == "gateio_futures"
