"""Paper that is watched from outside alone: by a webhook on loopback, the page, and the exporter. What the journal, the
audit log and the processes' own ends say has happened must all have been reported there.
"""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.execution.records import BreakerRecord, OperationRecord
from tests.worlds.instance_rig import LIVELY, PATIENT, Rig, asked, next_pid, running_pid, shown_rig
from tests.worlds.monitor.http_get import get
from tests.worlds.monitor.webhook_receiver import WebhookReceiver
from tests.worlds.waiting import until
from workers.demo.summary import JournalTotals
from workers.monitor.alert_file import read_alerts

pytestmark = pytest.mark.e2e

WANTED = 5  # operations that have ended


class Watched:
    """A READY instance in paper, and what was reported of it."""

    def __init__(self, rig: Rig, receiver: WebhookReceiver) -> None:
        self.rig, self.receiver = rig, receiver

    def reported(self, *parts: str) -> list[str]:
        """Messages that have all ``parts`` in their line."""
        lines = [str(fields["text"]) for fields in self.receiver.messages()]
        return [line for line in lines if all(part in line for part in parts)]

    def hears(self, *parts: str) -> None:
        """Waits for such a message."""
        until(lambda: bool(self.reported(*parts)), f"the word of {' and '.join(parts)}")

    @property
    def url(self) -> str:
        state = read_alerts(self.rig.engine.state_dir)
        assert state is not None
        return state.url

    def samples(self, name: str, label: str = "") -> dict[str, float]:
        """The samples of one metric, by a label's value."""
        families = text_string_to_metric_families(get(f"{self.url}metrics")[1])
        found = [sample for family in families for sample in family.samples if sample.name == name]
        return {sample.labels.get(label, ""): float(sample.value) for sample in found}

    def ended(self) -> float:
        """Operations that have ended, as the exporter says."""
        return sum(self.samples("arb_operations_total", "outcome").values())


@pytest.fixture
def watched() -> Iterator[Watched]:
    receiver = WebhookReceiver()
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=LIVELY, guard=PATIENT)
    rig.config |= {
        "mode": "paper",
        "monitoring": {"port": 0, "targets": {"ops": {"severity": "info", "url": receiver.url}}},
    }
    try:
        with shown_rig(rig):
            yield Watched(rig, receiver)
    finally:
        receiver.close()


def test_everything_that_happened_was_told(watched: Watched) -> None:
    rig = watched.rig
    watched.hears("the instance is READY, mode paper")
    until(lambda: watched.ended() >= WANTED, f"{WANTED} operations, by the exporter")

    feed = running_pid(rig, "feed.mexc")
    os.kill(feed, signal.SIGKILL)
    next_pid(rig, "feed.mexc", feed, ready=True)
    watched.hears("feed.mexc ended (signal SIGKILL)")

    rig.fault(kind="stall", venue="gateio_spot", target="public")
    watched.hears("feed of gateio_spot")
    rig.simulator.clear_faults()
    until(lambda: get(f"{watched.url}healthz")[0] == 200, "new risk is taken again")

    asked(rig, "executor", op="emergency", reason="to be seen")
    watched.hears("breaker emergency", "to be seen")
    until(lambda: watched.samples("arb_breakers_tripped")[""] == 1, "the exporter counts it")
    assert get(f"{watched.url}healthz")[0] == 503 and "breaker emergency" in get(watched.url)[1]
    rig.rearm("emergency")

    asked(rig, "supervisor", op="halt", reason="somebody looks")
    watched.hears("[critical]", "HALTED", "somebody looks")
    rig.resume()
    until(lambda: watched.samples("arb_halted")[""] == 0, "the exporter says so")
    watched.hears("ended", "somebody looks")

    asked(rig, "supervisor", op="drain", reason="the end")
    until(lambda: not watched.samples("arb_operations_open")[""], "nothing is under way")
    books = JournalTotals(rig.entries())
    until(lambda: watched.samples("arb_fills_total")[""] >= books.fills, "the exporter has every fill")

    def as_in_the_journal() -> bool:
        shown, counts = watched.samples("arb_operations_total", "outcome"), JournalTotals(rig.entries()).counts()
        return len(shown) == 4 and shown == {name: float(getattr(counts, name)) for name in shown}

    until(as_in_the_journal, "the exporter has every end of an operation")
    books = JournalTotals(rig.entries())
    newest = list(books.operations)[-3:]
    until(lambda: all(name in get(watched.url)[1] for name in newest), "the page lists the newest trades")

    restarts = {name: row["restarts"] for name, row in rig.engine.describe()["processes"].items()}
    rig.engine.stop()
    left = any(hedge.qty for hedge in JournalTotals(rig.entries()).hedges.values())
    watched.hears("the instance stops", "hedge" if left else "nothing stays open")
    for name, count in restarts.items():
        assert not count or watched.reported(f"{name} ended"), f"{name} began anew, and nobody was reported"
    records = [entry.record for entry in rig.entries()]
    assert len([record for record in records if isinstance(record, OperationRecord)]) >= WANTED
    tripped = {record.name for record in records if isinstance(record, BreakerRecord) and record.tripped}
    assert "emergency" in tripped
    assert not [name for name in tripped if not watched.reported(f"breaker {name}")], "a breaker of the journal, untold"
    audit = rig.engine.state_dir / "audit.jsonl"
    asked_for = [msgspec.json.decode(line) for line in audit.read_bytes().splitlines()]
    reasons = {str(row["reason"]) for row in asked_for if row.get("op") in ("halt", "emergency")}
    assert reasons == {"somebody looks", "to be seen"}
    assert not [reason for reason in reasons if not watched.reported(reason)]
    last = read_alerts(rig.engine.state_dir)
    assert last is not None and not last.targets["ops"].waiting
