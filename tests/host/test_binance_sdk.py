"""Binance's own SDKs (spot, USDⓈ-M) and python-binance, unchanged, on the simulated venues."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.paths import REPO
from tests.worlds.client_support import HostedSim

PYTHON = REPO / ".venv" / "sdk-clients" / "bin" / "python"
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(not PYTHON.exists(), reason=f"{PYTHON.parents[1]} is not there: scripts/test --host makes it"),
]


def test_binances_own_clients_run_unchanged() -> None:
    sim = HostedSim("five_venues")
    try:
        venues = {name: sim.info["venues"][name] for name in ("binance_spot", "binance_futures")}
        done = subprocess.run(
            [str(PYTHON), str(Path(__file__).with_name("binance_sdk_client.py"))],
            input=json.dumps(venues, default=str),
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        sim.stop()
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    for name in ("spot_rest", "futures_rest"):
        row = found[name]
        assert row["levels"] == 20 and row["listed"]
        assert (row["placed"], row["cancelled"], row["taken"]) == ("NEW", "CANCELED", "FILLED")
    assert found["spot_rest"]["resting"] == ["sdk1"] and found["futures_rest"]["resting"] == ["sdk3"]
    assert found["spot_rest"]["traded"] and found["spot_rest"]["assets"] == ["BTC", "USDT"]
    assert found["futures_rest"]["held"] == ["0.01"] and "USDT" in found["futures_rest"]["assets"]
    assert found["spot_ws_api"] == {"placed": "NEW", "found": "NEW", "cancelled": "CANCELED"}
    for name in ("spot_streams", "futures_streams"):
        assert found[name]["symbol"] == "BTCUSDT" and found[name]["ids"]
    assert "sdk4" in found["futures_streams"]["own"]
    assert found["python_binance"] == {
        "levels": 20,
        "placed": "NEW",
        "found": "NEW",
        "cancelled": "CANCELED",
        "free": True,
        "contract": "NEW",
        "contract gone": "CANCELED",
        "klines": True,
    }
