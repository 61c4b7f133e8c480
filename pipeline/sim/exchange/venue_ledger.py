"""The venue ledger: append-only record of everything that happened at the simulated venues, for checks of a run.

Numbers are Decimals, written as text when served.

Rows (every row: ``seq, kind, venue, wall_ns`` on the venue's clock, ``mono_ns``):

| kind | fields |
|---|---|
| instrument | symbol, base, quote, tick, lot, multiplier, taker_fee_ppm, maker_fee_ppm, fee_rule,
  min_qty, min_notional: once at start |
| request | via (rest, ws, ws_api), operation, symbol, client_id, fault, detail: every arrival; ``detail`` has what
  faults do to it (``rule_id``, ``status``, ``retry_after_s``, ...) |
| limited | operation, client_id, retry_after_s: an order refused for being one too many |
| order | order_id, client_id, symbol, side, order_kind, tif, price, qty, filled_qty, filled_quote, status, finish_as |
| reject | client_id, symbol, reason, text |
| fill | trade_id, order_id, client_id, symbol, side, price, qty, quote, fee, fee_asset, coin_fee, coin_asset,
  is_maker, realised_pnl, forced; ``coin_*``: the part of the fee that was paid in a deduction coin |
| entry | reason, ref, postings [[account, asset, amount], ...]: double entry, sums to zero per asset |
| balance | uid, asset, free, locked, total, reason: after each change |
| position | uid, symbol, qty, cost, margin, realised_pnl: after each change |
| forced | uid, forced (liquidation, adl, settlement), order_id, text, symbol, side, qty, price, fee, position_before,
  position_after, mark_price, liq_price: what the venue closed by itself |
| fault | the rule that was armed |

``order`` and ``fill`` carry ``book_id``, the update id that they met, and ``wire_order_id``, ``wire_trade_id``: the
ids as the venue's frames write them. Accounts of the postings: ``user:<uid>`` and the
venue's own ``market``, ``fees``, ``funding``, ``external``.
``versions`` holds the published book versions (update id, times, levels), bounded, apart from the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from pipeline.sim.exchange.book_versions import Versions

Posting = tuple[str, str, Decimal]  # account, asset, amount


class VenueLedger:
    """Rows in order of arrival; nothing is ever changed or removed."""

    def __init__(self, mono_ns: Callable[[], int]) -> None:
        self._mono_ns = mono_ns
        self._wall: dict[str, Callable[[], int]] = {}
        self.rows: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}
        self.request_counts: dict[str, dict[str, int]] = {}
        self.versions = Versions()
        self._totals: dict[tuple[str, str, str], Decimal] = {}  # (venue, account, asset)
        self._by_reason: dict[tuple[str, str, str], Decimal] = {}  # (venue, reason, asset), the user's side

    def add_venue(self, venue: str, wall_ns: Callable[[], int]) -> None:
        """Registers a venue with its own clock (Unix ns), for the rows' ``wall_ns``."""
        self._wall[venue] = wall_ns

    def append(self, kind: str, venue: str, **fields: Any) -> int:
        """Appends a row and returns its sequence number. Decimals stay Decimals until served."""
        seq = len(self.rows) + 1
        wall = self._wall.get(venue)
        self.rows.append(
            {
                "seq": seq,
                "kind": kind,
                "venue": venue,
                "wall_ns": wall() if wall is not None else 0,
                "mono_ns": self._mono_ns(),
                **fields,
            }
        )
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return seq

    def request(
        self,
        *,
        venue: str,
        via: str,
        operation: str,
        symbol: str = "",
        client_id: str = "",
        fault: str = "",
        detail: dict[str, Any] | None = None,
    ) -> int:
        """One request as it arrived at the venue. ``detail`` must hold no secret (no signature, no key)."""
        per_venue = self.request_counts.setdefault(venue, {})
        per_venue[operation] = per_venue.get(operation, 0) + 1
        return self.append(
            "request",
            venue,
            via=via,
            operation=operation,
            symbol=symbol,
            client_id=client_id,
            fault=fault,
            detail=detail or {},
        )

    def entry(self, venue: str, reason: str, ref: str, postings: Sequence[Posting]) -> int:
        """A double entry; raises ``ValueError`` if it does not sum to zero in every asset."""
        sums: dict[str, Decimal] = {}
        for _, asset, amount in postings:
            sums[asset] = sums.get(asset, Decimal(0)) + amount
        if any(sums.values()):
            raise ValueError(f"entry does not balance: venue={venue} reason={reason} ref={ref} sums={sums}")
        for account, asset, amount in postings:
            key = (venue, account, asset)
            self._totals[key] = self._totals.get(key, Decimal(0)) + amount
            if account.startswith("user:"):
                why = (venue, reason, asset)
                self._by_reason[why] = self._by_reason.get(why, Decimal(0)) + amount
        return self.append("entry", venue, reason=reason, ref=ref, postings=[list(row) for row in postings])

    def total(self, venue: str, account: str, asset: str) -> Decimal:
        """Sum of all postings to an account of a venue in one asset."""
        return self._totals.get((venue, account, asset), Decimal(0))

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Every row of a kind, oldest first; the rows themselves: do not change them."""
        return [row for row in self.rows if row["kind"] == kind]

    def changes(self) -> dict[str, dict[str, Decimal]]:
        """venue -> asset -> change of the users' balances by trading, fees and funding (no deposits)."""
        result: dict[str, dict[str, Decimal]] = {}
        for (venue, reason, asset), amount in self._by_reason.items():
            if reason in ("deposit", "withdraw"):
                continue
            assets = result.setdefault(venue, {})
            assets[asset] = assets.get(asset, Decimal(0)) + amount
        return result

    def by_reason(self) -> dict[str, dict[str, dict[str, Decimal]]]:
        """venue -> reason -> asset -> the users' change."""
        result: dict[str, dict[str, dict[str, Decimal]]] = {}
        for (venue, reason, asset), amount in self._by_reason.items():
            result.setdefault(venue, {}).setdefault(reason, {})[asset] = amount
        return result

    def page(self, *, since: int = 0, kinds: frozenset[str] | None = None, limit: int = 0) -> list[dict[str, Any]]:
        """Rows with ``seq > since``, as JSON-ready values."""
        found: list[dict[str, Any]] = []
        for row in self.rows[since:]:
            if kinds is not None and row["kind"] not in kinds:
                continue
            found.append(plain(row))
            if limit and len(found) >= limit:
                break
        return found


def plain(value: Any) -> Any:
    """JSON-ready copy: Decimals as plain (never exponential) text."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
