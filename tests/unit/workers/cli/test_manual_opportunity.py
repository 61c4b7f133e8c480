"""Manual opportunities: both shapes are understood, every mistake is named."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.model.enums import OpportunityType
from pipeline.model.errors import BadInput
from pipeline.model.structs import ArbitrageOpportunity
from tests.paths import REPO
from workers.cli.manual_opportunity import execute_file, parse_opportunity, request_of

LEGS = [
    {"venue": "a_spot", "symbol": "X", "side": "buy", "qty": "1", "limit_price": "10"},
    {"venue": "b_spot", "symbol": "X", "side": "sell", "qty": "1", "limit_price": "11"},
]


def test_legs_are_taken_as_text() -> None:
    data = {"type": "SPOT_SPOT", "legs": [{**LEGS[0], "qty": 1.5}, LEGS[1]]}
    parsed = parse_opportunity(data, "f")
    assert parsed["type"] == "spot_spot"
    assert parsed["legs"][0]["qty"] == "1.5"


def test_the_documented_opportunity_becomes_legs() -> None:
    parsed = parse_opportunity(
        {"opportunity_type": "SPOT_SPOT", "symbol": "BTC/USDT", "buy_exchange": "a", "sell_exchange": "b",
         "buy_price": "1", "sell_price": "2", "max_quantity": "3"}, "f",
    )  # fmt: skip
    assert [(leg["venue"], leg["side"], leg["limit_price"]) for leg in parsed["legs"]] == [
        ("a", "buy", "1"),
        ("b", "sell", "2"),
    ]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ([], "wanted a mapping"),
        ({"type": "magic", "legs": LEGS}, "type: found 'magic'"),
        ({"legs": [LEGS[0]]}, "two or three"),
        ({"symbol": "X"}, "neither legs nor buy_exchange"),
        ({"legs": [LEGS[0], {**LEGS[1], "side": "hold"}]}, r"legs\[1\].side"),
        ({"legs": [LEGS[0], {**LEGS[1], "qty": "-1"}]}, r"legs\[1\].qty"),
        ({"legs": [LEGS[0], {**LEGS[1], "qty": "NaN"}]}, r"legs\[1\].qty"),
        ({"legs": [LEGS[0], {**LEGS[1], "limit_price": "1_0"}]}, r"legs\[1\].limit_price"),
        ({"legs": [LEGS[0], {**LEGS[1], "extra": 1}]}, "unknown key"),
        ({"legs": [LEGS[0], "x"]}, r"legs\[1\]: found str, wanted a mapping"),
    ],
)
def test_mistakes_are_named(data: Any, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        parse_opportunity(data, "f")


def test_every_mistake_is_listed_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        parse_opportunity({"type": "magic", "legs": [{**LEGS[0], "qty": "0"}, {"venue": "x"}]}, "f")
    text = str(caught.value)
    assert "type" in text and "legs[0].qty" in text and "legs[1].side: missing" in text


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        execute_file(tmp_path / "none", "t-x")
    broken = tmp_path / "broken"
    broken.write_bytes(b"{[")
    with pytest.raises(BadInput, match="neither JSON nor YAML"):
        execute_file(broken, "t-x")
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput):
        execute_file(broken, "t-x")


def test_a_users_opportunity_needs_an_instrument_on_both_venues() -> None:
    opportunity = ArbitrageOpportunity(
        opportunity_id="1", opportunity_type=OpportunityType.SPOT_SPOT, symbol="BTC/USDT", buy_exchange="a",
        sell_exchange="b", buy_price=Decimal(1), sell_price=Decimal(2), max_quantity=Decimal("1E-3"),
        profit_per_unit=Decimal(1), total_profit_estimate=Decimal(1), profit_margin_bps=Decimal(1),
    )  # fmt: skip
    request = request_of(opportunity, {("a", "BTC/USDT"): "BTCUSDT", ("b", "BTC/USDT"): "BTC_USDT"})
    assert request["legs"][0]["qty"] == "0.001"
    assert request["legs"][1]["symbol"] == "BTC_USDT"
    with pytest.raises(BadInput, match="no instrument of b"):
        request_of(opportunity, {("a", "BTC/USDT"): "BTCUSDT"})


def test_the_forms_of_the_readme_are_understood() -> None:
    text = (REPO / "workers" / "README.md").read_text(encoding="utf-8")
    section = text.partition("## A manual opportunity")[2].partition("\n## ")[0]
    legs, pair = (block.partition("```")[0] for block in section.split("```json\n")[1:])
    first = parse_opportunity(msgspec.json.decode(legs), "README")
    second = parse_opportunity({**msgspec.json.decode(pair), "opportunity_id": "x", "profit_margin_bps": "1"}, "README")
    assert [leg["symbol"] for leg in first["legs"]] == ["XRPUSDT", "XRP_USDT"]
    assert [leg["symbol"] for leg in second["legs"]] == ["XRP/USDT"] * 2
    assert [{**leg, "symbol": ""} for leg in first["legs"]] == [{**leg, "symbol": ""} for leg in second["legs"]]
