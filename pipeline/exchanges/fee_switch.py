"""What an account's fees are taken in, as far as its venue tells."""

from __future__ import annotations

from pipeline.exchanges.base import VenueClient
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.config import FeeConfig
from pipeline.model.errors import RateLimited, VenueRejected


async def read_fee_switch(client: VenueClient, fees: FeeConfig | None) -> FeeSwitch | None:
    """The venue's switch; None where it does not tell, or not to this key. ``fees``: the venue's configured ones.

    A switch takes nothing while there is none of its coin: one that nobody configured is then none, a configured one is
    not ``held``. Before that its stock is watched (``pipeline/risk/fee_stock.py``). Raises the errors of
    :class:`VenueClient`.
    """
    try:
        reported = await client.fee_switch()
    except RateLimited:
        raise
    except VenueRejected:
        return None
    configured = fees.deduction.coin if fees is not None and fees.deduction is not None else ""
    if reported is None or not reported.coin:
        return reported
    balances = await client.balances()
    held = any(row.asset == reported.coin and row.free + row.locked > 0 for row in balances)
    if reported.coin == configured:
        return reported._replace(held=held)
    return reported if held else FeeSwitch("")
