"""What `arb up` says: READY, each change of the answer once, alerts and trades of every process, what stays open."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.enums import ProcessState
from shm.liveness import Liveness
from shm.logring import LogRing
from tests.worlds.execution_starts import held_world
from tests.worlds.execution_world import make_config
from tests.worlds.external_world import external_world, place
from workers.base import LOG_LEVELS
from workers.control_plane.announcer import Announcer
from workers.executor.publisher import Publisher
from workers.executor_file import write_executor_state
from workers.halt_file import HaltState, write_halt
from workers.output import ALERT, TRADE

PROCESSES = ("guard", "executor", "detector", "poller", "recorder", "feed.mexc", "feed.gateio", "supervisor")


class Life:
    """An announcer beside living pages of every process."""

    def __init__(self, instance: str, folder: Path) -> None:
        self.folder = folder
        self.pages = {name: Liveness.create(instance, name) for name in PROCESSES}
        self.rings = {name: LogRing.create(instance, name) for name in ("executor", "feed.mexc")}
        self.events: list[dict[str, Any]] = []
        self.announcer = Announcer(instance, folder, make_config(), units=False, on_event=self.events.append)
        self.now_s = 0.0
        self.ready = False

    def look(self) -> None:
        for page in self.pages.values():
            page.set_state(ProcessState.READY if self.ready else ProcessState.WARMING)
            page.beat()
        self.now_s += 1.5
        rows = {name: {"state": "ready"} for name in PROCESSES if name != "supervisor"}
        described = {"state": "ready" if self.ready else "starting", "mode": "sim", "processes": rows, "venues": {}}
        self.announcer.look(lambda: described, self.now_s, all_ready=self.ready)

    def publish(self, world: Any) -> None:
        world.core.context.now = world.now()
        state = Publisher(world.core, self.folder, lambda level, text: None).state()
        write_executor_state(self.folder, state)

    def close(self) -> None:
        for page in self.pages.values():
            page.close()
        for ring in self.rings.values():
            ring.close()


@pytest.fixture
def life(instance: str, tmp_path: Path) -> Iterator[Life]:
    made = Life(instance, tmp_path)
    yield made
    made.close()


def halted(folder: Path, on: bool) -> None:
    write_halt(folder, HaltState(halted=on, reason="fire", by="uid 0", wall_ns=1))


def test_ready_is_said_once_and_a_change_as_often_as_it_comes(life: Life, capfd: pytest.CaptureFixture[str]) -> None:
    life.publish(held_world())
    life.look()
    assert capfd.readouterr().err == "", "a start says nothing of what is not there yet"
    life.ready = True
    life.look()
    first = capfd.readouterr().err
    assert "DEGRADED" in first or "STOPPED" in first
    assert "breaker recovery_hold" in first and "solve: arb recoveries --approve" in first
    life.look()
    assert capfd.readouterr().err == "", "nothing has changed"
    halted(life.folder, True)
    life.look()
    said = capfd.readouterr().err
    assert "HALTED: HALTED by uid 0: fire; solve: arb resume --reason R" in said
    assert "recovery_hold" not in said, "what was said before is not said again"
    halted(life.folder, False)
    life.look()
    assert "stopped: " in capfd.readouterr().err
    states = [event["state"] for event in life.events if event["event"] == "state"]
    assert states == ["stopped", "halted", "stopped"]
    assert all(row["solve"] for event in life.events if event["event"] == "state" for row in event["reasons"])


def test_alerts_and_trades_of_every_process_are_repeated(life: Life, capfd: pytest.CaptureFixture[str]) -> None:
    life.rings["executor"].text(LOG_LEVELS["critical"], f"{ALERT}breaker: overfill: twice")
    life.rings["executor"].text(LOG_LEVELS["warning"], f"{ALERT}session_down: mexc_spot: closed")
    life.rings["executor"].text(LOG_LEVELS["info"], f"{TRADE}BTC/USDT hedge opened")
    life.rings["executor"].text(LOG_LEVELS["info"], "nothing of note")
    life.rings["feed.mexc"].text(LOG_LEVELS["warning"], "connection lost")
    life.look()
    said = capfd.readouterr().err
    assert "executor: critical: alert: breaker: overfill: twice" in said
    assert "executor: warning: alert: session_down" in said
    assert f"executor: info: {TRADE}BTC/USDT hedge opened" in said
    assert "feed.mexc: note: connection lost" in said
    assert "nothing of note" not in said
    assert [(e["event"], e.get("process")) for e in life.events] == [
        ("alert", "executor"), ("alert", "executor"), ("trade", None), ("note", "feed.mexc"),
    ]  # fmt: skip
    assert life.events[0]["text"] == "breaker: overfill: twice"
    life.announcer.say("warning", "quarantined mexc_spot NOVAUSDT: another contract")
    life.announcer.say("error", "reload refused")
    assert [event["event"] for event in life.events[-2:]] == ["note", "alert"]
    capfd.readouterr()
    life.look()
    assert capfd.readouterr().err == ""


def test_what_stays_open_is_said_at_the_end(life: Life, capfd: pytest.CaptureFixture[str]) -> None:
    world = held_world()
    life.publish(world)
    left = life.announcer.left_open()
    (recovery,) = left["recoveries"]
    assert f"recovery {recovery['recovery_id']} is not over (waiting_approval)" in capfd.readouterr().err


def test_coins_that_others_left_are_named_at_the_end(life: Life, capfd: pytest.CaptureFixture[str]) -> None:
    world = external_world()
    place(world, "mexc_spot", "BTCUSDT", Decimal("-0.1"))
    world.arm(kind="deposit", venue="gateio_spot", asset="BTC", amount=1)
    world.run(8000)
    life.publish(world)
    left = life.announcer.left_open()
    rows = [(row["venue"], Decimal(row["foreign_qty"]), Decimal(row["moved_qty"])) for row in left["foreign_coins"]]
    assert rows == [("gateio_spot", 0, 1), ("mexc_spot", Decimal("-0.1"), 0)]
    assert "nothing of ours stays open; not ours: -0.1 BTC on mexc_spot, net exposure" in capfd.readouterr().err


def test_the_instance_is_described_only_when_it_is_looked_at(life: Life) -> None:
    """The supervisor comes by four times a second, and says something once."""
    asked = list[float]()
    life.ready = True
    life.look()

    def come(now_s: float) -> None:
        def describe() -> dict[str, Any]:
            asked.append(now_s)
            return {"state": "ready", "mode": "sim", "processes": {}, "venues": {}}

        life.announcer.look(describe, now_s, all_ready=True)

    for later_s in (0.25, 0.5, 1.25):
        come(life.now_s + later_s)
    assert asked == [life.now_s + 1.25]
