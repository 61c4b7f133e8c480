"""What an account's fees are taken in, as far as its venue tells."""

from __future__ import annotations

from pipeline.exchanges.base import VenueClient
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.config import FeeConfig
from pipeline.model.errors import RateLimited, VenueRejected


async def read_fee_switch(client: VenueClient, fees: FeeConfig | None) -> FeeSwitch | None:
    """The venue's switch; None where it does not tell, or not to this key. ``fees``: the venue's configured ones.

    A switch that nobody configured takes nothing while there is none of its coin: then fees are plain. The stock of a
    configured coin is watched instead (``pipeline/risk/fee_stock.py``). Raises the errors of :class:`VenueClient`.
    """
    try:
        told = await client.fee_switch()
    except RateLimited:
        raise
    except VenueRejected:
        return None
    configured = fees.deduction.coin if fees is not None and fees.deduction is not None else ""
    if told is None or told.coin in ("", configured):
        return told
    balances = await client.balances()
    return told if any(row.asset == told.coin and row.free + row.locked > 0 for row in balances) else FeeSwitch("")
