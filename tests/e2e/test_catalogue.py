"""A running instance whose venues change: a tick that moves, a price finer than anybody expected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pipeline.model.catalogue_row import words_to_row
from pipeline.model.enums import TradingStatus
from pipeline.model.instruments import InstrumentRow
from shm.pages import CataloguePage
from tests.worlds.instance_rig import Rig, asked, ready_rig
from tests.worlds.waiting import until
from workers.control_socket import ask
from workers.view.status import read_status

pytestmark = pytest.mark.e2e

SYMBOL = "BTC_USDT"


@pytest.fixture
def refreshing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A READY instance that reads its instruments every second."""
    monkeypatch.setenv("ARB_TEST_CATALOGUE_REFRESH_S", "1")
    with ready_rig() as rig:
        yield rig


class Looker:
    """What every process sees of the catalogue, and what the engine has done."""

    def __init__(self, running: Rig) -> None:
        self.running = running
        self.page = CataloguePage.attach(running.instance)
        self.page.refresh()

    def symbols(self) -> list[dict[str, Any]]:
        reply = asked(self.running, "supervisor", op="symbols", action="list")
        return list(reply["instruments"])

    def rows(self) -> dict[tuple[str, str], InstrumentRow]:
        found = {}
        for listed in self.symbols():
            words = self.page.row(listed["instrument_id"])
            assert words is not None
            found[listed["venue"], listed["symbol"]] = words_to_row(listed["instrument_id"], words, listed["venue"])
        return found

    def fault(self, **rule: object) -> None:
        self.running.simulator.control("/faults", msgspec.json.encode(rule))

    def feeds(self) -> dict[str, Any]:
        return dict(read_status(self.running.instance)["feeds"])

    def operations(self) -> int:
        return int(read_status(self.running.instance)["orders"].get("entries", 0))

    def detected(self) -> int:
        return int(read_status(self.running.instance)["opportunities"]["detected"])

    def whole(self) -> bool:
        """Every book of every venue stands."""
        count = {venue: 0 for venue, _ in self.rows()}
        for venue, _ in self.rows():
            count[venue] += 1
        return all(row.get("books_whole") == count[venue] for venue, row in self.feeds().items() if venue in count)


@pytest.mark.slice
def test_what_was_switched_off_by_command_is_so_after_a_restart_and_as_configured_after_a_stop() -> None:
    with ready_rig() as rig:
        look = Looker(rig)
        asked(rig, "supervisor", op="symbols", action="remove", venue="mexc_spot", symbol="ETHUSDT")
        assert not asked(rig, "supervisor", op="detection", enabled=False, reason="a test")["enabled"]

        def removed() -> set[tuple[str, str]]:
            return {(row["venue"], row["symbol"]) for row in look.symbols() if row["removed"]}

        rig.kill_fork_server()
        # Two starts within seconds may be more questions than a venue takes: its rows come when its limit is over.
        until(lambda: removed() == {("mexc_spot", "ETHUSDT")}, "the rows of the next life")
        assert not asked(rig, "supervisor", op="detection")["enabled"]
        rig.engine.stop()
        rig.start_again()
        assert removed() == set()
        assert asked(rig, "supervisor", op="detection")["enabled"]


def test_a_tick_that_changes_halts_its_symbol_until_somebody_has_looked(refreshing: Rig) -> None:
    look = Looker(refreshing)
    rows = look.rows()
    before = rows["gateio_spot", SYMBOL]
    look.fault(kind="change_tick", venue="gateio_spot", symbol=SYMBOL, amount="10")
    until(lambda: look.rows()["gateio_spot", SYMBOL].row_epoch == before.row_epoch + 1, "the new epoch")
    row = look.rows()["gateio_spot", SYMBOL]
    assert row.spec.tick == before.spec.tick * 10 and row.spec.status is TradingStatus.HALTED
    until(look.whole, "the book under its new epoch")
    changed = {key for key, other in look.rows().items() if other.row_epoch != rows[key].row_epoch}
    assert changed == {("gateio_spot", SYMBOL)}
    seen = look.detected()
    until(lambda: look.detected() > seen, "opportunities on the other symbols")
    assert look.rows()["gateio_spot", SYMBOL].spec.status is TradingStatus.HALTED
    sock = refreshing.engine.state_dir / "supervisor.sock"
    ask(sock, {"op": "symbols", "action": "add", "venue": "gateio_spot", "symbol": SYMBOL}, timeout_s=60)
    until(lambda: look.rows()["gateio_spot", SYMBOL].spec.status is TradingStatus.TRADING, "trading again")


def test_a_finer_price_raises_the_pairs_exponent_everywhere_and_trading_goes_on(running: Rig) -> None:
    look = Looker(running)
    before = look.rows()
    fine = f"1.{'1' * (max(row.price_exp for row in before.values()) + 1)}"
    look.fault(kind="bad_number", target="public", text=fine, count=40)

    def finer_pairs(rows: dict[tuple[str, str], InstrumentRow]) -> set[str]:
        return {row.spec.pair for key, row in rows.items() if row.price_exp != before[key].price_exp}

    def is_whole() -> bool:
        """Of one look: a fault may reach a further pair, and a pair's rows are exchanged one after the other."""
        rows = look.rows()
        finer = finer_pairs(rows)
        exponents = {pair: {row.price_exp for row in rows.values() if row.spec.pair == pair} for pair in finer}
        return (
            bool(finer)
            and all(len(found) == 1 for found in exponents.values())
            and all((row.row_epoch > before[key].row_epoch) == (row.spec.pair in finer) for key, row in rows.items())
        )

    until(is_whole, "a finer exponent of every row of a pair, and a new epoch of no other")
    until(look.whole, "books under the new exponents")
    until(is_whole, "the same after it")
    for key, row in look.rows().items():
        assert (row.spec.tick, row.spec.lot) == (before[key].spec.tick, before[key].spec.lot)
    done = look.operations()
    until(lambda: look.operations() > done, "operations afterwards")
    reading = read_status(running.instance)
    restarts = {name: row["restarts"] for name, row in reading["processes"].items() if row["restarts"]}
    assert not reading["halted"] and not restarts, running.engine.last_message()
