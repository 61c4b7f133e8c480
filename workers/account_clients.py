"""The client that answers for a venue's account: the venue's own, or in paper mode that of the local paper account."""

from __future__ import annotations

import contextlib
from enum import StrEnum

from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.factory import make_venue
from pipeline.exchanges.transport.shared_budgets import joined
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials
from pipeline.paper import paper_client
from workers.base import WorkerContext
from workers.credentials import GUARD_SUFFIX, READ_SUFFIX, load_credentials, missing_keys


class KeyRole(StrEnum):
    """Whose key of an exchange is used."""

    TRADE = "trade"
    GUARD = "guard"
    READ = "read"


def credentials_of(ctx: WorkerContext, exchange: str, role: KeyRole) -> Credentials | None:
    """The role's key of an exchange; who has none of its own uses the trade key. Raises ConfigInvalid.

    A venue counts an account's orders whichever of its keys sends them: both share one budget."""
    own = None
    if role is not KeyRole.TRADE:
        suffix = GUARD_SUFFIX if role is KeyRole.GUARD else READ_SUFFIX
        own = load_credentials(ctx.config, f"{exchange}{suffix}", instance=ctx.instance)
    if own is None:
        return load_credentials(ctx.config, exchange, instance=ctx.instance)
    shared = joined()
    with contextlib.suppress(ConfigInvalid):  # a key that this process may not read: it counts alone
        trade = load_credentials(ctx.config, exchange, instance=ctx.instance)
        if shared is not None and trade is not None:
            shared.same_account(own.api_key, trade.api_key)
    return own


def account_clients(ctx: WorkerContext, role: KeyRole = KeyRole.TRADE) -> dict[str, VenueClient]:
    """One client per venue that is traded, by name, able to answer for the account; with the read key on spot alone: on
    futures whoever reads also sets leverage and margin mode. Raises ConfigInvalid where a key is missing."""
    if ctx.config.mode is Mode.PAPER:
        folder, leverage = ctx.state_dir / "paper", ctx.config.detection.hedge.leverage
        return {venue.name: paper_client(venue, folder, leverage) for venue in ctx.config.trading_venues}
    clients: dict[str, VenueClient] = {}
    missing = missing_keys(ctx.config, ctx.instance)
    if missing:
        raise ConfigInvalid(missing)
    for venue in ctx.config.trading_venues:
        own = KeyRole.TRADE if role is KeyRole.READ and venue.market != "spot" else role
        clients[venue.name] = make_venue(venue, credentials_of(ctx, venue.exchange, own))
    return clients
