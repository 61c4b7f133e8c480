"""An edge that answers pages for a minute costs that minute and little more, on every path of every venue.

On skipped time (``tests/worlds/skipped``) and by the stamps of the venue's own ledger: a busy machine changes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

EDGE_S = 60.0
#: A pause is 1 s and 0.04 of all before it at most; each of those was half as long at least (``gateway_backoff``).
PAUSE_S = 1.0 + 2 * 0.04 * EDGE_S
ORDER_S = ACCOUNT_S = PAUSE_S + 1.0  # a round trip, and who sends orders does so every 0.5 s
OTHERS = ("gateio_futures", "binance_spot", "binance_futures", "bybit_spot", "bybitperp_futures")


@pytest.mark.parametrize(
    "venue", ["mexc_spot", "gateio_spot", *(pytest.param(name, marks=pytest.mark.campaign) for name in OTHERS)]
)
def test_orders_and_readings_come_back_within_one_pause_of_the_edges_end(venue: str) -> None:
    found = edge_minute(venue, 403)
    assert found["pages"] > 5, "it was met on its paths, and knocked with again"
    assert found["order_s"] <= ORDER_S and found["account_s"] <= ACCOUNT_S, found


@pytest.mark.campaign
def test_a_minute_of_pages_with_503_costs_no_more() -> None:
    found = edge_minute("mexc_spot", 503)
    assert found["order_s"] <= ORDER_S and found["account_s"] <= ACCOUNT_S, found


def edge_minute(venue: str, status: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.worlds.skipped.edge_minute", venue, str(EDGE_S), str(status)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer
