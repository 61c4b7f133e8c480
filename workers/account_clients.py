"""The client that answers for a venue's account: the venue's own, or in paper mode that of the local paper account."""

from __future__ import annotations

from pipeline.exchanges.base import VenueClient, VenueTrading
from pipeline.exchanges.factory import make_venue
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from pipeline.paper import paper_client
from workers.base import WorkerContext
from workers.credentials import load_credentials, missing_keys


def account_clients(ctx: WorkerContext) -> dict[str, VenueClient]:
    """One client per venue, by name, able to answer for the account. Raises ConfigInvalid where a key is missing."""
    if ctx.config.mode is Mode.PAPER:
        return {venue.name: paper_client(venue, ctx.state_dir / "paper") for venue in ctx.config.venues}
    clients: dict[str, VenueClient] = {}
    missing = missing_keys(ctx.config, ctx.instance)
    if missing:
        raise ConfigInvalid(missing)
    for venue in ctx.config.venues:
        credentials = load_credentials(ctx.config, venue.exchange, instance=ctx.instance)
        clients[venue.name] = make_venue(venue, credentials)
        remember_budgets(ctx, clients[venue.name])
    return clients


def remember_budgets(ctx: WorkerContext, venue: VenueClient | VenueTrading) -> None:
    """Let a process begin with the request budgets that its predecessor left; with full ones without their file."""
    kind = "orders" if isinstance(venue, VenueTrading) else "rest"
    try:
        venue.remember_budgets(ctx.state_dir / "budgets" / f"{ctx.process}.{kind}.{venue.venue}")
    except OSError as error:
        ctx.say("warning", f"{venue.venue}: budgets of an earlier run are not known: {error}")
