"""A copy of the journal from before some trades is put back while the instance is down: what it lacks halts, is listed,
taken over and closed, and the account ends where the venues' ledger says."""

from __future__ import annotations

import os
import shutil
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.execution.records import HedgeRecord, OrderIntentRecord
from shm.liveness import LivenessView
from tests.worlds.instance_rig import SEEDS, Rig, answer, asked, exposure, keeps_a_hedge, ready_rig, running_pid
from tests.worlds.waiting import until
from workers.demo.run_checker import venue_positions

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]


DUST_USDT = 20  # what orders of the least size and the venues' lots leave of a coin, over the whole run


def without_zeros(amounts: dict[str, Decimal]) -> dict[str, Decimal]:
    return {asset: amount for asset, amount in amounts.items() if amount}


def hedges(rig: Rig) -> set[str]:
    """Open ones."""
    newest = {e.record.operation_id: e.record for e in rig.entries() if isinstance(e.record, HedgeRecord)}
    return {name for name, record in newest.items() if record.qty}


def orders(rig: Rig) -> int:
    return sum(isinstance(entry.record, OrderIntentRecord) for entry in rig.entries())


def shown_positions(rig: Rig) -> dict[tuple[str, str], Decimal]:
    """As `arb positions` shows them."""
    rows = answer(rig, "positions")[1]["positions"]
    return {(row["venue"], row["symbol"]): Decimal(row["qty"]) for row in rows}


def adopted(rig: Rig) -> dict[str, Any]:
    """The reply of `arb resume --adopt`: refused until every venue has been swept once."""
    replies: list[dict[str, Any]] = []

    def done() -> bool:
        _, reply = answer(rig, "resume", "--adopt", "--reason", "an older copy was put back")
        if "error" in reply:
            assert "not swept yet" in reply["error"] or "answer" in reply["error"], reply
            return False
        replies.append(reply)
        return True

    until(done, "the adoption")
    return replies[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_an_older_journal_halts_until_what_it_lacks_is_taken_over_and_all_of_it_is_closed(
    tmp_path: Path, seed: int
) -> None:
    """The copy knows a hedge that has left since, or not, and lacks one that was opened since."""
    with ready_rig(seed=seed) as rig:
        before = set(keeps_a_hedge(rig).hedges)
        journal, copy = rig.engine.state_dir / "journal", tmp_path / "copy"
        shutil.copytree(journal, copy)
        known = orders(rig)
        os.kill(running_pid(rig, "detector"), signal.SIGCONT)
        keeps_a_hedge(rig, lambda ledger: bool(ledger.hedges.keys() - before))
        executor, guard = (LivenessView.attach(rig.instance, name) for name in ("executor", "guard"))
        rig.kill_instance()
        until(lambda: not (executor.alive() or guard.alive()), "nobody who writes into it")
        shutil.rmtree(journal)
        shutil.copytree(copy, journal)
        rig.start_again()
        until(lambda: "unknown_past" in rig.breakers(), "the halt")
        until(lambda: answer(rig, "status")[1].get("state") == "halted", "the halt is shown")
        assert orders(rig) == known, "nothing is sent on a past that is not known"
        venues = venue_positions(rig.ledger(), rig.uids)
        assert venues
        reply = adopted(rig)
        assert not reply["halted"] and not any("unknown_past" in row["what"] for row in reply["blocking"])
        asked(rig, "guard", op="drain", reason="what was taken over leaves first")
        for name in rig.breakers():
            rig.rearm(name)

        def flat() -> bool:
            _, reply = answer(rig, "flatten", "--reason", "all out")
            return bool(reply.get("flat"))

        until(flat, "everything of ours closed")
        left = venue_positions(rig.ledger(), rig.uids)
        assert shown_positions(rig) == left, "what is said to stand is what stands"
        assert not hedges(rig) and not left, "the contracts of the account were all hedges of ours"
        rig.end()
        naked, targets = without_zeros(exposure(rig)), without_zeros(rig.books().targets("USDT"))
        assert naked == targets
        fills = [row for row in rig.ledger() if row["kind"] == "fill"]
        prices = {row["symbol"].replace("_", ""): Decimal(row["price"]) for row in fills}
        worth = {coin: abs(amount) * prices[f"{coin}USDT"] for coin, amount in naked.items()}
        assert all(usdt < DUST_USDT for usdt in worth.values()), f"nothing was traded a second time: {worth}"
        engine, venues_money = rig.money()
        assert without_zeros(engine) == without_zeros(venues_money)
