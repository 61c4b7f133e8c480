"""The synthetic market against the recorded ones, by bounds.

References: Binance spot and USDⓈ-M BTC and ETH (2024, the busiest kind of instrument) and Gate.io spot and futures
small coins (2021, 2023, the quiet kind). The demo's BTC and ETH stand for a mid-size venue, so rates and sizes lie
between the two; its NOVA and ORB stand for the quiet kind. A bound is a factor on a recorded figure unless it says
otherwise; the factors are wide because venues differ by as much among themselves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.sim.scenarios.specs import load_scenario
from tests.worlds.judging.market_statistics import (
    Observed,
    basis_bps,
    correlations,
    lead_ms,
    mean_figures,
    observe_captures,
    observe_simulation,
    outside,
    volatility_bps,
)

BUSY = ("BTC", "ETH")


@pytest.fixture(scope="module")
def recorded(captures_dir: Path) -> dict[str, Observed]:
    names = ("spot_btcusdt", "usdm_btcusdt", "spot_ethusdt", "usdm_ethusdt")
    return observe_captures([captures_dir / f"{name}_20240808.gz" for name in names])


@pytest.fixture(scope="module")
def quiet(captures_dir: Path) -> dict[str, Observed]:
    return observe_captures([captures_dir / "GATEIO", captures_dir / "GATEIO_FUTURES"])


@pytest.fixture(scope="module")
def simulated() -> dict[str, Observed]:
    """Without dislocations: the recorded pairs have hardly any of the demo's size."""
    return observe_simulation(load_scenario("null_flat"), 1, 120, 100)


@pytest.mark.parametrize("coin", BUSY)
def test_busy_instruments_lie_between_the_quiet_and_the_busiest_recorded_ones(
    coin: str, recorded: dict[str, Observed], quiet: dict[str, Observed], simulated: dict[str, Observed]
) -> None:
    top = recorded[f"binance_spot {coin}USDT"].figures()
    low = mean_figures(row for row in quiet.values() if len(row.depth_ms) > 10)
    for name in (f"mexc_spot {coin}USDT", f"gateio_spot {coin}_USDT", f"gateio_futures {coin}_USDT"):
        bounds = {
            "depth_per_s": (low["depth_per_s"], 1.02 * top["depth_per_s"]),
            "ticker_per_s": (low["depth_per_s"], top["ticker_per_s"]),
            "ticker_gap_cv": (1.0, top["ticker_gap_cv"]),  # more clustered than Poisson
            "levels": (low["levels"], 1.25 * top["levels"]),
            "levels_p90_ratio": (1.4, top["levels_p90_ratio"] * 1.2),
            "spread_bps": (top["spread_bps"], low["spread_bps"] or 25.0),
            "top_value": (500.0, top["top_value"]),
            "top_value_p90_ratio": (top["top_value_p90_ratio"] / 2, top["top_value_p90_ratio"] * 2),
        }
        assert outside(simulated[name].figures(), bounds) == [], name


def test_quiet_instruments_are_as_quiet_as_recorded_ones(
    quiet: dict[str, Observed], simulated: dict[str, Observed]
) -> None:
    rows = [row for row in quiet.values() if len(row.depth_ms) > 10]
    reference = mean_figures(rows)
    for name in ("mexc_spot NOVAUSDT", "gateio_spot NOVA_USDT", "mexc_spot ORBUSDT", "gateio_spot ORB_USDT"):
        bounds = {
            "depth_per_s": (reference["depth_per_s"] / 6, reference["depth_per_s"] * 2),
            "depth_gap_ms": (reference["depth_gap_ms"] / 2, reference["depth_gap_ms"] * 4),
            "depth_gap_cv": (0.7, 1.7),
            "levels": (1.0, reference["levels"] * 2),
            "spread_bps": (4.0, 25.0),
        }
        assert outside(simulated[name].figures(), bounds) == [], name
        recorded_gaps = [row.figures()["depth_gap_cv"] for row in rows]
        assert 0.9 * min(recorded_gaps) <= simulated[name].figures()["depth_gap_cv"] <= 1.1 * max(recorded_gaps)


@pytest.mark.parametrize("coin", BUSY)
def test_venues_move_together_and_apart_as_recorded(
    coin: str, recorded: dict[str, Observed], simulated: dict[str, Observed]
) -> None:
    """Recorded, spot against futures: correlation 0.2 at 10 ms, 0.7 at 200 ms, 0.87 at 1 s, 0.95 at 5 s."""
    real = (recorded[f"binance_futures {coin}USDT"], recorded[f"binance_spot {coin}USDT"])
    made = (simulated[f"gateio_futures {coin}_USDT"], simulated[f"mexc_spot {coin}USDT"])
    for grid_ms, room in ((200.0, 0.15), (1000.0, 0.12), (5000.0, 0.08)):
        wanted, found = (correlations(*rows, grid_ms, 0.0)[0.0] for rows in (real, made))
        assert abs(found - wanted) < room, f"{grid_ms} ms: recorded {wanted:.2f}, simulated {found:.2f}"
    assert 0.4 < basis_bps(*made) / basis_bps(*real) < 1.5
    assert 0.6 < volatility_bps(made[0]) / volatility_bps(real[0]) < 1.6


@pytest.mark.parametrize("coin", BUSY)
def test_leading_venue_leads_by_its_lag_within_the_recorded_range(
    coin: str, recorded: dict[str, Observed], simulated: dict[str, Observed]
) -> None:
    """Recorded leads are 0 to 60 ms, either way; the scenario's venues lag the futures by 12 and 35 ms."""
    real = lead_ms(recorded[f"binance_futures {coin}USDT"], recorded[f"binance_spot {coin}USDT"])
    assert abs(real) <= 60.0
    futures = simulated[f"gateio_futures {coin}_USDT"]
    mexc = lead_ms(futures, simulated[f"mexc_spot {coin}USDT"])
    gate = lead_ms(futures, simulated[f"gateio_spot {coin}_USDT"])
    assert 20.0 <= mexc <= 60.0
    assert 0.0 <= gate <= 30.0 and gate < mexc
