"""A second start of an instance begins at the checkpoint of the first one's stop, and the venues' ledger agrees."""

from __future__ import annotations

import secrets

import pytest

from pipeline.execution.settled.checkpoint import checkpoint_paths, recover
from tests.worlds.instance_rig import LIVELY, Rig
from tests.worlds.waiting import until
from workers.recorder.checkpoints import STOP_RECORDS

pytestmark = pytest.mark.e2e


def test_a_start_after_a_stop_goes_on_from_the_checkpoint() -> None:
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=LIVELY)
    folder = rig.engine.state_dir / "journal"
    try:
        rig.start()
        until(lambda: len(rig.entries()) > STOP_RECORDS, "records that are worth a checkpoint")
        rig.end()
        (path,) = checkpoint_paths(folder)
        first = recover(folder)
        assert first.replayed < first.ledger.records and not first.problems
        rig.start_again()
        rig.resume()  # the drain of the end before is kept until somebody ends it
        seen = first.ledger.records
        until(lambda: rig.books().orders > len(first.ledger.orders) and len(rig.entries()) > seen + 100, "it trades")
        rig.end()
        assert path in checkpoint_paths(folder)
        engine, venues = rig.money()
        assert engine == venues
        assert rig.judge() == []
    finally:
        rig.close()
