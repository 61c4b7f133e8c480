"""An edge (CDN, WAF) that answers 403 pages for a while, while the instance trades, judged by the venues' ledger."""

from __future__ import annotations

import time

import pytest

from pipeline.execution.records import OrderIntentRecord
from tests.paths import REPO
from tests.worlds.instance_rig import Rig, ready_rig, until
from workers.control_plane.launch import Launched

pytestmark = pytest.mark.e2e

VENUE, OTHERS = "mexc_spot", ("gateio_spot", "gateio_futures")
#: After a minute of pages: the longest pause that has grown meanwhile is 6 s (``tests/unit/exchanges/
#: test_edge_minute.py``), then the account is proved and an opportunity comes.
BACK_S = 15.0


def fills_after(rig: Rig, venue: str, mono_ns: int) -> list[int]:
    """Stamps of the fills at the venue since then, by its own ledger."""
    rows = (row for row in rig.ledger() if row["kind"] == "fill" and row["venue"] == venue)
    return [row["mono_ns"] for row in rows if row["mono_ns"] > mono_ns]


@pytest.mark.parametrize("edge_s", [5, pytest.param(60, marks=pytest.mark.campaign)])
def test_seconds_of_403_pages_cost_those_seconds_and_nothing_more(running: Rig, edge_s: int) -> None:
    until(lambda: bool(fills_after(running, VENUE, 0)), "trading at the venue")
    began_ns = time.monotonic_ns()
    running.fault(kind="gateway_page", venue=VENUE, target="*", count=0)
    running.fault(kind="disconnect", venue=VENUE, target="private")
    until(lambda: any(VENUE in row["what"] for row in running.reading()["reasons"]), "that it is shown")
    until(lambda: any(fills_after(running, other, began_ns) for other in OTHERS), "that the other venues go on")
    until(lambda: time.monotonic_ns() - began_ns > edge_s * 1_000_000_000, "the edge's end")
    running.simulator.clear_faults()
    over_ns = time.monotonic_ns()
    until(lambda: bool(fills_after(running, VENUE, over_ns)), "trading at the venue again, by itself")
    back_s = (min(fills_after(running, VENUE, over_ns)) - over_ns) / 1e9
    print(f"{edge_s} s of pages; traded again {back_s:.1f} s after them")
    assert edge_s < 60 or back_s <= BACK_S, "short ones are judged on busy machines as well"
    assert running.breakers() == {} and not running.reading()["halted"]
    running.end()
    pages = [row for row in running.ledger() if row["kind"] == "request" and "page_status" in row.get("fault", "")]
    assert pages, "the edge was met"
    placed = [row["client_id"] for row in running.ledger() if row["kind"] == "request" and row["operation"] == "place"]
    assert len(placed) == len(set(placed)), "nothing was sent twice"
    assert {e.record.client_id for e in running.entries() if isinstance(e.record, OrderIntentRecord)} >= set(placed)
    engine, venues = running.money()
    assert engine == venues
    assert running.judge() == []


def test_a_venue_whose_first_upgrades_are_refused_trades_some_seconds_later() -> None:
    with ready_rig(str(REPO / "tests" / "cases" / "edge403.yaml")) as rig:
        until(lambda: bool(fills_after(rig, VENUE, 0)), "trading at the venue")
        refused = [row for row in rig.ledger() if row["kind"] == "request" and row["operation"] == "connect"]
        assert len([row for row in refused if row["venue"] == VENUE]) > 3
        assert rig.breakers() == {}


def test_an_instance_that_has_traded_waits_for_venues_that_are_all_behind_an_edge(running: Rig) -> None:
    """It has something to lose: nobody starts it again after a few refusals."""
    until(lambda: bool(fills_after(running, VENUE, 0)), "trading at the venue")
    running.engine.stop()
    for venue in (VENUE, *OTHERS):
        running.fault(kind="gateway_page", venue=venue, target="*", count=0)
    running.engine = Launched(running.instance)
    running.engine.configure(running.config)
    until(lambda: "venue unreachable" in str(running.engine.describe().get("notes")), "that it says what it waits for")
    assert running.engine.alive()
    running.simulator.clear_faults()
    over_ns = time.monotonic_ns()
    running.engine.wait_ready()
    until(lambda: bool(fills_after(running, VENUE, over_ns)), "trading at the venue again, by itself")
    running.end()
    assert running.judge() == []
