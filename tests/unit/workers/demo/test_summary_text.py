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
        "others             2 fills by liquidation; money -1000 USDT; they hold 0.3 ETH (in the changes)",
        "breaker            venue.gateio_futures: positions were closed by the venue; "
        "arb breakers --rearm venue.gateio_futures --reason R",
    ]


def test_where_nobody_else_did_anything_nothing_is_said_of_others() -> None:
    assert not lines(summary_text(fields(external={"fills": {}, "money": {}, "held_by_others": {}})), "others", "break")
