"""What is asked of each exchange's key before an instance starts."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.gateio.errors import error_of
from pipeline.model.config_load import config_from_mapping
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials
from tests.paths import REPO
from workers.control_plane.preflight import check_keys, check_mode
from workers.credentials import store_credentials

ANSWERS = REPO / "tests" / "cases" / "answers"
VENUE = {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["BTC_USDT"]}


def start(instance: str, status: int, body: bytes) -> list[str]:
    """Lines said by the check of a first start whose only venue answers so."""
    config = config_from_mapping(
        {
            "engine_name": instance,
            "mode": "sim",
            "exchanges": {"gateio": {"dialect": "gateio", "markets": {"futures": VENUE}}},
        }
    )
    store_credentials(instance, "gateio", Credentials(api_key="k", api_secret="s"))

    async def balances() -> list[Any]:
        error = error_of("gateio_futures", HttpReply(status=status, headers={}, body=body, recv_mono_ns=1))
        assert error is not None
        raise error

    said: list[str] = []
    clients: Any = {"gateio_futures": SimpleNamespace(balances=balances)}
    asyncio.run(check_keys(config, instance, clients, lambda level, text: said.append(f"{level}: {text}")))
    return said


def test_a_refused_key_refuses_a_first_start(instance: str, state_dir: Path) -> None:
    with pytest.raises(ConfigInvalid, match="write a valid key"):
        start(instance, 401, json.dumps({"label": "INVALID_KEY", "message": "Invalid key provided"}).encode())


def test_an_account_without_funds_is_told_and_starts(instance: str, state_dir: Path) -> None:
    (line,) = start(instance, 400, (ANSWERS / "E_user_not_found.json").read_bytes())
    assert line.startswith("error") and "please transfer funds first" in line


def test_a_page_of_the_edge_says_nothing_about_the_key(instance: str, state_dir: Path) -> None:
    assert start(instance, 403, (ANSWERS / "F_cloudfront_403.html").read_bytes()) == []


@pytest.mark.parametrize("mode", ["sim", "paper"])
def test_a_venue_that_cannot_take_orders_is_told_before_anything_starts(
    mode: str, instance: str, state_dir: Path
) -> None:
    """A Binance market without its WebSocket API: refused where orders are sent, all right where they are not."""
    markets = {market: {**VENUE, "symbols": ["BTCUSDT"]} for market in ("spot", "futures")}
    exchanges = {"binance": {"dialect": "binance", "markets": markets}}
    config = config_from_mapping({"engine_name": instance, "mode": mode, "exchanges": exchanges})
    store_credentials(instance, "binance", Credentials(api_key="k", api_secret="s"))
    if mode == "paper":
        check_mode(config, instance, live_name=instance)
        return
    with pytest.raises(ConfigInvalid) as caught:
        check_mode(config, instance, live_name=instance)
    assert [line.partition(":")[0] for line in caught.value.errors] == [
        "exchanges.binance.markets.spot.ws_api",
        "exchanges.binance.markets.futures.ws_api",
    ]
