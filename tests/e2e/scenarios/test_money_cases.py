"""Fees in coins, a loss that nothing explains: a whole instance, judged by the venues' ledger."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.execution.records import FillRecord
from tests.worlds.instance_rig import (
    LIVELY,
    SEEDS,
    SHORT_WINDOWS,
    Rig,
    answer,
    is_judged,
    reason,
    shown_rig,
    trades_again,
)
from tests.worlds.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]

SPOT = "gateio_spot"
LOST_USDT = 60  # beyond `max_unexplained_loss_usd`


def fee_coins(folder: Path) -> Path:
    """The lively market on accounts that pay spot fees in GT and in MX, which the simulated venues price in dollars
    alone."""
    file = folder / "coins.yaml"
    deductions = {"gateio": {"coin": "GT", "price": 9}, "mexc": {"coin": "MX", "price": "2.5"}}
    exchanges = {
        name: {"venues": {"spot": {"fee_deduction": {**coin, "rate": "0.8", "balance": 20}}}}
        for name, coin in deductions.items()
    }
    scenario = {"extends": LIVELY, "name": "fee_coins", "exchanges": exchanges, "pairs": {"ETH/BTC": None}}
    file.write_text(json.dumps(scenario), encoding="utf-8")
    return file


@pytest.mark.parametrize("seed", SEEDS)
def test_fees_in_coins_and_a_loss_that_nothing_explains(tmp_path: Path, seed: int) -> None:
    fees = {
        SPOT: {"deduction": {"coin": "GT", "discount_ppm": 200_000, "price_usd": 9}},
        "mexc_spot": {"deduction": {"coin": "MX", "discount_ppm": 200_000, "price_usd": "2.5"}},
    }
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=str(fee_coins(tmp_path)), seed=seed, fees=fees, **SHORT_WINDOWS)
    with shown_rig(rig):

        def coins() -> set[str]:
            """What fees of our fills were booked in."""
            fills = [e.record for e in rig.entries() if isinstance(e.record, FillRecord)]
            return {asset for fill in fills for asset, _ in fill.fees}

        until(lambda: {"GT", "MX"} <= coins(), "fees in both coins")
        assert rig.breakers() == {}, "a cheaper fee trips nothing"
        rig.fault(kind="drop_event", venue=SPOT, target="private", count=0)
        rig.fault(kind="stale", venue=SPOT, target="account_book", delay_ms=3_600_000)
        rig.fault(kind="withdraw", venue=SPOT, asset="USDT", amount=LOST_USDT)
        found = reason(rig, "breaker unexplained_loss")
        assert answer(rig, "status")[1]["state"] == "halted"
        flows = [e.record for e in rig.entries() if isinstance(e.record, ExternalFlowRecord)]
        assert [(flow.amount, flow.cause) for flow in flows] == [(-LOST_USDT, "unexplained")]
        assert "arb breakers --rearm unexplained_loss" in found["solve"]
        answer(rig, "breakers", "--rearm", "unexplained_loss", "--reason", "looked at it")
        assert "unexplained_loss" not in rig.breakers()
        for name in rig.breakers():  # the venue's own
            rig.rearm(name)
        rig.simulator.clear_faults()  # now it is listed
        trades_again(rig)
        is_judged(rig)
        paid = [row for row in rig.ledger() if row["kind"] == "fill" and row.get("coin_asset")]
        assert {row["coin_asset"] for row in paid} == {"GT", "MX"}
