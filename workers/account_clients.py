"""The client that answers for a venue's account: the venue's own, or in paper mode that of the local paper account."""

from __future__ import annotations

from enum import StrEnum

from pipeline.exchanges.base import VenueClient, VenueTrading
from pipeline.exchanges.factory import make_venue
from pipeline.model.enums import Mode
from pipeline.model.errors import ConfigInvalid
from pipeline.model.structs import Credentials
from pipeline.paper import paper_client
from workers.base import WorkerContext
from workers.credentials import GUARD_SUFFIX, load_credentials, missing_keys

EXECUTOR = "executor"  # the process whose budgets the guard goes on with


class KeyRole(StrEnum):
    """Whose key of an exchange is used."""

    TRADE = "trade"
    GUARD = "guard"


def credentials_of(ctx: WorkerContext, exchange: str, role: KeyRole) -> Credentials | None:
    """The role's key of an exchange; a guard without one of its own uses the trade key. Raises ConfigInvalid."""
    own = None
    if role is KeyRole.GUARD:
        own = load_credentials(ctx.config, f"{exchange}{GUARD_SUFFIX}", instance=ctx.instance)
    return own or load_credentials(ctx.config, exchange, instance=ctx.instance)


def account_clients(ctx: WorkerContext, role: KeyRole = KeyRole.TRADE) -> dict[str, VenueClient]:
    """One client per venue, by name, able to answer for the account. Raises ConfigInvalid where a key is missing."""
    if ctx.config.mode is Mode.PAPER:
        return {venue.name: paper_client(venue, ctx.state_dir / "paper") for venue in ctx.config.venues}
    clients: dict[str, VenueClient] = {}
    missing = missing_keys(ctx.config, ctx.instance)
    if missing:
        raise ConfigInvalid(missing)
    for venue in ctx.config.venues:
        clients[venue.name] = make_venue(venue, credentials_of(ctx, venue.exchange, role))
        remember_budgets(ctx, clients[venue.name], role)
    return clients


def remember_budgets(ctx: WorkerContext, venue: VenueClient | VenueTrading, role: KeyRole = KeyRole.TRADE) -> None:
    """Let a process begin with the request budgets that its predecessor left; with full ones without their file.

    The guard in a takeover goes on with the executor's: a venue counts an account's orders and an address's requests,
    whichever process sends them. The executor is dead then, and the next one opens its files after the takeover."""
    kind = "orders" if isinstance(venue, VenueTrading) else "rest"
    writer = ctx.process if role is KeyRole.TRADE else EXECUTOR
    try:
        venue.remember_budgets(ctx.state_dir / "budgets" / f"{writer}.{kind}.{venue.venue}")
    except OSError as error:
        ctx.say("warning", f"{venue.venue}: budgets of an earlier run are not known: {error}")
