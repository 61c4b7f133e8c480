"""One engine of the Python package on simulated exchanges, shared by the tests of a module.

The event loop runs only inside ``Session.run``, so that each test waits for what it means.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Coroutine, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from arbitrage import (
    ArbitrageEngine,
    ArbitrageOpportunity,
    OpportunityType,
    SimulatedExchanges,
    Symbol,
)
from tests.worlds.instance_rig import segments_of
from workers.control_plane.instances import run_file
from workers.control_socket import ask_supervisor
from workers.state_folder import instance_dir

T = TypeVar("T")

#: MEXC is cheaper on ETH all the time, so that a purchase there and a sale at Gate.io pays whenever it is made; no
#: other dislocations. Detection is off until a test switches it on.
SCENARIO = """
extends: demo
name: cheap_eth
dislocations: {rate_per_s: 0}
pairs:
  ETH/USDT: {listings: {mexc_spot: {basis_bps: -60}}}
engine: {detection: {types: [spot_spot, spot_futures_hedge], enabled: false}, guard: {hung_after_ms: 10000}}
"""


class Session:
    """``engine`` runs; ``run`` runs a coroutine in its loop."""

    def __init__(self, runner: asyncio.Runner, simulated: SimulatedExchanges, engine: ArbitrageEngine) -> None:
        self._runner = runner
        self.simulated = simulated
        self.engine = engine

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``."""
        return self._runner.run(work)

    @property
    def state_dir(self) -> Path:
        """The instance's state folder."""
        return instance_dir(self.engine.instance)

    def run_file(self) -> dict[str, Any]:
        """What the supervisor last wrote about the instance."""
        return run_file(self.engine.instance)

    def ask_supervisor(self, **request: Any) -> dict[str, Any]:
        """One request to the supervisor, past the package."""
        return ask_supervisor(self.engine.instance, request, timeout_s=60)

    def kill(self, process: str) -> int:
        """SIGKILL a process of the instance; its pid."""
        pid = int(self.run_file()["processes"][process]["pid"])
        descriptor = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        finally:
            os.close(descriptor)
        return pid

    def cheap_eth(self, quantity: str = "0.4", **changes: Any) -> ArbitrageOpportunity:
        """What pays now: ETH bought at MEXC and sold at Gate.io, limits 20 bps from the best prices."""
        books = {book.venue: book for book in self.engine.market_data.get_latest_snapshot(["ETH/USDT"]).books}
        buy, sell = books["mexc_spot"].asks[0][0], books["gateio_spot"].bids[0][0]
        fields: dict[str, Any] = {
            "opportunity_id": "manual_eth_usdt_001",
            "opportunity_type": OpportunityType.SPOT_SPOT,
            "symbol": Symbol("ETH/USDT"),
            "buy_exchange": "mexc",
            "sell_exchange": "gateio",
            "buy_price": buy * Decimal("1.002"),
            "sell_price": sell * Decimal("0.998"),
            "max_quantity": Decimal(quantity),
            "profit_per_unit": sell - buy,
            "total_profit_estimate": (sell - buy) * Decimal(quantity),
            "profit_margin_bps": Decimal(50),
        }
        return ArbitrageOpportunity(**{**fields, **changes})


def library_session(folder: Path, scenario: str = SCENARIO, **config: Any) -> Iterator[Session]:
    """A READY engine on the venues of ``scenario``, state in ``folder``; ended, and nothing of it left, afterwards.
    ``config``: fields of ``ArbitrageConfig``."""
    path = folder / "scenario.yaml"
    path.write_text(scenario, encoding="utf-8")
    name = f"t-{secrets.token_hex(4)}"
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("ARB_STATE_DIR", str(folder / "state"))
        simulated = SimulatedExchanges(scenario=str(path)).start()
        try:
            engine = ArbitrageEngine(
                simulated.config(name, **config), simulated.public_exchanges, simulated.private_exchanges
            )
            runner.run(engine.start())
            try:
                yield Session(runner, simulated, engine)
            finally:
                runner.run(engine.stop())
        finally:
            simulated.stop()
        assert segments_of(name) == []
