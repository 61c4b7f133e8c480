"""The package ``arbitrage`` as a user runs it: one engine on simulated exchanges, every component acting on it.

MEXC sells ETH cheaper than Gate.io buys it all the time (``worlds/library``), and detection is off until a test
switches it on: what is executed is what a test asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from arbitrage import (
    ArbitrageOpportunity,
    ArbitrageState,
    BadInput,
    BalanceMonitor,
    ExchangeName,
    ExecutionResult,
    OpportunityType,
    OrderExecutionError,
    OrderSide,
    RecoveryError,
    Refusal,
    RiskManagementError,
    RiskManager,
    RiskMetrics,
)
from tests.worlds.library.session import Session, library_session
from tests.worlds.waiting import POLL_S, WAIT_S, until, until_async
from workers.control_socket import ControlError
from workers.credentials import OPENED_LINK

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    yield from library_session(tmp_path_factory.mktemp("library"))


@pytest.fixture(autouse=True)
def own_state(session: Session) -> None:
    """The state folder is the session's, not each test's."""


def executed(session: Session, **changes: object) -> str:
    """Id of a manual opportunity that has completed: tried again where the books were not proved in that moment."""
    done: list[str] = []

    def completed() -> bool:
        with contextlib.suppress(OrderExecutionError, ControlError):  # its end is not known yet
            result = session.run(session.engine.execute_opportunity(session.cheap_eth(**changes)))
            if result.final_state == ArbitrageState.COMPLETED:
                done.append(result.operation_id)
        return bool(done)

    until(completed, "a manual opportunity that completes")
    return done[0]


def test_a_manual_opportunity_completes_and_is_counted(session: Session) -> None:
    engine = session.engine
    parts = {"engine": True, "risk_manager": True, "balance_monitor": True, "market_data": True}
    until(lambda: engine.health() == parts, "health")
    operation = executed(session)
    statistics = engine.order_orchestrator.get_execution_statistics()
    assert statistics["completed"] >= 1.0 and 0 < statistics["success_rate"] <= 100.0
    assert engine.state_controller.get_operation(operation)["manual"] is True
    steps = [step["to"] for step in engine.state_controller.audit_trail(operation)]
    assert steps[-1] == "completed" and "executing" in steps  # "recovering" between, where an answer took too long
    named = {row["operation_id"] for row in engine.state_controller.get_operations_by_state(ArbitrageState.COMPLETED)}
    assert operation in named
    entries = engine.position_manager.get_positions(open_only=False)
    legs = {(entry.exchange, entry.side) for entry in entries if entry.operation_id == operation}
    assert legs == {("mexc_spot", OrderSide.BUY), ("gateio_spot", OrderSide.SELL)}
    until(lambda: engine.get_engine_statistics()["opportunities_executed"] >= 1, "the published counts")
    assert engine.get_engine_statistics()["average_execution_time_ms"] > 0
    assert engine.position_manager.calculate_total_pnl()["USDT"] > 0
    assert engine.position_manager.get_position_ages() == {} and engine.position_manager.get_hedges() == []
    exposure = engine.position_manager.calculate_total_exposure()
    assert exposure is not None and exposure < 100  # USD: a fee in base is what is not hedged
    with pytest.raises(BadInput, match="already"):
        session.run(engine.start())


def test_what_the_market_refuses_is_a_result_and_what_is_wrong_is_named(session: Session) -> None:
    dear = session.cheap_eth(buy_price=Decimal(100), sell_price=Decimal(90_000))
    results: list[ExecutionResult] = []

    def moved() -> bool:
        """Where a book is older than 100 ms in that moment, that is the first reason."""
        results.append(session.run(session.engine.execute_opportunity(dear)))
        return results[-1].refusal is Refusal.MOVED

    until(moved, "refused by the price")
    result = results[-1]
    assert {one.final_state for one in results} == {ArbitrageState.FAILED}
    assert (result.realized_profit, result.operation_id) == (0, "") and result.reason.startswith("moved")
    detector = session.engine.detector
    until(lambda: session.run(detector.validate_opportunity_risk(dear)) is Refusal.MOVED, "the same to a question")
    assert not session.run(session.engine.risk_manager.validate_opportunity_risk(dear))
    with pytest.raises(BadInput, match="no instrument of binance_spot"):
        session.run(session.engine.execute_opportunity(session.cheap_eth(buy_exchange=ExchangeName.BINANCE)))
    said: list[str] = []

    def refused() -> bool:
        with pytest.raises(OrderExecutionError) as refusal:
            session.run(session.engine.state_controller.create_operation(dear))
        said.append(str(refusal.value))
        return "moved" in said[-1]

    until(refused, "and to an operation")


async def _takeable(session: Session) -> None:
    """Until the gate says of the cheap coin that it would take it, without an order."""
    give_up = time.monotonic() + WAIT_S
    while not await session.engine.risk_manager.validate_opportunity_risk(session.cheap_eth()):
        assert time.monotonic() < give_up, "the gate never approved"
        await asyncio.sleep(POLL_S)


def test_the_gate_approves_without_an_order(session: Session) -> None:
    before = session.engine.order_orchestrator.get_execution_statistics()["executed"]
    session.run(_takeable(session))
    assert session.engine.order_orchestrator.get_execution_statistics()["executed"] == before


def test_an_emergency_stop_is_heard_and_refuses_until_it_is_rearmed(session: Session) -> None:
    heard: list[tuple[str, RiskMetrics]] = []
    risk = RiskManager(session.engine, risk_alert_callback=lambda kind, metrics: heard.append((kind, metrics)))

    async def stop_and_hear() -> None:
        await risk.start_monitoring()
        await risk.force_emergency_shutdown("a test")
        with pytest.raises(RiskManagementError, match="emergency"):
            await session.engine.execute_opportunity(session.cheap_eth())
        await until_async(lambda: bool(heard), "the alert")
        assert risk.is_monitoring
        await risk.stop_monitoring()

    session.run(stop_and_hear())
    kind, metrics = heard[0]
    assert kind == "CIRCUIT_BREAKER_TRIGGERED" and metrics.tripped_breakers == ("emergency",)
    assert isinstance(metrics.total_exposure_usd, Decimal)
    status = risk.get_circuit_breaker_status()
    assert status.triggered_breakers == ("emergency",) and "a test" in status.reasons["emergency"]
    assert not session.engine.is_healthy
    session.run(risk.rearm("emergency", "the test is over"))
    assert risk.get_current_risk_metrics().tripped_breakers == ()
    statistics = risk.get_risk_statistics()
    assert statistics["circuit_breaker_triggers"] == 1 and Decimal(statistics["daily_realized_pnl"]) != 0
    audited = (session.state_dir / "audit.jsonl").read_text()
    assert '"op":"emergency"' in audited and '"op":"rearm"' in audited
    until(lambda: session.engine.is_healthy, "health again")


def test_a_reservation_is_kept_from_orders(session: Session) -> None:
    low: list[tuple[str, str, Decimal]] = []
    balances = BalanceMonitor(session.engine, balance_alert_callback=lambda *row: low.append(row))

    async def reserve() -> None:
        free = await balances.get_balance("mexc_spot", "USDT")
        await balances.start_monitoring({("mexc_spot", "USDT"): free + 1})
        async with balances.reserved("mine", "mexc_spot", "USDT", free - 100):
            assert await balances.get_balance("mexc_spot", "USDT") == 100
            assert not await balances.check_sufficient_balance("mexc_spot", "USDT", Decimal(101))
            verdicts: set[Refusal] = set()
            give_up = time.monotonic() + WAIT_S
            while Refusal.BALANCE_SHORT not in verdicts:  # first what the books say, then the money
                assert time.monotonic() < give_up, verdicts
                verdicts.add(await session.engine.detector.validate_opportunity_risk(session.cheap_eth()))
            assert Refusal.NONE not in verdicts
            with pytest.raises(BadInput, match="at most 100"):
                await balances.reserve_balance("more", "mexc_spot", "USDT", Decimal(101))
        assert await balances.get_balance("mexc_spot", "USDT") == free
        with pytest.raises(BadInput, match="none is there"):
            await balances.release_balance("mine")
        with pytest.raises(BadInput, match="no balance of NIX"):
            await balances.get_balance("mexc_spot", "NIX")
        await until_async(lambda: balances.is_monitoring and bool(low), "a low balance")
        await balances.stop_monitoring()

    session.run(reserve())
    assert ("mexc_spot", "USDT") in {row[:2] for row in low}


def test_a_reservation_outlives_the_executor(session: Session) -> None:
    balances = BalanceMonitor(session.engine)

    def usable() -> Decimal | None:
        try:
            return session.run(balances.get_balance("gateio_spot", "USDT"))
        except (ControlError, BadInput):  # it is not back, or has not seen a balance yet
            return None

    free = usable()
    assert free is not None
    session.run(balances.reserve_balance("kept", "gateio_spot", "USDT", free - 100, "a test"))
    before = session.run_file()["processes"]["executor"]["pid"]
    assert session.kill("executor") == before
    until(lambda: usable() == 100, "the reservation in the next executor")
    session.run(balances.release_balance("kept"))
    assert usable() == free
    until(lambda: session.engine.is_healthy, "health again")


def test_orders_that_wait_are_cancelled_and_recovered_by_hand(session: Session) -> None:
    engine = session.engine
    with pytest.raises(RecoveryError, match="wanted an open operation"):
        session.run(engine.recovery_manager.initiate_recovery("nothing", "a test"))
    with pytest.raises(RecoveryError):
        session.run(engine.recovery_manager.cancel_recovery("nothing"))
    with pytest.raises(OrderExecutionError, match="by hand"):
        session.run(engine.state_controller.transition_state("x", ArbitrageState.COMPLETED, "a test"))

    async def break_one() -> str:
        rule = {"kind": "delay_request", "venue": "gateio_spot", "target": "place", "delay_ms": 1500, "count": 1}
        await asyncio.to_thread(session.simulated.control, "/faults", msgspec.json.encode(rule))
        await _takeable(session)
        operation = await engine.state_controller.create_operation(session.cheap_eth())
        await engine.state_controller.transition_state(operation, ArbitrageState.RECOVERING, "a test")
        assert await engine.recovery_manager.initiate_recovery(operation, "again") == f"r{operation}"
        recovery = next(r for r in engine.recovery_manager.get_active_recoveries() if r.operation_id == operation)
        assert not recovery.requires_manual_approval and "a test" in recovery.reason
        assert len(await engine.order_orchestrator.cancel_all_orders("a test")) >= 1
        return operation

    broken: list[str] = []

    def broke() -> bool:
        """Not where the books are not proved in the very moment, or the leg was there sooner than the ask."""
        with contextlib.suppress(OrderExecutionError, BadInput, RecoveryError, StopIteration):
            broken.append(session.run(break_one()))
        session.simulated.clear_faults()
        return bool(broken)

    until(broke, "an operation that waits")
    (operation,) = broken
    until(lambda: not engine.recovery_manager.get_active_recoveries(), "the recovery has ended")
    steps = [(step["to"], step["reason"]) for step in engine.state_controller.audit_trail(operation)]
    assert any(to == "recovering" and "a test" in reason for to, reason in steps)
    assert engine.recovery_manager.get_recovery_statistics()["success_rate"] == 100.0


def test_legs_of_an_atomic_operation_leave_together_or_not_at_all(session: Session) -> None:
    positions = session.engine.position_manager

    async def legs(stops: bool) -> ArbitrageState:
        wanted = session.cheap_eth()
        async with positions.atomic_operation(OpportunityType.SPOT_SPOT) as operation:
            operation.place_order("mexc", "ETH/USDT", OrderSide.BUY, wanted.max_quantity, wanted.buy_price)
            if stops:
                raise TimeoutError
            operation.place_order("gateio", "ETH/USDT", OrderSide.SELL, wanted.max_quantity, wanted.sell_price)
        assert operation.result is not None
        return operation.result.final_state

    before = session.engine.order_orchestrator.get_execution_statistics()["executed"]
    with pytest.raises(TimeoutError):
        session.run(legs(True))
    assert session.engine.order_orchestrator.get_execution_statistics()["executed"] == before

    def both() -> bool:
        with contextlib.suppress(OrderExecutionError, ControlError):
            return session.run(legs(False)) is ArbitrageState.COMPLETED
        return False

    until(both, "both legs")

    def created() -> bool:
        try:
            return len(session.run(positions.create_position(session.cheap_eth()))) == 2
        except OrderExecutionError:
            return False

    until(created, "two positions of one operation")


def test_a_pair_is_added_to_detection_and_market_data(session: Session) -> None:
    engine = session.engine
    session.ask_supervisor(op="symbols", action="remove", venue="mexc_spot", symbol="DOGEUSDT")
    venues = session.run(engine.detector.add_symbol_monitoring("DOGE/USDT"))
    assert set(venues) == {"mexc_spot", "gateio_spot", "gateio_futures"}
    rows = session.ask_supervisor(op="symbols")["instruments"]
    assert [row["removed"] for row in rows if row["symbol"] == "DOGEUSDT"] == [False]
    assert session.run(engine.market_data.add_symbol_subscription("DOGE/USDT", "mexc_spot")) == ["mexc_spot"]
    with pytest.raises(BadInput, match="does not list"):
        session.run(engine.market_data.add_symbol_subscription("NO/SUCH"))


def test_books_are_numpy_views_and_snapshots_of_one_instant(session: Session) -> None:
    market = session.engine.market_data
    book = market.book("mexc_spot", "ETH/USDT")
    until(lambda: book.refresh() and len(book.bid_prices) == len(book.ask_prices) == 20, "a whole book")
    assert book.bid_prices.base is book.ask_quantities.base is not None and book.bid_prices.dtype == np.int64
    assert (np.diff(book.bid_prices) < 0).all() and (np.diff(book.ask_prices) > 0).all()
    assert book.bids()[0, 0] == book.bid_prices[0] / 10**book.price_exp < book.asks()[0, 0]
    snapshot = market.get_latest_snapshot(["ETH/USDT"])
    assert {one.venue for one in snapshot.books} == {"mexc_spot", "gateio_spot", "gateio_futures"}
    public = session.simulated.public_exchanges[ExchangeName.MEXC]
    fresh = session.run(public.get_orderbook("ETH/USDT", limit=3))
    assert (fresh.venue, fresh.symbol, len(fresh.bids)) == ("mexc_spot", "ETHUSDT", 3)
    with pytest.raises(BadInput, match="no instrument"):
        market.book("mexc_spot", "NO/SUCH")


def bytes_of(path: Path) -> bytes:
    """What a file holds; nothing where it has been renamed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def target_of(link: Path) -> str:
    """What a descriptor leads to; "" where it has been closed meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        return os.readlink(link)
    return ""


def test_exchange_objects_ask_the_venue_now_and_their_keys_stay_in_memory(session: Session) -> None:
    private = session.simulated.private_exchanges[ExchangeName.GATEIO]
    balances = session.run(private.get_balances())
    assert balances["USDT"].source == "rest" and balances["USDT"].free > 0
    assert session.run(private.ping()) > 0 and session.run(private.get_server_time()) > 1_600_000_000_000
    assert session.run(private.get_open_orders("ETH/USDT")) == []
    assert session.run(private.get_order_status("ETH/USDT", "t-nothing")) is None
    assert session.run(private.get_positions()) == []
    maker, taker = session.run(private.get_trading_fees(["ETH/USDT"]))["ETH_USDT"]
    assert (maker, taker) == (Decimal(0), Decimal("0.0002"))
    secrets = [one.hand_over().api_secret.encode() for one in session.simulated.private_exchanges.values()]
    found = [path for path in session.state_dir.rglob("*") if path.is_file()]
    pids = [row["pid"] for row in session.run_file()["processes"].values()]
    found += [
        Path(f"/proc/{pid}/{what}") for pid in (session.run_file()["pid"], *pids) for what in ("cmdline", "environ")
    ]
    assert len(pids) >= 6 and list((session.state_dir / "keys").iterdir()) == []
    assert [str(path) for path in found if any(secret in bytes_of(path) for secret in secrets)] == []
    assert all(secret.decode() not in repr(session.simulated.private_exchanges) for secret in secrets)


def test_sealed_keys_are_open_in_the_processes_that_ask_venues_with_them(session: Session) -> None:
    rows = session.run_file()
    pids = {name: row["pid"] for name, row in rows["processes"].items()} | {"supervisor": rows["pid"]}
    opened = {
        name
        for name, pid in pids.items()
        if any(target_of(link) == OPENED_LINK for link in Path(f"/proc/{pid}/fd").iterdir())
    }
    assert opened == {"supervisor", "guard", "executor", "poller"} < set(pids)


def test_detection_offers_what_the_engine_executes_by_itself(session: Session) -> None:
    """The five-minute run of the documents, ended at its third opportunity."""
    engine = session.engine
    assert not engine.detector.is_detecting
    ends: list[ArbitrageState] = []
    booked: list[str] = []

    async def handle(opportunity: ArbitrageOpportunity) -> None:
        try:
            ends.append((await engine.execute_opportunity(opportunity)).final_state)
        except (RiskManagementError, OrderExecutionError):  # the engine, which trades too, has filled its limits
            ends.append(ArbitrageState.FAILED)

    async def follow_fills() -> None:
        async for fill in engine.fills():
            booked.append(fill.trade_id)

    async def five_minutes() -> None:
        fills = asyncio.create_task(follow_fills())
        await asyncio.sleep(0)
        await engine.detector.start_detection()
        async for opportunity in engine.opportunities():
            assert (opportunity.symbol, opportunity.buy_exchange) == ("ETH/USDT", "mexc_spot")
            await handle(opportunity)
            if len(ends) == 3:
                break
        await engine.detector.stop_detection()
        if ArbitrageState.COMPLETED in ends:  # what the engine takes by itself is refused here
            await until_async(lambda: len(booked) >= 2, "fills")
        fills.cancel()

    before = engine.get_engine_statistics()
    assert before["opportunities_detected"] == 0
    session.run(five_minutes())
    assert set(ends) <= {ArbitrageState.COMPLETED, ArbitrageState.FAILED}
    assert len(booked) == len(set(booked))
    assert not engine.detector.is_detecting
    until(lambda: engine.get_engine_statistics()["opportunities_detected"] > 0, "its counter")
    executed = lambda: engine.get_engine_statistics()["opportunities_executed"]  # noqa: E731
    until(lambda: executed() > before["opportunities_executed"], "one that was executed, by whom it was")


def test_statistics_stay_readable_after_the_end(session: Session) -> None:
    """The last test of the file: it ends the engine."""
    engine = session.engine
    session.run(engine.stop())
    statistics = engine.get_engine_statistics()
    assert set(statistics) == {
        "opportunities_detected", "opportunities_executed", "success_rate", "average_execution_time_ms",
    }  # fmt: skip
    assert statistics["opportunities_detected"] > 0 and statistics["opportunities_executed"] > 0
    assert 0 < statistics["success_rate"] <= 100 and statistics["average_execution_time_ms"] > 0
    assert not engine.is_healthy and set(engine.health().values()) == {False}
    with pytest.raises(BadInput, match="not started"):
        session.run(engine.execute_opportunity(session_opportunity()))
    with pytest.raises(BadInput, match="no running engine"):
        session.run(session.simulated.public_exchanges[ExchangeName.MEXC].get_orderbook("ETH/USDT"))


def session_opportunity() -> ArbitrageOpportunity:
    """Any opportunity: nothing runs that could judge it."""
    return ArbitrageOpportunity(
        opportunity_id="late", opportunity_type=OpportunityType.SPOT_SPOT, symbol="ETH/USDT", buy_exchange="mexc_spot",
        sell_exchange="gateio_spot", buy_price=Decimal(1), sell_price=Decimal(2), max_quantity=Decimal(1),
        profit_per_unit=Decimal(1), total_profit_estimate=Decimal(1), profit_margin_bps=Decimal(1),
    )  # fmt: skip
