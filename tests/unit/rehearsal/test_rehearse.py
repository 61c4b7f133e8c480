"""The rehearsal goes the whole way: else it would warm half of the order path and nobody would notice."""

from __future__ import annotations

from pipeline.rehearsal.rehearse import rehearse


def test_every_rehearsed_operation_is_completed() -> None:
    assert rehearse(12) == 12


def test_nothing_of_a_rehearsal_stays() -> None:
    assert rehearse(1) == rehearse(1) == 1
