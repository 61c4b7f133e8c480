"""Halts by the shell beside stopped processes: how soon each was in force, and the goals of a run of cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workers.kills.verdict import Goal


@dataclass(frozen=True, slots=True)
class Halted:
    """A halt by the shell. ``in_force_ms``, ``by_shell_ms``: until the latch; ``after_latch_ms``: from the latch to the
    last arrival of an entry."""

    first_line_ns: int
    in_force_ms: float
    by_shell_ms: float
    after_latch_ms: float = 0.0


IN_FORCE_MS_MAX, BY_SHELL_MS_MAX, AFTER_LATCH_MS_MAX = 200.0, 1000.0, 50.0


def goals_of(done: int, wanted: int, failures: Sequence[str], halts: Sequence[Halted]) -> list[Goal]:
    """Every case kept its promise, and the worst of the halts."""

    def worst(name: str, values: Sequence[float], limit: float) -> Goal:
        most = max(values, default=0.0)
        return Goal(name, most <= limit, f"at most {most:.1f} of {limit:.0f} ms" if halts else "")

    kept = Goal("cases", done == wanted and not failures, f"{done} of {wanted} tried, {len(failures)} failed")
    return [
        kept,
        worst("halt in force", [halt.in_force_ms for halt in halts], IN_FORCE_MS_MAX),
        worst("halt by the shell", [halt.by_shell_ms for halt in halts], BY_SHELL_MS_MAX),
        worst("last entry after the latch", [halt.after_latch_ms for halt in halts], AFTER_LATCH_MS_MAX),
    ]
