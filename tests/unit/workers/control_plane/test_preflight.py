"""What is asked of each exchange's key before an instance starts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
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
from workers.control_plane.catalogue import VenueFailure
from workers.control_plane.preflight import CouldNotStart, check_keys, check_mode, first_rows
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


def failing(*answers: list[VenueFailure]) -> tuple[Callable[[], Awaitable[list[VenueFailure]]], list[int]]:
    """A reading of instruments that gives these answers one after the other; how often it was asked."""
    asked = list[int]()

    async def load() -> list[VenueFailure]:
        asked.append(1)
        return answers[min(len(asked), len(answers)) - 1]

    return load, asked


DOWN = [VenueFailure(venue="a_spot", text="a_spot: 403"), VenueFailure(venue="b_spot", text="b_spot: no answer")]


async def goes_on() -> bool:
    return True


async def stops() -> bool:
    return False


def test_an_instance_that_has_traded_waits_for_the_first_venue(state_dir: Path) -> None:
    """Its unit would be given up after five starts within a minute, with what is open at the venues."""
    (state_dir / "journal").mkdir(parents=True)
    (state_dir / "journal" / "journal-00000001.seg").touch()
    load, asked = failing(DOWN, DOWN, DOWN[:1])
    said = list[str]()
    away = asyncio.run(first_rows(load, 2, state_dir, lambda _level, text: said.append(text), goes_on))
    assert away == ["a_spot"] and len(asked) == 3
    assert said == ["venue unreachable: a_spot: 403", "venue unreachable: b_spot: no answer"], "once each"
    load, asked = failing(DOWN)
    assert asyncio.run(first_rows(load, 2, state_dir, lambda _level, _text: None, stops)) == ["a_spot", "b_spot"]
    assert len(asked) == 1, "a stop is not waited for"


def test_a_first_start_without_any_venue_is_refused_with_the_reasons(state_dir: Path) -> None:
    load, _ = failing(DOWN)
    with pytest.raises(CouldNotStart, match=r"a_spot: 403; b_spot: no answer"):
        asyncio.run(first_rows(load, 2, state_dir, lambda _level, _text: None, goes_on))
    none, _ = failing([])
    with pytest.raises(CouldNotStart, match="no venue is configured"):
        asyncio.run(first_rows(none, 0, state_dir, lambda _level, _text: None, goes_on))
