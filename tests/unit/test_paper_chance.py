"""What paper orders meet by chance has the shares and percentiles that the configuration names."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from pipeline.model.config import PaperConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.model.errors import ConfigInvalid
from pipeline.paper_chance import OrderChance

ORDERS = 20_000
EXCHANGES = {
    "gateio": {"dialect": "gateio", "markets": {"spot": {"rest": "https://localhost/a", "ws": "wss://localhost/a"}}}
}


def chance(**fields: object) -> OrderChance:
    return OrderChance(PaperConfig(**fields), random.Random(7))  # type: ignore[arg-type]


def test_the_way_has_the_configured_percentiles() -> None:
    drawn = chance(latency_ms=Decimal(20), latency_p99_ms=Decimal(200))
    times = sorted(drawn.latency_s() for _ in range(ORDERS))
    assert times[ORDERS // 2] == pytest.approx(0.020, rel=0.05)
    assert times[ORDERS * 99 // 100] == pytest.approx(0.200, rel=0.10)
    assert times[0] > 0


def test_without_a_tail_each_order_takes_the_same() -> None:
    assert {chance(latency_ms=Decimal(3)).latency_s() for _ in range(9)} == {0.003}


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (50_000, ORDERS // 20), (1_000_000, ORDERS)])
def test_shares_are_those_that_are_configured(share: int, expected: int) -> None:
    drawn = chance(missed_ppm=share, late_ppm=share, late_ms=1500)
    assert sum(drawn.missed() for _ in range(ORDERS)) == pytest.approx(expected, rel=0.1)
    late = [drawn.late_s() for _ in range(ORDERS)]
    assert set(late) <= {0.0, 1.5} and sum(map(bool, late)) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ({"nowhere_spot": {}}, "paper.nowhere_spot: no such venue; configured: gateio_spot"),
        ({"gateio_spot": {"capital_usd": 5, "balances": {"USDT": 1}}}, "wanted one of them"),
        ({"gateio_spot": {"latency_ms": 9, "latency_p99_ms": 3}}, "found 3, wanted at least latency_ms (9)"),
        ({"gateio_spot": {"latency": 9}}, "paper.gateio_spot.latency: unknown key"),
    ],
)
def test_an_entry_that_cannot_be_meant_is_refused_by_its_path(entry: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigInvalid) as refused:
        config_from_mapping({"exchanges": EXCHANGES, "paper": entry})
    assert any(named in line for line in refused.value.errors), refused.value.errors


def test_live_takes_the_same_file() -> None:
    """The section stays where a file goes from paper to live: nothing of it counts there."""
    config = config_from_mapping({"mode": "live", "exchanges": EXCHANGES, "paper": {"gateio_spot": {"missed_ppm": 1}}})
    assert config.paper["gateio_spot"].missed_ppm == 1
