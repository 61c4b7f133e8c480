"""The coins of a venue: the identity of each ticker, for the currency lists of the dialects."""

from __future__ import annotations

from pipeline.model.structs import CoinIdentity
from pipeline.sim.exchange.venue import SimVenue

#: (coin, network) -> what a withdrawal costs, in the coin; others cost ``FEE``.
_FEES = {
    ("BTC", "btc"): "0.00003",
    ("ETH", "eth"): "0.0008",
    ("SOL", "sol"): "0.002",
    ("XRP", "xrp"): "0.1",
    ("DOGE", "doge"): "2",
    ("USDT", "eth"): "2",
    ("USDT", "trx"): "1",
}
FEE = "0.1"
_CONFIRMATIONS = {"btc": 2, "doge": 40, "eth": 64, "sol": 100, "trx": 20, "xrp": 3}
CONFIRMATIONS = 12  # of a network that has none of its own above
# Quote coins have no instrument of their own that would carry their identity.
_KNOWN = {
    "USDT": (("eth", "0xdac17f958d2ee523a2206206994597c13d831ec7"), ("trx", "tr7nhqjekqxgtci8q8zy4pl8otszgjlj6t")),
    "USDC": (("eth", "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"),),
}


def withdraw_fee(coin: str, network: str) -> str:
    """What a withdrawal of a coin costs on a network, in the coin."""
    return _FEES.get((coin, network), FEE)


def confirmations(network: str) -> int:
    """Blocks until a deposit on a network is booked."""
    return _CONFIRMATIONS.get(network, CONFIRMATIONS)


def coins(venue: SimVenue) -> list[CoinIdentity]:
    """Every base and quote coin once, in the order of the instrument list."""
    found: dict[str, CoinIdentity] = {}
    for instrument in venue.instruments.values():
        identity = instrument.identity
        networks = identity.networks or ((instrument.base.lower(), ""),)
        found.setdefault(
            instrument.base,
            CoinIdentity(
                asset=instrument.base,
                networks=networks,
                deposit_enabled=identity.deposit_enabled,
                withdraw_enabled=identity.withdraw_enabled,
            ),
        )
    for instrument in venue.instruments.values():
        quote = instrument.quote
        found.setdefault(quote, CoinIdentity(asset=quote, networks=_KNOWN.get(quote, ((quote.lower(), ""),))))
    return list(found.values())
