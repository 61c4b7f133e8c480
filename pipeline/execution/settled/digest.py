"""One hash over everything that a ledger remembers: equal for a live process, a replay and a restored checkpoint."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec


def digest_of(ledger: Any) -> str:
    """Hash of the state of a ``Ledger`` (which imports this file), hexadecimal."""
    content = [
        ledger.boot_epoch,
        [
            (o.client_id, int(o.state), o.order_id, str(o.reported_filled), str(o.filled), o.sent_mono_ns, o.reason)
            for o in ledger.orders.values()
        ],
        sorted(ledger.unsettled),
        sorted(ledger.fills_seen),
        ledger.retired_operations,
        ledger.settled.digest,
        sorted(ledger.funding_seen),
        sorted((k, str(v)) for k, v in ledger.position_offsets.items()),
        sorted(ledger.touched.items()),
        [
            (o.operation_id, int(o.state), o.orders, o.fills, o.result, o.late, o.forced, sorted(o.moved_to_dust))
            for o in ledger.operations.values()
        ],
        sorted((k, [str(v) for v in pair]) for k, pair in ledger.baseline.items()),
        sorted((k, [(at, str(v)) for at, v in rows]) for k, rows in ledger.payments_of.items()),
        [
            ledger.round_trips.won,
            ledger.round_trips.lost,
            sorted((k, str(v)) for k, v in ledger.round_trips.pnl.items()),
        ],
        [sorted(ledger.outcomes.items()), sorted(ledger.base_of.items()), sorted(ledger.since_wall_ns.items())],
        sorted(ledger.open_operations),
        sorted(ledger.hedges.items()),
        sorted((k, str(v)) for k, v in ledger.dust.items()),
        sorted(ledger.breakers.items()),
        sorted(ledger.recoveries.items()),
        sorted((k, str(v)) for k, v in ledger.accounts.flows.items()),
        sorted((k, str(p.qty), str(p.cost)) for k, p in ledger.accounts.futures.items()),
        sorted((k, str(v)) for k, v in ledger.accounts.external.items()),
        ledger.external.content(),
        [str(ledger.day), str(ledger.day_pnl), str(ledger.total_pnl)],
    ]
    elsewhere = [o.client_id for o in ledger.orders.values() if not o.of_position]
    content += [elsewhere] if elsewhere else []  # nothing where there is none: as before there was the field
    content += [str(ledger.peak_pnl)] if ledger.peak_pnl else []
    entries = sorted((k, str(v)) for k, v in ledger.offset_entries.items())
    content += [entries] if entries else []
    content += [sorted(ledger.rearmed_mono_ns.items())] if ledger.rearmed_mono_ns else []
    return blake2b(msgspec.msgpack.encode(content), digest_size=16).hexdigest()
