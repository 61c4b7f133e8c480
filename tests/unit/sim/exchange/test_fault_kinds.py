"""The table of the kinds of faults: every example is a rule, nothing that a kind does not read is taken."""

from __future__ import annotations

import contextlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import pipeline.sim.wire
from pipeline.sim.exchange.fault_actions import apply_action, rule_of
from pipeline.sim.exchange.fault_kinds import ACTION, FAULT_KINDS, OPERATIONS, REQUEST, SCOPES, STREAM
from pipeline.sim.exchange.faults import BadFault, FaultRule
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.order_book import ASK
from pipeline.sim.exchange.orders import SimReject
from tests.worlds.sim_support import Bench

RULE_FIELDS = {
    *("venue", "target", "symbol", "after", "count", "probability", "duration_ms", "delay_ms", "status"),
    *("retry_after_s", "reason", "text", "asset", "amount", "price", "client_id", "at_s"),
}


@pytest.mark.parametrize("name", sorted(FAULT_KINDS))
def test_every_kind_takes_its_example_and_refuses_each_field_that_it_does_not_read(name: str) -> None:
    kind = FAULT_KINDS[name]
    assert FaultRule.parse({"kind": name, **kind.example}).kind == name
    assert kind.does and all(row.says and row.unit for row in kind.fields.values())
    for stranger in [*sorted(RULE_FIELDS - set(kind.fields)), "rule_id", "hits", "venu"]:
        with pytest.raises(BadFault, match=f"{name}: found {stranger}, which it does not read; it reads venue"):
            FaultRule.parse({"kind": name, **kind.example, stranger: "1"})
    for required in (field for field, row in kind.fields.items() if row.required):
        with pytest.raises(BadFault, match=f"{name}: found no {required}"):
            FaultRule.parse({"kind": name, **{key: value for key, value in kind.example.items() if key != required}})


OF_SYMBOLS = [
    (name, target)
    for name, kind in FAULT_KINDS.items()
    if "symbol" in kind.fields and kind.acts_on != ACTION
    for target in kind.fields["target"].choices
    if kind.acts_on == STREAM or name in ("reject", "late_fill")
]


@pytest.mark.parametrize(("name", "target"), OF_SYMBOLS)
def test_a_fault_of_events_and_orders_hits_what_belongs_to_its_symbol_alone(name: str, target: str) -> None:
    for symbol in ("ETH_USDT", "BTC_USDT"):
        bench = Bench()
        rule = FaultRule.parse({"kind": name, **FAULT_KINDS[name].example, "venue": "*", "count": 0, "after": 0})
        rule.target, rule.symbol = target, symbol
        bench.faults.add(rule)
        bench.venue.on_market(lambda event: None)
        bench.venue.open_book_stream("BTC_USDT", 10)
        bench.book.set_level(ASK, 20_001, 100)
        bench.clock.advance(20 * NS_PER_MS)
        with contextlib.suppress(SimReject):
            bench.venue.place(bench.account, bench.request("buy", "0.1", "10000.5"))
        bench.settle()
        assert bool(rule.hits) == bool(rule.seen) == (symbol == "BTC_USDT"), symbol


