"""One name per network, so that two venues' lists of coin contracts can be compared, and found by a configured one.

Venues spell networks differently ("ERC20", "Ethereum(ERC20)", "ETH"). An unknown spelling stays as it is, lower case:
networks that never meet are doubt, and doubt quarantines the pair.

*Source:* MEXC ``netWork`` and ``network`` of /capital/config/getall, Gate.io ``chains[].name`` of /spot/currencies.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.model.structs import CoinIdentity

_ALIASES: dict[str, tuple[str, ...]] = {
    "eth": ("erc20", "ethereum", "ethereum(erc20)", "erc20(eth)"),
    "trx": ("trc20", "tron", "tron(trc20)"),
    "bsc": ("bep20", "bep20(bsc)", "bnb smart chain(bep20)", "bnb smart chain", "binance smart chain"),
    "sol": ("solana", "solana(sol)", "spl"),
    "matic": ("polygon", "polygon(matic)", "polygon pos", "pol"),
    "arb": ("arbevm", "arbitrum", "arbitrum one", "arbitrum one(arb)", "arbone"),
    "op": ("opeth", "optimism", "optimism(op)", "op mainnet"),
    "base": ("baseevm", "base(eth)"),
    "avax_c": ("avaxc", "avax c-chain", "avalanche c chain(avax cchain)", "avax_cchain", "cchain"),
    "btc": ("bitcoin", "bitcoin(btc)"),
    "ltc": ("litecoin",),
    "doge": ("dogecoin",),
    "xrp": ("ripple",),
    "ton": ("toncoin", "the open network"),
}
_CANONICAL = {alias: name for name, aliases in _ALIASES.items() for alias in aliases}


def network_name(text: str) -> str:
    """Our one name of a network."""
    lower = text.strip().lower()
    return _CANONICAL.get(lower, lower)


def coin_identity(
    asset: str, networks: Iterable[tuple[str, str]], *, deposit_enabled: bool, withdraw_enabled: bool
) -> CoinIdentity:
    """Identity from (network, contract address or "") of every network that the venue lists."""
    found = {network_name(name): address.strip().lower() for name, address in networks if name}
    return CoinIdentity(
        asset=asset,
        networks=tuple(sorted(found.items())),
        deposit_enabled=deposit_enabled,
        withdraw_enabled=withdraw_enabled,
    )
