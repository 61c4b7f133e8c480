"""An exchange with ``trade: false``: its books are read, nothing is traded there, and its key is not needed."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from pipeline.model.errors import BadInput
from tests.worlds.instance_rig import LIVELY, PATIENT, Rig, arb
from tests.worlds.waiting import until
from workers.control_plane.launch import LaunchError
from workers.control_socket import ask
from workers.credentials import store_credentials
from workers.demo.simulator import keys_of
from workers.last_run.half_done import replayed

pytestmark = pytest.mark.e2e


def test_books_of_an_exchange_that_is_not_traded_are_read_and_no_order_goes_there() -> None:
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario="four_venues", guard=PATIENT)
    try:
        for exchange, key in keys_of(rig.sim["venues"]).items():
            if exchange != "binance":
                store_credentials(rig.instance, exchange, key)
        rig.config["exchanges"]["binance"]["trade"] = False
        rig.engine.configure(rig.config)
        rig.engine.wait_ready()
        until(lambda: rig.counter("operations.completed") > 2, "operations at the other venues")
        until(lambda: rig.reading()["opportunities"]["refused"].get("quarantined"), "one seen over the books alone")
        readings: list[dict[str, Any]] = []

        def ready() -> bool:
            readings.append(rig.reading())
            return bool(readings[-1]["state"] == "ready")

        until(ready, "READY, between the faults of the scenario")
        reading = readings[-1]
        notes = [row["what"] for row in reading["notes"]]  # others of its feed may stand beside it for a moment
        assert "venue binance_spot: its books are read, nothing is traded there" in notes
        books = {row["symbol"]: row for row in reading["books"] if row["venue"] == "binance_spot"}
        assert books["BTCUSDT"]["bid"] and not books["BTCUSDT"]["tradable"]
        assert "binance_spot" not in reading["balances"] and "mexc_spot" in reading["balances"]
        why = "may not be traded now: venue binance_spot: its books are read, nothing is traded there"
        inspected = ("inspect", "book", "binance_spot", "BTCUSDT", "--instance", rig.instance)
        until(lambda: why in arb(*inspected).stdout, "that nothing worse stands before it")
        legs = [
            {"venue": venue, "symbol": "BTCUSDT", "side": side, "qty": "0.001", "limit_price": "1"}
            for venue, side in (("binance_spot", "buy"), ("mexc_spot", "sell"))
        ]
        with pytest.raises(BadInput, match="no instrument binance_spot BTCUSDT that is traded"):
            by_hand = {"op": "execute", "type": "spot_spot", "legs": legs}
            ask(rig.engine.state_dir / "executor.sock", by_hand, timeout_s=60)
        rig.end()
        assert not [row for row in rig.ledger() if row.get("venue") == "binance_spot" and row["kind"] == "fill"]
        assert rig.judge() == []
    finally:
        rig.close()


def stopped_with_a_hedge(rig: Rig) -> bool:
    """Stops the instance once it has a hedge; where the hedge left meanwhile it is started again."""
    until(lambda: rig.counter("open_hedges") > 0, "an open hedge")
    rig.engine.stop()
    ledger = replayed(rig.engine.state_dir)
    if ledger is not None and ledger.hedges:
        return True
    rig.start_again()
    return False


@pytest.mark.slice
def test_an_exchange_with_an_open_hedge_is_traded_until_it_is_closed() -> None:
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=LIVELY)
    try:
        rig.start()
        until(lambda: stopped_with_a_hedge(rig), "a hedge that stays open")
        rig.config["exchanges"]["gateio"]["trade"] = False
        with pytest.raises(LaunchError, match=r"exchanges.gateio.trade: found false, and earlier runs left"):
            rig.start_again()
        rig.config["exchanges"]["gateio"]["trade"] = True
        rig.start_again()
    finally:
        rig.close()
