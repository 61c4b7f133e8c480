"""Configured fees of an account, in the catalogue and checked at the load."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.account_fees import FeeSwitch, discounted, switch_fault, true_fees, with_account_fees
from pipeline.model.config import DeductionConfig, FeeConfig
from pipeline.model.config_load import load_config
from pipeline.model.enums import FeeAssetRule
from pipeline.model.errors import ConfigInvalid
from pipeline.rehearsal.instruments import spec

CONFIG = """
mode: sim
exchanges:
  gateio:
    dialect: gateio
    markets:
      spot: {rest: "http://127.0.0.1:1", ws: "ws://127.0.0.1:1", symbols: [BTC_USDT]}
"""


@given(st.integers(-100_000, 100_000), st.integers(0, 1_000_000))
def test_a_discount_is_rounded_against_us_and_a_rebate_has_none(fee: int, discount: int) -> None:
    exact = Decimal(fee) * (1_000_000 - discount) / 1_000_000
    assert exact <= discounted(fee, discount) < exact + 1 if fee > 0 else discounted(fee, discount) == fee


def test_what_is_configured_replaces_what_the_venue_told() -> None:
    listed = spec("gateio_spot", "BTC_USDT", taker_fee_ppm=1000, maker_fee_ppm=900, fee_rule=FeeAssetRule.RECEIVED)
    assert with_account_fees(listed, None) == listed
    tier = with_account_fees(listed, FeeConfig(taker_ppm=500, maker_ppm=-50))
    assert (tier.taker_fee_ppm, tier.maker_fee_ppm, tier.fee_rule) == (500, -50, FeeAssetRule.RECEIVED)
    coins = with_account_fees(listed, FeeConfig(deduction=DeductionConfig(coin="GT", discount_ppm=250_000)))
    assert (coins.taker_fee_ppm, coins.maker_fee_ppm, coins.fee_rule) == (750, 675, FeeAssetRule.QUOTE)


def test_fees_of_a_venue_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG + "fees: {gateio_spot: {taker_ppm: 900, deduction: {coin: GT, discount_ppm: 100000}}}\n")
    fees = load_config(path).fees["gateio_spot"]
    assert fees.taker_ppm == 900 and fees.maker_ppm is None
    assert fees.deduction == DeductionConfig(coin="GT", discount_ppm=100_000)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{elsewhere_spot: {taker_ppm: 1}}", "fees.elsewhere_spot"),
        ("{gateio_spot: {taker_ppm: 200000}}", "fees.gateio_spot.taker_ppm"),
        ("{gateio_spot: {maker_ppm: -200000}}", "fees.gateio_spot.maker_ppm"),
        ("{gateio_spot: {deduction: {coin: gt}}}", "fees.gateio_spot.deduction.coin"),
        ("{gateio_spot: {deduction: {coin: GT, discount_ppm: 1000001}}}", "fees.gateio_spot.deduction.discount_ppm"),
        ("{gateio_spot: {deduction: {coin: GT, warn_usd: -1}}}", "fees.gateio_spot.deduction.warn_usd"),
        ("{gateio_spot: {deduction: {coin: GT, price_usd: 0}}}", "fees.gateio_spot.deduction.price_usd"),
        ("{gateio_spot: {tacker_ppm: 1}}", "fees"),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path: Path, text: str, path: str) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"{CONFIG}fees: {text}\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_config(config)
    assert any(line.startswith(path) for line in caught.value.errors)


GT = FeeConfig(taker_ppm=2000, deduction=DeductionConfig(coin="GT", discount_ppm=100_000))
POINT = FeeConfig(deduction=DeductionConfig(coin="POINT"))


@pytest.mark.parametrize(
    ("fees", "reported", "true", "said"),
    [
        (GT, None, ("GT", 100_000), []),  # the venue does not tell: what is configured holds
        (GT, FeeSwitch("GT"), ("GT", 100_000), []),
        (GT, FeeSwitch("GT", 50_000), ("GT", 50_000), []),
        (GT, FeeSwitch(""), None, ["takes plain fees", "fees in GT", "remove fees.v.deduction"]),
        (GT, FeeSwitch("POINT", 0), ("POINT", 0), ["takes fees in POINT", "fees in GT", "deduction.coin: POINT"]),
        (POINT, FeeSwitch("GT", 90_000), ("GT", 90_000), ["takes fees in GT", "fees in POINT"]),
        (None, FeeSwitch("MX"), ("MX", 0), ["takes fees in MX", "plain fees", "deduction.coin: MX"]),
        (None, FeeSwitch(""), None, []),
        (None, None, None, []),
    ],
)
def test_the_venues_switch_is_what_counts_and_a_difference_names_both(
    fees: FeeConfig | None, reported: FeeSwitch | None, true: tuple[str, int] | None, said: list[str]
) -> None:
    found = true_fees(fees, reported)
    deduction = None if found is None else found.deduction
    assert (None if deduction is None else (deduction.coin, deduction.discount_ppm)) == true
    assert fees is None or found is None or found.taker_ppm == fees.taker_ppm
    text = switch_fault("v", fees, reported)
    assert bool(text) == bool(said) and all(part in text for part in said)
