"""What the journal says of the run before this one."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.execution.ledger import Ledger


@dataclass(slots=True, frozen=True)
class EarlierRun:
    """``same_host_boot``: its pages are all in the journal, its monotonic times are comparable. ``alive_wall_ms``: its
    last record; 0 = there was none."""

    same_host_boot: bool
    alive_wall_ms: int

    @classmethod
    def of(cls, ledger: Ledger, host_boot: str) -> EarlierRun:
        """To be called before the new run's first record is applied."""
        same = bool(host_boot) and ledger.host_boot == host_boot
        return cls(same or not ledger.boot_epoch, ledger.last_wall_ns // 1_000_000)
