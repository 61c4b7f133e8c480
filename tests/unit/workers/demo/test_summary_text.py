"""What a demo's text says of changes that no trade of ours explains."""

from __future__ import annotations

from typing import Any

from workers.demo.summary_text import summary_text


def fields(**changes: Any) -> dict[str, Any]:
    """A demo in which nothing happened."""
    counts = ("total", "entries", "exits", "completed", "failed", "recovered", "unresolved", "won", "lost")
    none: dict[str, Any] = {
        "seconds": 30.0,
        "venues": ["mexc_spot"],
        **dict.fromkeys(("instruments", "messages", "books_published", "gaps", "resyncs", "orders", "fills"), 0),
        **dict.fromkeys(("success_rate", "win_rate", "captured_share")),
        "opportunities": {"detected": 0, "taken": 0, "refused": {}},
        "operations": dict.fromkeys(counts, 0),
        "dislocations": {"offered": 0, "captured": 0},
        "pnl": {"engine": {}, "venue": {}, "equal": True, "numeraire": {"value": 0, "asset": "USDT", "rates": "marks"}},
        "flat": True,
        "dust": {},
        "open_hedges": [],
        "latency_us": {},
        "violations": [],
    }
    return {**none, **changes}


def lines(text: str, *begins: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(begins)]


def test_what_others_did_and_what_stopped_is_in_the_text_with_its_command() -> None:
    external = {"fills": {"liquidation": 2}, "money": {"USDT": "-1000"}, "held_by_others": {"ETH": "0.3"}}
    breakers = {"venue.gateio_futures": "positions were closed by the venue"}
    text = summary_text(fields(external=external, breakers=breakers))
    assert lines(text, "others", "breaker") == [
        "others             2 fills by liquidation (in the changes); they hold 0.3 ETH of it; "
        "money in and out -1000 USDT (not in the changes)",
        "breaker            venue.gateio_futures: positions were closed by the venue; "
        "arb breakers --rearm venue.gateio_futures --reason R",
    ]


def test_where_nobody_else_did_anything_nothing_is_said_of_others() -> None:
    assert not lines(summary_text(fields(external={"fills": {}, "money": {}, "held_by_others": {}})), "others", "break")


def test_flat_says_what_stays_open() -> None:
    hedge = {"qty": 1, "base": "BTC", "spot_side": "buy", "spot": "a X", "futures": "b Y"}
    hedge |= {"entry_spot_price": 1, "entry_futures_price": 2}
    why = "held for what leaving will bring; the run ended before"
    for flat, hedges, words in (
        (True, [], "yes"),
        (True, [hedge], f"yes but for 1 open hedge ({why})"),
        (True, [hedge] * 3, f"yes but for 3 open hedges ({why})"),
        (False, [hedge] * 2, f"NO, beside 2 open hedges ({why})"),
        (False, [], "NO"),
    ):
        text = summary_text(fields(flat=flat, open_hedges=hedges))
        assert lines(text, "flat") == [f"flat               {words}; dust none"]


def test_amounts_are_plain_and_equal_ones_read_alike() -> None:
    pnl = fields()["pnl"] | {
        "engine": {"USDT": "-3.50", "BTC": "2.5E-8", "ETH": "1E+2"},
        "venue": {"BTC": "0.000000025", "ETH": "100", "USDT": "-3.5"},
    }
    text = summary_text(fields(pnl=pnl, dust={"SOL": "0.0005310000"}))
    assert lines(text, "changes") == [
        "changes, engine    0.000000025 BTC, 100 ETH, -3.5 USDT",
        "changes, venues    0.000000025 BTC, 100 ETH, -3.5 USDT  (equal)",
    ]
    assert lines(text, "flat") == ["flat               yes; dust 0.000531 SOL"]


def test_every_reason_of_a_failed_check_is_said() -> None:
    assert lines(summary_text(fields()), "reconciled", "FAILED", "null") == [
        "reconciled         no violation: engine and venues agree to the last decimal"
    ]
    text = summary_text(fields(expect_no_orders=True))
    assert lines(text, "null") == ["null market        no order was sent: nothing in this market is worth one"]
    text = summary_text(fields(expect_no_orders=True, orders=2, operations={**fields()["operations"], "unresolved": 1}))
    assert lines(text, "FAILED", "null") == [
        "FAILED: 1 operations did not end before the stop",
        "FAILED: 2 orders were sent: nothing in this market is worth one",
    ]


def test_a_run_that_was_too_short_or_halted_says_so() -> None:
    assert not lines(summary_text(fields(scenario_lasts_s=30.0)), "scenario")
    assert lines(summary_text(fields(scenario_lasts_s=75.0)), "scenario") == [
        "scenario           goes on for 75 s: --seconds 80 shows all of it"
    ]
    ready = {"state": "ready", "reasons": []}
    assert not lines(summary_text(fields(engine_state=ready)), "engine")
    halted = {"state": "halted", "reasons": [{"what": "HALTED by guard", "solve": "arb resume --reason R"}] * 4}
    text = summary_text(fields(engine_state=halted))
    assert text.count("  HALTED by guard; arb resume --reason R") == 3
    assert lines(text, "engine", "  and") == ["engine             halted at the end of the run:", "  and 1 more"]


def test_funding_that_was_not_read_is_said() -> None:
    paid = {"payments": 2, "amounts": {"USDT": "-3.10"}, "unread": 0}
    assert lines(summary_text(fields(funding=paid)), "funding") == [
        "funding            2 payments, -3.1 USDT (in the changes)"
    ]
    assert lines(summary_text(fields(funding={"payments": 0, "amounts": {}, "unread": 1})), "funding") == [
        "funding            0 payments; 1 MORE were not read before the end"
    ]