def test_requests_take_the_operations_that_a_dialect_names_and_handshakes_are_the_edges_alone() -> None:
    sources = "".join(path.read_text() for path in Path(pipeline.sim.wire.__path__[0]).rglob("*.py"))
    assert [one for one in OPERATIONS if f'"{one}"' not in sources] == []
    with_handshakes = {
        name
        for name, kind in FAULT_KINDS.items()
        if kind.acts_on == REQUEST and set(SCOPES) & set(kind.fields["target"].choices)
    }
    assert with_handshakes == {"gateway_page"}, "no other is asked of a handshake"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "wanted an object with a kind"),
        ({}, "kind: found no kind, wanted one of adl, "),
        ({"kind": ["stall"]}, "kind: found .'stall'., wanted one of"),
        ({"kind": "stall", "count": "3"}, "stall: count: found '3', wanted a number .whole number., from 0"),
        ({"kind": "stall", "count": 1.5}, "count: found 1.5"),
        ({"kind": "stall", "after": True}, "after: found True"),
        ({"kind": "stall", "duration_ms": -1}, "duration_ms: found -1, wanted a number .ms., from 0"),
        ({"kind": "stall", "probability": 2}, "probability: found 2, wanted .*at most 1"),
        ({"kind": "stall", "target": "depth"}, "target: found 'depth', wanted one of ., public, private"),
        (
            {"kind": "drop_response", "target": "plaice"},
            "target: found 'plaice', wanted one of ., place",
        ),
        ({"kind": "reject", "reason": "no_mood"}, "reason: found 'no_mood', wanted one of unknown_symbol"),
        ({"kind": "deposit", "asset": "USDT", "amount": "NaN"}, "amount: found 'NaN', wanted a number .coins."),
        ({"kind": "deposit", "asset": ["USDT"], "amount": "1"}, "asset: found .'USDT'., wanted text"),
        ({"kind": "burst", "amount": 1.5}, "amount: found '1.5', wanted a number .whole number."),
        ({"kind": "change_mode", "text": "split"}, "text: found 'split', wanted one of single, dual"),
    ],
)
def test_a_wrong_rule_is_told_what_was_found_and_what_is_wanted(raw: Any, words: str) -> None:
    with pytest.raises(BadFault, match=words):
        FaultRule.parse(raw)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("withdraw", {"asset": "USDT", "amount": "0"}, "amount: found 0, wanted more than 0"),
        ("liquidate", {"amount": "-1"}, "amount: found -1, wanted from 0"),
        ("liquidate", {"amount": "0.00003"}, "amount: found 0.00003, wanted from 0 in steps of 0.0001 BTC"),
        ("manual_order", {"amount": "1", "price": "-100%"}, "price: found '-100%', wanted a price above 0, or percent"),
        ("adl", {"text": "low"}, "text: found 'low', wanted a price above 0"),
        ("change_lot", {"amount": "0"}, "amount: found 0, wanted a whole factor from 1"),
        ("change_fee", {"amount": "100", "text": "a"}, "text: found 'a', wanted whole ppm"),
        ("change_leverage", {"amount": "0.5"}, "amount: found 0.5, wanted a leverage from 1"),
        ("manual_order", {"amount": "0"}, "amount: found 0, wanted base coins"),
        ("manual_order", {"amount": "1", "price": "soon"}, "price: found 'soon', wanted a price above 0, or percent"),
        ("funding", {"amount": "36"}, "amount: found 36, wanted a rate from -0.1 to 0.1"),
    ],
)
def test_an_act_that_cannot_be_is_told_what_was_found_and_what_is_wanted(
    kind: str, fields: dict[str, str], words: str
) -> None:
    bench = Bench(futures=True)
    with pytest.raises(BadFault, match=f"{kind}: {words}") as refused:
        apply_action({bench.venue.name: bench.venue}, FaultRule.parse({"kind": kind, **fields}))
    assert refused.value.kind == kind
    assert FAULT_KINDS[kind].acts_on == ACTION
    if "in steps of" in words:
        return  # of a venue's own
    with pytest.raises(BadFault, match=f"{kind}: {words}"):
        rule_of({"kind": kind, **fields, "at_s": 5})


def test_funding_by_hand_is_paid_at_the_rate_that_was_asked_for() -> None:
    bench = Bench(futures=True)
    venues = {bench.venue.name: bench.venue}
    assert apply_action(venues, FaultRule.parse({"kind": "funding"})) == 0, "nothing is held"
    bench.venue.place(bench.account, bench.request("buy", "0.1"))
    position = bench.venue.position(bench.account, "BTC_USDT")
    value = position.qty * bench.venue.mark_price("BTC_USDT")
    before = position.paid_funding
    assert apply_action(venues, FaultRule.parse({"kind": "funding", "amount": "-0.0015"})) == 1
    assert position.paid_funding - before == value * Decimal("-0.0015")
    assert apply_action(venues, FaultRule.parse({"kind": "funding"})) == 1, "the contract's own rate"
    assert position.paid_funding - before == value * (bench.row.funding_rate - Decimal("0.0015"))
    assert [rate for _, rate in bench.venue.funding_paid["BTC_USDT"]][-2:] == [
        Decimal("-0.0015"),
        bench.row.funding_rate,
    ]
