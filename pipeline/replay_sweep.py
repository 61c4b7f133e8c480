"""``arb replay --exact --sweep``: the same recording under other fees, thresholds, sizes and latencies.

``--sweep KEY=A:B:STEP`` (repeatable: every combination) runs the whole replay once for each value of ``fees`` (bps of
every leg), ``min_edge_bps`` or ``max_usd`` (the notional cap); ``--latency-ms L,...`` values each run's opportunities
that much later (``pipeline.replay_worth``). One row a combination and latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import product
from pathlib import Path

import msgspec

from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import parse_decimal, plain
from pipeline.replay import UNLIMITED_USD, ExactReplay
from pipeline.replay_worth import Worth

KEYS = ("fees", "min_edge_bps", "max_usd")
RUNS_MAX = 200
LATENCIES_MAX = 100
LATENCY_MAX_MS = 3_600_000


class Row(msgspec.Struct, frozen=True):
    """One combination at one latency. ``share``: of the profit of the same combination at its least latency."""

    fees: str
    min_edge_bps: str
    max_usd: str
    latency_ms: float
    found: int
    valued: int
    executable: int
    profit_usd: float
    share: float
    beyond_end: int


def parse_latencies(text: str) -> list[float]:
    """``0,1,5``: milliseconds, ascending; raises ``BadInput``."""
    try:
        found = sorted({float(parse_decimal(part.strip())) for part in text.split(",")})
    except ValueError:
        raise BadInput(f"--latency-ms: found {text!r}, wanted milliseconds like 0,1,5,10") from None
    if found[0] < 0 or found[-1] > LATENCY_MAX_MS or len(found) > LATENCIES_MAX:
        raise BadInput(f"--latency-ms: found {text!r}, wanted at most {LATENCIES_MAX} of 0 to {LATENCY_MAX_MS}")
    return found


def parse_sweep(texts: Sequence[str]) -> dict[str, list[Decimal]]:
    """``KEY=A:B:STEP`` each: the values of every key, both ends among them; raises ``BadInput``."""
    found: dict[str, list[Decimal]] = {}
    for text in texts:
        key, _, span = text.partition("=")
        try:
            first, last, step = (parse_decimal(part) for part in span.split(":"))
        except ValueError:
            raise BadInput(f"--sweep: found {text!r}, wanted KEY=A:B:STEP, KEY one of {', '.join(KEYS)}") from None
        if key not in KEYS or key in found:
            raise BadInput(f"--sweep: found key {key!r}, wanted one of {', '.join(KEYS)}, each once")
        if step <= 0 or last < first or (last - first) / step >= RUNS_MAX:
            raise BadInput(f"--sweep: found {text!r}, wanted A <= B and fewer than {RUNS_MAX} steps above 0")
        if key == "max_usd" and first <= 0:
            raise BadInput(f"--sweep: found {text!r}, wanted a cap above 0 USD")
        found[key] = [first + step * number for number in range(int((last - first) / step) + 1)]
    runs = 1
    for values in found.values():
        runs *= len(values)
    if runs > RUNS_MAX:
        raise BadInput(f"--sweep: {runs} runs, wanted at most {RUNS_MAX}")
    return found


def run_sweep(
    paths: Sequence[str | Path],
    *,
    fees: str,
    min_edge_bps: str,
    max_usd: float | None,
    swept: Mapping[str, Sequence[Decimal]],
    latencies_ms: Sequence[float],
) -> list[Row]:
    """Every combination, in the order of the keys; what a key that is not swept is, the arguments say."""
    rows: list[Row] = []
    for combination in product(*swept.values()):
        chosen = {key: plain(value) for key, value in zip(swept, combination, strict=True)}
        cap = chosen.get("max_usd", "" if max_usd is None else plain(Decimal(str(max_usd))))
        of_run = (chosen.get("fees", fees), chosen.get("min_edge_bps", min_edge_bps), cap)
        replay = ExactReplay(paths, of_run[0], of_run[1], max_usd=float(cap) if cap else UNLIMITED_USD)
        worth = Worth(replay, latencies_ms)
        replay.run(worth)
        least = worth.values[0].profit_usd
        for value in worth.values:
            rows.append(
                Row(
                    *of_run,
                    latency_ms=value.latency_ms,
                    found=len(replay.found),
                    valued=worth.valued,
                    executable=value.executable,
                    profit_usd=round(value.profit_usd, 6),
                    share=round(value.profit_usd / least, 6) if least > 0 else 0.0,
                    beyond_end=value.beyond_end,
                )
            )
    return rows
